/* Ranges that follow the data, and the passes of an activation over a value. */
#include "qat/step/act.h"

#include <assert.h>

#include "runtime/base/ranks.h"
#include "runtime/model/quant.h"

#define RANGE_MOMENTUM 0.01f

void tr_act_quantize(tr_act *act, const rq_graph *graph, int node)
{
    const rq_tensor *zero_point = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT);
    act->quantize = true;
    act->min = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MIN));
    act->max = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MAX));
    act->scale = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_SCALE));
    act->zero_point = zero_point ? zero_point->data : NULL;
}

/* NaN counts as 0: the step will fail at its loss. */
void tr_act_observe(const tr_act *act, float lo, float hi)
{
    assert(act->quantize);
    double ends[2] = {-(double)lo, (double)hi};
    rq_ranks_max(ends, 2);
    lo = (float)-ends[0];
    hi = (float)ends[1];
    const bool is_first = *act->min == 0.0f && *act->max == 0.0f;
    lo = act->zero_point && lo < 0.0f ? lo : 0.0f;
    hi = hi > 0.0f ? hi : 0.0f;
    *act->min = is_first ? lo : *act->min + RANGE_MOMENTUM * (lo - *act->min);
    *act->max = is_first ? hi : *act->max + RANGE_MOMENTUM * (hi - *act->max);
    const rq_qparams q = rq_activation_qparams(*act->min, *act->max);
    *act->scale = q.scale;
    if (act->zero_point)
        *act->zero_point = q.zero_point;
}

void tr_act_settle(const tr_act *act, tr_value *value)
{
    if (!act->quantize)
        return;
    value->scale = *act->scale;
    value->zero_point = act->zero_point ? *act->zero_point : 0;
}

rq_status tr_act_check(const tr_act *act, rq_error *err)
{
    return !act->quantize || *act->scale > 0.0f
               ? RQ_OK
               : rq_fail(err, RQ_ERR_RANGE, "the range has not been observed yet");
}

float tr_act_factor(const tr_act *act, const tr_value *value)
{
    return act->quantize ? 1.0f / value->scale : 1.0f;
}

void tr_act_args(const tr_act *act, const tr_value *value, tr_pass_args *args)
{
    args->relu = act->relu;
    args->quantize = act->quantize;
    args->inverse_scale = act->quantize ? 1.0f / value->scale : 1.0f;
    args->low = -(float)value->zero_point;
    args->high = 255.0f - (float)value->zero_point;
}

void tr_act_apply(const tr_pass_args *args, const tr_value *value, size_t first)
{
    enum { BLOCK = 64 }; /* pixels that a core's cache still holds at the second pass */
    tr_pass_args part = *args;
    for (size_t p = 0; p < args->pixels; p += BLOCK) {
        const size_t at = first + p * args->channels;
        part.pixels = args->pixels - p < BLOCK ? args->pixels - p : BLOCK;
        for (int k = 0; k < args->n_terms; k++)
            part.u[k] = args->u[k] + p * args->channels;
        if (value->data)
            tr_pass_apply(&part, value->data + at, TR_F32);
        if (value->bf16)
            tr_pass_apply(&part, value->bf16 + at, TR_BF16);
        if (value->u8)
            tr_pass_apply(&part, value->u8 + at, TR_U8);
    }
}
