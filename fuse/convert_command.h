/* convert IN OUT: training form (or deploy with batch norm) -> deploy form, checked before it is
 * written. */
#ifndef RQ_FUSE_CONVERT_COMMAND_H
#define RQ_FUSE_CONVERT_COMMAND_H

#include "runtime/base/command.h"

extern const rq_command rq_command_convert;

#endif
