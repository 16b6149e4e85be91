/* The convolution unit, of a conv or linear node: float, or quantized with the batch norm after it
 * folded into its weights. */
#ifndef RQ_QAT_STEP_CONVOLUTION_H
#define RQ_QAT_STEP_CONVOLUTION_H

#include "qat/step/values.h"
#include "runtime/dnn/train_conv.h"
#include "runtime/model/quant.h"

typedef struct tr_conv {
    rq_train_conv *conv;
    rq_conv_shape shape;
    rq_precision precision;
    const float *weight;
    float *dweight;
    bool leaves_bf16; /* the gradient of its source, see tr_value */
    /* quantized layers */
    bool quantized;
    rq_layer_view layer;
    float *stored_scale;        /* the graph's WEIGHT_SCALE */
    float *folded, *q, *dq;     /* [OC, IC/G, KH, KW] */
    float s_x;                  /* of the source, this step; 1 for pixels */
    float *s_w, *channel_scale; /* [OC] */
    double *factor, *sigma; /* [OC] t and sqrt(var + eps) as folded: the eltwise moves var later */
    float *dgamma;          /* of the batch norm that reads it, or NULL */
    double *du_dot_u;       /* [OC] sum of du * u in real units, left by the eltwise */
} tr_conv;

/* Make the unit's convolution; its src and dst are set, unit->conv is zeroed. Errors:
 * RQ_ERR_UNSUPPORTED (weights are quantized but the source is not; quantized with a bias and a
 * batch norm), those of train_conv.h, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status tr_conv_create(rq_trainer *trainer, tr_unit *unit, int node, rq_error *err);

/* Write a quantized layer's WEIGHT_SCALE for the current weights and source. */
void tr_conv_settle(tr_unit *unit);

#endif
