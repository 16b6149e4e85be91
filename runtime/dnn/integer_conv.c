/* How integer_conv.h is computed: oneDNN for the sums, a plain pass for the output rule where
 * oneDNN cannot apply it (split weights, f32 sums). */
#include "runtime/dnn/integer_conv.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "runtime/base/simd.h"
#include "runtime/dnn/dnn_conv.h"
#include "runtime/model/proofs.h"
#include "runtime/model/quant.h"

enum { SPLIT = 16, SPLIT_MAX = 8 }; /* w = SPLIT * hi + lo, |hi| and |lo| <= SPLIT_MAX */
enum { MAX_DENSE_BYTES = 1 << 26 }; /* of a grouped layer's weights, spread over one group */
#define F32_EXACT 0x1p24

struct rq_iconv {
    rq_dnn_conv *conv;
    rq_conv_shape shape;
    rq_iconv_kind kind;
    bool split, real_output, direct;
    int32_t *bias;     /* [OC] */
    float *multiplier; /* [OC] */
};

/* hi = w / 16 rounded to nearest, so lo = w - 16 hi lies in -8..8. */
static int split_high(int8_t w)
{
    return (int)lrint((double)w / SPLIT);
}

/* Weights of one output channel, and with zeros for the other groups. */
static size_t channel_taps(const rq_conv_shape *shape)
{
    return (size_t)(shape->ic / shape->conv.groups) *
           (size_t)(shape->conv.kernel[0] * shape->conv.kernel[1]);
}

static size_t dense_taps(const rq_conv_shape *shape)
{
    return channel_taps(shape) * (size_t)shape->conv.groups;
}

/* [OC, taps] -> [2 OC, taps]: within each group, OC/G channels of hi, then OC/G of lo. wide is s8
 * or f32. */
static void split_weights(const int8_t *wei, const rq_conv_shape *shape, void *wide, bool as_f32)
{
    const size_t taps = channel_taps(shape);
    const size_t per_group = (size_t)(shape->oc / shape->conv.groups);
    for (size_t oc = 0; oc < (size_t)shape->oc; oc++) {
        const size_t group = oc / per_group;
        const size_t high = (2 * group * per_group + oc % per_group) * taps;
        const size_t low = high + per_group * taps;
        for (size_t t = 0; t < taps; t++) {
            const int8_t w = wei[oc * taps + t];
            const int hi = split_high(w), lo = w - SPLIT * hi;
            if (as_f32) {
                ((float *)wide)[high + t] = (float)hi;
                ((float *)wide)[low + t] = (float)lo;
            } else {
                ((int8_t *)wide)[high + t] = (int8_t)hi;
                ((int8_t *)wide)[low + t] = (int8_t)lo;
            }
        }
    }
}

/* Largest |acc| of any channel. */
static int64_t largest_bound(const int8_t *wei, int64_t oc, size_t taps)
{
    int64_t largest = 0;
    for (int64_t c = 0; c < oc; c++) {
        const int64_t bound = rq_acc_bound(wei + (size_t)c * taps, taps);
        largest = bound > largest ? bound : largest;
    }
    return largest;
}

/* As oneDNN's convolution wants them: split, or converted to f32, or both. wide has room. */
static void widen_weights(const rq_iconv *conv, const int8_t *wei, size_t n, void *wide)
{
    const bool as_f32 = conv->kind == RQ_ICONV_F32;
    if (conv->split)
        split_weights(wei, &conv->shape, wide, as_f32);
    else
        for (size_t i = 0; i < n; i++)
            ((float *)wide)[i] = (float)wei[i];
}

static rq_status set_weights(rq_iconv *conv, const rq_iconv_weights *weights, rq_error *err)
{
    const bool as_f32 = conv->kind == RQ_ICONV_F32;
    if (!as_f32 && !conv->split)
        return rq_dnn_conv_set_weights(conv->conv, weights->wei,
                                       conv->direct ? weights->bias : NULL, err);
    const size_t n = (size_t)conv->shape.oc * channel_taps(&conv->shape);
    const size_t n_wide = conv->split ? 2 * n : n;
    void *wide =
        as_f32 ? (void *)rq_alloc_array(float, n_wide) : (void *)rq_alloc_array(int8_t, n_wide);
    if (!wide)
        return rq_no_memory(err);
    widen_weights(conv, weights->wei, n, wide);
    const rq_status status = rq_dnn_conv_set_weights(conv->conv, wide, NULL, err);
    rq_free(wide);
    return status;
}

