/* The program's commands, in the order in which --help lists them. One line here adds a command:
 * X(name) names the rq_command_<name> that cli/<name>_command.c defines, and the build makes a link
 * of that name next to the program. */
#ifndef RQ_CLI_COMMANDS_H
#define RQ_CLI_COMMANDS_H

#include "runtime/base/command.h"

#define RQ_COMMAND_LIST(X)                                                                         \
    X(demo)                                                                                        \
    X(hyper_search)                                                                                \
    X(train)                                                                                       \
    X(convert)                                                                                     \
    X(verify)                                                                                      \
    X(insert_bn)                                                                                   \
    X(qat_train)                                                                                   \
    X(export_int8)                                                                                 \
    X(evaluate)                                                                                    \
    X(compare)                                                                                     \
    X(classify)                                                                                    \
    X(bench)                                                                                       \
    X(inspect)

#define X(name) extern const rq_command rq_command_##name;
RQ_COMMAND_LIST(X)
#undef X

extern const rq_command *const rq_commands[]; /* in that order; NULL ends it */

/* By name; '-' may stand for '_' (export-int8). NULL when there is none. */
const rq_command *rq_find_command(const char *name);

#endif
