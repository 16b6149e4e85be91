/* The inner loops of a mix over a range of pixels, channels innermost. All arrays of one pixel have
 * `channels` elements. Leaf functions: the caller splits the pixels among threads. */
#ifndef RQ_QAT_MIX_KERNELS_H
#define RQ_QAT_MIX_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MIX_TERMS = 4, MIX_READERS = 4 };

/* What z and the result are, for one range. n_terms 1 to MIX_TERMS. */
typedef struct mix_args {
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
} mix_args;

/* y = act(z), as f32, as bf16 (base/bf16.h), or as bytes: then quantize must be on, and low 0. */
void mix_apply(const mix_args *args, float *y);
void mix_apply_bf16(const mix_args *args, uint16_t *y);
void mix_apply_u8(const mix_args *args, uint8_t *y);

/* Widen lo..hi to the smallest and largest act(z) before quantization; by_rule must be off. */
void mix_range(const mix_args *args, float *lo, float *hi);

/* Per channel: sum += u - pivot, sum_squares += (u - pivot)^2, in f32 over a range that is short
 * enough; extremes [2, C] (NULL: not wanted), smallest and largest u, are widened. */
void mix_moments(const float *u, const float *pivot, float *sum, float *sum_squares,
                 float *extremes, size_t pixels, size_t channels);

/* dz = factor * (g[0] + … + g[n_g - 1]), n_g up to MIX_READERS, where act passes the gradient, else
 * 0; written over g[0]. Per channel: sum_dz += dz; sum_dzu[k] += dz * (u[k] - pivot[k]) where
 * pivot[k] is not NULL. */
void mix_reduce(const mix_args *args, float *const *g, int n_g, float factor,
                const float *const *pivot, float *sum_dz, float *const *sum_dzu);

/* The gradient of one source, du = da dz + db (u - pivot) + dc; with u NULL du = da dz. */
typedef struct mix_gradient_args {
    const float *dz, *u;               /* [pixels, channels] */
    const float *pivot, *da, *db, *dc; /* [channels] */
    size_t pixels, channels;
} mix_gradient_args;

/* du as f32, and then it may be dz; or as bf16. */
void mix_gradient(const mix_gradient_args *args, float *du);
void mix_gradient_bf16(const mix_gradient_args *args, uint16_t *du);

/* sum += x over n elements. */
void mix_add(float *sum, const float *x, size_t n);

/* n elements of f32 as bf16. */
void mix_round(uint16_t *dst, const float *src, size_t n);

#endif
