/* The help text that an option table produces. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "runtime/base/options.h"

enum {
    LINE_WIDTH = 80,
    MAX_LEFT_WIDTH = 26, /* a longer entry gets a line of its own, above its text */
    LEFT_BYTES = 128,
    TEXT_BYTES = 1024,
};

static bool is_positional(const rq_option *option)
{
    return option->kind == RQ_OPT_POSITIONAL || option->kind == RQ_OPT_REST;
}

static const void *field_of(const rq_option *option, const void *fields)
{
    return (const char *)fields + option->offset;
}

static const char *value_name(const rq_option *option)
{
    return option->value ? option->value : option->kind == RQ_OPT_CHOICE ? "WORD" : "VALUE";
}

/* "  -b, --batch N" */
static void format_left(const rq_option *option, const void *fields, char *left)
{
    if (is_positional(option)) {
        (void)snprintf(left, LEFT_BYTES, "  %s%s", option->name,
                       option->kind == RQ_OPT_REST ? "..." : "");
        return;
    }
    const char letter[] = {option->letter ? '-' : ' ', option->letter ? option->letter : ' ',
                           option->letter ? ',' : ' ', '\0'};
    const bool is_flag = option->kind == RQ_OPT_FLAG;
    const bool is_on = is_flag && *(const bool *)field_of(option, fields);
    (void)snprintf(left, LEFT_BYTES, "  %s --%s%s%s%s", letter, is_on ? "[no-]" : "", option->name,
                   is_flag ? "" : " ", is_flag ? "" : value_name(option));
}

static void append(char *text, const char *part)
{
    const size_t used = strlen(text);
    (void)snprintf(text + used, TEXT_BYTES - used, "%s", part);
}

/* ": minmax, entropy or mse" */
static void append_choices(const rq_option *option, char *text)
{
    for (int i = 0; option->choices[i]; i++) {
        append(text, i == 0 ? ": " : option->choices[i + 1] ? ", " : " or ");
        append(text, option->choices[i]);
    }
}

/* The default as text, "" where there is none to show. */
static void format_default(const rq_option *option, const void *fields, char *text,
                           size_t size_bytes)
{
    const void *field = field_of(option, fields);
    text[0] = '\0';
    if (option->kind == RQ_OPT_FLAG && *(const bool *)field) {
        (void)snprintf(text, size_bytes, "on");
    } else if (option->kind == RQ_OPT_INT) {
        const int64_t value = *(const int64_t *)field;
        if ((double)value >= option->min && (double)value <= option->max)
            (void)snprintf(text, size_bytes, "%lld", (long long)value);
    } else if (option->kind == RQ_OPT_FLOAT) {
        const double value = *(const double *)field;
        if (value >= option->min && value <= option->max)
            (void)snprintf(text, size_bytes, "%.9g", value);
    } else if (option->kind == RQ_OPT_CHOICE) {
        if (*(const int *)field >= 0)
            (void)snprintf(text, size_bytes, "%s", option->choices[*(const int *)field]);
    } else if (option->kind == RQ_OPT_STRING || option->kind == RQ_OPT_POSITIONAL) {
        if (*(const char *const *)field)
            (void)snprintf(text, size_bytes, "%s", *(const char *const *)field);
    }
}

/* "images per batch (from 1 to 65536, default 64)" */
static void format_text(const rq_option *option, const void *fields, char *text)
{
    char range[96] = "", standard[256];
    (void)snprintf(text, TEXT_BYTES, "%s", option->help);
    if (option->kind == RQ_OPT_CHOICE)
        append_choices(option, text);
    if (option->kind == RQ_OPT_INT || option->kind == RQ_OPT_FLOAT)
        rq_option_range(option, range, sizeof range);
    format_default(option, fields, standard, sizeof standard);
    if (option->required)
        append(text, " (required)");
    if (!*range && !*standard)
        return;
    append(text, " (");
    append(text, range);
    append(text, *range && *standard ? ", " : "");
    append(text, *standard ? "default " : "");
    append(text, standard);
    append(text, ")");
}

