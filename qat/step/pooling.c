/* Means leave numbers their scale; maxima leave them whatever else they mean, too. */
#include "qat/step/pooling.h"

#include <assert.h>
#include <string.h>

#include "qat/step/values.h"
#include "runtime/base/simd.h"
#include "runtime/dnn/float_passes.h"

/* ---- global means ---- */

/* Quantized values are summed, exactly: the output rule divides. */
static rq_status global_forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)trainer;
    (void)err;
    const tr_value *src = unit->src[0];
    const rq_shape *s = &src->shape;
    const size_t n = (size_t)s->n, pixels = (size_t)(s->h * s->w), channels = (size_t)s->c;
    const double share = 1.0 / (double)pixels;
    rq_pool_f32(src->data, unit->dst->data, n, pixels, channels,
                src->quantized ? 1.0f : (float)share);
    unit->dst->scale = src->quantized ? (float)((double)src->scale * share) : src->scale;
    return RQ_OK;
}

RQ_SIMD static void spread(const float *restrict g, float share, float *restrict dsrc,
                           size_t pixels, size_t channels)
{
    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < channels; c++)
            dsrc[p * channels + c] = g[c] * share;
}

static rq_status global_backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)trainer;
    (void)err;
    if (!unit->dsrc[0])
        return RQ_OK;
    const rq_shape *s = &unit->src[0]->shape;
    const size_t pixels = (size_t)(s->h * s->w), channels = (size_t)s->c;
    const float share = unit->src[0]->quantized ? 1.0f : (float)(1.0 / (double)pixels);
    const float *g = tr_summed_gradient(unit->dst);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < (size_t)s->n; i++)
        spread(g + i * channels, share, unit->dsrc[0] + i * pixels * channels, pixels, channels);
    return RQ_OK;
}

/* ---- windows ---- */

static const rq_conv_attr *window_of(const rq_trainer *trainer, const tr_unit *unit)
{
    return &trainer->model->graph.nodes[unit->node].conv;
}

static rq_status avg_forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    const tr_value *src = unit->src[0];
    rq_avg_pool_f32(src->data, unit->dst->data, &src->shape, &unit->dst->shape,
                    window_of(trainer, unit));
    unit->dst->scale = src->scale;
    return RQ_OK;
}

static rq_status max_forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    const tr_value *src = unit->src[0];
    rq_max_pool(src->data, unit->dst->data, true, &src->shape, &unit->dst->shape,
                window_of(trainer, unit));
    unit->dst->scale = src->scale;
    unit->dst->zero_point = src->zero_point;
    return RQ_OK;
}

/* The gradient of one output pixel, to pixels of its window [C]: dx += what each of them gets. */
typedef struct share {
    const float *y; /* the output pixel */
    float *dy;      /* its gradient; give_max leaves 0 */
    float part;     /* of each pixel in the mean */
} share;

RQ_SIMD static void give_mean(const share *from, float *restrict dx, size_t channels)
{
    for (size_t c = 0; c < channels; c++)
        dx[c] += from->part * from->dy[c];
}

/* All of it to the first pixel that has the largest number. */
RQ_SIMD static void give_max(const share *from, const float *restrict x, float *restrict dx,
                             size_t channels)
{
    const float *restrict y = from->y;
    float *restrict left = from->dy;
    for (size_t c = 0; c < channels; c++) {
        const float given = x[c] == y[c] ? left[c] : 0.0f;
        dx[c] += given;
        left[c] -= given;
    }
}

/* One image: x and dx [ih, iw, C], y and dy [oh, ow, C]. */
static void backward_image(const float *x, float *dx, const float *y, float *dy, const rq_shape *in,
                           const rq_shape *out, const rq_conv_attr *window, bool is_max)
{
    const float part = 1.0f / (float)((int64_t)window->kernel[0] * window->kernel[1]);
    const size_t channels = (size_t)in->c;
    memset(dx, 0, (size_t)(in->h * in->w) * channels * sizeof *dx);
    for (int64_t p = 0; p < out->h * out->w; p++) {
        const rq_area area = rq_window_area(window, in, p / out->w, p % out->w);
        const share from = {y + p * out->c, dy + p * out->c, part};
        for (int64_t iy = area.top; iy < area.bottom; iy++)
            for (int64_t ix = area.left; ix < area.right; ix++) {
                const int64_t at = (iy * in->w + ix) * in->c;
                if (is_max)
                    give_max(&from, x + at, dx + at, channels);
                else
                    give_mean(&from, dx + at, channels);
            }
    }
}

static rq_status window_backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    if (!unit->dsrc[0])
        return RQ_OK;
    const tr_value *src = unit->src[0], *dst = unit->dst;
    const int64_t in_elems = src->shape.h * src->shape.w * src->shape.c;
    const int64_t out_elems = dst->shape.h * dst->shape.w * dst->shape.c;
    float *ddst = tr_summed_gradient(dst);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < src->shape.n; i++)
        backward_image(src->data + i * in_elems, unit->dsrc[0] + i * in_elems,
                       dst->data + i * out_elems, ddst + i * out_elems, &src->shape, &dst->shape,
                       window_of(trainer, unit), unit->forward == max_forward);
    return RQ_OK;
}

void tr_pool_init(tr_unit *unit, rq_op op)
{
    assert(op == RQ_OP_GLOBAL_AVG_POOL || op == RQ_OP_AVG_POOL || op == RQ_OP_MAX_POOL);
    const bool global = op == RQ_OP_GLOBAL_AVG_POOL, is_max = op == RQ_OP_MAX_POOL;
    unit->forward = global ? global_forward : is_max ? max_forward : avg_forward;
    unit->backward = global ? global_backward : window_backward;
    unit->dst->quantized = is_max && unit->src[0]->quantized;
    if (global && unit->src[0]->quantized)
        unit->dst->pool_source = unit->src[0];
}
