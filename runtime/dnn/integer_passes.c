/* Plain loops, cloned for the instruction sets (base/simd.h), under OpenMP loops over chunks. */
#include "runtime/dnn/integer_passes.h"

#include <string.h>

#include "runtime/base/simd.h"
#include "runtime/model/gate.h"

enum {
    CHUNK = 16384,       /* elements of a flat loop's task */
    POOL_CHANNELS = 256, /* channels of a pool's task */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* rne(x) clamped to 0..255, as rq_round_u8. */
static inline float round_q(float x)
{
    x = x > 0.0f ? x : 0.0f;
    return rq_round(x < 255.0f ? x : 255.0f);
}

/* ---- the image ---- */

/* One row of the extended image; inside = NULL for a row of the border. */
static void pad_row_u8(const uint8_t *inside, uint8_t *dst, size_t w, size_t pad,
                       const uint8_t *zero_point)
{
    const size_t left = inside ? pad : w + 2 * pad, right = inside ? pad + w : left;
    for (size_t x = 0; x < left; x++)
        memcpy(dst + 3 * x, zero_point, 3);
    if (inside)
        memcpy(dst + 3 * pad, inside, 3 * w);
    for (size_t x = right; x < w + 2 * pad; x++)
        memcpy(dst + 3 * x, zero_point, 3);
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

/* ---- pooling ---- */

RQ_SIMD static void accumulate_u8(const uint8_t *restrict src, int32_t *restrict sum, size_t n)
{
    for (size_t c = 0; c < n; c++)
        sum[c] += src[c];
}

RQ_SIMD static void accumulate_f32(const float *restrict src, int32_t *restrict sum, size_t n)
{
    for (size_t c = 0; c < n; c++)
        sum[c] += (int32_t)src[c];
}

RQ_SIMD static void pool_rule(const int32_t *restrict sum, void *dst, bool as_f32, size_t n,
                              float bias, float multiplier)
{
    float *restrict f32 = dst;
    uint8_t *restrict u8 = dst;
    if (as_f32)
        for (size_t c = 0; c < n; c++)
            f32[c] = round_q(((float)sum[c] + bias) * multiplier);
    else
        for (size_t c = 0; c < n; c++)
            u8[c] = (uint8_t)round_q(((float)sum[c] + bias) * multiplier);
}

void rq_pool_integers(const void *src, void *dst, bool as_f32, size_t n, size_t pixels,
                      size_t channels, const rq_rule *rule)
{
    const size_t blocks = (channels + POOL_CHANNELS - 1) / POOL_CHANNELS;
#pragma omp parallel for schedule(static)
    for (size_t task = 0; task < n * blocks; task++) {
        const size_t image = task / blocks, c = task % blocks * POOL_CHANNELS;
        const size_t width = smaller(POOL_CHANNELS, channels - c), to = image * channels + c;
        int32_t sum[POOL_CHANNELS] = {0};
        for (size_t p = 0; p < pixels; p++) {
            const size_t at = (image * pixels + p) * channels + c;
            if (as_f32)
                accumulate_f32((const float *)src + at, sum, width);
            else
                accumulate_u8((const uint8_t *)src + at, sum, width);
        }
        pool_rule(sum, as_f32 ? (void *)((float *)dst + to) : (void *)((uint8_t *)dst + to), as_f32,
                  width, (float)rule->bias, rule->multiplier);
    }
}

/* ---- gates ---- */

void rq_gate_levels(const float *src, void *dst, bool as_f32, size_t n)
{
#pragma omp parallel for schedule(static) if (n > CHUNK)
    for (size_t i = 0; i < n; i++)
        if (as_f32)
            ((float *)dst)[i] = (float)rq_gate_level(src[i]);
        else
            ((uint8_t *)dst)[i] = rq_gate_level(src[i]);
}

/* One pixel's channels. acc = (x - z) * g stays below 2^16, so f32 holds it. */
RQ_SIMD static void gate_pixel_u8(const uint8_t *restrict src, const uint8_t *restrict gate,
                                  uint8_t *restrict dst, size_t n, float z, float bias,
                                  float multiplier)
{
    for (size_t c = 0; c < n; c++) {
        const float acc = ((float)src[c] - z) * (float)gate[c];
        dst[c] = (uint8_t)round_q((acc + bias) * multiplier);
    }
}

RQ_SIMD static void gate_pixel_f32(const float *restrict src, const float *restrict gate,
                                   float *restrict dst, size_t n, float z, float bias,
                                   float multiplier)
{
    for (size_t c = 0; c < n; c++)
        dst[c] = round_q(((src[c] - z) * gate[c] + bias) * multiplier);
}

void rq_gate_integers(const void *src, const void *gate, void *dst, bool as_f32, size_t n,
                      size_t pixels, size_t channels, uint8_t zero_point, const rq_rule *rule)
{
    const float z = (float)zero_point, bias = (float)rule->bias;
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < n * pixels; p++) {
        const size_t at = p * channels, image = p / pixels * channels;
        if (as_f32)
            gate_pixel_f32((const float *)src + at, (const float *)gate + image, (float *)dst + at,
                           channels, z, bias, rule->multiplier);
        else
            gate_pixel_u8((const uint8_t *)src + at, (const uint8_t *)gate + image,
                          (uint8_t *)dst + at, channels, z, bias, rule->multiplier);
    }
}

/* ---- from and to real values ---- */

RQ_SIMD static void quantize_range(const float *src, void *dst, bool as_f32, size_t n,
                                   float inverse_scale, uint8_t zero_point)
{
    float *f32 = dst;
    uint8_t *u8 = dst;
    if (as_f32)
        for (size_t i = 0; i < n; i++)
            f32[i] = (float)rq_quantize_activation(src[i], inverse_scale, zero_point);
    else
        for (size_t i = 0; i < n; i++)
            u8[i] = rq_quantize_activation(src[i], inverse_scale, zero_point);
}

void rq_quantize(const float *src, void *dst, bool as_f32, size_t n, rq_qparams y)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        quantize_range(src + i, as_f32 ? (void *)((float *)dst + i) : (void *)((uint8_t *)dst + i),
                       as_f32, smaller(CHUNK, n - i), 1.0f / y.scale, y.zero_point);
}

RQ_SIMD static void dequantize_range_u8(const uint8_t *restrict src, float *restrict dst, size_t n,
                                        float scale, float z)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = scale * ((float)src[i] - z);
}

RQ_SIMD static void dequantize_range_f32(const float *src, float *dst, size_t n, float scale,
                                         float z)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = scale * (src[i] - z);
}

void rq_dequantize(const void *src, bool as_f32, float *dst, size_t n, rq_qparams x)
{
    const float z = (float)x.zero_point;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        if (as_f32)
            dequantize_range_f32((const float *)src + i, dst + i, smaller(CHUNK, n - i), x.scale,
                                 z);
        else
            dequantize_range_u8((const uint8_t *)src + i, dst + i, smaller(CHUNK, n - i), x.scale,
                                z);
}
