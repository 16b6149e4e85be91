/* The command export_int8: a model of form qat in, one of form int8 out. */
#ifndef RQ_EXPORT_EXPORT_COMMAND_H
#define RQ_EXPORT_EXPORT_COMMAND_H

#include "runtime/base/command.h"

/* export_int8 QAT INT8 [--isa-proof] [--json]. JSON keys: schema, integer_layers, float_layers,
 * bytes_before, bytes_after, acc_max, layers_over_2_24, isa_proof, unsafe_channels,
 * repaired_channels, changed_weights, max_change_steps. */
extern const rq_command rq_command_export_int8;

#endif
