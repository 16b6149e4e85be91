/* Transforms work on vectors of 16 channels (winograd_f32.c, winograd_bf16.c); the products on
 * panels of 16 columns (panel_product.h).
 *
 * Where things are in scratch, in words of 4 bytes: a float, or two bf16 (winograd_numbers.h). A
 * plane belongs to one of the 36 points; planes are SKEW words longer than their contents, since 36
 * streams at a distance of a power of two would share the same few sets of the caches.
 *
 *   rows     [tile, channel]                 what a product reads as its left factor
 *   panels   [channel / 16, tile, 16]        what it reads as its right factor, or writes
 *   weights  [column / 16, row, 16]          row x column is IC x OC, or OC x IC for dsrc
 *
 * where in bf16 words are pairs along the sum: of channels in rows and weights, of tiles in both
 * factors of the weights' gradient. Sums are floats. */
#include "runtime/dnn/winograd.h"

#include <assert.h>
#include <omp.h>

#include "runtime/dnn/panel_product.h"
#include "runtime/dnn/winograd_matrices.h"
#include "runtime/dnn/winograd_numbers.h"

_Static_assert((int)TILE == (int)RQ_WINOGRAD_TILE, "one tile, in the header and in the transforms");

enum {
    SKEW = 16,  /* words */
    CHUNK = 24, /* tiles of a chunk: a multiple of RQ_PANEL_ROWS */
    MIN_CHANNELS = 32,
    MOST_PER_WORD = 2,
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- tiles ---- */

/* Where the side x side pixels are that begin `border` before a tile, in numbers of an image [h, w,
 * channels] from the first; OUTSIDE beyond its edges, and for tiles beyond the last. */
static void find_pixels(const rq_winograd *self, size_t tile, size_t channels, size_t side,
                        size_t border, size_t *offsets)
{
    const size_t per_image = self->tiles_h * self->tiles_w, within = tile % per_image;
    const size_t image = tile / per_image * self->h * self->w;
    const size_t top = within / self->tiles_w * TILE - border;
    const size_t left = within % self->tiles_w * TILE - border; /* before 0: huge */
    for (size_t i = 0; i < side; i++)
        for (size_t j = 0; j < side; j++) {
            const size_t y = top + i, x = left + j;
            const bool inside = tile < self->n_tiles && y < self->h && x < self->w;
            offsets[i * side + j] = inside ? (image + y * self->w + x) * channels : OUTSIDE;
        }
}

/* ---- weights ---- */

static const numbers *numbers_of(const rq_winograd *self)
{
    return self->precision == RQ_PRECISION_BF16 ? &winograd_bf16 : &winograd_f32;
}

/* Words of a plane of sums or weights; rows: at most, of either. */
static size_t weight_plane(size_t rows, size_t columns)
{
    return round_up(rows, RQ_PANEL_ROWS) * columns + SKEW;
}

static void pack_weights(const numbers *type, const float *wei, weight_order order, size_t rows,
                         size_t columns, float *packed)
{
    const size_t plane = weight_plane(rows, columns), n_panels = columns / RQ_PANEL;
    const size_t n_k = rows / type->per_word;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n_panels * n_k; i++) {
        const size_t panel = i / n_k, row = i % n_k * type->per_word;
        type->kernels_to_panel(wei + row * order.row_stride +
                                   panel * RQ_PANEL * order.column_stride,
                               order, packed + i * RQ_PANEL, plane);
    }
}

/* ---- the plan ---- */

bool rq_winograd_suits(const rq_conv_shape *shape, rq_precision precision)
{
    const rq_conv_attr *conv = &shape->conv;
    for (int axis = 0; axis < 2; axis++)
        if (conv->kernel[axis] != 3 || conv->stride[axis] != 1 || conv->pad[axis] != 1 ||
            conv->dilation[axis] != 1)
            return false;
    const size_t h = (size_t)shape->ih, w = (size_t)shape->iw;
    return conv->groups == 1 && shape->ic % RQ_PANEL == 0 && shape->oc % RQ_PANEL == 0 &&
           shape->ic >= MIN_CHANNELS && shape->oc >= MIN_CHANNELS && h >= TILE && w >= TILE &&
           round_up(h, TILE) * round_up(w, TILE) <= 2 * h * w &&
           (precision == RQ_PRECISION_BF16 ? rq_panel_product_has_bf16()
                                           : rq_panel_product_available());
}