/* Decide on the split, and refuse sums that even split weights could not hold exactly in f32. */
static rq_status plan_split(rq_iconv *conv, const rq_iconv_weights *weights, rq_error *err)
{
    if (conv->kind == RQ_ICONV_U8) {
        conv->split = !weights->saturation_free && rq_dnn_u8s8_may_saturate();
        return RQ_OK;
    }
    const size_t taps = channel_taps(&conv->shape);
    conv->split = (double)largest_bound(weights->wei, conv->shape.oc, taps) > F32_EXACT;
    if (conv->split && 255.0 * SPLIT_MAX * (double)taps > F32_EXACT)
        return rq_fail(err, RQ_ERR_RANGE,
                       "%zu weights per output channel: even split sums leave f32's exact integers",
                       taps);
    return RQ_OK;
}

static rq_status init(rq_iconv *conv, rq_dnn *dnn, const rq_iconv_weights *weights, rq_error *err)
{
    const size_t oc = (size_t)conv->shape.oc;
    RQ_TRY(plan_split(conv, weights, err));
    conv->direct = conv->kind == RQ_ICONV_U8 && !conv->split;
    rq_conv_shape wide = conv->shape;
    wide.oc *= conv->split ? 2 : 1;
    const rq_dnn_conv_options options = {
        .types = conv->kind == RQ_ICONV_F32 ? RQ_DNN_F32
                 : conv->split              ? RQ_DNN_U8_S32
                 : conv->real_output        ? RQ_DNN_U8_F32
                                            : RQ_DNN_U8_U8,
        .bias = conv->direct,
        .scale = conv->direct ? weights->multiplier : NULL,
    };
    RQ_TRY(rq_dnn_conv_create(&conv->conv, dnn, &wide, &options, err));
    conv->bias = rq_alloc_array(int32_t, oc);
    conv->multiplier = rq_alloc_array(float, oc);
    if (!conv->bias || !conv->multiplier)
        return rq_no_memory(err);
    memcpy(conv->bias, weights->bias, oc * sizeof *conv->bias);
    memcpy(conv->multiplier, weights->multiplier, oc * sizeof *conv->multiplier);
    if (weights->packed && rq_dnn_conv_share_weights(conv->conv, weights->packed->conv))
        return RQ_OK;
    return set_weights(conv, weights, err);
}

static rq_status create(rq_iconv **out, rq_dnn *dnn, const rq_conv_shape *shape, rq_iconv_kind kind,
                        const rq_iconv_weights *weights, bool real_output, rq_error *err)
{
    rq_iconv *conv = rq_alloc(sizeof *conv);
    if (!conv)
        return rq_no_memory(err);
    conv->shape = *shape;
    conv->kind = kind;
    conv->real_output = real_output;
    const rq_status status = init(conv, dnn, weights, err);
    if (status)
        rq_iconv_destroy(conv);
    else
        *out = conv;
    return status;
}

/* [OC, IC/G, taps] -> [OC, IC, taps]: zeros where a channel belongs to another group. */
static void spread_groups(const int8_t *wei, const rq_conv_shape *shape, int8_t *dense)
{
    const size_t oc = (size_t)shape->oc, groups = (size_t)shape->conv.groups;
    const size_t taps = channel_taps(shape);
    for (size_t c = 0; c < oc; c++) {
        int8_t *channel = dense + c * groups * taps;
        memset(channel, 0, groups * taps);
        memcpy(channel + c / (oc / groups) * taps, wei + c * taps, taps);
    }
}

/* The same convolution as one group: zeros change no sum, and bring no pair nearer to 16 bits. */
static rq_status create_dense(rq_iconv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                              rq_iconv_kind kind, const rq_iconv_weights *weights, bool real_output,
                              rq_error *err)
{
    int8_t *wei = rq_alloc_array(int8_t, (size_t)shape->oc * dense_taps(shape));
    if (!wei)
        return rq_no_memory(err);
    spread_groups(weights->wei, shape, wei);
    rq_conv_shape dense_shape = *shape;
    dense_shape.conv.groups = 1;
    rq_iconv_weights dense = *weights;
    dense.wei = wei;
    const rq_status status = create(out, dnn, &dense_shape, kind, &dense, real_output, err);
    rq_free(wei);
    return status;
}

/* oneDNN has no u8 x s8 kernel for groups of, say, 6 channels. As one group it does as much useless
 * work as there are groups, and is still far faster than plain loops. */
static bool is_better_dense(const rq_iconv *conv, const rq_conv_shape *shape)
{
    return shape->conv.groups > 1 && rq_dnn_conv_is_reference(conv->conv) &&
           (size_t)shape->oc * dense_taps(shape) <= MAX_DENSE_BYTES;
}

rq_status rq_iconv_create(rq_iconv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                          rq_iconv_kind kind, const rq_iconv_weights *weights, bool real_output,
                          rq_error *err)
{
    rq_iconv *conv = NULL;
    RQ_TRY(create(&conv, dnn, shape, kind, weights, real_output, err));
    if (is_better_dense(conv, shape)) {
        rq_iconv_destroy(conv);
        return create_dense(out, dnn, shape, kind, weights, real_output, err);
    }
    *out = conv;
    return RQ_OK;
}

