/* The float convolution of a session, by the fastest way that this CPU and the shape offer:
 * oneDNN's kernels, or Winograd's (winograd.h) where its weights, four times as many numbers, serve
 * many tiles of each image. The choice and the result do not depend on the batch. */
#ifndef RQ_RUNTIME_DNN_FLOAT_CONV_H
#define RQ_RUNTIME_DNN_FLOAT_CONV_H

#include "runtime/dnn/dnn.h"
#include "runtime/model/graph.h"

typedef struct rq_float_conv rq_float_conv;

typedef struct rq_float_conv_options {
    bool bias; /* set_weights gets one */
    bool relu;
} rq_float_conv_options;

/* dnn outlives *out and holds its scratch: one convolution of a dnn runs at a time. Errors:
 * RQ_ERR_UNSUPPORTED, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_float_conv_create(rq_float_conv **out, rq_dnn *dnn,
                                            const rq_conv_shape *shape,
                                            const rq_float_conv_options *options, rq_error *err);
void rq_float_conv_destroy(rq_float_conv *conv); /* NULL is fine */

/* Pack weights [OC, IC/G, KH, KW] and copy the bias [OC] (NULL without one). */
RQ_NODISCARD rq_status rq_float_conv_set_weights(rq_float_conv *conv, const float *wei,
                                                 const float *bias, rq_error *err);

/* Instead of set_weights: use those of a convolution of the same layer, which must outlive this
 * one. false, and nothing done, where they are packed differently. */
bool rq_float_conv_share_weights(rq_float_conv *conv, const rq_float_conv *other);

/* dst [N, OH, OW, OC] = conv(src [N, IH, IW, IC]) + bias, and ReLU. */
RQ_NODISCARD rq_status rq_float_conv_run(rq_float_conv *conv, const float *src, float *dst,
                                         rq_error *err);

/* Bytes of packed weights and bias. */
size_t rq_float_conv_bytes(const rq_float_conv *conv);

#endif
