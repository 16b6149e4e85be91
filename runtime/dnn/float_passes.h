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

/* The rows top..bottom-1 and columns left..right-1 of an image. */
typedef struct rq_area {
    int64_t top, bottom, left, right;
} rq_area;

/* What the window of output pixel (oy, ox) covers of the image; never nothing, since pools pad less
 * than their window. */
static inline rq_area rq_window_area(const rq_conv_attr *window, const rq_shape *in, int64_t oy,
                                     int64_t ox)
{
    const int64_t top = oy * window->stride[0] - window->pad[0], bottom = top + window->kernel[0];
    const int64_t left = ox * window->stride[1] - window->pad[1], right = left + window->kernel[1];
    return (rq_area){top < 0 ? 0 : top, bottom < in->h ? bottom : in->h, left < 0 ? 0 : left,
                     right < in->w ? right : in->w};
}

/* Mean over windows, zeros outside the image counted: src [n, ih, iw, c], dst [n, oh, ow, c]. */
void rq_avg_pool_f32(const float *src, float *dst, const rq_shape *in, const rq_shape *out,
                     const rq_conv_attr *window);

/* The largest of the pixels of windows, of f32 or u8: src [n, ih, iw, c], dst [n, oh, ow, c]. Not
 * for NaN. */
void rq_max_pool(const void *src, void *dst, bool as_f32, const rq_shape *in, const rq_shape *out,
                 const rq_conv_attr *window);

/* [n, pixels, channels] -> [n, channels]: factor times the sum over pixels, summed in f32 pixel by
 * pixel. */
void rq_pool_f32(const float *src, float *dst, size_t n, size_t pixels, size_t channels,
                 float factor);

#endif
