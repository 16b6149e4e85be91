/* Each function is one loop nest, written once with the number of terms and the kind of activation
 * as constants of an inlined body, so that the compiler makes a vector loop of every case. */
#include "qat/step/eltwise_passes.h"

#include <assert.h>
#include <math.h>

#include "runtime/base/bf16.h"
#include "runtime/base/simd.h"

#define INLINE static inline __attribute__((always_inline))

enum act {
    ACT_NONE,
    ACT_RELU,
    ACT_QUANTIZE,
    ACT_RELU_QUANTIZE,
    ACT_RULE,
    ACT_RULE_RELU,
    ACT_RULE_QUANTIZE
};

static enum act act_of(const tr_pass_args *args)
{
    if (args->by_rule)
        return args->quantize ? ACT_RULE_QUANTIZE : args->relu ? ACT_RULE_RELU : ACT_RULE;
    if (args->quantize)
        return args->relu ? ACT_RELU_QUANTIZE : ACT_QUANTIZE;
    return args->relu ? ACT_RELU : ACT_NONE;
}

INLINE float z_of(const tr_pass_args *args, int n_terms, bool rule, size_t at, size_t c)
{
    float z = args->a[0][c] * args->u[0][at];
    if (rule)
        return (z + args->rule_bias[c]) * args->rule_multiplier[c];
    if (n_terms > 1)
        z += args->a[1][c] * args->u[1][at];
    if (n_terms > 2)
        z += args->a[2][c] * args->u[2][at];
    if (n_terms > 3)
        z += args->a[3][c] * args->u[3][at];
    return z + args->c[c];
}

INLINE float clamp(float q, float low, float high)
{
    return q > low ? (q < high ? q : high) : low;
}

INLINE bool is_rule(enum act act)
{
    return act == ACT_RULE || act == ACT_RULE_RELU || act == ACT_RULE_QUANTIZE;
}

INLINE float act_value(enum act act, float z, const tr_pass_args *args)
{
    switch (act) {
    case ACT_NONE:
    case ACT_RULE:
        return z;
    case ACT_RELU:
    case ACT_RULE_RELU:
        return z > 0.0f ? z : 0.0f;
    case ACT_QUANTIZE:
    case ACT_RELU_QUANTIZE: /* the clamp at 0 is the ReLU */
        return clamp(rintf(z * args->inverse_scale), args->low, args->high);
    case ACT_RULE_QUANTIZE:
        return clamp(rintf(z), 0.0f, 255.0f) + args->low;
    }
    return z;
}

/* Does the gradient pass? ReLU: z > 0. Straight-through: the unclamped q lies in 0…255. */
INLINE bool act_passes(enum act act, bool relu, float z, const tr_pass_args *args)
{
    float q;
    switch (act) {
    case ACT_NONE:
    case ACT_RULE:
        return true;
    case ACT_RELU:
    case ACT_RULE_RELU:
        return z > 0.0f;
    case ACT_QUANTIZE:
    case ACT_RELU_QUANTIZE:
        q = rintf(z * args->inverse_scale);
        return (relu ? z > 0.0f : q >= args->low) & (q <= args->high);
    case ACT_RULE_QUANTIZE:
        q = rintf(z);
        return (relu ? z > 0.0f : q >= 0.0f) & (q <= 255.0f);
    }
    return true;
}

INLINE void store(void *numbers, tr_number_type type, size_t at, float x)
{
    if (type == TR_F32)
        ((float *)numbers)[at] = x;
    else if (type == TR_BF16)
        ((uint16_t *)numbers)[at] = rq_to_bf16(x);
    else
        ((uint8_t *)numbers)[at] = (uint8_t)(int32_t)x;
}

INLINE float load(const void *numbers, tr_number_type type, size_t at)
{
    return type == TR_F32 ? ((const float *)numbers)[at]
                          : rq_from_bf16(((const uint16_t *)numbers)[at]);
}

INLINE void apply_body(const tr_pass_args *args, int n_terms, enum act act, tr_number_type type,
                       void *restrict y)
{
    const size_t channels = args->channels;
    const tr_pass_args local = *args; /* its pointers cannot change under the loop */
    for (size_t p = 0; p < local.pixels; p++)
        for (size_t c = 0; c < channels; c++) {
            const size_t at = p * channels + c;
            store(y, type, at, act_value(act, z_of(&local, n_terms, is_rule(act), at, c), &local));
        }
}

/* Call body with the number of terms and the activation as literals. */
#define FOR_TERMS(call, act)                                                                       \
    do {                                                                                           \
        if (args->n_terms == 1)                                                                    \
            call(1, act);                                                                          \
        else if (args->n_terms == 2)                                                               \
            call(2, act);                                                                          \
        else if (args->n_terms == 3)                                                               \
            call(3, act);                                                                          \
        else                                                                                       \
            call(4, act);                                                                          \
    } while (0)
