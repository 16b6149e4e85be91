/* The blends: through a table where the degenerate image is one level, else pixel by pixel. */
#include "runtime/image/enhance.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/simd.h"

static inline uint8_t blend(int degenerate, int level, float factor)
{
    const float value = (float)degenerate + factor * (float)(level - degenerate);
    const float above = value > 0.0f ? value : 0.0f;
    return (uint8_t)(above < 255.0f ? above : 255.0f);
}

static void blend_with_level(uint8_t *pixels, size_t n_pixels, int degenerate, float factor)
{
    uint8_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = blend(degenerate, i, factor);
    for (size_t i = 0; i < 3 * n_pixels; i++)
        pixels[i] = table[pixels[i]];
}

/* ITU-R 601-2, in 16 fractional bits. */
static inline int luma(const uint8_t *pixel)
{
    return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16;
}

RQ_SIMD
static void blend_with_luma(uint8_t *restrict pixels, size_t n_pixels, float factor)
{
    for (size_t i = 0; i < n_pixels; i++) {
        uint8_t *pixel = pixels + 3 * i;
        const int grey = luma(pixel);
        for (int c = 0; c < 3; c++)
            pixel[c] = blend(grey, pixel[c], factor);
    }
}

void rq_enhance_color(uint8_t *pixels, size_t n_pixels, float factor)
{
    blend_with_luma(pixels, n_pixels, factor);
}

void rq_enhance_contrast(uint8_t *pixels, size_t n_pixels, float factor)
{
    uint64_t sum = 0;
    assert(n_pixels >= 1);
    for (size_t i = 0; i < n_pixels; i++)
        sum += (uint64_t)luma(pixels + 3 * i);
    const int mean = (int)((double)sum / (double)n_pixels + 0.5);
    blend_with_level(pixels, n_pixels, mean, factor);
}

void rq_enhance_brightness(uint8_t *pixels, size_t n_pixels, float factor)
{
    blend_with_level(pixels, n_pixels, 0, factor);
}

/* One row of n levels with its neighbours in three rows; neighbours are 3 levels apart. */
RQ_SIMD
static void sharpen_row(const uint8_t *restrict above, const uint8_t *restrict row,
                        const uint8_t *restrict below, size_t n, float factor,
                        uint8_t *restrict dst)
{
    for (size_t i = 3; i + 3 < n; i++) {
        const int sum = above[i - 3] + above[i] + above[i + 3] + row[i - 3] + 5 * row[i] +
                        row[i + 3] + below[i - 3] + below[i] + below[i + 3];
        dst[i] = blend((2 * sum + 13) / 26, row[i], factor); /* sum / 13, rounded */
    }
}

void rq_enhance_sharpness(uint8_t *pixels, int w, int h, float factor, uint8_t *scratch)
{
    const size_t stride = (size_t)w * 3;
    memcpy(scratch, pixels, (size_t)h * stride);
    for (int y = 1; y < h - 1; y++) {
        const uint8_t *row = scratch + (size_t)y * stride;
        sharpen_row(row - stride, row, row + stride, stride, factor, pixels + (size_t)y * stride);
    }
}
