/* Checked access to JSON from untrusted text, over jansson; and text that may not be UTF-8. */
#include "runtime/base/json.h"

#include <string.h>

#include "runtime/base/memory.h"

/* Before parsing: jansson's own limit of 2048 levels is far more than any file of ours needs. */
static bool is_too_deep(const char *text, size_t size_bytes, size_t *offset)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size_bytes; i++) {
        const char c = text[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '[' || c == '{'))
            depth++;
        else if (!in_string && (c == ']' || c == '}'))
            depth--;
        if (depth > RQ_JSON_MAX_DEPTH) {
            *offset = i;
            return true;
        }
    }
    return false;
}

rq_status rq_json_parse(json_t **out, const void *text, size_t size_bytes, rq_error *err)
{
    if (size_bytes == 0)
        return rq_fail(err, RQ_ERR_FILE, "JSON: empty text");
    size_t offset;
    if (is_too_deep(text, size_bytes, &offset))
        return rq_fail(err, RQ_ERR_FILE, "JSON: byte %zu: nested deeper than %d levels", offset,
                       (int)RQ_JSON_MAX_DEPTH);
    json_error_t error;
    json_t *document = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!document) {
        const bool no_memory = json_error_code(&error) == json_error_out_of_memory;
        return rq_fail(err, no_memory ? RQ_ERR_NOMEM : RQ_ERR_FILE, "JSON: byte %d: %s",
                       error.position, error.text);
    }
    *out = document;
    return RQ_OK;
}

bool rq_json_has(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value);
}

static rq_status fail_type(rq_error *err, const json_t *value, const char *key, const char *type)
{
    if (!value)
        return rq_fail(err, RQ_ERR_FILE, "'%s' is missing", key);
    return rq_fail(err, RQ_ERR_FILE, "'%s' must be %s", key, type);
}

rq_status rq_json_get_string(const json_t *object, const char *key, const char **out, rq_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return fail_type(err, value, key, "a string");
    *out = json_string_value(value);
    return RQ_OK;
}

rq_status rq_json_get_bool(const json_t *object, const char *key, bool *out, rq_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value))
        return fail_type(err, value, key, "true or false");
    *out = json_is_true(value);
    return RQ_OK;
}

static rq_status check_int(const json_t *value, const char *key, int64_t min, int64_t max,
                           int64_t *out, rq_error *err)
{
    const int64_t number = json_integer_value(value);
    if (number < min || number > max)
        return rq_fail(err, RQ_ERR_FILE, "'%s' is %lld, must be from %lld to %lld", key,
                       (long long)number, (long long)min, (long long)max);
    *out = number;
    return RQ_OK;
}

rq_status rq_json_get_int(const json_t *object, const char *key, int64_t min, int64_t max,
                          int64_t *out, rq_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return fail_type(err, value, key, "an integer");
    return check_int(value, key, min, max, out, err);
}

rq_status rq_json_get_number(const json_t *object, const char *key, double min, double max,
                             double *out, rq_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        return fail_type(err, value, key, "a number");
    const double number = json_number_value(value);
    if (!(number >= min && number <= max))
        return rq_fail(err, RQ_ERR_FILE, "'%s' is %.9g, must be from %.9g to %.9g", key, number,
                       min, max);
    *out = number;
    return RQ_OK;
}

rq_status rq_json_get_object(const json_t *object, const char *key, json_t **out, rq_error *err)
{
    json_t *value = json_object_get(object, key);
    if (!json_is_object(value))
        return fail_type(err, value, key, "an object");
    *out = value;
    return RQ_OK;
}

rq_status rq_json_get_array(const json_t *object, const char *key, size_t min_items,
                            size_t max_items, json_t **out, rq_error *err)
{
    json_t *value = json_object_get(object, key);
    if (!json_is_array(value))
        return fail_type(err, value, key, "an array");
    const size_t n = json_array_size(value);
    if (n < min_items || n > max_items) {
        if (min_items == max_items)
            return rq_fail(err, RQ_ERR_FILE, "'%s' has %zu items, must have %zu", key, n,
                           min_items);
        return rq_fail(err, RQ_ERR_FILE, "'%s' has %zu items, must have from %zu to %zu", key, n,
                       min_items, max_items);
    }
    *out = value;
    return RQ_OK;
}

/* The n items of 'key', each of a type. */
static rq_status get_items(const json_t *object, const char *key, size_t n,
                           bool (*is_type)(const json_t *), const char *type, json_t **out,
                           rq_error *err)
{
    json_t *array = NULL;
    RQ_TRY(rq_json_get_array(object, key, n, n, &array, err));
    for (size_t i = 0; i < n; i++)
        if (!is_type(json_array_get(array, i)))
            return rq_fail(err, RQ_ERR_FILE, "'%s': item %zu must be %s", key, i, type);
    *out = array;
    return RQ_OK;
}

static bool is_integer(const json_t *value)
{
    return json_is_integer(value);
}

static bool is_number(const json_t *value)
{
    return json_is_number(value);
}

rq_status rq_json_get_ints(const json_t *object, const char *key, size_t n, int64_t min,
                           int64_t max, int64_t *out, rq_error *err)
{
    json_t *array = NULL;
    int64_t ignored;
    RQ_TRY(get_items(object, key, n, is_integer, "an integer", &array, err));
    for (size_t i = 0; i < n; i++)
        RQ_TRY(check_int(json_array_get(array, i), key, min, max, &ignored, err));
    for (size_t i = 0; i < n; i++)
        out[i] = json_integer_value(json_array_get(array, i));
    return RQ_OK;
}

rq_status rq_json_get_numbers(const json_t *object, const char *key, size_t n, double *out,
                              rq_error *err)
{
    json_t *array = NULL;
    RQ_TRY(get_items(object, key, n, is_number, "a number", &array, err));
    for (size_t i = 0; i < n; i++)
        out[i] = json_number_value(json_array_get(array, i));
    return RQ_OK;
}

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