#define CASE(call, act, for_terms)                                                                 \
    case act:                                                                                      \
        for_terms(call, act);                                                                      \
        break
#define BY_RULE(call, act) call(1, act)
#define FOR_EACH_CASE(call)                                                                        \
    switch (act_of(args)) {                                                                        \
        CASE(call, ACT_NONE, FOR_TERMS);                                                           \
        CASE(call, ACT_RELU, FOR_TERMS);                                                           \
        CASE(call, ACT_QUANTIZE, FOR_TERMS);                                                       \
        CASE(call, ACT_RELU_QUANTIZE, FOR_TERMS);                                                  \
        CASE(call, ACT_RULE, BY_RULE);                                                             \
        CASE(call, ACT_RULE_RELU, BY_RULE);                                                        \
        CASE(call, ACT_RULE_QUANTIZE, BY_RULE);                                                    \
    }

RQ_SIMD static void apply_f32(const tr_pass_args *args, float *y){
#define APPLY(n, act) apply_body(args, (n), (act), TR_F32, y)
    FOR_EACH_CASE(APPLY)
#undef APPLY
}

RQ_SIMD static void apply_bf16(const tr_pass_args *args, uint16_t *y){
#define APPLY(n, act) apply_body(args, (n), (act), TR_BF16, y)
    FOR_EACH_CASE(APPLY)
#undef APPLY
}

RQ_SIMD static void apply_u8(const tr_pass_args *args, uint8_t *y)
{
#define APPLY(n, act) apply_body(args, (n), (act), TR_U8, y)
    if (args->by_rule)
        APPLY(1, ACT_RULE_QUANTIZE);
    else
        FOR_TERMS(APPLY, ACT_QUANTIZE); /* the clamp at 0 is the ReLU */
#undef APPLY
}

void tr_pass_apply(const tr_pass_args *args, void *y, tr_number_type type)
{
    assert(args->n_terms >= 1 && args->n_terms <= TR_MAX_TERMS);
    assert(!args->by_rule || args->n_terms == 1);
    assert(type != TR_U8 || (args->quantize && args->low == 0.0f));
    if (type == TR_F32)
        apply_f32(args, y);
    else if (type == TR_BF16)
        apply_bf16(args, y);
    else
        apply_u8(args, y);
}

enum { LANES = 64 }; /* independent extremes, so that the loop over channels vectorises */

INLINE void range_body(const tr_pass_args *args, int n_terms, float *lo, float *hi)
{
    const tr_pass_args local = *args;
    float lows[LANES], highs[LANES];
    for (int i = 0; i < LANES; i++) {
        lows[i] = INFINITY;
        highs[i] = -INFINITY;
    }
    for (size_t p = 0; p < local.pixels; p++)
        for (size_t c = 0; c < local.channels; c += LANES) {
            const size_t width = local.channels - c < LANES ? local.channels - c : LANES;
            for (size_t i = 0; i < width; i++) {
                const float z = z_of(&local, n_terms, false, p * local.channels + c + i, c + i);
                lows[i] = z < lows[i] ? z : lows[i];
                highs[i] = z > highs[i] ? z : highs[i];
            }
        }
    for (int i = 0; i < LANES; i++) {
        *lo = lows[i] < *lo ? lows[i] : *lo;
        *hi = highs[i] > *hi ? highs[i] : *hi;
    }
    if (local.relu) {
        *lo = *lo > 0.0f ? *lo : 0.0f;
        *hi = *hi > 0.0f ? *hi : 0.0f;
    }
}

RQ_SIMD void tr_pass_range(const tr_pass_args *args, float *lo, float *hi)
{
    assert(!args->by_rule);
#define RANGE(n, act) range_body(args, (n), lo, hi)
    FOR_TERMS(RANGE, ACT_NONE);
#undef RANGE
}

INLINE void moments_body(const float *restrict u, const float *restrict pivot, float *restrict sum,
                         float *restrict sum_squares, float *restrict lo, float *restrict hi,
                         bool with_extremes, size_t pixels, size_t channels)
{
    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < channels; c++) {
            const float value = u[p * channels + c], d = value - pivot[c];
            sum[c] += d;
            sum_squares[c] += d * d;
            if (with_extremes) {
                lo[c] = value < lo[c] ? value : lo[c];
                hi[c] = value > hi[c] ? value : hi[c];
            }
        }
}

RQ_SIMD void tr_pass_moments(const float *u, const float *pivot, float *sum, float *sum_squares,
                             float *extremes, size_t pixels, size_t channels)
{
    if (extremes)
        moments_body(u, pivot, sum, sum_squares, extremes, extremes + channels, true, pixels,
                     channels);
    else
        moments_body(u, pivot, sum, sum_squares, NULL, NULL, false, pixels, channels);
}

