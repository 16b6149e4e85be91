/* repqat bench: see bench_command.c. */
#ifndef RQ_RUNTIME_SESSION_BENCH_COMMAND_H
#define RQ_RUNTIME_SESSION_BENCH_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_bench;

#endif
