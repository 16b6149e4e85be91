/* Transforms work on vectors of 8 channels; the products on panels of 16 columns (panel_product.h).
 *
 * Where things stand in scratch. A plane belongs to one of the 36 points; planes are SKEW floats
 * longer than their contents, since 36 streams at a distance of a power of two would share the same
 * few sets of the caches.
 *
 *   rows     [tile, channel]                 what a product reads as its left factor
 *   panels   [channel / 16, tile, 16]        what it reads as its right factor, or writes
 *   weights  [column / 16, row, 16]          row x column is IC x OC, or OC x IC for dsrc */
#include "runtime/dnn/winograd.h"

#include <omp.h>
#include <string.h>

#include "runtime/base/simd.h"
#include "runtime/dnn/panel_product.h"

enum {
    POINTS = 36,
    TILE = RQ_WINOGRAD_TILE,
    WINDOW = 6, /* inputs */
    LANES = 8,
    SKEW = 16,  /* floats */
    CHUNK = 24, /* tiles of a chunk: a multiple of RQ_PANEL_ROWS */
    MIN_CHANNELS = 32,
};

#define OUTSIDE SIZE_MAX
#define INLINE  static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

typedef int mask __attribute__((vector_size(LANES * sizeof(int))));

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- the matrices, one dimension at a time; in and out at a stride of `step` vectors ---- */

/* B': a window of 6 inputs to 6 points */
INLINE void window_to_points(const vec *in, vec *out, size_t step)
{
    const vec d0 = in[0], d1 = in[step], d2 = in[2 * step];
    const vec d3 = in[3 * step], d4 = in[4 * step], d5 = in[5 * step];
    const vec even = d4 - 4.0f * d2, odd = d3 - 4.0f * d1;
    const vec even2 = d4 - d2, odd2 = 2.0f * (d3 - d1);
    out[0] = 4.0f * d0 - 5.0f * d2 + d4;
    out[step] = even + odd;
    out[2 * step] = even - odd;
    out[3 * step] = even2 + odd2;
    out[4 * step] = even2 - odd2;
    out[5 * step] = 4.0f * d1 - 5.0f * d3 + d5;
}

/* A': 6 points to 4 outputs */
INLINE void points_to_tile(const vec *in, vec *out, size_t step)
{
    const vec sum = in[step] + in[2 * step], difference = in[step] - in[2 * step];
    const vec sum2 = in[3 * step] + in[4 * step], difference2 = in[3 * step] - in[4 * step];
    out[0] = in[0] + sum + sum2;
    out[step] = difference + 2.0f * difference2;
    out[2 * step] = sum + 4.0f * sum2;
    out[3 * step] = difference + 8.0f * difference2 + in[5 * step];
}

/* A: a tile of 4 to 6 points */
INLINE void tile_to_points(const vec *in, vec *out, size_t step)
{
    const vec y0 = in[0], y1 = in[step], y2 = in[2 * step], y3 = in[3 * step];
    const vec even = y0 + y2, odd = y1 + y3;
    const vec even2 = y0 + 4.0f * y2, odd2 = 2.0f * y1 + 8.0f * y3;
    out[0] = y0;
    out[step] = even + odd;
    out[2 * step] = even - odd;
    out[3 * step] = even2 + odd2;
    out[4 * step] = even2 - odd2;
    out[5 * step] = y3;
}

/* G: 3 weights to 6 points */
INLINE void kernel_to_points(const vec *in, vec *out, size_t step)
{
    const vec g0 = in[0], g1 = in[step], g2 = in[2 * step];
    const vec outer = (-1.0f / 6.0f) * (g0 + g2), inner = (1.0f / 6.0f) * g1;
    const vec outer2 = (1.0f / 24.0f) * g0 + (1.0f / 6.0f) * g2, inner2 = (1.0f / 12.0f) * g1;
    out[0] = 0.25f * g0;
    out[step] = outer - inner;
    out[2 * step] = outer + inner;
    out[3 * step] = outer2 + inner2;
    out[4 * step] = outer2 - inner2;
    out[5 * step] = g2;
}

