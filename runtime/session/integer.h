/* The integer reference: scalar kernels that define what an INT8 model computes, and a walk over a whole graph with them.
 * Slow, obvious, independent of oneDNN; every other execution of an int8 model must give these bytes.
 *
 * Rules (notation: model/quant.h):
 *   qconv, u8 input     acc = sum over taps inside the image of x * w; taps outside count as 0
 *   qconv, pixel input  (its input node is the graph's input) the image is first extended by the padding with ZERO_POINT[ic],
 *                       then acc = sum of x * w over all taps; the zero points' share is in BIAS: b = rne(bias / (s_x * s_w)) - sum z * w
 *                       out u8: q = rq_requantize_u8(acc, BIAS[oc], MULTIPLIER[oc])
 *   quantize            q = rq_quantize_activation(x, 1 / SCALE)
 *   dequantize          x = SCALE * q
 *   qglobal_avg_pool    acc = sum over H x W; q = rq_requantize_u8(acc, 0, f32(SCALE[0] / (SCALE[1] * H * W))), the quotient in double
 *   qlinear             logits f32: rq_requantize_f32(acc, BIAS[oc], MULTIPLIER[oc]) (MULTIPLIER = s_x * s_w)
 * Float operators of an int8 graph (layers left in float) run in plain loops, accumulating in f32… they are compared with a
 * tolerance, not bit for bit.
 *
 * ACC_MAX s64 [OC, 2]: the largest |acc| and |acc + b| that any u8 input can give. <= 2^24 keeps f32 exact; > 2^31 - 1 is refused.
 * isa_proof: for every pair of taps that oneDNN adds in 16 bits (neighbours 2i, 2i+1 along IC within a group at one kernel position; the
 * kernels may also pair other taps, so the proof takes every pair of one channel's weights of one sign): |w_a + w_b| <= 128. */
#ifndef RQ_RUNTIME_SESSION_INTEGER_H
#define RQ_RUNTIME_SESSION_INTEGER_H

#include "runtime/model/model.h"

/* Called after each node with its value: u8 or f32, [N, H, W, C]. */
typedef void rq_value_observer(void *context, int node, const void *value, const rq_shape *shape);

/* Run an int8-form graph on pixels u8 [n, h, w, 3] with the scalar kernels; logits f32 [n, classes].
 * observer may be NULL. Errors: RQ_ERR_MODEL, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_integer_run_ref(const rq_model *model, const uint8_t *pixels, int64_t n,
                                          int64_t h, int64_t w, float *logits,
                                          rq_value_observer *observer, void *context,
                                          rq_error *err);

/* One convolution. src u8 [n, ih, iw, ic]; wei s8 [oc, ic/g, kh, kw]; bias s32 [oc]; multiplier f32 [oc]; zero_point u8 [ic] or NULL;
 * dst u8 [n, oh, ow, oc]. */
typedef struct rq_qconv_shape {
    int64_t n, ih, iw, ic, oh, ow, oc;
    rq_conv_attr conv;
} rq_qconv_shape;
void rq_qconv_ref(const rq_qconv_shape *shape, const uint8_t *src, const int8_t *wei,
                  const int32_t *bias, const float *multiplier, const uint8_t *zero_point,
                  uint8_t *dst);

/* Largest |acc| over all inputs of one output channel's n_taps weights: 255 * max(sum of positive, -sum of negative). Pixel inputs
 * too (x is 0..255 there as well). */
int64_t rq_acc_bound(const int8_t *weights, size_t n_taps);

/* Can any two of these weights of one sign sum to more than 128 in magnitude? */
bool rq_saturation_free(const int8_t *weights, size_t n_taps);

#endif
