/* Winograd's transforms into floats, and from floats to floats. */
#include "runtime/base/simd.h"
#include "runtime/dnn/panel_product.h"
#include "runtime/dnn/winograd_matrices.h"
#include "runtime/dnn/winograd_numbers.h"

typedef int mask __attribute__((vector_size(LANES * sizeof(int))));

/* Also windows_to_row: a word is one tile's. */
RQ_SIMD static void window_to_row(const void *src, const size_t *offsets, size_t channels,
                                  void *dst, size_t plane)
{
    const float *pixels = src;
    float *row = dst;
    for (size_t c = 0; c < channels; c += LANES) {
        vec d[POINTS];
        for (size_t i = 0; i < POINTS; i++)
            d[i] = offsets[i] != OUTSIDE ? CONST_VEC(pixels + offsets[i] + c) : (vec){0.0f};
        window_to_points_2d(d);
        for (size_t i = 0; i < POINTS; i++)
            VEC(row + i * plane + c) = d[i];
    }
}

RQ_SIMD static void tile_to_panels(const void *src, const size_t *offsets, size_t channels,
                                   const panels *dst, size_t row)
{
    const float *pixels = src;
    for (size_t c = 0; c < channels; c += LANES) {
        vec y[POINTS];
        for (size_t i = 0; i < TILE * TILE; i++)
            y[i / TILE * WINDOW + i % TILE] =
                offsets[i] != OUTSIDE ? CONST_VEC(pixels + offsets[i] + c) : (vec){0.0f};
        tile_to_points_2d(y);
        float *at = panel_row(dst, row, c);
        for (size_t i = 0; i < POINTS; i++)
            VEC(at + i * dst->plane) = y[i];
    }
}

RQ_SIMD static void kernel_to_panel(const float *wei, weight_order order, void *dst, size_t plane)
{
    float taps[9][RQ_PANEL];
    for (size_t c = 0; c < RQ_PANEL; c++)
        for (size_t k = 0; k < 9; k++)
            taps[order.turned ? 8 - k : k][c] = wei[c * order.column_stride + k];
    vec g[POINTS];
    kernel_to_points_2d(taps, g);
    for (size_t i = 0; i < POINTS; i++)
        VEC((float *)dst + i * plane) = g[i];
}

static void product(const void *a, size_t row_stride, size_t k_stride, const void *b, size_t n_k,
                    float *c, size_t n_rows, bool add)
{
    rq_panel_product(a, row_stride, k_stride, b, n_k, c, n_rows, add);
}

const numbers winograd_f32 = {1,      window_to_row, window_to_row, tile_to_panels, kernel_to_panel,
                              product};

INLINE void finish_sum(vec *sum, finish with, size_t c)
{
    if (with.bias)
        *sum += CONST_VEC(with.bias + c);
    if (with.relu)
        *sum = (vec)((mask)*sum & (*sum > 0.0f));
}

RQ_SIMD void winograd_to_f32_pixels(const panels *src, size_t row, size_t channels, finish with,
                                    float *dst, const size_t *offsets)
{
    for (size_t c = 0; c < channels; c += LANES) {
        vec m[POINTS];
        points_to_tile_2d(panel_row(src, row, c), src->plane, m);
        for (size_t i = 0; i < TILE * TILE; i++)
            if (offsets[i] != OUTSIDE) {
                vec *sum = &m[i / TILE * WINDOW + i % TILE];
                finish_sum(sum, with, c);
                VEC(dst + offsets[i] + c) = *sum;
            }
    }
}

RQ_SIMD void winograd_to_kernels(const float *src, size_t plane, float *dwei, size_t column_stride)
{
    vec s[POINTS];
    points_to_kernel_2d(src, plane, s);
    for (size_t k = 0; k < 9; k++)
        for (size_t lane = 0; lane < LANES; lane++)
            dwei[lane * column_stride + k] = s[k / 3 * WINDOW + k % 3][lane];
}
