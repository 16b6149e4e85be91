/* The inner product of matrices in panels: the one hot loop of the Winograd convolution. f32 with
 * fused multiply-adds, AVX2 or AVX-512, chosen at run time, or pairs of bf16 with AVX512-BF16. */
#ifndef RQ_RUNTIME_DNN_PANEL_PRODUCT_H
#define RQ_RUNTIME_DNN_PANEL_PRODUCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RQ_PANEL = 16,     /* columns of a panel */
    RQ_PANEL_ROWS = 12 /* rows are computed in multiples of this */
};

/* c[r, 0..15] = (add ? c : 0) + sum over k of a[r * row_stride + k * k_stride] * b[k, 0..15] for
 * the rows 0..n_rows-1, n_rows a multiple of RQ_PANEL_ROWS; b [n_k, 16] and c [n_rows, 16] are
 * dense and aligned to 64 bytes. The sum runs over k in order, whatever the instruction set. */
void rq_panel_product(const float *a, size_t row_stride, size_t k_stride, const float *b,
                      size_t n_k, float *c, size_t n_rows, bool add);

/* The same where a number of a and b is a pair of bf16 (base/bf16.h), and pairs are multiplied as
 * inner products: the lower halves, and the upper ones. Numbers below the least normal float count
 * as 0. */
void rq_panel_product_bf16(const uint32_t *a, size_t row_stride, size_t k_stride, const uint32_t *b,
                           size_t n_k, float *c, size_t n_rows, bool add);

/* Has this CPU the instructions? Without them the two must not be called. */
bool rq_panel_product_available(void);
bool rq_panel_product_has_bf16(void);

#endif
