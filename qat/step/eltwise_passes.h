/* The inner loops of a mix over a range of pixels, channels innermost. All arrays of one pixel have
 * `channels` elements. Leaf functions: the caller splits the pixels among threads. */
#ifndef RQ_QAT_STEP_ELTWISE_PASSES_H
#define RQ_QAT_STEP_ELTWISE_PASSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MIX_TERMS = 4, MIX_READERS = 4 };

/* What z and the result are, for one range. n_terms 1 to MIX_TERMS. */
typedef struct eltwise_args {
    const float *u[MIX_TERMS];
    int n_terms;
    const float *a[MIX_TERMS], *c; /* z = sum a u + c */
    bool by_rule; /* z = (a[0] u[0] + rule_bias) * rule_multiplier; where quantize, z is the q
                     before rounding, and a[0] u[0] is exact */
    const float *rule_bias, *rule_multiplier;
    bool relu, quantize;
    /* quantize: the number is q - zero point, low = -zero point, high = 255 - zero point:
     * clamp(rne(z * inverse_scale), low, high), or by_rule clamp(rne(z), 0, 255) + low */
    float inverse_scale, low, high;
    size_t pixels, channels;
} eltwise_args;

/* What numbers and gradients are stored as. */
typedef enum eltwise_type { ELTWISE_F32, ELTWISE_BF16, ELTWISE_U8 } eltwise_type;

/* y = act(z). As ELTWISE_U8, quantize must be on and low 0. */
void eltwise_apply(const eltwise_args *args, void *y, eltwise_type type);

/* Widen lo..hi to the smallest and largest act(z) before quantization; by_rule must be off. */
void eltwise_range(const eltwise_args *args, float *lo, float *hi);

/* Per channel: sum += u - pivot, sum_squares += (u - pivot)^2, in f32 over a range that is short
 * enough; extremes [2, C] (NULL: not wanted), smallest and largest u, are widened. */
void eltwise_moments(const float *u, const float *pivot, float *sum, float *sum_squares,
                     float *extremes, size_t pixels, size_t channels);

/* Where gradients come from, of one value: n_g arrays of f32, up to MIX_READERS, or one of bf16
 * (base/bf16.h). */
typedef struct eltwise_gradients {
    void *g[MIX_READERS];
    int n_g;
    eltwise_type type;
} eltwise_gradients;

/* g = g[0] + … + g[n_g - 1] where act passes the gradient, else 0, written over g[0]. Per channel,
 * for dz = factor g: sum_dz += dz; sum_dzu[k] += dz * (u[k] - pivot[k]) where pivot[k] is not NULL.
 */
void eltwise_reduce(const eltwise_args *args, const eltwise_gradients *gradients, float factor,
                    const float *const *pivot, float *sum_dz, float *const *sum_dzu);

/* The gradient of one source, du = da dz + db (u - pivot) + dc with dz = factor g; with u NULL du =
 * da dz. */
typedef struct eltwise_gradient_args {
    const void *g; /* [pixels, channels]; f32 or bf16 */
    eltwise_type g_type;
    float factor;
    const float *u;                    /* [pixels, channels] */
    const float *pivot, *da, *db, *dc; /* [channels] */
    size_t pixels, channels;
} eltwise_gradient_args;

/* du: f32 or bf16, g itself where both are of one type. */
void eltwise_gradient(const eltwise_gradient_args *args, void *du, eltwise_type type);

/* sum += x over n elements. */
void eltwise_add(float *sum, const float *x, size_t n);

/* n elements of f32 as bf16. */
void eltwise_round(uint16_t *dst, const float *src, size_t n);

#endif
