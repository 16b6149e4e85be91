/* Convolutions of training by oneDNN: forward, gradient of the source, gradient of the weights.
 * train_conv.h chooses between this and other ways.
 *
 * Operands (source, and gradient of the destination) are f32 or bf16 (base/bf16.h), as the precision
 * says; weights and results are f32. No bias: the pass that follows the convolution adds it anyway,
 * and sums its gradient. */
#ifndef RQ_RUNTIME_DNN_DNN_TRAIN_CONV_H
#define RQ_RUNTIME_DNN_DNN_TRAIN_CONV_H

#include "runtime/dnn/dnn.h"
#include "runtime/model/graph.h"

typedef struct rq_dnn_train_conv rq_dnn_train_conv;

typedef struct rq_dnn_train_options {
    rq_precision precision;
    bool with_forward; /* else backward alone, of a forward that is computed elsewhere */
    bool with_dsrc;    /* backward will be asked for the gradient of the source (not for the first
                          layer) */
    bool bf16_dsrc;    /* RQ_PRECISION_BF16: which is then rounded to bf16 */
} rq_dnn_train_options;

RQ_NODISCARD rq_status rq_dnn_train_conv_create(rq_dnn_train_conv **out, rq_dnn *dnn,
                                                const rq_conv_shape *shape,
                                                const rq_dnn_train_options *options, rq_error *err);
void rq_dnn_train_conv_destroy(rq_dnn_train_conv *conv); /* NULL is fine */

RQ_NODISCARD rq_status rq_dnn_train_conv_set_weights(rq_dnn_train_conv *conv, const float *wei,
                                                     rq_error *err);
RQ_NODISCARD rq_status rq_dnn_train_conv_forward(rq_dnn_train_conv *conv, const void *src,
                                                 float *dst, rq_error *err);
/* src: what the last forward read; weights: the last that were set. Overwrites dwei [OC, IC/G, KH,
 * KW] and dsrc (f32, or bf16 with bf16_dsrc; NULL: not wanted). */
RQ_NODISCARD rq_status rq_dnn_train_conv_backward(rq_dnn_train_conv *conv, const void *src,
                                                  const void *ddst, float *dwei, void *dsrc,
                                                  rq_error *err);

#endif
