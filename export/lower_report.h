/* What lowering (lower.h) says about the model that it made. */
#ifndef RQ_EXPORT_LOWER_REPORT_H
#define RQ_EXPORT_LOWER_REPORT_H

#include "export/isa_repair.h"

typedef struct rq_lower_report {
    int n_integer_layers, n_float_layers; /* convolutions and linear layers */
    int n_wide_layers;  /* could exceed 2^24 in the accumulator (f32 then rounds); pooling over the
                           model's crop counts as one */
    int64_t acc_max;    /* the largest |acc| or |acc + b| of all layers, pools and products */
    int64_t n_channels; /* of the integer layers */
    int64_t n_unsafe_channels;  /* not free of 16-bit saturation, after repair */
    rq_isa_repair_stats repair; /* zeros without isa_repair */
} rq_lower_report;

#endif