/* Leave an element, or 0 where the gradient does not pass; returns what is left. */
INLINE float mask(void *g, tr_number_type type, size_t at, bool passes)
{
    if (type == TR_F32) {
        float *x = g;
        return x[at] = passes ? x[at] : 0.0f;
    }
    uint16_t *x = g;
    x[at] = passes ? x[at] : 0;
    return rq_from_bf16(x[at]);
}

INLINE void reduce_body(const tr_pass_args *args, int n_terms, enum act act,
                        const tr_pass_gradients *gradients, tr_number_type type, float factor,
                        const float *const *pivot, float *restrict sum_dz, float *const *sum_dzu)
{
    const tr_pass_args local = *args;
    void *restrict g = gradients->g[0];
    for (size_t p = 0; p < local.pixels; p++) {
        const size_t row = p * local.channels;
        for (int i = 1; type == TR_F32 && i < gradients->n_g; i++) {
            const float *restrict gi = (const float *)gradients->g[i] + row;
            for (size_t c = 0; c < local.channels; c++)
                ((float *)g)[row + c] += gi[c];
        }
        for (size_t c = 0; c < local.channels; c++) {
            const float z = z_of(&local, n_terms, is_rule(act), row + c, c);
            const bool passes = act_passes(act, local.relu, z, &local);
            sum_dz[c] += factor * mask(g, type, row + c, passes);
        }
        for (int k = 0; k < n_terms; k++) {
            const float *restrict u = local.u[k] + row, *restrict pk = pivot[k];
            float *restrict sum = sum_dzu[k];
            for (size_t c = 0; pk && c < local.channels; c++)
                sum[c] += factor * load(g, type, row + c) * (u[c] - pk[c]);
        }
    }
}

RQ_SIMD static void reduce_f32(const tr_pass_args *args, const tr_pass_gradients *gradients,
                               float factor, const float *const *pivot, float *sum_dz,
                               float *const *sum_dzu){
#define REDUCE(n, act)                                                                             \
    reduce_body(args, (n), (act), gradients, TR_F32, factor, pivot, sum_dz, sum_dzu)
    FOR_EACH_CASE(REDUCE)
#undef REDUCE
}

RQ_SIMD static void reduce_bf16(const tr_pass_args *args, const tr_pass_gradients *gradients,
                                float factor, const float *const *pivot, float *sum_dz,
                                float *const *sum_dzu)
{
#define REDUCE(n, act)                                                                             \
    reduce_body(args, (n), (act), gradients, TR_BF16, factor, pivot, sum_dz, sum_dzu)
    FOR_EACH_CASE(REDUCE)
#undef REDUCE
}

void tr_pass_reduce(const tr_pass_args *args, const tr_pass_gradients *gradients, float factor,
                    const float *const *pivot, float *sum_dz, float *const *sum_dzu)
{
    assert(gradients->n_g >= 1 &&
           gradients->n_g <= (gradients->type == TR_F32 ? TR_MAX_READERS : 1));
    (gradients->type == TR_F32 ? reduce_f32 : reduce_bf16)(args, gradients, factor, pivot, sum_dz,
                                                           sum_dzu);
}

/* du may be g: each element is read before it is written. */
INLINE void gradient_body(const tr_pass_gradient_args *args, tr_number_type g_type, void *du,
                          tr_number_type type)
{
    const tr_pass_gradient_args local = *args;
    const float *restrict pivot = local.pivot, *restrict da = local.da;
    const float *restrict db = local.db, *restrict dc = local.dc;
    const void *g = local.g;
    for (size_t p = 0; p < local.pixels; p++) {
        const size_t row = p * local.channels;
        const float *restrict u = local.u ? local.u + row : NULL;
        if (u)
            for (size_t c = 0; c < local.channels; c++) {
                const float dz = local.factor * load(g, g_type, row + c);
                store(du, type, row + c, da[c] * dz + (db[c] * (u[c] - pivot[c]) + dc[c]));
            }
        else
            for (size_t c = 0; c < local.channels; c++)
                store(du, type, row + c, da[c] * (local.factor * load(g, g_type, row + c)));
    }
}

RQ_SIMD void tr_pass_gradient(const tr_pass_gradient_args *args, void *du, tr_number_type type)
{
    if (args->g_type == TR_F32 && type == TR_F32)
        gradient_body(args, TR_F32, du, TR_F32);
    else if (args->g_type == TR_F32)
        gradient_body(args, TR_F32, du, TR_BF16);
    else if (type == TR_F32)
        gradient_body(args, TR_BF16, du, TR_F32);
    else
        gradient_body(args, TR_BF16, du, TR_BF16);
}

RQ_SIMD void tr_pass_add(float *restrict sum, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += x[i];
}

RQ_SIMD void tr_pass_round(uint16_t *restrict dst, const float *restrict src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = rq_to_bf16(src[i]);
}
