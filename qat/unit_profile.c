/* Where a step's time goes, unit by unit, beside the bytes that the unit cannot avoid to move. */
#include "qat/units.h"

static double value_bytes(const tr_value *value)
{
    return (double)rq_shape_elems(&value->shape) * sizeof(float);
}

/* As the convolution reads it. */
static double source_bytes(const tr_unit *unit)
{
    const tr_value *src = unit->src[0];
    return src->u8 ? (double)rq_shape_elems(&src->shape) : value_bytes(src);
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
    out->backward_bytes = src + dst + weights;
    if (unit->dsrc[0])
        out->backward_bytes += dst + weights + value_bytes(unit->src[0]);
}

/* Forward: batch norms' sources once more, for the moments. */
static void mix_bytes(const rq_trainer *trainer, const tr_unit *unit, rq_unit_profile *out)
{
    const mix_unit *mix = unit->mix;
    const tr_value *dst = unit->dst;
    const double n = value_bytes(dst);
    out->forward_bytes = (dst->data ? n : 0.0) + (dst->u8 ? n / sizeof(float) : 0.0);
    out->backward_bytes = n * (dst->n_readers + 1);
    for (int k = 0; k < mix->n_terms; k++) {
        const mix_term *term = &mix->terms[k];
        const bool live = term->kind == TERM_BN && !trainer->bn_frozen && !term->frozen;
        out->forward_bytes += n * (live ? 2 : 1);
        out->backward_bytes += n;
        if (unit->dsrc[k])
            out->backward_bytes += n * (live ? 3 : 2);
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
        .kind = unit->conv  ? unit->conv->quantized ? "quantized conv" : "conv"
                : unit->mix ? "norm, sum, act"
                            : "other",
        .forward_s = unit->forward_s,
        .backward_s = unit->backward_s,
    };
    if (unit->conv)
        conv_bytes(unit, &out);
    else if (unit->mix)
        mix_bytes(trainer, unit, &out);
    else
        other_bytes(unit, &out);
    return out;
}
