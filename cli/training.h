/* What the commands that train share: defaults, recipes and results. */
#ifndef RQ_CLI_TRAINING_H
#define RQ_CLI_TRAINING_H

#include "qat/run/train_options.h"
#include "runtime/base/command.h"

/* Parse a command line whose first set is rq_train_table over rq_train_options. What it does not
 * say has the value of the recipe, or else of defaults (a text for rq_train_options_read), or else
 * of rq_train_options_init. recipe: a field of the command's options, which holds the recipe that
 * counts without --recipe. Strings point into argv and the arena. As rq_command_option_sets
 * otherwise. */
RQ_NODISCARD rq_status rq_training_parse(const rq_command *self, const rq_option_set *sets,
                                         size_t n_sets, const char *defaults, const int *recipe,
                                         rq_arena *arena, int argc, char **argv, bool *done,
                                         rq_error *err);

/* Train the model and print the result on stdout: one line, or an object with --json. */
RQ_NODISCARD rq_status rq_training_run(rq_model *model, const rq_train_options *options,
                                       rq_error *err);

#endif