void rq_winograd_init(rq_winograd *out, const rq_conv_shape *shape, rq_precision precision,
                      int n_threads)
{
    const size_t h = (size_t)shape->ih, w = (size_t)shape->iw;
    assert(rq_winograd_suits(shape, precision) && n_threads > 0);
    *out = (rq_winograd){
        .n = (size_t)shape->n,
        .h = h,
        .w = w,
        .ic = (size_t)shape->ic,
        .oc = (size_t)shape->oc,
        .tiles_h = (h + TILE - 1) / TILE,
        .tiles_w = (w + TILE - 1) / TILE,
        .n_threads = (size_t)n_threads,
        .precision = precision,
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

typedef struct convolution {
    const rq_winograd *self;
    const void *src;
    const float *weights; /* packed */
    void *dst;
    bool bf16_dst;
    size_t rows, columns; /* channels of src and of dst */
    finish with;
} convolution;

static void convolve_chunk(const convolution *p, size_t first, size_t n, float *scratch)
{
    const numbers *type = numbers_of(p->self);
    const size_t n_k = p->rows / type->per_word;
    const size_t in_plane = plane_of(CHUNK, n_k), out_plane = plane_of(CHUNK, p->columns);
    const size_t kernel_plane = weight_plane(p->rows, p->columns);
    float *in = scratch, *out = scratch + POINTS * in_plane;
    const panels sums = {out, out_plane, CHUNK};
    for (size_t t = 0; t < n; t++) {
        size_t offsets[POINTS];
        find_pixels(p->self, first + t, p->rows, WINDOW, 1, offsets);
        type->window_to_row(p->src, offsets, p->rows, in + t * n_k, in_plane);
    }
    for (size_t i = 0; i < POINTS; i++)
        for (size_t panel = 0; panel < p->columns / RQ_PANEL; panel++)
            type->product(in + i * in_plane, n_k, 1,
                          p->weights + i * kernel_plane + panel * n_k * RQ_PANEL, n_k,
                          out + i * out_plane + panel * CHUNK * RQ_PANEL,
                          round_up(n, RQ_PANEL_ROWS), false);
    for (size_t t = 0; t < n; t++) {
        size_t offsets[TILE * TILE];
        find_pixels(p->self, first + t, p->columns, TILE, 0, offsets);
        if (p->bf16_dst)
            winograd_to_bf16_pixels(&sums, t, p->columns, p->dst, offsets);
        else
            winograd_to_f32_pixels(&sums, t, p->columns, p->with, p->dst, offsets);
    }
}

static void convolve(const convolution *p, float *chunks)
{
    const size_t n_tiles = p->self->n_tiles;
    const size_t chunk_size = POINTS * (plane_of(CHUNK, p->rows) + plane_of(CHUNK, p->columns));
    const size_t n_chunks = (n_tiles + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic)
    for (size_t k = 0; k < n_chunks; k++)
        convolve_chunk(p, k * CHUNK, smaller(CHUNK, n_tiles - k * CHUNK),
                       chunks + (size_t)omp_get_thread_num() * chunk_size);
}

/* With weights that are packed into scratch, before the chunks. */
static void convolve_plain(const rq_winograd *self, const void *src, size_t rows, const float *wei,
                           weight_order order, void *dst, bool bf16_dst, size_t columns,
                           float *scratch)
{
    pack_weights(numbers_of(self), wei, order, rows, columns, scratch);
    const convolution p = {self, src, scratch, dst, bf16_dst, rows, columns, {NULL, false}};
    convolve(&p, scratch + POINTS * weight_plane(rows, columns));
}

static weight_order order_forward(const rq_winograd *self)
{
    return (weight_order){9, 9 * self->ic, false};
}

void rq_winograd_forward(const rq_winograd *self, const void *src, const float *wei, float *dst,
                         void *scratch)
{
    convolve_plain(self, src, self->ic, wei, order_forward(self), dst, false, self->oc, scratch);
}

size_t rq_winograd_packed_size(const rq_winograd *self)
{
    return POINTS * weight_plane(self->ic, self->oc);
}

void rq_winograd_pack(const rq_winograd *self, const float *wei, float *packed)
{
    pack_weights(numbers_of(self), wei, order_forward(self), self->ic, self->oc, packed);
}

void rq_winograd_infer(const rq_winograd *self, const float *src, const float *packed,
                       const float *bias, bool relu, float *dst, void *scratch)
{
    const convolution p = {self, src, packed, dst, false, self->ic, self->oc, {bias, relu}};
    convolve(&p, scratch);
}

void rq_winograd_backward_data(const rq_winograd *self, const void *ddst, const float *wei,
                               void *dsrc, bool bf16_dsrc, void *scratch)
{
    const weight_order order = {9 * self->ic, 9, true};
    convolve_plain(self, ddst, self->oc, wei, order, dsrc, bf16_dsrc, self->ic, scratch);
}

/* ---- dwei ---- */

/* Words of a row of the left factor; the last product reads past the channels. */
static size_t left_row(const rq_winograd *self)
{
    return self->ic + RQ_PANEL_ROWS;
}

/* Both transforms of a chunk of tiles to n_k words along the sum, by all threads. */
static void transform_chunk(const rq_winograd *self, const void *src, const void *ddst,
                            size_t first, size_t n_k, float *left, const panels *right)
{
    const numbers *type = numbers_of(self);
    const size_t row = left_row(self), plane = plane_of(right->n_rows, row);
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < n_k; k++) {
        size_t windows[MOST_PER_WORD * POINTS], tiles[MOST_PER_WORD * TILE * TILE];
        for (size_t i = 0; i < type->per_word; i++) {
            const size_t tile = first + k * type->per_word + i;
            find_pixels(self, tile, self->ic, WINDOW, 1, windows + i * POINTS);
            find_pixels(self, tile, self->oc, TILE, 0, tiles + i * TILE * TILE);
        }
        type->windows_to_row(src, windows, self->ic, left + k * row, plane);
        type->tiles_to_panels(ddst, tiles, self->oc, right, k);
    }
}

/* sums [36][OC / 16, IC, 16] += left' * right, by all threads. */
static void add_products(const rq_winograd *self, const float *left, const panels *right,
                         size_t n_k, float *sums, bool add)
{
    const size_t row = left_row(self), left_plane = plane_of(right->n_rows, row);
    const size_t padded = round_up(self->ic, RQ_PANEL_ROWS), n_panels = self->oc / RQ_PANEL;
    const size_t plane = weight_plane(self->ic, self->oc);
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < POINTS * n_panels; k++) {
        const size_t i = k / n_panels, panel = k % n_panels;
        const float *columns = (const float *)right->words + i * right->plane;
        numbers_of(self)->product(left + i * left_plane, 1, row,
                                  columns + panel * right->n_rows * RQ_PANEL, n_k,
                                  sums + i * plane + panel * padded * RQ_PANEL, padded, add);
    }
}