/* G': 6 points to 3 weights */
INLINE void points_to_kernel(const vec *in, vec *out, size_t step)
{
    const vec sum = in[step] + in[2 * step], difference = in[2 * step] - in[step];
    const vec sum2 = in[3 * step] + in[4 * step], difference2 = in[3 * step] - in[4 * step];
    out[0] = 0.25f * in[0] - (1.0f / 6.0f) * sum + (1.0f / 24.0f) * sum2;
    out[step] = (1.0f / 6.0f) * difference + (1.0f / 12.0f) * difference2;
    out[2 * step] = in[5 * step] + (1.0f / 6.0f) * (sum2 - sum);
}

/* ---- tiles ---- */

/* A tile of the image [h, w, channels] by its number: the image's first pixel, the tile's place. */
typedef struct place {
    size_t image, y, x;
} place;

static place place_of(const rq_winograd *self, size_t tile)
{
    const size_t per_image = self->tiles_h * self->tiles_w, within = tile % per_image;
    return (place){tile / per_image * self->h * self->w, within / self->tiles_w * TILE,
                   within % self->tiles_w * TILE};
}

/* Where the side x side pixels stand that begin `border` before the tile, in floats from the first
 * image; OUTSIDE beyond its edges. */
static void find_pixels(const rq_winograd *self, place at, size_t channels, size_t side,
                        size_t border, size_t *offsets)
{
    for (size_t i = 0; i < side; i++)
        for (size_t j = 0; j < side; j++) {
            const size_t y = at.y + i - border, x = at.x + j - border; /* before 0: huge */
            const bool inside = y < self->h && x < self->w;
            offsets[i * side + j] = inside ? (at.image + y * self->w + x) * channels : OUTSIDE;
        }
}

/* A vector at a float's address; functions that return vectors have no common ABI. */
#define VEC(at)       (*(vec *)(void *)(at))
#define CONST_VEC(at) (*(const vec *)(const void *)(at))

/* B' d B of one tile, into its place in 36 planes. */
RQ_SIMD static void transform_window(const float *src, const size_t *offsets, size_t channels,
                                     float *dst, size_t plane)
{
    for (size_t c = 0; c < channels; c += LANES) {
        vec d[POINTS];
        for (size_t i = 0; i < POINTS; i++)
            d[i] = offsets[i] != OUTSIDE ? CONST_VEC(src + offsets[i] + c) : (vec){0.0f};
        for (size_t i = 0; i < WINDOW; i++)
            window_to_points(d + i, d + i, WINDOW);
        for (size_t i = 0; i < WINDOW; i++)
            window_to_points(d + WINDOW * i, d + WINDOW * i, 1);
        for (size_t i = 0; i < POINTS; i++)
            VEC(dst + i * plane + c) = d[i];
    }
}

/* A dY A' of one tile, into its row of the panels of 36 planes; a panel has n_rows rows. */
RQ_SIMD static void transform_tile(const float *src, const size_t *offsets, size_t channels,
                                   float *dst, size_t plane, size_t n_rows)
{
    for (size_t c = 0; c < channels; c += LANES) {
        vec d[POINTS];
        for (size_t i = 0; i < TILE; i++)
            for (size_t j = 0; j < TILE; j++) {
                const size_t offset = offsets[i * TILE + j];
                d[i * WINDOW + j] = offset != OUTSIDE ? CONST_VEC(src + offset + c) : (vec){0.0f};
            }
        for (size_t j = 0; j < TILE; j++)
            tile_to_points(d + j, d + j, WINDOW);
        for (size_t i = 0; i < WINDOW; i++)
            tile_to_points(d + WINDOW * i, d + WINDOW * i, 1);
        float *row = dst + c / RQ_PANEL * RQ_PANEL * n_rows + c % RQ_PANEL;
        for (size_t i = 0; i < POINTS; i++)
            VEC(row + i * plane) = d[i];
    }
}

/* What follows a forward sum. */
typedef struct finish {
    const float *bias; /* NULL: none */
    bool relu;
} finish;

INLINE void finish_sum(vec *sum, finish with, size_t c)
{
    if (with.bias)
        *sum += CONST_VEC(with.bias + c);
    if (with.relu)
        *sum = (vec)((mask)*sum & (*sum > 0.0f));
}

