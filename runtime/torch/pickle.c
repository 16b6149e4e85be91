/* Looking at the values of a pickle. Reading is in pickle_machine.c. */
#include "runtime/torch/pickle.h"

#include <stdio.h>
#include <string.h>

bool rq_pickle_equals(rq_pickle_bytes bytes, const char *text)
{
    return bytes.n == strlen(text) && memcmp(bytes.data, text, bytes.n) == 0;
}

bool rq_pickle_is_text(const rq_pickle_value *value, const char *text)
{
    return rq_pickle_is(value, RQ_PICKLE_TEXT) && rq_pickle_equals(value->as.bytes, text);
}

bool rq_pickle_is_global(const rq_pickle_value *value, const char *module, const char *name)
{
    return rq_pickle_is(value, RQ_PICKLE_GLOBAL) &&
           rq_pickle_equals(value->as.global.module, module) &&
           rq_pickle_equals(value->as.global.name, name);
}

const rq_pickle_value *rq_pickle_item(const rq_pickle_value *value, size_t i)
{
    const bool is_sequence =
        rq_pickle_is(value, RQ_PICKLE_TUPLE) || rq_pickle_is(value, RQ_PICKLE_LIST);
    return is_sequence && i < value->as.items.n ? value->as.items.values[i] : NULL;
}

bool rq_pickle_get_int(const rq_pickle_value *value, int64_t *out)
{
    if (!rq_pickle_is(value, RQ_PICKLE_INT))
        return false;
    *out = value->as.integer;
    return true;
}

const rq_pickle_items *rq_pickle_dict(const rq_pickle_value *value)
{
    if (rq_pickle_is(value, RQ_PICKLE_DICT))
        return &value->as.items;
    if (rq_pickle_is(value, RQ_PICKLE_OBJECT) &&
        rq_pickle_is_global(value->as.object->callable, "collections", "OrderedDict"))
        return &value->as.object->dict;
    return NULL;
}

const rq_pickle_value *rq_pickle_lookup(const rq_pickle_value *value, const char *key)
{
    const rq_pickle_items *items = rq_pickle_dict(value);
    const rq_pickle_value *found = NULL;
    for (size_t i = 0; items && i + 1 < items->n; i += 2)
        if (rq_pickle_is_text(items->values[i], key))
            found = items->values[i + 1];
    return found;
}

const char *rq_pickle_kind_text(rq_pickle_kind kind)
{
    static const char *const texts[RQ_PICKLE_N_KINDS] = {
#define X(code, text) [RQ_PICKLE_##code] = (text),
        RQ_PICKLE_KIND_LIST(X)
#undef X
    };
    return texts[kind];
}

void rq_pickle_describe(const rq_pickle_value *value, char *text, size_t size_bytes)
{
    const rq_pickle_value *name = value;
    if (rq_pickle_is(value, RQ_PICKLE_OBJECT))
        name = value->as.object->callable;
    const char *kind = value ? rq_pickle_kind_text((rq_pickle_kind)value->kind) : "nothing";
    if (rq_pickle_is(name, RQ_PICKLE_GLOBAL))
        (void)snprintf(text, size_bytes, "%s%s%.*s.%.*s", kind, name == value ? " " : " made by ",
                       (int)name->as.global.module.n, name->as.global.module.data,
                       (int)name->as.global.name.n, name->as.global.name.data);
    else
        (void)snprintf(text, size_bytes, "%s", kind);
}
