/* From a model with batch norm behind every convolution (form withbn) to the fake-quantized one
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

extern const char
    *const rq_quant_layers_names[]; /* in the order of the enumerators, NULL at the end */

/* Add fake_quant behind each relu ("….quant") and behind the pooling ("gap.quant"), and weight
 * scales to the layers that read quantized values. Scales start at 0: "not yet observed". The mean
 * of the preprocessing is rounded to whole pixel levels, and the first batch norm's running mean
 * takes up the difference, so that the first convolution can read pixels (model/quant.h). Errors:
 * RQ_ERR_MODEL (a layer to be quantized whose input is not; such a convolution without batch norm
 * and relu behind it; a relu that is not behind a convolution), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_prepare_qat(rq_model *out, const rq_model *withbn, rq_quant_layers layers,
                                      rq_error *err);

#endif
