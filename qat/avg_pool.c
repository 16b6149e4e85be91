/* Average pooling over windows: linear, so numbers keep their scale. */
#include <string.h>

#include "qat/units.h"
#include "runtime/session/kernels.h"

static const rq_conv_attr *window_of(const rq_trainer *trainer, const tr_unit *unit)
{
    return &trainer->model->graph.nodes[unit->node].conv;
}

static rq_status forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    const tr_value *src = unit->src[0];
    rq_avg_pool_f32(src->data, unit->dst->data, &src->shape, &unit->dst->shape,
                    window_of(trainer, unit));
    unit->dst->scale = src->scale;
    return RQ_OK;
}

/* Each pixel of the window of (oy, ox) that lies inside the image receives an even share. */
static void spread_pixel(const float *dy, float *image, const rq_shape *in, int64_t oy, int64_t ox,
                         const rq_conv_attr *window)
{
    const int64_t top = oy * window->stride[0] - window->pad[0];
    const int64_t left = ox * window->stride[1] - window->pad[1];
    const float share = 1.0f / (float)((int64_t)window->kernel[0] * window->kernel[1]);
    for (int64_t y = top < 0 ? 0 : top; y < top + window->kernel[0] && y < in->h; y++)
        for (int64_t x = left < 0 ? 0 : left; x < left + window->kernel[1] && x < in->w; x++) {
            float *pixel = image + (y * in->w + x) * in->c;
            for (int64_t c = 0; c < in->c; c++)
                pixel[c] += share * dy[c];
        }
}

static rq_status backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    if (!unit->dsrc[0])
        return RQ_OK;
    const rq_conv_attr *window = window_of(trainer, unit);
    const rq_shape *in = &unit->src[0]->shape, *out = &unit->dst->shape;
    const float *ddst = tr_summed_gradient(unit->dst);
    const int64_t image_elems = in->h * in->w * in->c;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < in->n; i++) {
        float *image = unit->dsrc[0] + i * image_elems;
        memset(image, 0, (size_t)image_elems * sizeof *image);
        for (int64_t p = 0; p < out->h * out->w; p++)
            spread_pixel(ddst + (i * out->h * out->w + p) * out->c, image, in, p / out->w,
                         p % out->w, window);
    }
    return RQ_OK;
}

void tr_avg_pool_init(tr_unit *unit)
{
    unit->forward = forward;
    unit->backward = backward;
}
