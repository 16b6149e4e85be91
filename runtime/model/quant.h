/* Scales: how real numbers become the numbers of the integer contract. The formulas are only here;
 * training, calibration, lowering and the fake-quant session all call them, so they agree bit for
 * bit.
 *
 *   activations  u8 per tensor, real = s_x * (q - z_x), q in 0..255; z_x is 0 where a value cannot
 *                be negative
 *   weights      s8 per output channel, symmetric, real = s_w * q, q in -127..127
 *   output rule  q = clamp(rne((f32(acc) + f32(b)) * m), 0, 255), acc = sum of x * w
 *                m = f32(s_x * s_w / s_y)
 *                b = rne((bias + z_y * s_y) / (s_x * s_w)) - z_x * sum of w, as s32: zero points
 *                cost no operation, and b is rounded once, by half a unit of the accumulator
 *   pixels       p in 0..255 means x = (p - z) / (255 * std[ic]), z the channel's integer zero
 *                point; 1 / (255 * std[ic]) is folded into the weights, so s_x = 1
 *
 * rne is round half to even. Every f32 operation rounds once (no fused multiply-add). */
#ifndef RQ_RUNTIME_MODEL_QUANT_H
#define RQ_RUNTIME_MODEL_QUANT_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/model/graph.h"

struct rq_model;

#define RQ_SCALE_MIN   0x1p-40f /* the smallest scale; dead channels and tensors have this one */
#define RQ_PIXEL_SCALE 1.0f     /* s_x of a layer that reads pixels */

/* rne(x) for |x| <= 2^22: adding 1.5 * 2^23 leaves no bits for the fraction, and the addition
 * itself rounds half to even. Unlike rintf it needs no SSE4.1 and vectorises. */
