/* Pooling over windows, and the table. */
#include "runtime/dnn/plain_ops.h"

#include <string.h>

#include "runtime/base/simd.h"

/* ---- windows ---- */

/* The rows top..bottom-1 and columns left..right-1 of an image. */
typedef struct area {
    int64_t top, bottom, left, right;
} area;

/* What the window of output pixel p of an image covers; never nothing, since pools pad less than
 * their window. */
static area window_area(const rq_plain_args *args, int64_t p)
{
    const rq_conv_attr *window = args->window;
    const rq_shape *in = args->in;
    const int64_t top = p / args->out->w * window->stride[0] - window->pad[0];
    const int64_t left = p % args->out->w * window->stride[1] - window->pad[1];
    const int64_t bottom = top + window->kernel[0], right = left + window->kernel[1];
    return (area){top < 0 ? 0 : top, bottom < in->h ? bottom : in->h, left < 0 ? 0 : left,
                  right < in->w ? right : in->w};
}

/* Of each pixel in the mean over a window: pixels outside the image count too. */
static float share_of_mean(const rq_conv_attr *window)
{
    return 1.0f / (float)((int64_t)window->kernel[0] * window->kernel[1]);
}

static int64_t image_elems(const rq_shape *shape)
{
    return shape->h * shape->w * shape->c;
}

/* ---- avg_pool ---- */

RQ_SIMD static void add_range(const float *restrict x, float *restrict sum, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += x[i];
}

static void avg_pool_pixel(const rq_plain_args *args, const float *image, float *dst, int64_t p)
{
    const area covered = window_area(args, p);
    const rq_shape *in = args->in;
    const float share = share_of_mean(args->window);
    memset(dst, 0, (size_t)in->c * sizeof *dst);
    for (int64_t y = covered.top; y < covered.bottom; y++)
        for (int64_t x = covered.left; x < covered.right; x++)
            add_range(image + (y * in->w + x) * in->c, dst, (size_t)in->c);
    for (int64_t c = 0; c < in->c; c++)
        dst[c] *= share;
}

static void avg_pool(const rq_plain_args *args, const void *src, void *dst)
{
    const rq_shape *out = args->out;
    const int64_t n_pixels = out->h * out->w;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < out->n * n_pixels; i++)
        avg_pool_pixel(args, (const float *)src + i / n_pixels * image_elems(args->in),
                       (float *)dst + i * out->c, i % n_pixels);
}

/* ---- max_pool ---- */

RQ_SIMD static void raise_f32(float *restrict largest, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        largest[i] = x[i] > largest[i] ? x[i] : largest[i];
}

RQ_SIMD static void raise_u8(uint8_t *restrict largest, const uint8_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        largest[i] = x[i] > largest[i] ? x[i] : largest[i];
}

static void max_pool_pixel(const rq_plain_args *args, const char *image, char *dst, int64_t p)
{
    const area covered = window_area(args, p);
    const rq_shape *in = args->in;
    const size_t channels = (size_t)in->c;
    const size_t pixel_size = channels * (args->is_u8 ? 1 : sizeof(float));
    memcpy(dst, image + (size_t)(covered.top * in->w + covered.left) * pixel_size, pixel_size);
    for (int64_t y = covered.top; y < covered.bottom; y++)
        for (int64_t x = covered.left; x < covered.right; x++) {
            const char *pixel = image + (size_t)(y * in->w + x) * pixel_size;
            if (args->is_u8)
                raise_u8((uint8_t *)dst, (const uint8_t *)pixel, channels);
            else
                raise_f32((float *)(void *)dst, (const float *)(const void *)pixel, channels);
        }
}

/* Not for NaN. */
static void max_pool(const rq_plain_args *args, const void *src, void *dst)
{
    const rq_shape *out = args->out;
    const int64_t n_pixels = out->h * out->w;
    const int64_t elem_size = args->is_u8 ? 1 : (int64_t)sizeof(float);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < out->n * n_pixels; i++)
        max_pool_pixel(args, (const char *)src + i / n_pixels * image_elems(args->in) * elem_size,
                       (char *)dst + i * out->c * elem_size, i % n_pixels);
}

/* ---- gradients ---- */

/* What one output pixel gives to a pixel of its window, [C]: dx += its share of dy. */
typedef void give(const float *x, const float *y, float *dy, float share, float *dx,
                  size_t channels);

RQ_SIMD static void give_mean(const float *x, const float *y, float *dy, float share,
                              float *restrict dx, size_t channels)
{
    (void)x;
    (void)y;
    for (size_t c = 0; c < channels; c++)
        dx[c] += share * dy[c];
}

/* All of it to the first pixel that has the largest number; dy is what is left. */
RQ_SIMD static void give_max(const float *restrict x, const float *restrict y, float *restrict dy,
                             float share, float *restrict dx, size_t channels)
{
    (void)share;
    for (size_t c = 0; c < channels; c++) {
        const float given = x[c] == y[c] ? dy[c] : 0.0f;
        dx[c] += given;
        dy[c] -= given;
    }
}

/* One image: x and dx [ih, iw, C], y and dy [oh, ow, C]. */
static void backward_image(const rq_plain_args *args, give *function, const float *x,
                           const float *y, float *dy, float *dx)
{
    const rq_shape *in = args->in, *out = args->out;
    const float share = share_of_mean(args->window);
    memset(dx, 0, (size_t)image_elems(in) * sizeof *dx);
    for (int64_t p = 0; p < out->h * out->w; p++) {
        const area covered = window_area(args, p);
        for (int64_t iy = covered.top; iy < covered.bottom; iy++)
            for (int64_t ix = covered.left; ix < covered.right; ix++) {
                const int64_t at = (iy * in->w + ix) * in->c;
                function(x + at, y + p * out->c, dy + p * out->c, share, dx + at, (size_t)in->c);
            }
    }
}

static void backward(const rq_plain_args *args, give *function, const float *src, const float *dst,
                     float *ddst, float *dsrc)
{
    const int64_t in_elems = image_elems(args->in), out_elems = image_elems(args->out);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < args->in->n; i++)
        backward_image(args, function, src + i * in_elems, dst + i * out_elems,
                       ddst + i * out_elems, dsrc + i * in_elems);
}

static void avg_pool_backward(const rq_plain_args *args, const float *src, const float *dst,
                              float *ddst, float *dsrc)
{
    backward(args, give_mean, src, dst, ddst, dsrc);
}

static void max_pool_backward(const rq_plain_args *args, const float *src, const float *dst,
                              float *ddst, float *dsrc)
{
    backward(args, give_max, src, dst, ddst, dsrc);
}

/* ---- the table ---- */

static const rq_plain_op op_avg_pool = {RQ_OP_INPUT, avg_pool, avg_pool_backward};
static const rq_plain_op op_max_pool = {RQ_OP_QMAX_POOL, max_pool, max_pool_backward};

/* twins */
#define op_qmax_pool op_max_pool

#define ROW_OWN(name)     NULL
#define ROW_INTEGER(name) NULL
#define ROW_PLAIN(name)   &op_##name
#define ROW_TWIN(name)    &op_##name

const rq_plain_op *rq_plain_op_of(rq_op op)
{
    static const rq_plain_op *const table[RQ_N_OPS] = {
#define X(code, name, kind) [RQ_OP_##code] = ROW_##kind(name),
        RQ_OP_LIST(X)
#undef X
    };
    return table[op];
}
