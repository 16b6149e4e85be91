/* The integer reference: what an int8 model computes, written as scalar kernels and a walk over a
 * whole graph with them. Slow, obvious, independent of oneDNN; every other execution of an int8
 * model must give the same bytes.
 *
 * The rule, operator by operator (functions and notation: model/quant.h). acc is an exact s32.
 *
 *   qconv             acc[oc] = sum of x * w over the taps of oc's group, which read the input's
 *                     rows and columns o * stride - pad + k * dilation; x = 0 outside the image
 *                     q = rq_requantize_u8(acc, BIAS[oc], MULTIPLIER[oc])
 *   qconv on pixels   (its input is the graph's input) the same, but x is the pixel 0..255 itself,
 *                     and x = ZERO_POINT[ic] outside the image; the zero points' share is in
 *                     BIAS[oc] = rne(bias / s_w) - sum of ZERO_POINT[ic] * w over all taps
 *   qlinear           acc[oc] = sum of x * w over the input channels
 *                     real = rq_requantize_f32(acc, BIAS[oc], MULTIPLIER[oc]): logits, or what goes
 *                     into a gate
 *   qmax_pool         q = the largest x of the window inside the image
 *   qglobal_avg_pool  acc = sum of x over H x W
 *                     q = rq_requantize_u8(acc, b, m), b and m by rq_pool_rule of the scales and
 *                     zero points of input and output
 *   qsigmoid          q = rq_gate_level(x) of the real x: rne(255 * sigmoid(x)) by constants
 *   qmul              acc = (x - ZERO_POINT[0]) * g, g the gate's u8 of the pixel's image and channel
 *                     q = rq_requantize_u8(acc, b, m), b and m by rq_gate_rule; a relu after the
 *                     product is its clamp at 0 (then ZERO_POINT[1] is 0)
 *   quantize          q = rq_quantize_activation(x, 1 / SCALE, ZERO_POINT), the quotient in f32
 *   dequantize        x = SCALE * (q - ZERO_POINT) in f32
 *
 * Zero points of values (real = scale * (q - z), where a value can be negative) need nothing in a
 * convolution: what it gives and what it reads has them in BIAS = rne((bias + z_y * s_y) / (s_x *
 * s_w)) - z_x * sum of w. A border of zeros would not be 0 then, so a qconv with padding reads
 * values with zero point 0 only; lowering refuses others.
 *
 * Layers that were left in float are float operators of the same graph:
 *
 *   input             x = factor * p + offset in f32 (runtime/model/model.h); a float conv pads it
 *                     with 0
 *   conv, batch_norm, add, relu, scale, avg_pool, max_pool, global_avg_pool, sigmoid, mul,
 *   linear
 *                     sums in double, rounded to f32 once per value
 *
 * Other executions sum floats in another order, so float values are compared with a tolerance, and
 * what is quantized from them may be off by one step. In a graph without float operators every
 * value is exact. */
#ifndef RQ_RUNTIME_REFERENCE_INTEGER_H
#define RQ_RUNTIME_REFERENCE_INTEGER_H

#include "runtime/model/model.h"
#include "runtime/model/proofs.h"

/* Run a model of form int8 on pixels u8 [n, h, w, 3]; logits f32 [n, n_classes]. observer may be
 * NULL. Errors: RQ_ERR_MODEL (rq_graph_shapes, rq_integer_check, an operator of training, an output
 * that is not n_classes floats per image), RQ_ERR_RANGE, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_integer_run_ref(const rq_model *model, const uint8_t *pixels, int64_t n,
                                          int64_t h, int64_t w, float *logits,
                                          rq_value_observer *observer, void *context,
                                          rq_error *err);

/* One convolution. src u8 [n, ih, iw, ic]; wei s8 [oc, ic/g, kh, kw]; bias s32 [oc]; multiplier f32
 * [oc]; zero_point u8 [ic] for pixels, else NULL; dst u8 [n, oh, ow, oc]. */
void rq_qconv_ref(const rq_conv_shape *shape, const uint8_t *src, const int8_t *wei,
                  const int32_t *bias, const float *multiplier, const uint8_t *zero_point,
                  uint8_t *dst);

#endif
