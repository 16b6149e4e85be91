/* The commands `train` and `hyper_search`. */
#ifndef RQ_QAT_TRAIN_COMMAND_H
#define RQ_QAT_TRAIN_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_train, rq_command_hyper_search;

#endif
