/* Pooling over windows, of means and of maxima: numbers keep their scale, and maxima whatever else
 * the numbers stand for. */
#include <string.h>

#include "qat/step/units.h"
#include "runtime/base/simd.h"
#include "runtime/dnn/float_passes.h"

static const rq_conv_attr *window_of(const rq_trainer *trainer, const tr_unit *unit)
{
    return &trainer->model->graph.nodes[unit->node].conv;
}

static rq_status forward_avg(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    const tr_value *src = unit->src[0];
    rq_avg_pool_f32(src->data, unit->dst->data, &src->shape, &unit->dst->shape,
                    window_of(trainer, unit));
    unit->dst->scale = src->scale;
    return RQ_OK;
}

static rq_status forward_max(rq_trainer *trainer, tr_unit *unit, rq_error *err)
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

static rq_status backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
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
                       window_of(trainer, unit), unit->forward == forward_max);
    return RQ_OK;
}

void tr_avg_pool_init(tr_unit *unit)
{
    unit->forward = forward_avg;
    unit->backward = backward;
}

void tr_max_pool_init(tr_unit *unit)
{
    unit->forward = forward_max;
    unit->backward = backward;
    unit->dst->quantized = unit->src[0]->quantized;
}
