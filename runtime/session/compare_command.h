/* repqat compare: see compare_command.c. */
#ifndef RQ_RUNTIME_SESSION_COMPARE_COMMAND_H
#define RQ_RUNTIME_SESSION_COMPARE_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_compare;

#endif
