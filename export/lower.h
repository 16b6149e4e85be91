/* Lowering: from fake-quantized floats (form qat) to integers (form int8).
 *
 * Input is a withbn graph in which conv and linear layers that are quantized have WEIGHT_SCALE, and
 * fake_quant nodes are where values are quantized. The pass follows what each value is made of:
 *
 *   qconv             from conv [+ batch_norm] [+ relu] + fake_quant: a conv with WEIGHT_SCALE that
 *                     reads quantized values or pixels
 *   qglobal_avg_pool  from global_avg_pool + fake_quant over quantized values
 *   qlinear           from linear [+ batch_norm] with WEIGHT_SCALE over quantized values; from such
 *                     a 1 x 1 conv over one pixel too, when its value is not quantized
 *   qsigmoid          from sigmoid + fake_quant (scale 1 / 255)
 *   qmul              from mul [+ relu] + fake_quant over a quantized value and a qsigmoid
 *   quantize          from fake_quant over any other value
 *   conv, linear      without WEIGHT_SCALE: in float, the batch norm folded into weights and bias
 *   other operators   in float as they are; quantized values reach them through dequantize
 *
 * Integer nodes keep the name of the layer they compute (PyTorch's module path), quantize that of
 * the fake_quant, dequantize appends ".dequantize" to the value's name. Scales are used as
 * stored. */
#ifndef RQ_EXPORT_LOWER_H
#define RQ_EXPORT_LOWER_H

#include "export/lower_report.h"
#include "runtime/model/model.h"

typedef struct rq_lower_options {
    bool isa_repair;         /* change weights until isa_proof holds (isa_repair.h) */
    rq_lower_report *report; /* filled on success; may be NULL */
} rq_lower_options;

#define RQ_LOWER_OPTIONS_INIT                                                                      \
    {                                                                                              \
        false, NULL                                                                                \
    }

/* *out is initialised by the call and owned by the caller; on error it is empty. Everything but
 * graph, form and isa_proof is copied from qat. options may be NULL. Layers that could exceed 2^24
 * are logged (info). The result has passed rq_graph_shapes and rq_integer_check.
 *
 * Errors, whose messages start with the node's name:
 *   RQ_ERR_MODEL  form, shapes; a quantized layer whose input or output is not quantized, or whose
 *                 output is quantized twice; a pixel mean that is not a whole level (z / 255);
 *                 scales that are not positive; a padded convolution over a value with a zero
 *                 point; a quantized sigmoid whose scale is not 1 / 255; parameters that are not
 *                 finite
 *   RQ_ERR_RANGE  a bias or an accumulator beyond s32
 *   RQ_ERR_NOMEM */
RQ_NODISCARD rq_status rq_lower(rq_model *out, const rq_model *qat, const rq_lower_options *options,
                                rq_error *err);

#endif
