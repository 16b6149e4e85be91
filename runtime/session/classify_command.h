/* repqat classify: see classify_command.c. */
#ifndef RQ_RUNTIME_SESSION_CLASSIFY_COMMAND_H
#define RQ_RUNTIME_SESSION_CLASSIFY_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_classify;

#endif
