/* The two passes of PIL's resize, and their coefficients. Both passes take the same number of taps
 * at every position (short ones are padded with zero coefficients), so that their inner loops have
 * one trip count. The loops use the compiler's generic vectors and are compiled for several
 * instruction sets; all give the same integers. */
#include "runtime/image/resize.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/base/size.h"

/* The loader resolves clones before a sanitizer's runtime is up, so sanitized builds go without. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) &&      \
    !defined(__clang_analyzer__)
#define VECTOR_CLONES __attribute__((target_clones("avx2", "sse4.1", "default")))
#else
#define VECTOR_CLONES
#endif

enum {
    COEFF_BITS = 32 - 8 - 2, /* PIL's PRECISION_BITS */
    HALF = 1 << (COEFF_BITS - 1),
    ROWS = 4,   /* rows per step of the horizontal pass */
    LANES = 32, /* bytes per step of the vertical pass; intermediate rows are padded to it */
};

/* One direction: position i of the window sums coeff[i * stride + t] * src[first[i] + t], t <
 * n_taps. */
typedef struct axis {
    int32_t *first;
    int32_t *coeff;
    int n, stride, n_taps;
} axis;

/* What one direction is asked for. */
typedef struct axis_request {
    int src;        /* pixels there are */
    float in0, in1; /* the box */
    int out;        /* pixels that the box becomes */
    int win, n;     /* those wanted */
} axis_request;

void rq_resizer_deinit(rq_resizer *resizer)
{
    rq_free(resizer->memory);
    *resizer = (rq_resizer){0};
}

static double box_scale(const axis_request *request)
{
    return (double)(request->in1 - request->in0) / request->out;
}

/* An upper bound of the taps of one position. */
static int max_taps(const axis_request *request)
{
    const double support = fmax(box_scale(request), 1.0);
    const int taps = (int)ceil(support) * 2 + 1;
    return taps < request->src ? taps : request->src;
}

/* Coefficients of one position (out pixel x): PIL's precompute_coeffs and normalize_coeffs_8bpc.
 * Zeros at the end are dropped. Returns the number of taps. */
static int position_coeffs(const axis_request *request, int x, double *weights, int32_t *first,
                           int32_t *coeff)
{
    const double scale = box_scale(request);
    const double support = fmax(scale, 1.0);
    const double inverse = 1.0 / support;
    const double center = (double)request->in0 + (x + 0.5) * scale;
    int begin = (int)(center - support + 0.5);
    int end = (int)(center + support + 0.5);
    begin = begin < 0 ? 0 : begin;
    end = end > request->src ? request->src : end;
    double sum = 0.0;
    for (int i = begin; i < end; i++) {
        const double distance = fabs((i - center + 0.5) * inverse);
        weights[i - begin] = distance < 1.0 ? 1.0 - distance : 0.0;
        sum += weights[i - begin];
    }
    int n = end - begin;
    for (int i = 0; i < n; i++)
        coeff[i] = (int32_t)(0.5 + weights[i] / sum * (1 << COEFF_BITS));
    while (n > 1 && coeff[n - 1] == 0)
        n--;
    *first = begin;
    return n;
}

static void axis_fill(axis *out, const axis_request *request, double *weights)
{
    out->n_taps = 1;
    for (int i = 0; i < out->n; i++) {
        int32_t *coeff = out->coeff + (size_t)i * (size_t)out->stride;
        memset(coeff, 0, (size_t)out->stride * sizeof *coeff);
        const int n = position_coeffs(request, request->win + i, weights, &out->first[i], coeff);
        out->n_taps = n > out->n_taps ? n : out->n_taps;
    }
    /* Windows that the common number of taps would push over the end move back, their coefficients
     * stay in place. */
    for (int i = 0; i < out->n; i++) {
        int32_t *coeff = out->coeff + (size_t)i * (size_t)out->stride;
        const int over = out->first[i] + out->n_taps - request->src;
        if (over <= 0)
            continue;
        memmove(coeff + over, coeff, (size_t)(out->n_taps - over) * sizeof *coeff);
        memset(coeff, 0, (size_t)over * sizeof *coeff);
        out->first[i] -= over;
    }
}

typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

/* Bytes 0…3 (the others are zero) to 32-bit lanes and back. */
#define WIDEN(v)  __builtin_shufflevector(v, v, 0, 4, 5, 6, 1, 8, 9, 10, 2, 12, 13, 14, 3, 4, 5, 6)
#define NARROW(v) __builtin_shufflevector(v, v, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12)

