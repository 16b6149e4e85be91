/* The command `qat_train`. */
#ifndef RQ_QAT_QAT_COMMAND_H
#define RQ_QAT_QAT_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_qat_train;

#endif
