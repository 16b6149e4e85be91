/* The convolution of a training step, by the fastest way that this CPU and the shape offer:
 * oneDNN's kernels, or Winograd's (winograd.h) for most 3x3 convolutions; forward of
 * quantized operands in u8 x s8 where these do not saturate. */
#ifndef RQ_RUNTIME_DNN_TRAIN_CONV_H
#define RQ_RUNTIME_DNN_TRAIN_CONV_H

#include "runtime/dnn/dnn.h"
#include "runtime/model/graph.h"

typedef struct rq_train_conv_options {
    rq_precision precision;
    bool with_dsrc;     /* backward will be asked for the gradient of the source */
    bool exact_forward; /* source and weights are integers, these -127 to 127: their sums must be
                           exact, but for the rounding of those that f32 does not hold */
    bool u8_source;     /* the source's integers are 0 to 255, and given as u8 where
                           rq_train_conv_reads_u8 */
    bool bf16_dsrc;     /* RQ_PRECISION_BF16: the gradient of the source is rounded to bf16 */
} rq_train_conv_options;

/* The numbers [N, IH, IW, IC] of a source; NULL where the convolution does not read them so. */
typedef struct rq_train_source {
    const float *f32;
    const uint16_t *bf16;
    const uint8_t *u8;
} rq_train_source;

/* The precision in which the layer is faster, wanted or f32: oneDNN's gradient of weights in bf16
 * takes 2.4 to 3.6 times as long where rows are 1 to 3 pixels (measured with 128 images of 192
 * channels; at 4 pixels they are equal). */
rq_precision rq_train_conv_precision(const rq_conv_shape *shape, rq_precision wanted);

typedef struct rq_train_conv rq_train_conv;

/* dnn outlives *out. Errors: RQ_ERR_UNSUPPORTED, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_train_conv_create(rq_train_conv **out, rq_dnn *dnn,
                                            const rq_conv_shape *shape,
                                            const rq_train_conv_options *options, rq_error *err);
void rq_train_conv_destroy(rq_train_conv *conv); /* NULL is fine */

/* As what does it read the source? As one of these, or as u8 and f32. */
bool rq_train_conv_reads_u8(const rq_train_conv *conv);
bool rq_train_conv_reads_bf16(const rq_train_conv *conv);
bool rq_train_conv_reads_f32(const rq_train_conv *conv);

/* dst [N, OH, OW, OC] = conv(src, wei [OC, IC/G, KH, KW]). */
RQ_NODISCARD rq_status rq_train_conv_forward(rq_train_conv *conv, rq_train_source src,
                                             const float *wei, float *dst, rq_error *err);

/* src and wei: what the last forward read, unchanged. ddst: of the precision's type, f32 or bf16.
 * Overwrites dwei [OC, IC/G, KH, KW] and dsrc (f32, or bf16 with bf16_dsrc; NULL: not wanted). */
RQ_NODISCARD rq_status rq_train_conv_backward(rq_train_conv *conv, rq_train_source src,
                                              const float *wei, const void *ddst, float *dwei,
                                              void *dsrc, rq_error *err);

#endif