/* ROWS rows at a time, each pixel in lanes R, G, B and one unused. Reads one byte behind the last
 * pixel of a row and writes one behind the last result. */
VECTOR_CLONES
static void horizontal_rows(const uint8_t *const src[ROWS], const axis *x_axis, uint8_t *dst,
                            size_t dst_stride)
{
    const i32x4 most = {255, 255, 255, 255};
    const int n_taps = x_axis->n_taps;
    for (int i = 0; i < x_axis->n; i++) {
        const ptrdiff_t first = 3 * (ptrdiff_t)x_axis->first[i];
        const int32_t *coeff = x_axis->coeff + (ptrdiff_t)i * x_axis->stride;
        i32x4 sum[ROWS];
        for (int r = 0; r < ROWS; r++)
            sum[r] = (i32x4){HALF, HALF, HALF, HALF};
        for (int t = 0; t < n_taps; t++) {
            for (int r = 0; r < ROWS; r++) {
                uint32_t rgb;
                memcpy(&rgb, src[r] + first + 3 * (ptrdiff_t)t, sizeof rgb);
                const u8x16 bytes = (u8x16)(u32x4){rgb, 0, 0, 0};
                sum[r] += (i32x4)WIDEN(bytes) * coeff[t];
            }
        }
        for (int r = 0; r < ROWS; r++) {
            const i32x4 level = sum[r] >> COEFF_BITS;
            const i32x4 clipped = (level & (level <= most)) | (most & (level > most));
            const u32x4 packed = (u32x4)NARROW((u8x16)clipped);
            const uint32_t rgb = packed[0];
            memcpy(dst + (size_t)r * dst_stride + 3 * (ptrdiff_t)i, &rgb, sizeof rgb);
        }
    }
}

/* LANES bytes of one result row: a weighted sum of n_taps rows. */
static inline void vertical_step(const uint8_t *src, size_t stride, const int32_t *coeff,
                                 int n_taps, uint8_t *dst)
{
    int32_t sum[LANES];
    for (int j = 0; j < LANES; j++)
        sum[j] = HALF;
    for (int t = 0; t < n_taps; t++) {
        const uint8_t *row = src + (size_t)t * stride;
        const int32_t weight = coeff[t];
        for (int j = 0; j < LANES; j++)
            sum[j] += row[j] * weight;
    }
    for (int j = 0; j < LANES; j++) {
        const int32_t level = sum[j] >> COEFF_BITS;
        dst[j] = (uint8_t)(level > 255 ? 255 : level);
    }
}

/* One row of n bytes; reads the source rows up to their padding. */
VECTOR_CLONES
static void vertical_row(const uint8_t *src, size_t stride, const int32_t *coeff, int n_taps,
                         size_t n, uint8_t *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vertical_step(src + i, stride, coeff, n_taps, dst + i);
    if (i < n) {
        uint8_t rest[LANES];
        vertical_step(src + i, stride, coeff, n_taps, rest);
        memcpy(dst + i, rest, n - i);
    }
}

/* All that one call works with, carved from the resizer's memory. */
typedef struct plan {
    axis x, y;
    double *weights;   /* of one position */
    uint8_t *last_row; /* the source's last row with a byte behind it */
    uint8_t *rows;     /* [n_rows, row_stride], after the horizontal pass */
    size_t row_stride;
    size_t n_rows; /* most that the vertical pass can need, in whole steps */
} plan;

/* Take n * elem_size bytes of memory at *used (NULL: only count them), cache lines apart. */
static bool carve(void *memory, size_t *used, size_t n, size_t elem_size, void **out)
{
    size_t size_bytes;
    *out = memory ? (uint8_t *)memory + *used : NULL;
    return rq_mul_size(n, elem_size, &size_bytes) &&
           rq_add_size(size_bytes, 2 * RQ_ALIGNMENT - 1, &size_bytes) &&
           rq_add_size(*used, size_bytes & ~(size_t)(RQ_ALIGNMENT - 1), used);
}

static bool carve_axis(axis *out, const axis_request *request, void *memory, size_t *used)
{
    void *first, *coeff;
    size_t n_coeff;
    out->n = request->n;
    out->stride = max_taps(request);
    if (!rq_mul_size((size_t)out->n, (size_t)out->stride, &n_coeff) ||
        !carve(memory, used, (size_t)out->n, sizeof *out->first, &first) ||
        !carve(memory, used, n_coeff, sizeof *out->coeff, &coeff))
        return false;
    out->first = first;
    out->coeff = coeff;
    return true;
}

