/* repqat insert_bn: see insert_bn_command.c. */
#ifndef RQ_CALIB_INSERT_BN_COMMAND_H
#define RQ_CALIB_INSERT_BN_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_insert_bn;

#endif
