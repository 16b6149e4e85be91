/* The parser that option tables drive. */
#include "runtime/base/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool rq_parse_int(const char *text, int64_t min, int64_t max, int64_t *out)
{
    if (strspn(text, "-0123456789") != strlen(text)) /* strtoll would take spaces and '+' */
        return false;
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < min || value > max)
        return false;
    *out = value;
    return true;
}

bool rq_parse_float(const char *text, double min, double max, double *out)
{
    if (strspn(text, "+-.0123456789eE") != strlen(text)) /* strtod would take spaces, hex and nan */
        return false;
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || !(value >= min && value <= max))
        return false;
    *out = value + 0.0; /* -0 becomes 0 */
    return true;
}

static const double INT_LIMIT = 0x1p53; /* beyond it a double limit of an integer means "none" */

void rq_option_range(const rq_option *option, char *text, size_t size_bytes)
{
    const double limit = option->kind == RQ_OPT_INT ? INT_LIMIT : HUGE_VAL;
    const bool has_min = option->min > -limit, has_max = option->max < limit;
    if (has_min && has_max)
        (void)snprintf(text, size_bytes, "from %.15g to %.15g", option->min, option->max);
    else if (has_min)
        (void)snprintf(text, size_bytes, "at least %.15g", option->min);
    else if (has_max)
        (void)snprintf(text, size_bytes, "at most %.15g", option->max);
    else
        text[0] = '\0';
}

static rq_status fail_number(const rq_option *option, const char *text, rq_error *err)
{
    char range[96];
    rq_option_range(option, range, sizeof range);
    return rq_fail(err, RQ_ERR_USAGE, "--%s: '%s' is not a %s%s%s%s", option->name, text,
                   option->kind == RQ_OPT_INT ? "whole number" : "number", *range ? " (" : "",
                   range, *range ? ")" : "");
}

static rq_status set_int(const rq_option *option, int64_t *field, const char *text, rq_error *err)
{
    const int64_t min = option->min > -INT_LIMIT ? (int64_t)option->min : INT64_MIN;
    const int64_t max = option->max < INT_LIMIT ? (int64_t)option->max : INT64_MAX;
    return rq_parse_int(text, min, max, field) ? RQ_OK : fail_number(option, text, err);
}

static rq_status set_choice(const rq_option *option, int *field, const char *text, rq_error *err)
{
    char words[256] = "";
    size_t used = 0;
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *field = i;
            return RQ_OK;
        }
        const int n =
            snprintf(words + used, sizeof words - used, "%s%s", i ? ", " : "", option->choices[i]);
        if (n > 0 && (size_t)n < sizeof words - used)
            used += (size_t)n;
    }
    return rq_fail(err, RQ_ERR_USAGE, "--%s: '%s' is none of: %s", option->name, text, words);
}

static rq_status set_value(const rq_option *option, void *fields, const char *text, rq_error *err)
{
    void *field = (char *)fields + option->offset;
    switch (option->kind) {
    case RQ_OPT_INT:
        return set_int(option, field, text, err);
    case RQ_OPT_FLOAT:
        return rq_parse_float(text, option->min, option->max, field)
                   ? RQ_OK
                   : fail_number(option, text, err);
    case RQ_OPT_CHOICE:
        return set_choice(option, field, text, err);
    default: /* STRING, POSITIONAL; flags and the rest never come here */
        *(const char **)field = text;
        return RQ_OK;
    }
}

static bool is_positional(const rq_option *option)
{
    return option->kind == RQ_OPT_POSITIONAL || option->kind == RQ_OPT_REST;
}

typedef struct parser {
    const rq_option_set *sets;
    size_t n_sets;
    int argc;
    char **argv;
    int i;      /* the argument being read */
    int n_used; /* how many arguments it takes: 2 with a separate value */
    rq_error *err;
} parser;

/* An option by its long name (n_name bytes at name) or, with name NULL, its letter. */
static const rq_option *find(const parser *p, const char *name, size_t n_name, char letter,
                             void **fields)
{
    for (size_t s = 0; s < p->n_sets; s++) {
        for (size_t i = 0; i < p->sets[s].n_options; i++) {
            const rq_option *option = &p->sets[s].table[i];
            const bool found =
                name ? strlen(option->name) == n_name && memcmp(option->name, name, n_name) == 0
                     : option->letter == letter;
            if (found && !is_positional(option)) {
                *fields = p->sets[s].fields;
                return option;
            }
        }
    }
    return NULL;
}

static void set_flag(const rq_option *option, void *fields, bool value)
{
    *(bool *)((char *)fields + option->offset) = value;
}

/* Take the next argument as the value. */
static rq_status set_from_next(parser *p, const rq_option *option, void *fields)
{
    if (p->i + 1 >= p->argc)
        return rq_fail(p->err, RQ_ERR_USAGE, "--%s needs a value", option->name);
    p->n_used = 2;
    return set_value(option, fields, p->argv[p->i + 1], p->err);
}