/* A' m A of one tile, from its row of the panels of 36 planes to the pixels that exist. */
RQ_SIMD static void transform_back(const float *src, size_t plane, size_t n_rows, size_t channels,
                                   finish with, float *dst, const size_t *offsets)
{
    for (size_t c = 0; c < channels; c += LANES) {
        const float *row = src + c / RQ_PANEL * RQ_PANEL * n_rows + c % RQ_PANEL;
        vec m[POINTS];
        for (size_t i = 0; i < POINTS; i++)
            m[i] = CONST_VEC(row + i * plane);
        for (size_t j = 0; j < WINDOW; j++)
            points_to_tile(m + j, m + j, WINDOW);
        for (size_t i = 0; i < TILE; i++)
            points_to_tile(m + WINDOW * i, m + WINDOW * i, 1);
        for (size_t i = 0; i < TILE; i++)
            for (size_t j = 0; j < TILE; j++)
                if (offsets[i * TILE + j] != OUTSIDE) {
                    finish_sum(&m[i * WINDOW + j], with, c);
                    VEC(dst + offsets[i * TILE + j] + c) = m[i * WINDOW + j];
                }
    }
}

/* ---- weights ---- */

/* Where weight (row, column) stands in [OC, IC, 3, 3]: row is the input channel of the convolution
 * that is computed; for dsrc that is an output channel of the layer, and the kernel is turned. */
typedef struct weight_order {
    size_t row_stride, column_stride; /* floats */
    bool turned;
} weight_order;

/* G g G' for one row of 16 columns: planes [36] of [column / 16, row, 16]. */
RQ_SIMD static void transform_kernel(const float *wei, weight_order order, float *dst, size_t plane)
{
    float taps[9][RQ_PANEL];
    for (size_t c = 0; c < RQ_PANEL; c++)
        for (size_t k = 0; k < 9; k++)
            taps[order.turned ? 8 - k : k][c] = wei[c * order.column_stride + k];
    for (size_t c = 0; c < RQ_PANEL; c += LANES) {
        vec g[POINTS];
        for (size_t k = 0; k < 9; k++)
            g[k / 3 * WINDOW + k % 3] = CONST_VEC(&taps[k][c]);
        for (size_t j = 0; j < 3; j++)
            kernel_to_points(g + j, g + j, WINDOW);
        for (size_t i = 0; i < WINDOW; i++)
            kernel_to_points(g + WINDOW * i, g + WINDOW * i, 1);
        for (size_t i = 0; i < POINTS; i++)
            VEC(dst + i * plane + c) = g[i];
    }
}

/* G' s G for one input channel and 16 output channels, to dwei [OC, IC, 3, 3]. */
RQ_SIMD static void transform_kernel_back(const float *src, size_t plane, float *dwei,
                                          size_t column_stride)
{
    for (size_t c = 0; c < RQ_PANEL; c += LANES) {
        vec s[POINTS];
        for (size_t i = 0; i < POINTS; i++)
            s[i] = CONST_VEC(src + i * plane + c);
        for (size_t j = 0; j < WINDOW; j++)
            points_to_kernel(s + j, s + j, WINDOW);
        for (size_t i = 0; i < 3; i++)
            points_to_kernel(s + WINDOW * i, s + WINDOW * i, 1);
        for (size_t k = 0; k < 9; k++)
            for (size_t lane = 0; lane < LANES; lane++)
                dwei[(c + lane) * column_stride + k] = s[k / 3 * WINDOW + k % 3][lane];
    }
}

static size_t weight_plane(size_t rows, size_t columns)
{
    return round_up(rows, RQ_PANEL_ROWS) * columns + SKEW;
}

static void pack_weights(const float *wei, weight_order order, size_t rows, size_t columns,
                         float *packed)
{
    const size_t plane = weight_plane(rows, columns), n_panels = columns / RQ_PANEL;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n_panels * rows; i++) {
        const size_t panel = i / rows, row = i % rows;
        transform_kernel(wei + row * order.row_stride + panel * RQ_PANEL * order.column_stride,
                         order, packed + (panel * rows + row) * RQ_PANEL, plane);
    }
}

/* ---- the plan ---- */

bool rq_winograd_suits(const rq_conv_shape *shape)
{
    const rq_conv_attr *conv = &shape->conv;
    for (int axis = 0; axis < 2; axis++)
        if (conv->kernel[axis] != 3 || conv->stride[axis] != 1 || conv->pad[axis] != 1 ||
            conv->dilation[axis] != 1)
            return false;
    const size_t h = (size_t)shape->ih, w = (size_t)shape->iw;
    return conv->groups == 1 && shape->ic % RQ_PANEL == 0 && shape->oc % RQ_PANEL == 0 &&
           shape->ic >= MIN_CHANNELS && shape->oc >= MIN_CHANNELS &&
           2 * round_up(h, TILE) * round_up(w, TILE) <= 3 * h * w && rq_panel_product_available();
}

