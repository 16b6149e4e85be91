/* The sigmoid unit: of a few numbers per image, so plain loops do. Quantized, it is a gate. */
#include <math.h>

#include "qat/step/units.h"
#include "runtime/model/gate.h"

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static rq_status forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)trainer;
    (void)err;
    const tr_value *src = unit->src[0];
    const tr_value *dst = unit->dst;
    for (size_t i = 0; i < rq_shape_elems(&dst->shape); i++) {
        const float x = src->scale * src->data[i];
        dst->data[i] = dst->is_gate ? (float)rq_gate_level(x) : sigmoid(x);
    }
    return RQ_OK;
}

/* Straight through the rounding: 255 sigmoid(x) lies inside 0 to 255 always. */
static rq_status backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)trainer;
    (void)err;
    const tr_value *src = unit->src[0], *dst = unit->dst;
    const float *ddst = tr_summed_gradient(dst);
    const float factor = src->scale / dst->scale;
    for (size_t i = 0; unit->dsrc[0] && i < rq_shape_elems(&dst->shape); i++) {
        const float y = sigmoid(src->scale * src->data[i]);
        unit->dsrc[0][i] = factor * y * (1.0f - y) * ddst[i];
    }
    return RQ_OK;
}

void tr_sigmoid_init(tr_unit *unit, bool quantize)
{
    unit->forward = forward;
    unit->backward = backward;
    unit->dst->quantized = unit->dst->is_gate = quantize;
    unit->dst->scale = quantize ? RQ_GATE_SCALE : 1.0f;
}
