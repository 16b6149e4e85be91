/* The two passes of PIL's resize, and their coefficients. Both passes take the same number of taps
 * at every position (short ones are padded with zero coefficients), so that their inner loops have
 * one trip count. The loops use the compiler's generic vectors and are compiled for several
 * instruction sets; all give the same integers. */
#include "runtime/image/resize.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/base/memory.h"

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

/* ROWS rows at a time, each pixel in lanes R, G, B and one unused. Reads one byte after the last
 * pixel of a row and writes one after the last result. */
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

/* All that one call works with, in the resizer's memory. */
typedef struct plan {
    axis x, y;
    double *weights;   /* of one position */
    uint8_t *last_row; /* the source's last row and one byte more */
    uint8_t *rows;     /* [rows that the vertical pass needs, row_stride] */
    size_t row_stride;
} plan;

/* All sides are at most RQ_MAX_IMAGE_SIDE here, so that no product of two of them overflows. */
_Static_assert(sizeof(size_t) >= 8, "sizes of image buffers need 64 bits");

static size_t padded(size_t size_bytes)
{
    return (size_bytes + RQ_ALIGNMENT - 1) / RQ_ALIGNMENT * RQ_ALIGNMENT;
}

static rq_status make_plan(rq_resizer *resizer, const axis_request *x, const axis_request *y,
                           plan *out, rq_error *err)
{
    const int x_taps = max_taps(x), y_taps = max_taps(y);
    const double most_rows = ceil((y->n - 1) * box_scale(y)) + 1 + y_taps;
    const size_t n_rows = most_rows < y->src ? (size_t)most_rows : (size_t)y->src;
    const size_t row_stride = ((size_t)x->n * 3 + LANES) / LANES * LANES; /* a byte to spare */
    const size_t sizes[] = {
        (size_t)x->n * sizeof(int32_t),
        (size_t)x->n * (size_t)x_taps * sizeof(int32_t),
        (size_t)y->n * sizeof(int32_t),
        (size_t)y->n * (size_t)y_taps * sizeof(int32_t),
        (size_t)(x_taps > y_taps ? x_taps : y_taps) * sizeof(double),
        (size_t)x->src * 3 + 1,
        (n_rows + ROWS - 1) / ROWS * ROWS * row_stride,
    };
    enum { N_PARTS = sizeof sizes / sizeof *sizes };
    size_t total = 0;
    for (int i = 0; i < N_PARTS; i++)
        total += padded(sizes[i]);
    if (total > resizer->capacity_bytes) {
        rq_resizer_deinit(resizer);
        resizer->memory = rq_alloc(total);
        resizer->capacity_bytes = resizer->memory ? total : 0;
    }
    if (!resizer->memory)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory (resizing %d x %d pixels)", x->src,
                       y->src);
    void *parts[N_PARTS];
    uint8_t *at = resizer->memory;
    for (int i = 0; i < N_PARTS; i++) {
        parts[i] = at;
        at += padded(sizes[i]);
    }
    out->x = (axis){.first = parts[0], .coeff = parts[1], .n = x->n, .stride = x_taps};
    out->y = (axis){.first = parts[2], .coeff = parts[3], .n = y->n, .stride = y_taps};
    out->weights = parts[4];
    out->last_row = parts[5];
    out->rows = parts[6];
    out->row_stride = row_stride;
    axis_fill(&out->x, x, out->weights);
    axis_fill(&out->y, y, out->weights);
    return RQ_OK;
}

/* NaN fails every comparison. */
static bool is_possible(const axis_request *request)
{
    return request->in0 >= 0.0F && request->in0 < request->in1 &&
           request->in1 <= (float)request->src && request->src <= RQ_MAX_IMAGE_SIDE &&
           request->win >= 0 && request->n >= 1 && request->n <= RQ_MAX_IMAGE_SIDE &&
           request->win <= request->out - request->n;
}

/* Nothing but a window of what is there: PIL skips both passes. */
static bool is_unchanged(const axis_request *request)
{
    return request->in0 <= 0.0F && request->in1 >= (float)request->src &&
           request->out == request->src;
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
    if (is_unchanged(&x) && is_unchanged(&y)) {
        for (int row = 0; row < win_h; row++)
            memcpy(dst + (size_t)row * dst_stride,
                   src + (size_t)(win_y + row) * src_stride + (size_t)win_x * 3, (size_t)win_w * 3);
        return RQ_OK;
    }
    plan work;
    RQ_TRY(make_plan(resizer, &x, &y, &work, err));
    const int begin = work.y.first[0];
    const int end = work.y.first[win_h - 1] + work.y.n_taps;
    for (int row = begin; row < end; row += ROWS) {
        const uint8_t *rows[ROWS];
        for (int r = 0; r < ROWS; r++) {
            const int source_row = row + r < end ? row + r : end - 1;
            rows[r] = src + (size_t)source_row * src_stride;
            if (source_row == src_h - 1) /* nothing may be read after it */
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