void rq_winograd_init(rq_winograd *out, const rq_conv_shape *shape, int n_threads)
{
    const size_t h = (size_t)shape->ih, w = (size_t)shape->iw;
    *out = (rq_winograd){
        .n = (size_t)shape->n,
        .h = h,
        .w = w,
        .ic = (size_t)shape->ic,
        .oc = (size_t)shape->oc,
        .tiles_h = (h + TILE - 1) / TILE,
        .tiles_w = (w + TILE - 1) / TILE,
        .n_threads = (size_t)n_threads,
    };
    out->n_tiles = out->n * out->tiles_h * out->tiles_w;
    /* enough tiles that reading and writing the sums does not count, and work for every thread */
    out->weight_tiles = round_up(96 + 24 * out->n_threads, RQ_PANEL_ROWS);
}

static size_t plane_of(size_t n_tiles, size_t channels)
{
    return n_tiles * channels + SKEW;
}

size_t rq_winograd_scratch_bytes(const rq_winograd *self)
{
    const size_t weights_io = weight_plane(self->ic, self->oc);
    const size_t weights_oi = weight_plane(self->oc, self->ic);
    const size_t weights = weights_io > weights_oi ? weights_io : weights_oi;
    const size_t chunks = self->n_threads * (plane_of(CHUNK, self->ic) + plane_of(CHUNK, self->oc));
    const size_t wide = plane_of(self->weight_tiles, self->ic + RQ_PANEL_ROWS) +
                        plane_of(self->weight_tiles, self->oc);
    return POINTS * (weights + (chunks > wide ? chunks : wide)) * sizeof(float);
}

/* ---- forward, and dsrc ---- */

typedef struct pass {
    const rq_winograd *self;
    const float *src, *weights; /* packed */
    float *dst;
    size_t rows, columns; /* channels of src and of dst */
    finish with;
} pass;

static void convolve_chunk(const pass *p, size_t first, size_t n, float *scratch)
{
    const size_t in_plane = plane_of(CHUNK, p->rows), out_plane = plane_of(CHUNK, p->columns);
    const size_t kernel_plane = weight_plane(p->rows, p->columns);
    float *in = scratch, *out = scratch + POINTS * in_plane;
    for (size_t t = 0; t < n; t++) {
        size_t offsets[POINTS];
        find_pixels(p->self, place_of(p->self, first + t), p->rows, WINDOW, 1, offsets);
        transform_window(p->src, offsets, p->rows, in + t * p->rows, in_plane);
    }
    for (size_t i = 0; i < POINTS; i++)
        for (size_t panel = 0; panel < p->columns / RQ_PANEL; panel++)
            rq_panel_product(in + i * in_plane, p->rows, 1,
                             p->weights + i * kernel_plane + panel * p->rows * RQ_PANEL, p->rows,
                             out + i * out_plane + panel * CHUNK * RQ_PANEL,
                             round_up(n, RQ_PANEL_ROWS), false);
    for (size_t t = 0; t < n; t++) {
        size_t offsets[TILE * TILE];
        find_pixels(p->self, place_of(p->self, first + t), p->columns, TILE, 0, offsets);
        transform_back(out + t * RQ_PANEL, out_plane, CHUNK, p->columns, p->with, p->dst, offsets);
    }
}

static void convolve(const pass *p, float *chunks)
{
    const size_t n_tiles = p->self->n_tiles;
    const size_t chunk_size = POINTS * (plane_of(CHUNK, p->rows) + plane_of(CHUNK, p->columns));
    const size_t n_chunks = (n_tiles + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic)
    for (size_t k = 0; k < n_chunks; k++)
        convolve_chunk(p, k * CHUNK, smaller(CHUNK, n_tiles - k * CHUNK),
                       chunks + (size_t)omp_get_thread_num() * chunk_size);
}

/* Weights packed in front of the chunks. */
static void convolve_plain(const rq_winograd *self, const float *src, size_t rows, const float *wei,
                           weight_order order, float *dst, size_t columns, float *scratch)
{
    pack_weights(wei, order, rows, columns, scratch);
    const pass p = {self, src, scratch, dst, rows, columns, {NULL, false}};
    convolve(&p, scratch + POINTS * weight_plane(rows, columns));
}

