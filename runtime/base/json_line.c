/* A tree of jansson's, and its text. */
#include "runtime/base/json_line.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/memory.h"

json_t *rq_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Length in bytes of the valid UTF-8 sequence at text, 0 where there is none (RFC 3629: no overlong
 * forms, no surrogates, nothing above U+10FFFF). A NUL is not part of any. */
static size_t utf8_length(const unsigned char *text)
{
    static const struct {
        unsigned char first, last; /* of the lead byte */
        unsigned char low, high;   /* of the second byte */
        size_t length;
    } forms[] = {
        {0x01, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        if (text[0] < forms[f].first || text[0] > forms[f].last)
            continue;
        for (size_t i = 1; i < forms[f].length; i++)
            if (text[i] < (i == 1 ? forms[f].low : 0x80) ||
                text[i] > (i == 1 ? forms[f].high : 0xbf))
                return 0;
        return forms[f].length;
    }
    return 0;
}

/* A copy with U+FFFD for every byte that is not UTF-8; to be freed. */
static char *repair(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *copy = rq_alloc_array(char, 3 * strlen(text) + 1), *end = copy;
    while (copy && *text) {
        const size_t length = utf8_length((const unsigned char *)text);
        end = mempcpy(end, length ? text : replacement, length ? length : 3);
        text += length ? length : 1;
    }
    return copy;
}

json_t *rq_json_string(const char *text)
{
    if (!text)
        return json_null();
    json_t *json = json_string(text);
    if (json)
        return json;
    char *repaired = repair(text);
    json = repaired ? json_string(repaired) : NULL;
    rq_free(repaired);
    return json;
}

/* added: what jansson says, which destroys a value that it cannot add. */
static void settle(json_t **tree, int added)
{
    if (added == 0)
        return;
    json_decref(*tree);
    *tree = NULL;
}

void rq_json_set(json_t **object, const char *key, json_t *value)
{
    settle(object, json_object_set_new(*object, key, value));
}

void rq_json_append(json_t **array, json_t *value)
{
    settle(array, json_array_append_new(*array, value));
}

rq_status rq_json_print(json_t *object, FILE *out, rq_error *err)
{
    json_t *line = json_pack("{s:i}", "schema", 1);
    char *text =
        json_object_update(line, object) == 0 ? json_dumps(line, JSON_REAL_PRECISION(9)) : NULL;
    json_decref(line);
    json_decref(object);
    if (!text)
        return rq_no_memory(err);
    (void)fprintf(out, "%s\n", text);
    free(text);
    return RQ_OK;
}
