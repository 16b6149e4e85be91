/* Where a step's time goes, unit by unit, beside the bytes that the unit cannot avoid to move. */
#include "qat/step/units.h"

static double value_bytes(const tr_value *value)
{
    return (double)rq_shape_elems(&value->shape) * sizeof(float);
}

/* As the convolution reads it. */
static double source_bytes(const tr_unit *unit)
{
    const rq_train_conv *conv = unit->conv->conv;
    const size_t size = rq_train_conv_reads_u8(conv)     ? sizeof(uint8_t)
                        : rq_train_conv_reads_bf16(conv) ? sizeof(uint16_t)
                                                         : sizeof(float);
    return (double)(rq_shape_elems(&unit->src[0]->shape) * size);
}

static double gradient_bytes(const tr_value *value)
{
    return value_bytes(value) / (value->gradient_bf16 ? 2.0 : 1.0);
}

static double weight_bytes(const conv_unit *conv)
{
    const rq_conv_shape *s = &conv->shape;
    const int64_t inputs = s->ic / s->conv.groups;
    return (double)(s->oc * inputs * s->conv.kernel[0] * s->conv.kernel[1]) * sizeof(float);
}

static void conv_bytes(const tr_unit *unit, rq_unit_profile *out)
{
    const double src = source_bytes(unit), dst = value_bytes(unit->dst);
    const double weights = weight_bytes(unit->conv);
    out->forward_bytes = src + weights + dst;
    const double ddst = gradient_bytes(unit->dst);
    out->backward_bytes = src + ddst + weights;
    if (unit->src[0]->needs_gradient)
        out->backward_bytes += ddst + weights + gradient_bytes(unit->src[0]);
}

/* Forward: batch norms' sources once more, for the moments. */
static void mix_bytes(const rq_trainer *trainer, const tr_unit *unit, rq_unit_profile *out)
{
    const eltwise_unit *mix = unit->eltwise;
    const tr_value *dst = unit->dst;
    const double n = value_bytes(dst);
    out->forward_bytes =
        (dst->data ? n : 0.0) + (dst->bf16 ? n / 2.0 : 0.0) + (dst->u8 ? n / 4.0 : 0.0);
    const double g = gradient_bytes(dst);
    out->backward_bytes = dst->gradient_bf16 ? 2.0 * g : g * (dst->n_readers + 1);
    for (int k = 0; k < mix->n_terms; k++) {
        const eltwise_term *term = &mix->terms[k];
        const bool live = term->kind == TERM_BN && !trainer->bn_frozen && !term->frozen;
        out->forward_bytes += n * (live ? 2 : 1);
        out->backward_bytes += n;
        if (unit->dsrc[k] || unit->src[k]->gradient_bf16)
            out->backward_bytes += g + (live ? n : 0.0) + gradient_bytes(unit->src[k]);
    }
}

static void other_bytes(const tr_unit *unit, rq_unit_profile *out)
{
    double n = value_bytes(unit->dst);
    for (int k = 0; k < unit->n_src; k++)
        n += value_bytes(unit->src[k]);
    out->forward_bytes = out->backward_bytes = n;
}

int rq_trainer_n_units(const rq_trainer *trainer)
{
    return trainer->n_units;
}

rq_unit_profile rq_trainer_unit(const rq_trainer *trainer, int i)
{
    const tr_unit *unit = &trainer->units[i];
    rq_unit_profile out = {
        .layer = trainer->model->graph.nodes[unit->node].name,
        .kind = unit->conv      ? unit->conv->quantized ? "quantized conv" : "conv"
                : unit->eltwise ? "norm, sum, act"
                                : "other",
        .forward_s = unit->forward_s,
        .backward_s = unit->backward_s,
    };
    if (unit->conv)
        conv_bytes(unit, &out);
    else if (unit->eltwise)
        mix_bytes(trainer, unit, &out);
    else
        other_bytes(unit, &out);
    return out;
}