static weight_order order_forward(const rq_winograd *self)
{
    return (weight_order){9, 9 * self->ic, false};
}

void rq_winograd_forward(const rq_winograd *self, const float *src, const float *wei, float *dst,
                         void *scratch)
{
    convolve_plain(self, src, self->ic, wei, order_forward(self), dst, self->oc, scratch);
}

size_t rq_winograd_packed_size(const rq_winograd *self)
{
    return POINTS * weight_plane(self->ic, self->oc);
}

void rq_winograd_pack(const rq_winograd *self, const float *wei, float *packed)
{
    pack_weights(wei, order_forward(self), self->ic, self->oc, packed);
}

void rq_winograd_infer(const rq_winograd *self, const float *src, const float *packed,
                       const float *bias, bool relu, float *dst, void *scratch)
{
    const pass p = {self, src, packed, dst, self->ic, self->oc, {bias, relu}};
    convolve(&p, scratch);
}

void rq_winograd_backward_data(const rq_winograd *self, const float *ddst, const float *wei,
                               float *dsrc, void *scratch)
{
    const weight_order order = {9 * self->ic, 9, true};
    convolve_plain(self, ddst, self->oc, wei, order, dsrc, self->ic, scratch);
}

/* ---- dwei ---- */

/* Both transforms of a chunk of tiles, by all threads. Rows of `in` are longer than IC by
 * RQ_PANEL_ROWS: the last product reads past the channels. */
static void transform_chunk(const rq_winograd *self, const float *src, const float *ddst,
                            size_t first, size_t n, float *in, float *out)
{
    const size_t n_rows = self->weight_tiles, row = self->ic + RQ_PANEL_ROWS;
#pragma omp parallel for schedule(static)
    for (size_t t = 0; t < n; t++) {
        const place at = place_of(self, first + t);
        size_t offsets[POINTS];
        find_pixels(self, at, self->ic, WINDOW, 1, offsets);
        transform_window(src, offsets, self->ic, in + t * row, plane_of(n_rows, row));
        find_pixels(self, at, self->oc, TILE, 0, offsets);
        transform_tile(ddst, offsets, self->oc, out + t * RQ_PANEL, plane_of(n_rows, self->oc),
                       n_rows);
    }
}

/* sums [36][OC / 16, IC, 16] += rows' * panels, by all threads. */
static void add_products(const rq_winograd *self, const float *in, const float *out, size_t n,
                         float *sums, bool add)
{
    const size_t n_rows = self->weight_tiles, row = self->ic + RQ_PANEL_ROWS;
    const size_t padded = round_up(self->ic, RQ_PANEL_ROWS), n_panels = self->oc / RQ_PANEL;
    const size_t plane = weight_plane(self->ic, self->oc);
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < POINTS * n_panels; k++) {
        const size_t i = k / n_panels, panel = k % n_panels;
        rq_panel_product(in + i * plane_of(n_rows, row), 1, row,
                         out + i * plane_of(n_rows, self->oc) + panel * n_rows * RQ_PANEL, n,
                         sums + i * plane + panel * padded * RQ_PANEL, padded, add);
    }
}

void rq_winograd_backward_weights(const rq_winograd *self, const float *src, const float *ddst,
                                  float *dwei, void *scratch)
{
    const size_t padded = round_up(self->ic, RQ_PANEL_ROWS), n_panels = self->oc / RQ_PANEL;
    const size_t plane = weight_plane(self->ic, self->oc);
    float *sums = scratch, *in = sums + POINTS * plane;
    float *out = in + POINTS * plane_of(self->weight_tiles, self->ic + RQ_PANEL_ROWS);
    for (size_t first = 0; first < self->n_tiles; first += self->weight_tiles) {
        const size_t n = smaller(self->weight_tiles, self->n_tiles - first);
        transform_chunk(self, src, ddst, first, n, in, out);
        add_products(self, in, out, n, sums, first > 0);
    }
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < n_panels * self->ic; k++) {
        const size_t panel = k / self->ic, ic = k % self->ic;
        transform_kernel_back(sums + (panel * padded + ic) * RQ_PANEL, plane,
                              dwei + (panel * RQ_PANEL * self->ic + ic) * 9, 9 * self->ic);
    }
}
