/* Plain loops, cloned for the instruction sets (base/simd.h), under OpenMP loops over chunks. */
#include "runtime/session/kernels.h"

#include <math.h>
#include <string.h>

#include "runtime/base/simd.h"

enum { CHUNK = 16384 }; /* elements per task of a flat loop */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static float clamp_q(float q)
{
    return q > 0.0f ? (q < 255.0f ? q : 255.0f) : 0.0f;
}

RQ_SIMD static void affine_row(const float *src, const float *restrict factor,
                               const float *restrict offset, float *dst, size_t channels)
{
    for (size_t c = 0; c < channels; c++)
        dst[c] = factor[c] * src[c] + offset[c];
}

void rq_affine_f32(const float *src, const float *factor, const float *offset, float *dst,
                   size_t pixels, size_t channels)
{
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < pixels; p++)
        affine_row(src + p * channels, factor, offset, dst + p * channels, channels);
}

RQ_SIMD static void normalize_range(const uint8_t *restrict src, const float *restrict factor,
                                    const float *restrict offset, float *restrict dst,
                                    size_t pixels)
{
    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < 3; c++)
            dst[3 * p + c] = factor[c] * (float)src[3 * p + c] + offset[c];
}

void rq_normalize_u8(const uint8_t *src, const float *factor, const float *offset, float *dst,
                     size_t pixels)
{
    const size_t step = CHUNK / 4;
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < pixels; p += step)
        normalize_range(src + 3 * p, factor, offset, dst + 3 * p, smaller(step, pixels - p));
}

/* One row of the extended image; inside = NULL for a row of the border. */
static void pad_row_u8(const uint8_t *inside, uint8_t *dst, size_t w, size_t pad,
                       const uint8_t *zero_point)
{
    const size_t width = w + 2 * pad;
    for (size_t x = 0; x < width; x++)
        if (!inside || x < pad || x >= pad + w)
            memcpy(dst + 3 * x, zero_point, 3);
    if (inside)
        memcpy(dst + 3 * pad, inside, 3 * w);
}

static void pad_row_f32(const uint8_t *inside, float *dst, size_t w, size_t pad,
                        const uint8_t *zero_point)
{
    for (size_t x = 0; x < w + 2 * pad; x++) {
        const bool is_inside = inside && x >= pad && x < pad + w;
        const uint8_t *pixel = is_inside ? inside + 3 * (x - pad) : zero_point;
        for (size_t c = 0; c < 3; c++)
            dst[3 * x + c] = (float)pixel[c];
    }
}

void rq_pad_image(const uint8_t *src, void *dst, bool as_f32, size_t n, size_t h, size_t w,
                  const int pad[2], const uint8_t *zero_point)
{
    const size_t top = (size_t)pad[0], left = (size_t)pad[1];
    const size_t rows = h + 2 * top, row_elems = 3 * (w + 2 * left);
#pragma omp parallel for schedule(static)
    for (size_t r = 0; r < n * rows; r++) {
        const size_t image = r / rows, y = r % rows;
        const uint8_t *inside =
            y >= top && y < top + h ? src + 3 * w * (image * h + y - top) : NULL;
        if (as_f32)
            pad_row_f32(inside, (float *)dst + row_elems * r, w, left, zero_point);
        else
            pad_row_u8(inside, (uint8_t *)dst + row_elems * r, w, left, zero_point);
    }
}

RQ_SIMD static void add_range(const float *a, const float *b, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = a[i] + b[i];
}

RQ_SIMD static void add_range_3(const float *a, const float *b, const float *c, float *dst,
                                size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = a[i] + b[i] + c[i];
}

void rq_add_f32(const float *const *src, int n_src, float *dst, size_t n)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t count = smaller(CHUNK, n - i);
        int k = n_src < 3 ? 2 : 3;
        if (k == 2)
            add_range(src[0] + i, src[1] + i, dst + i, count);
        else
            add_range_3(src[0] + i, src[1] + i, src[2] + i, dst + i, count);
        for (; k < n_src; k++)
            add_range(dst + i, src[k] + i, dst + i, count);
    }
}

void rq_sigmoid_f32(const float *src, float *dst, size_t n)
{
#pragma omp parallel for schedule(static) if (n > CHUNK)
    for (size_t i = 0; i < n; i++)
        dst[i] = 1.0f / (1.0f + expf(-src[i]));
}

RQ_SIMD static void gate_row(const float *src, const float *restrict gate, float *dst,
                             size_t channels)
{
    for (size_t c = 0; c < channels; c++)
        dst[c] = src[c] * gate[c];
}

void rq_gate_f32(const float *src, const float *gate, float *dst, size_t n, size_t pixels,
                 size_t channels)
{
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < n * pixels; p++)
        gate_row(src + p * channels, gate + p / pixels * channels, dst + p * channels, channels);
}

