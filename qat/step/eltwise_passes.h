/* The inner loops of an eltwise over a range of pixels, channels innermost. All arrays of one pixel
 * have `channels` elements. Leaf functions: the caller splits the pixels among threads. */
#ifndef RQ_QAT_STEP_ELTWISE_PASSES_H
#define RQ_QAT_STEP_ELTWISE_PASSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TR_MAX_TERMS = 4,   /* of one eltwise */
    TR_MAX_READERS = 4, /* of one value: a block's input feeds three branches and, perhaps, an
                           auxiliary head */
};

/* What z and the result are, for one range. */
typedef struct tr_pass_args {
    const float *u[TR_MAX_TERMS];
    int n_terms;                      /* 1 to TR_MAX_TERMS; 1 where by_rule */
    const float *a[TR_MAX_TERMS], *c; /* z = sum a u + c */
    bool by_rule; /* z = (a[0] u[0] + rule_bias) * rule_multiplier; where quantize, z is the q
                     before rounding, and a[0] u[0] is exact */
    const float *rule_bias, *rule_multiplier;
    bool relu, quantize;
    /* quantize: the number is q - zero point, low = -zero point, high = 255 - zero point:
     * clamp(rne(z * inverse_scale), low, high), or by_rule clamp(rne(z), 0, 255) + low */
    float inverse_scale, low, high;
    size_t pixels, channels;
} tr_pass_args;

/* What numbers and gradients are stored as. */
typedef enum tr_number_type { TR_F32, TR_BF16, TR_U8 } tr_number_type;

/* y = act(z). As TR_U8, quantize must be on and low 0. */
void tr_pass_apply(const tr_pass_args *args, void *y, tr_number_type type);

/* Widen lo..hi to the smallest and largest act(z) before quantization; by_rule must be off. */
void tr_pass_range(const tr_pass_args *args, float *lo, float *hi);

/* Per channel: sum += u - pivot, sum_squares += (u - pivot)^2, in f32 over a range that is short
 * enough; extremes [2, C] (NULL: not wanted), smallest and largest u, are widened. */
void tr_pass_moments(const float *u, const float *pivot, float *sum, float *sum_squares,
                     float *extremes, size_t pixels, size_t channels);

/* Where gradients come from, of one value: n_g arrays of f32, 1 to TR_MAX_READERS, or one of bf16
 * (base/bf16.h). */
typedef struct tr_pass_gradients {
    void *g[TR_MAX_READERS];
    int n_g;
    tr_number_type type;
} tr_pass_gradients;

/* g = g[0] + … + g[n_g - 1] where act passes the gradient, else 0, written over g[0]. Per channel,
 * for dz = factor g: sum_dz += dz; sum_dzu[k] += dz * (u[k] - pivot[k]) unless pivot[k] is NULL. */
void tr_pass_reduce(const tr_pass_args *args, const tr_pass_gradients *gradients, float factor,
                    const float *const *pivot, float *sum_dz, float *const *sum_dzu);

/* The gradient of one source, du = da dz + db (u - pivot) + dc with dz = factor g; with u NULL du =
 * da dz. */
typedef struct tr_pass_gradient_args {
    const void *g; /* [pixels, channels]; f32 or bf16 */
    tr_number_type g_type;
    float factor;
    const float *u;                    /* [pixels, channels] */
    const float *pivot, *da, *db, *dc; /* [channels] */
    size_t pixels, channels;
} tr_pass_gradient_args;

/* du: f32 or bf16, g itself where both are of one type. */
void tr_pass_gradient(const tr_pass_gradient_args *args, void *du, tr_number_type type);

/* sum += x over n elements. */
void tr_pass_add(float *sum, const float *x, size_t n);

/* n elements of f32 as bf16. */
void tr_pass_round(uint16_t *dst, const float *src, size_t n);

#endif
