/* Each output pixel is interpolated where it comes from, in double, with the sums in PIL's order: a
 * weighted sum of the same pixels would round differently, and levels are cut off, not rounded. */
#include "runtime/image/affine.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/simd.h"

/* Python's round(x, 15): the nearest decimal of 15 places, which print and read round to. */
static double round_15_places(double x)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.15f", x);
    return strtod(text, NULL);
}

rq_affine rq_affine_rotation(double degrees, int w, int h)
{
    const double in_turn = fmod(degrees, 360.0);
    const double angle = -((in_turn < 0.0 ? in_turn + 360.0 : in_turn) * (M_PI / 180.0));
    const double cosine = round_15_places(cos(angle)), sine = round_15_places(sin(angle));
    const double x = w / 2.0, y = h / 2.0; /* the centre stays where it is */
    return (rq_affine){.xx = cosine,
                       .xy = sine,
                       .x0 = cosine * -x + sine * -y + x,
                       .yx = -sine,
                       .yy = cosine,
                       .y0 = -sine * -x + cosine * -y + y};
}

typedef struct picture {
    const uint8_t *pixels;
    int w, h;
} picture;

/* R, G, B and one unused. Passed by pointer: by value they would have no ABI without AVX. */
typedef double f64x4 __attribute__((vector_size(32)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

enum { MAX_TAPS = 4 };

/* The n x n pixels around a position, repeated at the border. */
typedef struct window {
    const uint8_t *row[MAX_TAPS];
    size_t column[MAX_TAPS]; /* offset in a row */
} window;

static inline size_t clamped(int i, int n)
{
    return (size_t)(i < 0 ? 0 : i < n ? i : n - 1);
}

static inline void window_at(window *out, const picture *src, int x, int y, int n)
{
    for (int i = 0; i < n; i++) {
        out->row[i] = src->pixels + clamped(y + i, src->h) * (size_t)src->w * 3;
        out->column[i] = clamped(x + i, src->w) * 3;
    }
}

/* Reads four bytes. */
static inline void load_pixel(f64x4 *out, const uint8_t *pixel)
{
    uint32_t rgb;
    memcpy(&rgb, pixel, sizeof rgb);
    const u8x16 v = (u8x16)(u32x4){rgb, 0, 0, 0};
    const i32x4 wide =
        (i32x4)__builtin_shufflevector(v, v, 0, 4, 5, 6, 1, 8, 9, 10, 2, 12, 13, 14, 3, 4, 5, 6);
    *out = __builtin_convertvector(wide, f64x4);
}

static inline void linear(f64x4 *out, const f64x4 v[2], double t)
{
    *out = v[0] + (v[1] - v[0]) * t;
}

/* Between v[1] and v[2]. */
static inline void cubic(f64x4 *out, const f64x4 v[4], double t)
{
    const f64x4 a = v[2] - v[0];
    const f64x4 b = 2.0 * (v[0] - v[1]) + v[2] - v[3];
    const f64x4 c = v[1] - v[0] - v[2] + v[3];
    *out = v[1] + t * (a + t * (b + t * c));
}

/* Shears and translations move along one axis only: a fraction of zero is frequent, and then what
 * is interpolated is the nearest row or column itself. */
static inline void bilinear_row(f64x4 *out, const window *from, int row, double t)
{
    f64x4 taps[2];
    load_pixel(&taps[0], from->row[row] + from->column[0]);
    *out = taps[0];
    if (t == 0.0)
        return;
    load_pixel(&taps[1], from->row[row] + from->column[1]);
    linear(out, taps, t);
}

/* The position is t_x, t_y (0…1) from pixel 0, 0. */
static inline void bilinear(f64x4 *out, const window *from, double t_x, double t_y)
{
    f64x4 rows[2];
    bilinear_row(&rows[0], from, 0, t_x);
    *out = rows[0];
    if (t_y == 0.0)
        return;
    bilinear_row(&rows[1], from, 1, t_x);
    linear(out, rows, t_y);
}

static inline void bicubic_row(f64x4 *out, const window *from, int row, double t)
{
    f64x4 taps[4];
    if (t == 0.0) {
        load_pixel(out, from->row[row] + from->column[1]);
        return;
    }
    for (int i = 0; i < 4; i++)
        load_pixel(&taps[i], from->row[row] + from->column[i]);
    cubic(out, taps, t);
}

/* The position is t_x, t_y (0…1) from pixel 1, 1. */
static inline void bicubic(f64x4 *out, const window *from, double t_x, double t_y)
{
    f64x4 rows[4];
    if (t_y == 0.0) {
        bicubic_row(out, from, 1, t_x);
        return;
    }
    for (int r = 0; r < 4; r++)
        bicubic_row(&rows[r], from, r, t_x);
    cubic(out, rows, t_y);
}

static inline uint8_t level(double value)
{
    return value <= 0.0 ? 0 : value >= 255.0 ? 255 : (uint8_t)value;
}

RQ_SIMD
static void transform_row(const rq_affine *affine, rq_interpolation interpolation,
                          const uint8_t *fill, const picture *src, int row, uint8_t *dst)
{
    const double y = row + 0.5;
    for (int column = 0; column < src->w; column++, dst += 3) {
        const double x = column + 0.5;
        const double from_x = affine->xx * x + affine->xy * y + affine->x0;
        const double from_y = affine->yx * x + affine->yy * y + affine->y0;
        if (!(from_x >= 0.0 && from_x < src->w && from_y >= 0.0 && from_y < src->h)) {
            memcpy(dst, fill, 3);
            continue;
        }
        /* between pixel centres: of those left and above, and the way from them */
        const double left = floor(from_x - 0.5), above = floor(from_y - 0.5);
        const double t_x = from_x - 0.5 - left, t_y = from_y - 0.5 - above;
        window from;
        f64x4 value;
        if (interpolation == RQ_BICUBIC) {
            window_at(&from, src, (int)left - 1, (int)above - 1, 4);
            bicubic(&value, &from, t_x, t_y);
        } else {
            window_at(&from, src, (int)left, (int)above, 2);
            bilinear(&value, &from, t_x, t_y);
        }
        for (int c = 0; c < 3; c++)
            dst[c] = level(value[c]);
    }
}

void rq_affine_apply(const rq_affine *affine, rq_interpolation interpolation, const uint8_t fill[3],
                     const uint8_t *src, int w, int h, uint8_t *dst)
{
    const picture from = {src, w, h};
    assert(w >= 1 && h >= 1 && src != dst);
    for (int row = 0; row < h; row++)
        transform_row(affine, interpolation, fill, &from, row, dst + (size_t)row * (size_t)w * 3);
}
