/* Plain loops, cloned for the instruction sets (base/simd.h), under OpenMP loops over chunks. */
#include "runtime/dnn/float_passes.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "runtime/base/simd.h"

enum { CHUNK = 16384 }; /* elements per task of a flat loop */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

RQ_SIMD static void scale_shift_row(const float *src, const float *restrict factor,
                                    const float *restrict offset, float *dst, size_t channels)
{
    for (size_t c = 0; c < channels; c++)
        dst[c] = factor[c] * src[c] + offset[c];
}

void rq_scale_shift_f32(const float *src, const float *factor, const float *offset, float *dst,
                        size_t pixels, size_t channels)
{
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < pixels; p++)
        scale_shift_row(src + p * channels, factor, offset, dst + p * channels, channels);
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
    assert(n_src >= 2);
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