static bool carve_plan(plan *out, const axis_request *x, const axis_request *y, void *memory,
                       size_t *used)
{
    void *weights, *last_row, *rows;
    *used = 0;
    if (!carve_axis(&out->x, x, memory, used) || !carve_axis(&out->y, y, memory, used))
        return false;
    const int most_taps = out->x.stride > out->y.stride ? out->x.stride : out->y.stride;
    const double most_rows = ceil((y->n - 1) * box_scale(y)) + 1 + out->y.stride;
    const size_t n_rows = most_rows < y->src ? (size_t)most_rows : (size_t)y->src;
    out->n_rows = (n_rows + ROWS - 1) / ROWS * ROWS;
    out->row_stride = ((size_t)x->n * 3 + LANES) / LANES * LANES; /* a byte to spare */
    if (!carve(memory, used, (size_t)most_taps, sizeof *out->weights, &weights) ||
        !carve(memory, used, (size_t)x->src * 3 + 1, 1, &last_row) ||
        !carve(memory, used, out->n_rows, out->row_stride, &rows))
        return false;
    out->weights = weights;
    out->last_row = last_row;
    out->rows = rows;
    return true;
}

static rq_status make_plan(rq_resizer *resizer, const axis_request *x, const axis_request *y,
                           plan *out, rq_error *err)
{
    size_t size_bytes;
    bool fits = carve_plan(out, x, y, NULL, &size_bytes);
    if (fits && size_bytes > resizer->capacity_bytes) {
        rq_resizer_deinit(resizer);
        resizer->memory = rq_alloc(size_bytes);
        resizer->capacity_bytes = resizer->memory ? size_bytes : 0;
        fits = resizer->memory != NULL;
    }
    if (!fits)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory (resizing %d x %d pixels)", x->src,
                       y->src);
    (void)carve_plan(out, x, y, resizer->memory, &size_bytes);
    axis_fill(&out->x, x, out->weights);
    axis_fill(&out->y, y, out->weights);
    return RQ_OK;
}

/* NaN fails every comparison. */
static bool is_possible(const axis_request *request)
{
    return request->in0 >= 0.0F && request->in0 < request->in1 &&
           request->in1 <= (float)request->src && request->win >= 0 && request->n >= 1 &&
           request->win <= request->out - request->n;
}

rq_status rq_resize(rq_resizer *resizer, const uint8_t *src, int src_w, int src_h,
                    size_t src_stride, rq_box box, int out_w, int out_h, int win_x, int win_y,
                    int win_w, int win_h, uint8_t *dst, size_t dst_stride, rq_error *err)
{
    const axis_request x = {src_w, (float)box.x0, (float)box.x1, out_w, win_x, win_w};
    const axis_request y = {src_h, (float)box.y0, (float)box.y1, out_h, win_y, win_h};
    if (!is_possible(&x) || !is_possible(&y))
        return rq_fail(err, RQ_ERR_ARG,
                       "cannot resize (%g, %g)…(%g, %g) of %d x %d to the window %d x %d at (%d, "
                       "%d) of %d x %d",
                       box.x0, box.y0, box.x1, box.y1, src_w, src_h, win_w, win_h, win_x, win_y,
                       out_w, out_h);
    plan work;
    const rq_status status = make_plan(resizer, &x, &y, &work, err);
    if (status != RQ_OK)
        return status;
    const int begin = work.y.first[0];
    const int end = work.y.first[win_h - 1] + work.y.n_taps;
    for (int row = begin; row < end; row += ROWS) {
        const uint8_t *rows[ROWS];
        for (int r = 0; r < ROWS; r++) {
            const int source_row = row + r < end ? row + r : end - 1;
            rows[r] = src + (size_t)source_row * src_stride;
            if (source_row == src_h - 1) /* nothing may be read behind it */
                rows[r] = memcpy(work.last_row, rows[r], (size_t)src_w * 3);
        }
        horizontal_rows(rows, &work.x, work.rows + (size_t)(row - begin) * work.row_stride,
                        work.row_stride);
    }
    for (int row = 0; row < win_h; row++)
        vertical_row(work.rows + (size_t)(work.y.first[row] - begin) * work.row_stride,
                     work.row_stride, work.y.coeff + (size_t)row * (size_t)work.y.stride,
                     work.y.n_taps, (size_t)win_w * 3, dst + (size_t)row * dst_stride);
    return RQ_OK;
}
