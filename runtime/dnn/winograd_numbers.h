/* What of Winograd's convolution depends on the type of the numbers that are multiplied: the
 * transforms of tiles into them, and their product. Only for the files winograd*.c.
 *
 * A word is 4 bytes: a float, or two bf16 that follow each other in the sum over k (channels, or
 * tiles for the gradient of the weights), the first in the lower half. Each transform writes one
 * number of each of the 36 points, to planes that are `plane` words apart. Offsets [36] or [16]:
 * where a tile's pixels are in numbers from src, SIZE_MAX for what lies beyond the image. */
#ifndef RQ_RUNTIME_DNN_WINOGRAD_NUMBERS_H
#define RQ_RUNTIME_DNN_WINOGRAD_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/dnn/panel_product.h"

/* Where weight (row, column) is in [OC, IC, 3, 3]: row is the input channel of the convolution
 * that is computed; for dsrc that is an output channel of the layer, and the kernel is turned. */
typedef struct weight_order {
    size_t row_stride, column_stride; /* floats */
    bool turned;
} weight_order;

/* A product's right factor, or its floats: columns in panels of 16. */
typedef struct panels {
    void *words; /* [36] planes of [column / 16, n_rows, 16] */
    size_t plane, n_rows;
} panels;

/* Where column c, a multiple of 16, of a row is in the first plane. */
static inline void *panel_row(const panels *of, size_t row, size_t c)
{
    return (uint32_t *)of->words + c * of->n_rows + row * RQ_PANEL;
}

typedef struct numbers {
    size_t per_word;

    /* B' d B of a tile to row [channels / per_word] of dst. */
    void (*window_to_row)(const void *src, const size_t *offsets, size_t channels, void *dst,
                          size_t plane);
    /* B' d B of per_word tiles, their offsets one after the other, to row [channels] of dst. */
    void (*windows_to_row)(const void *src, const size_t *offsets, size_t channels, void *dst,
                           size_t plane);
    /* A dY A' of per_word tiles to a row of dst. */
    void (*tiles_to_panels)(const void *src, const size_t *offsets, size_t channels,
                            const panels *dst, size_t row);
    /* G g G' of per_word rows of 16 columns to [16] of dst. */
    void (*kernels_to_panel)(const float *wei, weight_order order, void *dst, size_t plane);

    /* rq_panel_product of these words. */
    void (*product)(const void *a, size_t row_stride, size_t k_stride, const void *b, size_t n_k,
                    float *c, size_t n_rows, bool add);
} numbers;

extern const numbers winograd_f32, winograd_bf16; /* the latter: rq_panel_product_has_bf16 */

/* What follows a forward sum. */
typedef struct finish {
    const float *bias; /* NULL: none */
    bool relu;
} finish;

/* A' m A of one tile, from its row of panels of floats, to the pixels that exist. */
void winograd_to_f32_pixels(const panels *src, size_t row, size_t channels, finish with, float *dst,
                            const size_t *offsets);
void winograd_to_bf16_pixels(const panels *src, size_t row, size_t channels, void *dst,
                             const size_t *offsets);

/* G' s G for one input channel and 16 output channels, to dwei [OC, IC, 3, 3]; src: 36 planes of
 * [16] floats. */
void winograd_to_kernels(const float *src, size_t plane, float *dwei, size_t column_stride);

#endif
