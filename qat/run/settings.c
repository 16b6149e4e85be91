/* A walk over tables of options and their fields. */
#include "qat/run/settings.h"

#include <string.h>

enum { VALUE_BYTES = 64 };

static const void *field_of(const rq_option_set *set, const rq_option *option)
{
    return (const char *)set->fields + option->offset;
}

/* Has an earlier option of the table filled the same field? */
static bool is_synonym(const rq_option_set *set, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (set->table[k].offset == set->table[i].offset)
            return true;
    return false;
}

static bool is_shown(const rq_option_set *set, size_t i)
{
    const rq_option *option = &set->table[i];
    if (option->kind == RQ_OPT_POSITIONAL || option->kind == RQ_OPT_REST || is_synonym(set, i))
        return false;
    return option->kind != RQ_OPT_STRING || *(const char *const *)field_of(set, option);
}

static bool is_among(const char *name, const char *const *names)
{
    for (size_t i = 0; names && names[i]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* The value as text: in buffer, or where it is. */
static const char *value_text(const rq_option *option, const void *field, char *buffer)
{
    switch (option->kind) {
    case RQ_OPT_FLAG:
        return *(const bool *)field ? "on" : "off";
    case RQ_OPT_INT:
        (void)snprintf(buffer, VALUE_BYTES, "%lld", (long long)*(const int64_t *)field);
        return buffer;
    case RQ_OPT_FLOAT:
        (void)snprintf(buffer, VALUE_BYTES, "%.9g", *(const double *)field);
        return buffer;
    case RQ_OPT_CHOICE:
        return option->choices[*(const int *)field];
    default:
        return *(const char *const *)field;
    }
}

const char *rq_settings_text(rq_arena *arena, const rq_option_set *sets, size_t n_sets,
                             const char *const *without)
{
    const char *text = "";
    for (size_t s = 0; s < n_sets; s++) {
        for (size_t i = 0; i < sets[s].n_options; i++) {
            const rq_option *option = &sets[s].table[i];
            char buffer[VALUE_BYTES];
            if (!is_shown(&sets[s], i) || is_among(option->name, without))
                continue;
            text = rq_arena_printf(arena, "%s%s%s=%s", text, *text ? " " : "", option->name,
                                   value_text(option, field_of(&sets[s], option), buffer));
            if (!text)
                return NULL;
        }
    }
    return text;
}

static json_t *value_json(const rq_option *option, const void *field)
{
    char buffer[VALUE_BYTES];
    switch (option->kind) {
    case RQ_OPT_FLAG:
        return json_boolean(*(const bool *)field);
    case RQ_OPT_INT:
        return json_integer(*(const int64_t *)field);
    case RQ_OPT_FLOAT:
        return rq_json_number(*(const double *)field);
    default:
        return rq_json_string(value_text(option, field, buffer));
    }
}

json_t *rq_settings_json(const rq_option_set *sets, size_t n_sets)
{
    json_t *json = json_object();
    for (size_t s = 0; s < n_sets; s++)
        for (size_t i = 0; i < sets[s].n_options; i++)
            if (is_shown(&sets[s], i))
                rq_json_set(&json, sets[s].table[i].name,
                            value_json(&sets[s].table[i], field_of(&sets[s], &sets[s].table[i])));
    return json;
}
