/* The two units at the ends: pixels in, and global average pooling before the classifier. */
#include "qat/step/units.h"
#include "runtime/base/simd.h"
#include "runtime/dnn/float_passes.h"

void tr_input_init(rq_trainer *trainer, bool quantized)
{
    const rq_preprocess *p = &trainer->model->preprocess;
    trainer->input_is_levels = quantized;
    rq_preprocess_normalization(p, trainer->input_factor, trainer->input_offset);
    for (int c = 0; c < 3 && quantized; c++) {
        trainer->input_factor[c] = 1.0f;
        trainer->input_offset[c] = -(float)rq_pixel_zero_point(p->mean[c]);
    }
}

/* Image and partner, [pixels, 3] each, with their weights. */
static void mix_image(const uint8_t *own, const uint8_t *partner, float weight, const float *factor,
                      const float *offset, float *dst, size_t pixels)
{
    const float rest = 1.0f - weight;
    for (size_t i = 0; i < 3 * pixels; i++)
        dst[i] =
            (weight * (float)own[i] + rest * (float)partner[i]) * factor[i % 3] + offset[i % 3];
}

void tr_input_forward(const rq_trainer *trainer, const uint8_t *pixels, const rq_mix *mix,
                      tr_value *value)
{
    const size_t n = (size_t)value->shape.n, per_image = rq_shape_elems(&value->shape) / n;
    if (!mix) {
        rq_normalize_u8(pixels, trainer->input_factor, trainer->input_offset, value->data,
                        n * per_image / 3);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        mix_image(pixels + i * per_image, pixels + mix[i].partner * per_image, mix[i].lambda,
                  trainer->input_factor, trainer->input_offset, value->data + i * per_image,
                  per_image / 3);
}

/* Quantized values are summed, exactly: the output rule divides. */
static rq_status forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
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

static rq_status backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
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

void tr_pool_init(tr_unit *unit)
{
    unit->forward = forward;
    unit->backward = backward;
    if (unit->src[0]->quantized)
        unit->dst->pool_source = unit->src[0];
}