/* The window of one output pixel: sum of the pixels inside the image, times factor. */
static void avg_pool_pixel(const float *image, float *dst, const rq_shape *in, int64_t oy,
                           int64_t ox, const rq_conv_attr *window)
{
    const int64_t top = oy * window->stride[0] - window->pad[0];
    const int64_t left = ox * window->stride[1] - window->pad[1];
    const size_t channels = (size_t)in->c;
    const float factor = 1.0f / (float)((int64_t)window->kernel[0] * window->kernel[1]);
    memset(dst, 0, channels * sizeof *dst);
    for (int64_t y = top < 0 ? 0 : top; y < top + window->kernel[0] && y < in->h; y++)
        for (int64_t x = left < 0 ? 0 : left; x < left + window->kernel[1] && x < in->w; x++)
            add_range(dst, image + (size_t)(y * in->w + x) * channels, dst, channels);
    for (size_t c = 0; c < channels; c++)
        dst[c] *= factor;
}

void rq_avg_pool_f32(const float *src, float *dst, const rq_shape *in, const rq_shape *out,
                     const rq_conv_attr *window)
{
    const int64_t n_pixels = out->h * out->w;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < out->n * n_pixels; i++)
        avg_pool_pixel(src + i / n_pixels * in->h * in->w * in->c, dst + i * out->c, in,
                       i % n_pixels / out->w, i % out->w, window);
}

RQ_SIMD static void relu_range(const float *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = src[i] > 0.0f ? src[i] : 0.0f;
}

void rq_relu_f32(const float *src, float *dst, size_t n)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        relu_range(src + i, dst + i, smaller(CHUNK, n - i));
}

RQ_SIMD static void accumulate_f32(const float *restrict src, float *restrict sum, size_t n)
{
    for (size_t c = 0; c < n; c++)
        sum[c] += src[c];
}

RQ_SIMD static void scale_range(const float *src, float *dst, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = src[i] * scale;
}

/* Sum the pixels of one image into dst [channels]. */
static void sum_pixels(const float *src, float *dst, size_t pixels, size_t channels)
{
    for (size_t c = 0; c < channels; c++)
        dst[c] = 0.0f;
    for (size_t p = 0; p < pixels; p++)
        accumulate_f32(src + p * channels, dst, channels);
}

void rq_pool_f32(const float *src, float *dst, size_t n, size_t pixels, size_t channels,
                 float factor)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        sum_pixels(src + i * pixels * channels, dst + i * channels, pixels, channels);
        scale_range(dst + i * channels, dst + i * channels, channels, factor);
    }
}

RQ_SIMD static void accumulate_u8(const uint8_t *restrict src, int32_t *restrict sum, size_t n)
{
    for (size_t c = 0; c < n; c++)
        sum[c] += src[c];
}

enum { POOL_CHANNELS = 256 };

RQ_SIMD static void rule_u8(const int32_t *restrict sum, uint8_t *restrict dst, size_t n,
                            float multiplier)
{
    for (size_t c = 0; c < n; c++)
        dst[c] = (uint8_t)clamp_q(rintf(((float)sum[c] + 0.0f) * multiplier));
}

RQ_SIMD static void rule_f32(float *dst, size_t n, float multiplier)
{
    for (size_t c = 0; c < n; c++)
        dst[c] = clamp_q(rintf((dst[c] + 0.0f) * multiplier));
}

void rq_pool_u8(const uint8_t *src, uint8_t *dst, size_t n, size_t pixels, size_t channels,
                float multiplier)
{
    const size_t blocks = (channels + POOL_CHANNELS - 1) / POOL_CHANNELS;
#pragma omp parallel for schedule(static)
    for (size_t task = 0; task < n * blocks; task++) {
        const size_t image = task / blocks, c = task % blocks * POOL_CHANNELS;
        const size_t width = smaller(POOL_CHANNELS, channels - c);
        int32_t sum[POOL_CHANNELS] = {0};
        for (size_t p = 0; p < pixels; p++)
            accumulate_u8(src + (image * pixels + p) * channels + c, sum, width);
        rule_u8(sum, dst + image * channels + c, width, multiplier);
    }
}

void rq_pool_fake_f32(const float *src, float *dst, size_t n, size_t pixels, size_t channels,
                      float multiplier)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        sum_pixels(src + i * pixels * channels, dst + i * channels, pixels, channels);
        rule_f32(dst + i * channels, channels, multiplier);
    }
}

RQ_SIMD static void quantize_range_u8(const float *restrict src, uint8_t *restrict dst, size_t n,
                                      float inverse_scale)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint8_t)clamp_q(rintf(src[i] * inverse_scale));
}

void rq_quantize_u8(const float *src, uint8_t *dst, size_t n, float inverse_scale)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        quantize_range_u8(src + i, dst + i, smaller(CHUNK, n - i), inverse_scale);
}

RQ_SIMD static void quantize_range_f32(const float *src, float *dst, size_t n, float inverse_scale)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = clamp_q(rintf(src[i] * inverse_scale));
}

void rq_quantize_fake_f32(const float *src, float *dst, size_t n, float inverse_scale)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        quantize_range_f32(src + i, dst + i, smaller(CHUNK, n - i), inverse_scale);
}

RQ_SIMD static void dequantize_range(const uint8_t *restrict src, float *restrict dst, size_t n,
                                     float scale)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = scale * (float)src[i];
}

void rq_dequantize_u8(const uint8_t *src, float *dst, size_t n, float scale)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        dequantize_range(src + i, dst + i, smaller(CHUNK, n - i), scale);
}

void rq_scale_f32(const float *src, float *dst, size_t n, float scale)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        scale_range(src + i, dst + i, smaller(CHUNK, n - i), scale);
}
