/* repqat evaluate: see evaluate_command.c. */
#ifndef RQ_RUNTIME_SESSION_EVALUATE_COMMAND_H
#define RQ_RUNTIME_SESSION_EVALUATE_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_evaluate;

#endif
