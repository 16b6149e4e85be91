/* repqat inspect: see inspect_command.c. */
#ifndef RQ_RUNTIME_SESSION_INSPECT_COMMAND_H
#define RQ_RUNTIME_SESSION_INSPECT_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_inspect;

#endif