/* text from column on, broken at spaces before LINE_WIDTH. */
static void print_wrapped(const char *text, size_t column, FILE *out)
{
    const size_t room = LINE_WIDTH - column;
    while (strlen(text) > room) {
        size_t n = room;
        while (n > 0 && text[n] != ' ')
            n--;
        if (n == 0) /* a word longer than the line */
            n = strcspn(text, " ");
        (void)fprintf(out, "%.*s\n%*s", (int)n, text, text[n] ? (int)column : 0, "");
        text += n;
        text += strspn(text, " ");
    }
    (void)fprintf(out, "%s\n", text);
}

static void print_entries(const rq_option_set *set, bool positionals, size_t column, FILE *out)
{
    for (size_t i = 0; i < set->n_options; i++) {
        const rq_option *option = &set->table[i];
        if (is_positional(option) != positionals)
            continue;
        char left[LEFT_BYTES], text[TEXT_BYTES];
        format_left(option, set->fields, left);
        format_text(option, set->fields, text);
        if (strlen(left) + 2 > column)
            (void)fprintf(out, "%s\n%*s", left, (int)column, "");
        else
            (void)fprintf(out, "%-*s", (int)column, left);
        print_wrapped(text, column, out);
    }
}

/* Where the texts begin: after the widest entry that is not too wide. */
static size_t text_column(const rq_option_set *sets, size_t n_sets)
{
    size_t widest = 0;
    for (size_t s = 0; s < n_sets; s++) {
        for (size_t i = 0; i < sets[s].n_options; i++) {
            char left[LEFT_BYTES];
            format_left(&sets[s].table[i], sets[s].fields, left);
            const size_t width = strlen(left);
            if (width > widest && width <= MAX_LEFT_WIDTH)
                widest = width;
        }
    }
    return widest + 2;
}

/* "usage: repqat train [options] -a ARCH DIR" */
static void print_usage(const rq_option_set *set, const char *command, FILE *out)
{
    (void)fprintf(out, "usage: %s [options]", command);
    for (size_t i = 0; i < set->n_options; i++) {
        const rq_option *option = &set->table[i];
        if (option->required && option->letter)
            (void)fprintf(out, " -%c %s", option->letter, value_name(option));
        else if (option->required)
            (void)fprintf(out, " --%s %s", option->name, value_name(option));
    }
    for (size_t i = 0; i < set->n_options; i++) {
        const rq_option *option = &set->table[i];
        const bool is_optional = option->kind == RQ_OPT_POSITIONAL &&
                                 *(const char *const *)field_of(option, set->fields);
        if (is_positional(option))
            (void)fprintf(out, is_optional ? " [%s]" : " %s", option->name);
        if (option->kind == RQ_OPT_REST)
            (void)fprintf(out, "...");
    }
    (void)fprintf(out, "\n");
}

void rq_option_sets_help(const rq_option_set *sets, size_t n_sets, const char *command,
                         const char *summary, FILE *out)
{
    const size_t column = text_column(sets, n_sets);
    bool has_positionals = false;
    for (size_t i = 0; i < sets[0].n_options; i++)
        has_positionals = has_positionals || is_positional(&sets[0].table[i]);
    print_usage(&sets[0], command, out);
    (void)fprintf(out, "\n");
    print_wrapped(summary, 0, out);
    if (has_positionals) {
        (void)fprintf(out, "\narguments:\n");
        print_entries(&sets[0], true, column, out);
    }
    (void)fprintf(out, "\noptions:\n");
    for (size_t s = 0; s < n_sets; s++)
        print_entries(&sets[s], false, column, out);
}

void rq_options_help(const rq_option *table, size_t n_options, const char *command,
                     const char *summary, const void *fields, FILE *out)
{
    const rq_option_set set = {table, n_options, (void *)(uintptr_t)fields};
    rq_option_sets_help(&set, 1, command, summary, out);
}
