/* The passes over pixels and channels around the convolutions: each reads its input once and writes
 * its output once, in parallel over rows of pixels, vectorised over channels. Sizes are in
 * elements; src and dst do not overlap unless said. */
#ifndef RQ_RUNTIME_DNN_FLOAT_PASSES_H
#define RQ_RUNTIME_DNN_FLOAT_PASSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/model/graph.h"

/* dst[p, c] = factor[c] * src[p, c] + offset[c] over pixels x channels; dst may be src. */
void rq_scale_shift_f32(const float *src, const float *factor, const float *offset, float *dst,
                        size_t pixels, size_t channels);

/* The image normalised: dst f32 = factor[c] * src u8 + offset[c], 3 channels. */
void rq_normalize_u8(const uint8_t *src, const float *factor, const float *offset, float *dst,
                     size_t pixels);

/* dst = src[0] + src[1] + … + src[n_src - 1], added in this order; dst may be src[0]. */
void rq_add_f32(const float *const *src, int n_src, float *dst, size_t n);

/* dst = max(src, 0); dst may be src. */
void rq_relu_f32(const float *src, float *dst, size_t n);

/* dst = 1 / (1 + exp(-src)); dst may be src. */
void rq_sigmoid_f32(const float *src, float *dst, size_t n);

/* dst[i, p, c] = src[i, p, c] * gate[i, c] over n images of pixels x channels; dst may be src. */
void rq_gate_f32(const float *src, const float *gate, float *dst, size_t n, size_t pixels,
                 size_t channels);

/* [n, pixels, channels] -> [n, channels]: factor times the sum over pixels, summed in f32 pixel by
 * pixel. */
void rq_pool_f32(const float *src, float *dst, size_t n, size_t pixels, size_t channels,
                 float factor);

#endif