/* --name, --no-name, --name=VALUE or --name VALUE */
static rq_status parse_long(parser *p)
{
    const char *name = p->argv[p->i] + 2;
    const size_t n_name = strcspn(name, "=");
    const char *value = name[n_name] == '=' ? name + n_name + 1 : NULL;
    void *fields = NULL;
    const rq_option *option = find(p, name, n_name, 0, &fields);
    if (!option && strncmp(name, "no-", 3) == 0) {
        option = find(p, name + 3, n_name - 3, 0, &fields);
        if (option && option->kind == RQ_OPT_FLAG && !value) {
            set_flag(option, fields, false);
            return RQ_OK;
        }
        option = NULL;
    }
    if (!option)
        return rq_fail(p->err, RQ_ERR_USAGE, "unknown option '--%.*s'", (int)n_name, name);
    if (option->kind != RQ_OPT_FLAG)
        return value ? set_value(option, fields, value, p->err) : set_from_next(p, option, fields);
    if (value)
        return rq_fail(p->err, RQ_ERR_USAGE, "--%s takes no value", option->name);
    set_flag(option, fields, true);
    return RQ_OK;
}

/* -x, -xVALUE, -x VALUE, or several flags: -qv */
static rq_status parse_short(parser *p)
{
    for (const char *letter = p->argv[p->i] + 1; *letter; letter++) {
        void *fields = NULL;
        const rq_option *option = find(p, NULL, 0, *letter, &fields);
        if (!option)
            return rq_fail(p->err, RQ_ERR_USAGE, "unknown option '-%c'", *letter);
        if (option->kind != RQ_OPT_FLAG)
            return letter[1] ? set_value(option, fields, letter + 1, p->err)
                             : set_from_next(p, option, fields);
        set_flag(option, fields, true);
    }
    return RQ_OK;
}

/* Move n arguments from position i down to position to, keeping all others in order. */
static void move_down(char **argv, int to, int i, int n)
{
    for (int k = 0; k < n; k++) {
        char *moved = argv[i + k];
        memmove(&argv[to + k + 1], &argv[to + k], (size_t)(i - to) * sizeof *argv);
        argv[to + k] = moved;
    }
}

/* All options; they end up before the positionals. *first receives the position of the first
 * positional. */
static rq_status parse_options(parser *p, int *first)
{
    *first = 1;
    for (p->i = 1; p->i < p->argc;) {
        const char *argument = p->argv[p->i];
        if (argument[0] != '-' || argument[1] == '\0') {
            p->i++;
            continue;
        }
        const bool is_end = strcmp(argument, "--") == 0;
        p->n_used = 1;
        if (!is_end)
            RQ_TRY(argument[1] == '-' ? parse_long(p) : parse_short(p));
        move_down(p->argv, *first, p->i, p->n_used);
        *first += p->n_used;
        p->i += p->n_used;
        if (is_end)
            break;
    }
    return RQ_OK;
}

static rq_status assign_positionals(const rq_option_set *set, int n, char **items, rq_error *err)
{
    for (size_t k = 0; k < set->n_options; k++) {
        const rq_option *option = &set->table[k];
        void *field = (char *)set->fields + option->offset;
        if (option->kind == RQ_OPT_POSITIONAL) {
            if (n > 0) {
                *(const char **)field = *items++;
                n--;
            }
            if (!*(const char **)field)
                return rq_fail(err, RQ_ERR_USAGE, "%s is missing", option->name);
        } else if (option->kind == RQ_OPT_REST) {
            if (n == 0)
                return rq_fail(err, RQ_ERR_USAGE, "%s is missing", option->name);
            *(rq_option_rest *)field = (rq_option_rest){items, n};
            n = 0;
        }
    }
    return n == 0 ? RQ_OK : rq_fail(err, RQ_ERR_USAGE, "unexpected argument '%s'", items[0]);
}

static rq_status check_required(const rq_option_set *set, rq_error *err)
{
    for (size_t k = 0; k < set->n_options; k++) {
        const rq_option *option = &set->table[k];
        const char *field = (const char *)set->fields + option->offset;
        if (option->required && !*(const char *const *)(const void *)field)
            return rq_fail(err, RQ_ERR_USAGE, "--%s is missing", option->name);
    }
    return RQ_OK;
}

rq_status rq_option_sets_parse(const rq_option_set *sets, size_t n_sets, int argc, char **argv,
                               rq_error *err)
{
    parser p = {.sets = sets, .n_sets = n_sets, .argc = argc, .argv = argv, .err = err};
    int first;
    RQ_TRY(parse_options(&p, &first));
    RQ_TRY(assign_positionals(&sets[0], argc - first, argv + first, err));
    for (size_t i = 0; i < n_sets; i++)
        RQ_TRY(check_required(&sets[i], err));
    return RQ_OK;
}

rq_status rq_options_parse(const rq_option *table, size_t n_options, int argc, char **argv,
                           void *fields, rq_error *err)
{
    const rq_option_set set = {table, n_options, fields};
    return rq_option_sets_parse(&set, 1, argc, argv, err);
}
