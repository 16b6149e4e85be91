/* From a model with batch norm after every convolution (form withbn) to the fake-quantized one
 * (form qat). */
#ifndef RQ_QAT_PREPARE_H
#define RQ_QAT_PREPARE_H

#include "runtime/model/model.h"

/* What stays in float. The names are the original script's; there the excluded layers kept their
 * quantizers by mistake, here they are really left in float. */
typedef enum rq_quant_layers {
    RQ_QUANT_ALL,                  /* "all" */
    RQ_QUANT_BUT_FIRST_AND_LINEAR, /* "exclud_first_and_linear" (sic) */
    RQ_QUANT_BUT_FIRST_AND_LAST,   /* "exclud_first_and_last" (sic): first and last convolution, and
                                      linear */
} rq_quant_layers;

extern const char *const rq_quant_layers_names[]; /* as enumerated, NULL at the end */

/* Add weight scales to the layers that are quantized, and a fake_quant ("NAME.quant"; for
 * "BLOCK.nonlinearity" "BLOCK.quant") after each value that such a layer gives or reads, where its
 * chain of batch norm and relu ends:
 *
 *   block    conv, batch_norm, relu, QUANT; before a gate in front of the relu: conv, batch_norm,
 *            QUANT with a zero point, mul, relu, QUANT
 *   gate     global_avg_pool, QUANT, conv, relu, QUANT, conv, sigmoid, QUANT (scale 1 / 255), mul,
 *            QUANT; its layers are quantized when the convolution that it gates is
 *   head     global_avg_pool, QUANT, linear
 *
 * Values that can be negative get a zero point. Scales start at 0: "not yet observed". The mean of
 * the preprocessing is rounded to whole pixel levels, and the first batch norm's running mean takes
 * up the difference, so that the first convolution can read pixels (model/quant.h).
 *
 * Errors: RQ_ERR_MODEL (a layer to be quantized whose input is not, or that pads values with a zero
 * point; a block's convolution without batch norm after it, or whose batch norm is read by an
 * operator without integers; a relu that is not after a convolution), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_prepare_qat(rq_model *out, const rq_model *withbn, rq_quant_layers layers,
                                      rq_error *err);

#endif
