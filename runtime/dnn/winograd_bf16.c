/* Winograd's transforms from bf16 pixels into bf16, the arithmetic between them in f32; for CPUs
 * with AVX512-BF16. */
#include <immintrin.h>

#include "runtime/dnn/panel_product.h"
#include "runtime/dnn/winograd_matrices.h"
#include "runtime/dnn/winograd_numbers.h"

#define BF16_SIMD   __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16")))
#define BF16_INLINE BF16_SIMD INLINE

BF16_INLINE vec pixels_at(const void *src, const size_t *offset, size_t c)
{
    if (*offset == OUTSIDE)
        return (vec){0.0f};
    const __m256i halves = _mm256_loadu_si256((const void *)((const uint16_t *)src + *offset + c));
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}

BF16_INLINE __m256i rounded(vec x)
{
    return (__m256i)_mm512_cvtneps_pbh((__m512)x);
}

/* 16 words: a's numbers in their lower halves, b's in the upper. */
BF16_INLINE void store_pairs(void *at, vec a, vec b)
{
    const __m512i low = _mm512_cvtepu16_epi32(rounded(a));
    const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded(b)), 16);
    _mm512_storeu_si512(at, _mm512_or_si512(low, high));
}

BF16_INLINE void window_points(const void *src, const size_t *offsets, size_t c, vec d[POINTS])
{
    for (size_t i = 0; i < POINTS; i++)
        d[i] = pixels_at(src, offsets + i, c);
    window_to_points_2d(d);
}

BF16_INLINE void tile_points(const void *src, const size_t *offsets, size_t c, vec y[POINTS])
{
    for (size_t i = 0; i < TILE * TILE; i++)
        y[i / TILE * WINDOW + i % TILE] = pixels_at(src, offsets + i, c);
    tile_to_points_2d(y);
}

BF16_SIMD static void window_to_row(const void *src, const size_t *offsets, size_t channels,
                                    void *dst, size_t plane)
{
    for (size_t c = 0; c < channels; c += LANES) {
        vec d[POINTS];
        window_points(src, offsets, c, d);
        for (size_t i = 0; i < POINTS; i++)
            _mm256_storeu_si256((void *)((uint16_t *)dst + 2 * i * plane + c), rounded(d[i]));
    }
}

BF16_SIMD static void windows_to_row(const void *src, const size_t *offsets, size_t channels,
                                     void *dst, size_t plane)
{
    for (size_t c = 0; c < channels; c += LANES) {
        vec first[POINTS], second[POINTS];
        window_points(src, offsets, c, first);
        window_points(src, offsets + POINTS, c, second);
        for (size_t i = 0; i < POINTS; i++)
            store_pairs((uint32_t *)dst + i * plane + c, first[i], second[i]);
    }
}

BF16_SIMD static void tiles_to_panels(const void *src, const size_t *offsets, size_t channels,
                                      const panels *dst, size_t row)
{
    for (size_t c = 0; c < channels; c += LANES) {
        vec first[POINTS], second[POINTS];
        tile_points(src, offsets, c, first);
        tile_points(src, offsets + TILE * TILE, c, second);
        uint32_t *at = panel_row(dst, row, c);
        for (size_t i = 0; i < POINTS; i++)
            store_pairs(at + i * dst->plane, first[i], second[i]);
    }
}

BF16_SIMD static void kernels_to_panel(const float *wei, weight_order order, void *dst,
                                       size_t plane)
{
    float taps[2][9][RQ_PANEL];
    for (size_t r = 0; r < 2; r++)
        for (size_t c = 0; c < RQ_PANEL; c++)
            for (size_t k = 0; k < 9; k++)
                taps[r][order.turned ? 8 - k : k][c] =
                    wei[r * order.row_stride + c * order.column_stride + k];
    vec first[POINTS], second[POINTS];
    kernel_to_points_2d(taps[0], first);
    kernel_to_points_2d(taps[1], second);
    for (size_t i = 0; i < POINTS; i++)
        store_pairs((uint32_t *)dst + i * plane, first[i], second[i]);
}

BF16_SIMD void winograd_to_bf16_pixels(const panels *src, size_t row, size_t channels, void *dst,
                                       const size_t *offsets)
{
    for (size_t c = 0; c < channels; c += LANES) {
        vec m[POINTS];
        points_to_tile_2d(panel_row(src, row, c), src->plane, m);
        for (size_t i = 0; i < TILE * TILE; i++)
            if (offsets[i] != OUTSIDE)
                _mm256_storeu_si256((void *)((uint16_t *)dst + offsets[i] + c),
                                    rounded(m[i / TILE * WINDOW + i % TILE]));
    }
}

static void product(const void *a, size_t row_stride, size_t k_stride, const void *b, size_t n_k,
                    float *c, size_t n_rows, bool add)
{
    rq_panel_product_bf16(a, row_stride, k_stride, b, n_k, c, n_rows, add);
}

const numbers winograd_bf16 = {
    2, window_to_row, windows_to_row, tiles_to_panels, kernels_to_panel, product};
