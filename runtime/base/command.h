/* A command of the program: one row in cli/main.c's table, one file in cli/.
 *
 * run() parses argv (argv[0] is the command's name) and does the work. It prints results to stdout
 * and nothing else there. Errors go to *err, which the program prints. The code decides the exit
 * status: RQ_ERR_USAGE 2, RQ_ERR_GATE 3, RQ_ERR_INTERRUPTED 128 + the signal's number, others 1. */
#ifndef RQ_RUNTIME_BASE_COMMAND_H
#define RQ_RUNTIME_BASE_COMMAND_H

#include "runtime/base/memory.h"
#include "runtime/base/options.h"

typedef struct rq_command {
    const char *name;
    const char *summary; /* one line */
    rq_status (*run)(const struct rq_command *self, int argc, char **argv, rq_error *err);
} rq_command;

/* Parse argv into fields, or print the help to stdout and set *done when -h or --help is among the
 * options (then fields still hold their defaults). Every run() starts with it. Handles -q and -v,
 * which all commands have, by setting the log's level. Errors: RQ_ERR_USAGE. */
RQ_NODISCARD rq_status rq_command_options(const rq_command *self, const rq_option *table,
                                          size_t n_options, int argc, char **argv, void *fields,
                                          bool *done, rq_error *err);

/* The same for a command with 1 to RQ_COMMAND_MAX_SETS tables (options that it shares with
 * others). */
enum { RQ_COMMAND_MAX_SETS = 3 };
RQ_NODISCARD rq_status rq_command_option_sets(const rq_command *self, const rq_option_set *sets,
                                              size_t n_sets, int argc, char **argv, bool *done,
                                              rq_error *err);

/* The command line as one string, shell-quoted, for model files: "repqat convert a.bin b.bin".
 * Caller frees with rq_free; NULL without memory. */
char *rq_command_line(int argc, char **argv);

/* The way back for a text without quotes: its words, separated by blanks, and a NULL. In the arena;
 * NULL without memory, or when text is. */
char **rq_command_words(rq_arena *arena, const char *text, int *argc);

#endif