void rq_winograd_backward_weights(const rq_winograd *self, const void *src, const void *ddst,
                                  float *dwei, void *scratch)
{
    const size_t padded = round_up(self->ic, RQ_PANEL_ROWS), n_panels = self->oc / RQ_PANEL;
    const size_t plane = weight_plane(self->ic, self->oc), per_word = numbers_of(self)->per_word;
    const size_t n_rows = self->weight_tiles / per_word;
    float *sums = scratch, *left = sums + POINTS * plane;
    const panels right = {left + POINTS * plane_of(n_rows, left_row(self)),
                          plane_of(n_rows, self->oc), n_rows};
    for (size_t first = 0; first < self->n_tiles; first += self->weight_tiles) {
        const size_t n = smaller(self->weight_tiles, self->n_tiles - first);
        const size_t n_k = (n + per_word - 1) / per_word;
        transform_chunk(self, src, ddst, first, n_k, left, &right);
        add_products(self, left, &right, n_k, sums, first > 0);
    }
#pragma omp parallel for schedule(static)
    for (size_t k = 0; k < n_panels * self->ic; k++) {
        const size_t panel = k / self->ic, ic = k % self->ic;
        winograd_to_kernels(sums + (panel * padded + ic) * RQ_PANEL, plane,
                            dwei + (panel * RQ_PANEL * self->ic + ic) * 9, 9 * self->ic);
    }
}