static inline float rq_round(float x)
{
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

/* rne(x) clamped to 0..255 (clamping first is the same: the bounds are integers). NaN gives 0. */
static inline uint8_t rq_round_u8(float x)
{
    x = x > 0.0f ? x : 0.0f;
    x = x < 255.0f ? x : 255.0f;
    return (uint8_t)rq_round(x);
}

/* rne(x) clamped to -127..127. NaN gives -127. */
static inline int8_t rq_round_s8(float x)
{
    x = x > -127.0f ? x : -127.0f;
    x = x < 127.0f ? x : 127.0f;
    return (int8_t)rq_round(x);
}

/* What a u8 value means: real = scale * (q - zero_point). */
typedef struct rq_qparams {
    float scale;
    uint8_t zero_point;
} rq_qparams;

/* s_x of a range of this width: width / 255, computed in double, rounded to f32, at least
 * RQ_SCALE_MIN. NaN stays NaN. */
static inline float rq_activation_scale(double width)
{
    const float scale = (float)(width / 255.0);
    return scale < RQ_SCALE_MIN ? RQ_SCALE_MIN : scale;
}

/* Of a value that was observed between min and max. The range is widened to hold 0, which must be a
 * level: lo = min(min, 0), hi = max(max, 0), scale = rq_activation_scale(hi - lo), zero_point =
 * clamp(rne(-lo / scale), 0, 255) in double. A min that is not negative gives zero point 0. */
static inline rq_qparams rq_activation_qparams(float min, float max)
{
    const double lo = min < 0.0f ? (double)min : 0.0, hi = max < 0.0f ? 0.0 : (double)max;
    const float scale = rq_activation_scale(hi - lo);
    const double z = rint(-lo / (double)scale);
    return (rq_qparams){scale, (uint8_t)(z > 0.0 ? z < 255.0 ? z : 255.0 : 0.0)};
}

/* s_w of one output channel whose folded weights have the largest magnitude max_abs: max_abs / 127.
 * A folded bias that would leave f32's exact integers (|bias / (s_x * s_w)| > 2^23) widens the
 * scale until it fits: next to such a bias the weights no longer matter. Pass bias 0 where there is
 * none yet. NaN stays NaN. */
static inline float rq_weight_scale(float max_abs, double bias, double s_x)
{
    double scale = (double)max_abs / 127.0;
    const double for_bias = fabs(bias) / (s_x * 0x1p23);
    if (for_bias > scale)
        scale = for_bias;
    const float rounded = (float)scale;
    return rounded < RQ_SCALE_MIN ? RQ_SCALE_MIN : rounded;
}

/* q of one value: clamp(rne(x / s)) as x * (1 / s) in f32, PyTorch's fake_quantize formula. */
static inline int8_t rq_quantize_weight(float w, float inverse_scale)
{
    return rq_round_s8(w * inverse_scale);
}

/* With a zero point: clamp(rne(x / s) + z). NaN gives 0. */
static inline uint8_t rq_quantize_activation(float x, float inverse_scale, uint8_t zero_point)
{
    const float z = (float)zero_point;
    float q = x * inverse_scale;
    q = q > -z ? q : -z;
    q = q < 255.0f - z ? q : 255.0f - z;
    return (uint8_t)(rq_round(q) + z);
}

/* The output rule. acc is exact; each operation rounds to f32 once. */
static inline float rq_requantize_f32(int32_t acc, int32_t bias, float multiplier)
{
    const float sum = (float)acc + (float)bias;
    return sum * multiplier;
}

static inline uint8_t rq_requantize_u8(int32_t acc, int32_t bias, float multiplier)
{
    return rq_round_u8(rq_requantize_f32(acc, bias, multiplier));
}

static inline float rq_multiplier(float s_x, float s_w, float s_y)
{
    return (float)((double)s_x * (double)s_w / (double)s_y);
}

/* Integer bias in accumulator units: rne(bias / (s_x * s_w)) in double. Errors: RQ_ERR_RANGE when
 * it is not finite, or over 2^30 and leaves no room for the accumulator. */
RQ_NODISCARD rq_status rq_integer_bias(double bias, float s_x, float s_w, int32_t *out,
                                       rq_error *err);

/* b and m of the output rule where they are the same for all channels. */
typedef struct rq_rule {
    int32_t bias;
    float multiplier;
} rq_rule;

/* Global average pooling over n = n_pixels. Errors: RQ_ERR_RANGE (acc or acc + b could leave s32).
 *   acc = sum of q_x     b = rne(z_y * s_y * n / s_x) - z_x * n     m = f32(s_x / (s_y * n)) */
RQ_NODISCARD rq_status rq_pool_rule(rq_rule *out, rq_qparams x, rq_qparams y, int64_t n_pixels,
                                    rq_error *err);

/* A value times its gate g (u8, scale s_g = RQ_GATE_SCALE). Errors: RQ_ERR_RANGE.
 *   acc = (q_x - z_x) * g     b = rne(z_y * s_y / (s_x * s_g))      m = f32(s_x * s_g / s_y) */
RQ_NODISCARD rq_status rq_gate_rule(rq_rule *out, rq_qparams x, rq_qparams y, rq_error *err);

/* The largest |acc| and |acc + b| of such a rule whose acc lies in low..high. */
int64_t rq_rule_bound(const rq_rule *rule, int64_t low, int64_t high);

/* The zero point of a pixel channel, z = rne(255 * mean). Form qat and later use mean = f32(z /
 * 255), which makes (p / 255 - mean) / std and (p - z) / (255 * std) the same number. */
static inline uint8_t rq_pixel_zero_point(float mean)
{
    const double z = rint(255.0 * (double)mean);
    return (uint8_t)(z < 0.0 ? 0.0 : z > 255.0 ? 255.0 : z);
}

/* The mean that has zero point z. */
static inline float rq_pixel_mean(uint8_t z)
{
    return (float)((double)z / 255.0);
}

/* One layer as quantization sees it: a convolution or a linear layer, and the batch norm that
 * follows it. Points into a model and owns nothing; it stays valid while the model's parameters do,
 * so a trainer gathers it once and sees every update. Plain data: it may also be filled by hand. */
typedef struct rq_layer_view {
    const char *name;
    int64_t oc, ic, taps; /* weights [oc, ic, taps]; ic of one group, taps = KH * KW (linear: 1) */
    int64_t groups;
    const float *weight;
    const float *bias;                      /* [oc], or NULL */
    const float *gamma, *beta, *mean, *var; /* [oc] of the batch norm, or all NULL */
    float eps;
    const float *std; /* [groups * ic], when the layer reads pixels; else NULL */
    /* [1] each, where a quantized layer reads or gives values with a zero point; else NULL */
    const uint8_t *in_zero_point, *out_zero_point;
    const float *out_scale;
} rq_layer_view;

static inline size_t rq_layer_channel_size(const rq_layer_view *layer)
{
    return (size_t)(layer->ic * layer->taps);
}

/* The fake_quant whose integers a value holds, itself or through max_pools, which choose among
 * them; -1 when it holds real numbers. */
int rq_quantizer_of(const rq_graph *graph, int node);

/* Gather the layer at a conv or linear node with the batch norm that reads it, if one does. A layer
 * with WEIGHT_SCALE whose input is the image reads pixels; one without reads the normalised image.
 * Zero points are those of the fake_quants before and after a layer with WEIGHT_SCALE. The graph
 * must have passed rq_graph_shapes. Errors: RQ_ERR_MODEL (another operator, a batch norm that is
 * not the layer's only reader, var < 0, eps <= 0, std <= 0, a parameter that is not finite). */
RQ_NODISCARD rq_status rq_layer_view_init(rq_layer_view *out, const struct rq_model *model,
                                          int node, rq_error *err);

/* May a quantized layer give real values instead of integers (logits, what goes into a gate)? A
 * linear layer, or a convolution that is one: 1 x 1 over one pixel, in one group. in: the shape of
 * what it reads. */
bool rq_is_matrix(const rq_node *node, const rq_shape *in);

/* t = gamma / sqrt(var + eps) in double; 1 without batch norm. */
double rq_layer_bn_factor(const rq_layer_view *layer, int64_t oc);

/* Bias after folding, in real units, in double: (beta - mean * t) + bias * t, and the output's zero
 * point, z_y * s_y. */
double rq_layer_bias(const rq_layer_view *layer, int64_t oc);

/* What the weights of (oc, ic) are multiplied by: t, or t / (255 * std[ic]) for pixels, in double,
 * rounded to f32 once. ic counts within the group. */
float rq_layer_factor(const rq_layer_view *layer, int64_t oc, int64_t ic);

/* Folded weights of one channel, w * factor in f32. folded: rq_layer_channel_size floats. */
void rq_layer_fold(const rq_layer_view *layer, int64_t oc, float *folded);

/* s_w of every channel from the current weights: rq_weight_scale(max |folded|, bias, s_x).
 * scale: [oc]. */
void rq_layer_weight_scales(const rq_layer_view *layer, float s_x, float *scale);

/* q = rq_quantize_weight(w * factor, 1 / s_w) of one channel, and of all: [oc, ic, taps]. */
void rq_layer_quantize_channel(const rq_layer_view *layer, int64_t oc, float s_w, int8_t *q);
void rq_layer_quantize(const rq_layer_view *layer, const float *scale, int8_t *q);

/* b of one channel for its quantized weights q: rq_integer_bias of rq_layer_bias, minus the sum of
 * z * q over the taps; z is zero_point [groups * ic] for pixels (NULL otherwise), else the input's
 * zero point. q NULL: for inputs whose zero points are taken off already. Errors: as
 * rq_integer_bias, the name in front. */
RQ_NODISCARD rq_status rq_layer_integer_bias(const rq_layer_view *layer, int64_t oc, float s_x,
                                             float s_w, const int8_t *q, const uint8_t *zero_point,
                                             int32_t *out, rq_error *err);

#endif
