/* JSON text in our own memory. */
#include "runtime/modelfile/json_write.h"

#include <string.h>

#include "runtime/base/memory.h"

json_t *rq_json_text(const char *text)
{
    json_t *json = json_string(text);
    if (json)
        return json;
    char *plain = rq_alloc(strlen(text) + 1);
    for (size_t i = 0; plain && text[i]; i++)
        plain[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    json = plain ? json_string(plain) : NULL;
    rq_free(plain);
    return json;
}

char *rq_json_dump(const json_t *tree, size_t *size_bytes)
{
    const size_t n = tree ? json_dumpb(tree, NULL, 0, JSON_COMPACT) : 0;
    char *text = n ? rq_alloc(n + 1) : NULL;
    if (!text || json_dumpb(tree, text, n, JSON_COMPACT) != n) {
        rq_free(text);
        return NULL;
    }
    if (size_bytes)
        *size_bytes = n;
    return text;
}
