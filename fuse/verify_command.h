/* verify A B: do two model files compute the same function? */
#ifndef RQ_FUSE_VERIFY_COMMAND_H
#define RQ_FUSE_VERIFY_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_verify;

#endif
