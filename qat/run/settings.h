/* What a command's options came to, whoever set them: the command line, a recipe or the default.
 * One list, from the tables of options, for the log, for --json and for telling runs apart. */
#ifndef RQ_QAT_RUN_SETTINGS_H
#define RQ_QAT_RUN_SETTINGS_H

#include "runtime/base/json_line.h"
#include "runtime/base/memory.h"
#include "runtime/base/options.h"

/* "epochs=120 batch-size=256 lr=0.1 …": every option but positionals and those whose value is not
 * given, in table order; synonyms (options of one field) once. without: names to leave out, NULL at
 * the end; NULL: none. The text lives in the arena; NULL without memory. */
const char *rq_settings_text(rq_arena *arena, const rq_option_set *sets, size_t n_sets,
                             const char *const *without);

/* The same as an object of typed values; NULL without memory. */
json_t *rq_settings_json(const rq_option_set *sets, size_t n_sets);

#endif
