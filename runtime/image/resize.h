/* PIL's bilinear resize with antialiasing, bit for bit: two passes (horizontal, then vertical) with
 * a triangle filter widened by the scale, coefficients rounded to 22 fractional bits (8-bit
 * images), 8-bit result between the passes. Source: Pillow 9.4, src/libImaging/Resample.c. */
#ifndef RQ_RUNTIME_IMAGE_RESIZE_H
#define RQ_RUNTIME_IMAGE_RESIZE_H

#include "runtime/image/jpeg.h"

/* A box in the source, in pixels, fractions allowed (rounded to float, as PIL does): 0 <= x0 < x1
 * <= w, 0 <= y0 < y1 <= h. The filter sees pixels outside the box; to hide them, pass the box's own
 * pixels as the source. */
typedef struct rq_box {
    double x0, y0, x1, y1;
} rq_box;

/* Coefficients and intermediate rows; zero-initialise, reused from call to call, one per thread. */
typedef struct rq_resizer {
    void *memory;
    size_t capacity_bytes;
} rq_resizer;
void rq_resizer_deinit(rq_resizer *resizer);

/* Resize the box of src ([src_h, src_w, 3], row stride src_stride bytes) to out_w x out_h and of
 * that compute only the window of win_w x win_h pixels at (win_x, win_y): what a centre crop keeps.
 * Time and memory follow the window, not out_w x out_h. dst: [win_h, win_w, 3], row stride
 * dst_stride bytes; must not overlap src. Errors: RQ_ERR_NOMEM, RQ_ERR_ARG (box or window empty or
 * outside, sides over RQ_MAX_IMAGE_SIDE except out_w, out_h). */
RQ_NODISCARD rq_status rq_resize(rq_resizer *resizer, const uint8_t *src, int src_w, int src_h,
                                 size_t src_stride, rq_box box, int out_w, int out_h, int win_x,
                                 int win_y, int win_w, int win_h, uint8_t *dst, size_t dst_stride,
                                 rq_error *err);

#endif
