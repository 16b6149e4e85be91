/* Convolutions of inference by oneDNN: dst = conv(src, wei) + bias, in one of these types.
 *
 *            src  wei  bias  dst
 *   F32      f32  f32  f32   f32: acc + bias, and ReLU where asked for
 *   U8_U8    u8   s8   s32   u8:  clamp(rne((f32(acc) + f32(bias)) * scale[oc]), 0, 255)
 *   U8_F32   u8   s8   s32   f32: (f32(acc) + f32(bias)) * scale[oc]
 *   U8_S32   u8   s8   none  s32: acc */
#ifndef RQ_RUNTIME_DNN_DNN_CONV_H
#define RQ_RUNTIME_DNN_DNN_CONV_H

#include "runtime/dnn/dnn.h"
#include "runtime/model/graph.h"

typedef enum rq_dnn_types {
    RQ_DNN_F32,
    RQ_DNN_U8_U8,
    RQ_DNN_U8_F32,
    RQ_DNN_U8_S32,
} rq_dnn_types;

typedef struct rq_dnn_conv_options {
    rq_dnn_types types;
    bool bias;          /* set_weights gets one: f32 [OC], or s32 [OC] for U8_U8 and U8_F32 */
    bool relu;          /* F32 only; U8_U8 clamps at 0 anyway */
    const float *scale; /* [OC], read at creation; U8_U8 and U8_F32 */
} rq_dnn_conv_options;

typedef struct rq_dnn_conv rq_dnn_conv;

/* Errors: RQ_ERR_UNSUPPORTED (oneDNN has no kernel for it; the message holds the problem),
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_dnn_conv_create(rq_dnn_conv **out, rq_dnn *dnn,
                                          const rq_conv_shape *shape,
                                          const rq_dnn_conv_options *options, rq_error *err);
void rq_dnn_conv_destroy(rq_dnn_conv *conv); /* NULL is fine */

/* Pack weights (f32 or s8) and copy bias (NULL without one). */
RQ_NODISCARD rq_status rq_dnn_conv_set_weights(rq_dnn_conv *conv, const void *wei, const void *bias,
                                               rq_error *err);

/* Instead of set_weights: use the packed weights and the bias of a convolution of the same layer,
 * which must outlive this one. false, and nothing done, where it has none or the two kernels want
 * them packed differently. */
bool rq_dnn_conv_share_weights(rq_dnn_conv *conv, const rq_dnn_conv *other);
RQ_NODISCARD rq_status rq_dnn_conv_run(rq_dnn_conv *conv, const void *src, void *dst,
                                       rq_error *err);

/* Bytes of packed weights and bias that the object holds. */
size_t rq_dnn_conv_bytes(const rq_dnn_conv *conv);

/* Has oneDNN nothing but its plain loops for this problem? They are right, and some thousand times
 * slower than a kernel (u8 x s8 in groups whose channels are not a multiple of 4). */
bool rq_dnn_conv_is_reference(const rq_dnn_conv *conv);

#endif
