/* Command-line options from one table per command: the table produces both the parser and --help.
 *
 * A command declares a struct of plain fields and a table that names, for each option, the field it
 * fills:
 *
 *     typedef struct { const char *dir; int64_t batch; bool json; } eval_options;
 *     static const rq_option table[] = {
 *         RQ_POSITIONAL("DIR", eval_options, dir, "folder of images"),
 *         RQ_OPTION_INT("batch", 'b', eval_options, batch, "N", 1, 65536, "images per batch"),
 *         RQ_OPTION_FLAG("json", 0, eval_options, json, "print one JSON object"),
 *     };
 *
 * Fields hold their default before parsing; help shows them. The names help, quiet and verbose and
 * the letters h, q and v belong to all commands (see command.h). */
#ifndef RQ_RUNTIME_BASE_OPTIONS_H
#define RQ_RUNTIME_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/status.h"

typedef enum rq_option_kind {
    RQ_OPT_FLAG,       /* bool; --name sets true, --no-name false */
    RQ_OPT_INT,        /* int64_t within [min, max] */
    RQ_OPT_FLOAT,      /* double within [min, max], finite */
    RQ_OPT_STRING,     /* const char *, points into argv; NULL = not given */
    RQ_OPT_CHOICE,     /* int: index into choices (NULL-terminated list of words) */
    RQ_OPT_POSITIONAL, /* const char *, in table order; required unless its default is not NULL */
    RQ_OPT_REST,       /* rq_option_rest: one or more further positionals, last in the table */
} rq_option_kind;

typedef struct rq_option_rest {
    char **items; /* points into argv */
    int n_items;
} rq_option_rest;

typedef struct rq_option {
    rq_option_kind kind;
    char letter;                /* short flag, 0 for none */
    bool required;              /* STRING: must be given */
    const char *name;           /* long name without dashes, or the positional's name */
    size_t offset;              /* of the field in the command's struct */
    const char *value;          /* its name in the help ("N"); NULL for flags and positionals */
    double min, max;            /* INT and FLOAT */
    const char *const *choices; /* CHOICE */
    const char *help;
} rq_option;

#define RQ_OPTION_FLAG(name_, letter_, type, field, help_)                                         \
    {                                                                                              \
        .kind = RQ_OPT_FLAG, .name = (name_), .letter = (letter_),                                 \
        .offset = offsetof(type, field), .help = (help_)                                           \
    }
#define RQ_OPTION_INT(name_, letter_, type, field, value_, min_, max_, help_)                      \
    {                                                                                              \
        .kind = RQ_OPT_INT, .name = (name_), .letter = (letter_), .offset = offsetof(type, field), \
        .value = (value_), .min = (min_), .max = (max_), .help = (help_)                           \
    }
#define RQ_OPTION_FLOAT(name_, letter_, type, field, value_, min_, max_, help_)                    \
    {                                                                                              \
        .kind = RQ_OPT_FLOAT, .name = (name_), .letter = (letter_),                                \
        .offset = offsetof(type, field), .value = (value_), .min = (min_), .max = (max_),          \
        .help = (help_)                                                                            \
    }
#define RQ_OPTION_STRING(name_, letter_, type, field, value_, help_)                               \
    {                                                                                              \
        .kind = RQ_OPT_STRING, .name = (name_), .letter = (letter_),                               \
        .offset = offsetof(type, field), .value = (value_), .help = (help_)                        \
    }
#define RQ_OPTION_REQUIRED(name_, letter_, type, field, value_, help_)                             \
    {                                                                                              \
        .kind = RQ_OPT_STRING, .name = (name_), .letter = (letter_), .required = true,             \
        .offset = offsetof(type, field), .value = (value_), .help = (help_)                        \
    }
#define RQ_OPTION_CHOICE(name_, letter_, type, field, choices_, help_)                             \
    {                                                                                              \
        .kind = RQ_OPT_CHOICE, .name = (name_), .letter = (letter_),                               \
        .offset = offsetof(type, field), .value = NULL, .choices = (choices_), .help = (help_)     \
    }
#define RQ_POSITIONAL(name_, type, field, help_)                                                   \
    {                                                                                              \
        .kind = RQ_OPT_POSITIONAL, .name = (name_), .offset = offsetof(type, field),               \
        .help = (help_)                                                                            \
    }
#define RQ_REST(name_, type, field, help_)                                                         \
    {                                                                                              \
        .kind = RQ_OPT_REST, .name = (name_), .offset = offsetof(type, field), .help = (help_)     \
    }

/* Fill *fields from argv[1…argc-1] (argv[0] is the command). Accepts --name VALUE, --name=VALUE,
 * -xVALUE, -x VALUE, several flags in one argument (-qv), options after positionals, and -- as the
 * end of options; an unambiguous prefix of a name is NOT accepted. Numbers are parsed whole:
 * "12abc", "", "1e999" and values out of range are errors that name the option and its range. The
 * last one wins where an option is given twice. argv is reordered into an equivalent command line:
 * options, then positionals. Errors: RQ_ERR_USAGE. fields may then be partly filled. */
RQ_NODISCARD rq_status rq_options_parse(const rq_option *table, size_t n_options, int argc,
                                        char **argv, void *fields, rq_error *err);

/* Usage line, summary and one entry per option, from the same table; defaults are read from fields.
 * A default that is outside its option's range means "not given" and is not shown. */
void rq_options_help(const rq_option *table, size_t n_options, const char *command,
                     const char *summary, const void *fields, FILE *out);

/* The same over several tables, each with its own fields: a command's options and those that all
 * commands have. Only the first table may hold positionals. Letters and names are looked up in
 * table order. */
typedef struct rq_option_set {
    const rq_option *table;
    size_t n_options;
    void *fields;
} rq_option_set;

RQ_NODISCARD rq_status rq_option_sets_parse(const rq_option_set *sets, size_t n_sets, int argc,
                                            char **argv, rq_error *err);
void rq_option_sets_help(const rq_option_set *sets, size_t n_sets, const char *command,
                         const char *summary, FILE *out);

/* The allowed range as text, for messages and help: "from 1 to 9", "at least 1", "at most 9", or ""
 * without limits. A limit of an INT at or beyond 2^53 counts as none. */
void rq_option_range(const rq_option *option, char *text, size_t size_bytes);

/* A whole decimal integer or a finite float in [min, max]; false otherwise and *out untouched. */
bool rq_parse_int(const char *text, int64_t min, int64_t max, int64_t *out);
bool rq_parse_float(const char *text, double min, double max, double *out);

#endif
