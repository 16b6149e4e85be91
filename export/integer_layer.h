/* The integers of one quantized layer: from a convolution or linear layer with its batch norm and
 * scales to the parameters of a qconv or qlinear node. Formulas: runtime/model/quant.h. */
#ifndef RQ_EXPORT_INTEGER_LAYER_H
#define RQ_EXPORT_INTEGER_LAYER_H

#include "export/isa_repair.h"
#include "runtime/model/graph.h"
#include "runtime/model/quant.h"

typedef struct rq_integer_layer {
    rq_layer_view view;
    const float *weight_scale; /* s_w [oc] */
    float s_x, s_y; /* of the input (RQ_PIXEL_SCALE for pixels) and the output (1 for logits) */
    const uint8_t *zero_point; /* [groups * ic] for pixels, NULL otherwise */
    bool isa_repair;           /* change weights whose products could saturate 16 bits */
} rq_integer_layer;

/* What was found in a layer. */
typedef struct rq_integer_layer_facts {
    int64_t acc_max;            /* the largest |acc| or |acc + b| of all channels */
    int64_t n_wide;             /* channels over 2^24 */
    int64_t n_unsafe;           /* channels that are not free of saturation, after repair */
    rq_isa_repair_stats repair; /* added to */
} rq_integer_layer_facts;

/* Create WEIGHT (dims of wei), BIAS, MULTIPLIER, ACC_MAX and for pixels ZERO_POINT of a node and
 * fill them. Errors: RQ_ERR_MODEL (a scale that is not positive and finite), RQ_ERR_RANGE (a bias
 * that does not fit), RQ_ERR_NOMEM; the message starts with the layer's name. */
RQ_NODISCARD rq_status rq_integer_layer_emit(rq_graph *graph, int node, const rq_tensor *wei,
                                             const rq_integer_layer *layer,
                                             rq_integer_layer_facts *facts, rq_error *err);

/* Errors: RQ_ERR_MODEL unless every scale is finite and at least RQ_SCALE_MIN. */
RQ_NODISCARD rq_status rq_check_scales(const char *name, const char *what, const float *scale,
                                       int64_t n, rq_error *err);

#endif
