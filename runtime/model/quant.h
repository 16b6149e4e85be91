/* Scales: how real ranges become the numbers of the integer contract. The one place where these formulas stand;
 * training, calibration, lowering and the fake-quant session all call them.
 *
 *   activations  u8 per tensor, real = s_x * q, q in 0..255 (all quantized activations are >= 0; zero point 0)
 *   weights      s8 per output channel, symmetric, real = s_w * q, q in -127..127
 *   output rule  q = clamp(rne((f32(acc) + f32(b)) * m), 0, 255), m = f32(s_x * s_w / s_y), b = rne(bias / (s_x * s_w)) as s32 */
#ifndef RQ_RUNTIME_MODEL_QUANT_H
#define RQ_RUNTIME_MODEL_QUANT_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#define RQ_SCALE_MIN 0x1p-40f /* no scale is smaller: a dead channel or tensor still has a valid one */

/* s_x of a range [0, max]: max / 255, computed in double, rounded to f32, at least RQ_SCALE_MIN. */
static inline float rq_activation_scale(float max)
{
    const float scale = (float)((double)max / 255.0);
    return scale > RQ_SCALE_MIN ? scale : RQ_SCALE_MIN;
}

/* s_w of one output channel whose folded weights have the largest magnitude max_abs. Where the channel's folded bias
 * is so large beside its weights that it would leave f32's exact integers (|bias / (s_x * s_w)| > 2^23), the scale is
 * widened until it fits: such weights no longer matter beside the bias. Pass bias 0 where there is none yet. */
static inline float rq_weight_scale(float max_abs, double bias, double s_x)
{
    double scale = (double)max_abs / 127.0;
    const double for_bias = fabs(bias) / (s_x * 0x1p23);
    if (for_bias > scale)
        scale = for_bias;
    const float rounded = (float)scale;
    return rounded > RQ_SCALE_MIN ? rounded : RQ_SCALE_MIN;
}

/* q of one value: clamp(rne(x / s)) as x * (1 / s) in f32, PyTorch's fake_quantize formula. */
static inline int8_t rq_quantize_weight(float w, float inverse_scale)
{
    const float q = rintf(w * inverse_scale);
    return (int8_t)(q < -127.0f ? -127.0f : q > 127.0f ? 127.0f : q);
}

static inline uint8_t rq_quantize_activation(float x, float inverse_scale)
{
    const float q = rintf(x * inverse_scale);
    return (uint8_t)(q > 0.0f ? (q < 255.0f ? q : 255.0f) : 0.0f);
}

/* The output rule. acc is exact; each operation rounds to f32 once. */
static inline float rq_requantize_f32(int32_t acc, int32_t bias, float multiplier)
{
    const float sum = (float)acc + (float)bias;
    return sum * multiplier;
}

static inline uint8_t rq_requantize_u8(int32_t acc, int32_t bias, float multiplier)
{
    const float q = rintf(rq_requantize_f32(acc, bias, multiplier));
    return (uint8_t)(q > 0.0f ? (q < 255.0f ? q : 255.0f) : 0.0f);
}

static inline float rq_multiplier(float s_x, float s_w, float s_y)
{
    return (float)((double)s_x * (double)s_w / (double)s_y);
}

/* Integer bias in accumulator units. Errors: RQ_ERR_RANGE when |b| does not fit s32 with room for the accumulator (> 2^30) or
 * is not finite. */
RQ_NODISCARD rq_status rq_integer_bias(double bias, float s_x, float s_w, int32_t *out,
                                       rq_error *err);

/* The first layer reads pixels 0..255. With normalisation x = (p / 255 - mean) / std, the integer zero point of a channel is
 * z = rne(255 * mean); in training and in integers x' = (p - z) / (255 * std) takes x's place, and the constant difference goes into the
 * bias once (x = x' + (z / 255 - mean) / std). */
static inline uint8_t rq_pixel_zero_point(float mean)
{
    const double z = rint(255.0 * (double)mean);
    return (uint8_t)(z < 0.0 ? 0.0 : z > 255.0 ? 255.0 : z);
}

#endif