void rq_iconv_destroy(rq_iconv *conv)
{
    if (!conv)
        return;
    rq_dnn_conv_destroy(conv->conv);
    rq_free(conv->bias);
    rq_free(conv->multiplier);
    rq_free(conv);
}

size_t rq_iconv_scratch_bytes(const rq_iconv *conv)
{
    const rq_conv_shape *s = &conv->shape;
    const size_t sums = (size_t)(s->n * s->oh * s->ow * s->oc) * 4;
    return conv->direct ? 0 : conv->split ? 2 * sums : sums;
}

size_t rq_iconv_weight_bytes(const rq_iconv *conv)
{
    return rq_dnn_conv_bytes(conv->conv);
}

bool rq_iconv_is_split(const rq_iconv *conv)
{
    return conv->split;
}

/* ---- the output rule over one pixel's channels ---- */

/* sum = f32(acc), then (sum + b) * m, rounded and clamped. */

RQ_SIMD static void sums_from_f32(const float *restrict acc, float *restrict sum, size_t n)
{
    for (size_t c = 0; c < n; c++)
        sum[c] = acc[c];
}

RQ_SIMD static void sums_from_split_f32(const float *restrict high, const float *restrict low,
                                        float *restrict sum, size_t n)
{
    for (size_t c = 0; c < n; c++)
        sum[c] = (float)(SPLIT * (int32_t)high[c] + (int32_t)low[c]);
}

RQ_SIMD static void sums_from_split_s32(const int32_t *restrict high, const int32_t *restrict low,
                                        float *restrict sum, size_t n)
{
    for (size_t c = 0; c < n; c++)
        sum[c] = (float)(SPLIT * high[c] + low[c]);
}

RQ_SIMD static void rule_f32(const float *restrict sum, const int32_t *restrict bias,
                             const float *restrict multiplier, float *restrict dst, size_t n,
                             bool real)
{
    for (size_t c = 0; c < n; c++) {
        const float y = (sum[c] + (float)bias[c]) * multiplier[c];
        const float q = rintf(y);
        dst[c] = real ? y : q > 0.0f ? (q < 255.0f ? q : 255.0f) : 0.0f;
    }
}

RQ_SIMD static void rule_u8(const float *restrict sum, const int32_t *restrict bias,
                            const float *restrict multiplier, uint8_t *restrict dst, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        const float q = rintf((sum[c] + (float)bias[c]) * multiplier[c]);
        dst[c] = (uint8_t)(q > 0.0f ? (q < 255.0f ? q : 255.0f) : 0.0f);
    }
}

enum { CHUNK = 256 }; /* channels per step, so that the sums stay in the first cache */

static void apply_rule(const rq_iconv *conv, const void *acc, size_t pixel, void *dst)
{
    const rq_conv_shape *s = &conv->shape;
    const size_t oc = (size_t)s->oc, per_group = oc / (size_t)s->conv.groups;
    const size_t wide = conv->split ? 2 * oc : oc;
    float sum[CHUNK];
    for (size_t group = 0; group < oc; group += per_group)
        for (size_t c = group, n; c < group + per_group; c += n) {
            n = group + per_group - c < CHUNK ? group + per_group - c : CHUNK;
            const size_t high = pixel * wide + (conv->split ? group + c : c);
            if (!conv->split)
                sums_from_f32((const float *)acc + high, sum, n);
            else if (conv->kind == RQ_ICONV_F32)
                sums_from_split_f32((const float *)acc + high,
                                    (const float *)acc + high + per_group, sum, n);
            else
                sums_from_split_s32((const int32_t *)acc + high,
                                    (const int32_t *)acc + high + per_group, sum, n);
            const size_t at = pixel * oc + c;
            if (conv->kind == RQ_ICONV_F32 || conv->real_output)
                rule_f32(sum, conv->bias + c, conv->multiplier + c, (float *)dst + at, n,
                         conv->real_output);
            else
                rule_u8(sum, conv->bias + c, conv->multiplier + c, (uint8_t *)dst + at, n);
        }
}

rq_status rq_iconv_run(rq_iconv *conv, const void *src, void *dst, void *scratch, rq_error *err)
{
    if (conv->direct)
        return rq_dnn_conv_run(conv->conv, src, dst, err);
    assert(scratch);
    RQ_TRY(rq_dnn_conv_run(conv->conv, src, scratch, err));
    const rq_conv_shape *s = &conv->shape;
    const size_t pixels = (size_t)(s->n * s->oh * s->ow);
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < pixels; p++)
        apply_rule(conv, scratch, p, dst);
    return RQ_OK;
}
