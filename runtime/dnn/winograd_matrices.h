/* The matrices B, G and A of winograd.h, one dimension at a time, for 16 channels, a panel's
 * columns (panel_product.h), at once: vectors in and out are `step` vectors apart. Only for the
 * files winograd*.c.
 *
 * Finite points p: 0, a, -a, b, -b with a = 1 / sqrt(2), b = sqrt(2), so that a b = 1. Their
 * polynomial x (x^2 - a^2) (x^2 - b^2) = x^5 - 2.5 x^3 + x gives B's outer rows; A's columns are
 * p's powers 0..3, G's rows (1, p, p^2) / product over the other points q of (p - q). */
#ifndef RQ_RUNTIME_DNN_WINOGRAD_MATRICES_H
#define RQ_RUNTIME_DNN_WINOGRAD_MATRICES_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/dnn/panel_product.h"

enum {
    POINTS = 36, /* of a tile */
    TILE = 4,    /* outputs on a side */
    WINDOW = 6,  /* inputs, and points, on a side */
    LANES = RQ_PANEL,
};

#define OUTSIDE SIZE_MAX /* the offset of a pixel beyond the image */

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* A vector at a float's address; functions that return vectors have no common ABI. */
#define VEC(at)       (*(vec *)(void *)(at))
#define CONST_VEC(at) (*(const vec *)(const void *)(at))

#define A1 0.70710678118654752f /* a */
#define B1 1.41421356237309505f /* b */
#define A3 0.35355339059327376f /* a^3 */
#define B3 2.82842712474619010f /* b^3 */

/* B': a window of 6 inputs to 6 points */
INLINE void window_to_points(const vec *in, vec *out, size_t step)
{
    const vec d0 = in[0], d1 = in[step], d2 = in[2 * step];
    const vec d3 = in[3 * step], d4 = in[4 * step], d5 = in[5 * step];
    const vec even_a = d4 - 2.0f * d2, odd_a = A1 * d3 - B1 * d1;
    const vec even_b = d4 - 0.5f * d2, odd_b = B1 * d3 - A1 * d1;
    out[0] = d0 - 2.5f * d2 + d4;
    out[step] = even_a + odd_a;
    out[2 * step] = even_a - odd_a;
    out[3 * step] = even_b + odd_b;
    out[4 * step] = even_b - odd_b;
    out[5 * step] = d1 - 2.5f * d3 + d5;
}

/* A': 6 points to 4 outputs */
INLINE void points_to_tile(const vec *in, vec *out, size_t step)
{
    const vec sum_a = in[step] + in[2 * step], difference_a = in[step] - in[2 * step];
    const vec sum_b = in[3 * step] + in[4 * step], difference_b = in[3 * step] - in[4 * step];
    out[0] = in[0] + sum_a + sum_b;
    out[step] = A1 * difference_a + B1 * difference_b;
    out[2 * step] = 0.5f * sum_a + 2.0f * sum_b;
    out[3 * step] = A3 * difference_a + B3 * difference_b + in[5 * step];
}

/* A: a tile of 4 to 6 points */
INLINE void tile_to_points(const vec *in, vec *out, size_t step)
{
    const vec y0 = in[0], y1 = in[step], y2 = in[2 * step], y3 = in[3 * step];
    const vec even_a = y0 + 0.5f * y2, odd_a = A1 * y1 + A3 * y3;
    const vec even_b = y0 + 2.0f * y2, odd_b = B1 * y1 + B3 * y3;
    out[0] = y0;
    out[step] = even_a + odd_a;
    out[2 * step] = even_a - odd_a;
    out[3 * step] = even_b + odd_b;
    out[4 * step] = even_b - odd_b;
    out[5 * step] = y3;
}

/* G: 3 weights to 6 points */
INLINE void kernel_to_points(const vec *in, vec *out, size_t step)
{
    const vec g0 = in[0], g1 = in[step], g2 = in[2 * step];
    const vec even_a = (-2.0f / 3.0f) * g0 - (1.0f / 3.0f) * g2, odd_a = (-2.0f / 3.0f * A1) * g1;
    const vec even_b = (1.0f / 6.0f) * g0 + (1.0f / 3.0f) * g2, odd_b = (1.0f / 6.0f * B1) * g1;
    out[0] = g0;
    out[step] = even_a + odd_a;
    out[2 * step] = even_a - odd_a;
    out[3 * step] = even_b + odd_b;
    out[4 * step] = even_b - odd_b;
    out[5 * step] = g2;
}

/* G': 6 points to 3 weights */
INLINE void points_to_kernel(const vec *in, vec *out, size_t step)
{
    const vec sum_a = in[step] + in[2 * step], difference_a = in[step] - in[2 * step];
    const vec sum_b = in[3 * step] + in[4 * step], difference_b = in[3 * step] - in[4 * step];
    out[0] = in[0] - (2.0f / 3.0f) * sum_a + (1.0f / 6.0f) * sum_b;
    out[step] = (-2.0f / 3.0f * A1) * difference_a + (1.0f / 6.0f * B1) * difference_b;
    out[2 * step] = (1.0f / 3.0f) * (sum_b - sum_a) + in[5 * step];
}

/* ---- both dimensions of one tile ---- */

/* One number of each point, from floats in planes. */
INLINE void load_points(const float *at, size_t plane, vec m[POINTS])
{
    for (size_t i = 0; i < POINTS; i++)
        m[i] = CONST_VEC(at + i * plane);
}

/* B' d B in place. */
INLINE void window_to_points_2d(vec d[POINTS])
{
    for (size_t i = 0; i < WINDOW; i++)
        window_to_points(d + i, d + i, WINDOW);
    for (size_t i = 0; i < WINDOW; i++)
        window_to_points(d + WINDOW * i, d + WINDOW * i, 1);
}

/* A y A' in place; y at the upper left of 6 x 6. */
INLINE void tile_to_points_2d(vec y[POINTS])
{
    for (size_t j = 0; j < TILE; j++)
        tile_to_points(y + j, y + j, WINDOW);
    for (size_t i = 0; i < WINDOW; i++)
        tile_to_points(y + WINDOW * i, y + WINDOW * i, 1);
}

/* A' m A, of floats in planes; the tile at the upper left of 6 x 6. */
INLINE void points_to_tile_2d(const float *at, size_t plane, vec m[POINTS])
{
    load_points(at, plane, m);
    for (size_t j = 0; j < WINDOW; j++)
        points_to_tile(m + j, m + j, WINDOW);
    for (size_t i = 0; i < TILE; i++)
        points_to_tile(m + WINDOW * i, m + WINDOW * i, 1);
}

/* G g G'. */
INLINE void kernel_to_points_2d(float taps[9][LANES], vec g[POINTS])
{
    for (size_t k = 0; k < 9; k++)
        g[k / 3 * WINDOW + k % 3] = CONST_VEC(taps[k]);
    for (size_t j = 0; j < 3; j++)
        kernel_to_points(g + j, g + j, WINDOW);
    for (size_t i = 0; i < WINDOW; i++)
        kernel_to_points(g + WINDOW * i, g + WINDOW * i, 1);
}

/* G' s G, of floats in planes; the kernel at the upper left of 6 x 6. */
INLINE void points_to_kernel_2d(const float *at, size_t plane, vec s[POINTS])
{
    load_points(at, plane, s);
    for (size_t j = 0; j < WINDOW; j++)
        points_to_kernel(s + j, s + j, WINDOW);
    for (size_t i = 0; i < 3; i++)
        points_to_kernel(s + WINDOW * i, s + WINDOW * i, 1);
}

#endif
