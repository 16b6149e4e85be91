/* One quantized layer, channel by channel. */
#include "export/integer_layer.h"

#include <math.h>
#include <string.h>

#include "runtime/model/proofs.h"

/* The parameters being filled, and room for one channel. */
typedef struct emission {
    int8_t *weight;
    int32_t *bias;
    float *multiplier;
    int64_t *acc_max;
    float *folded;   /* only with repair */
    int8_t *scratch; /* only with repair */
} emission;

rq_status rq_check_scales(const char *name, const char *what, const float *scale, int64_t n,
                          rq_error *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!(scale[i] >= RQ_SCALE_MIN) || !isfinite(scale[i]))
            return rq_fail(err, RQ_ERR_MODEL, "%s: %s %lld is %g, it must be at least 2^-40", name,
                           what, (long long)i, (double)scale[i]);
    return RQ_OK;
}

static rq_status add_params(rq_graph *graph, int node, const rq_tensor *wei,
                            const rq_integer_layer *layer, emission *out, rq_error *err)
{
    const int64_t oc = layer->view.oc, pair[2] = {oc, 2};
    RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_WEIGHT, RQ_S8, wei->rank, wei->dim, err));
    RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_BIAS, RQ_S32, 1, &oc, err));
    RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_MULTIPLIER, RQ_F32, 1, &oc, err));
    RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_ACC_MAX, RQ_S64, 2, pair, err));
    if (layer->zero_point) {
        const int64_t ic = layer->view.groups * layer->view.ic;
        RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &ic, err));
        memcpy(rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT)->data, layer->zero_point,
               (size_t)ic);
    }
    out->weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)->data;
    out->bias = rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->data;
    out->multiplier = rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER)->data;
    out->acc_max = rq_graph_tensor(graph, node, RQ_SLOT_ACC_MAX)->data;
    return RQ_OK;
}

static rq_status emit_channel(const rq_integer_layer *layer, const emission *out, int64_t oc,
                              rq_integer_layer_facts *facts, rq_error *err)
{
    const size_t n_taps = rq_layer_channel_size(&layer->view);
    int8_t *q = out->weight + (size_t)oc * n_taps;
    float s_w = layer->weight_scale[oc];
    rq_layer_quantize_channel(&layer->view, oc, s_w, q);
    if (layer->isa_repair) {
        rq_layer_fold(&layer->view, oc, out->folded);
        rq_isa_repair(out->folded, n_taps, &s_w, q, out->scratch, &facts->repair);
    }
    RQ_TRY(rq_layer_integer_bias(&layer->view, oc, layer->s_x, s_w, q, layer->zero_point,
                                 &out->bias[oc], err));
    out->multiplier[oc] = rq_multiplier(layer->s_x, s_w, layer->s_y);

    int64_t *acc_max = out->acc_max + 2 * oc;
    acc_max[0] = rq_acc_bound(q, n_taps);
    acc_max[1] = rq_acc_bias_bound(q, n_taps, out->bias[oc]);
    const int64_t largest = acc_max[0] > acc_max[1] ? acc_max[0] : acc_max[1];
    facts->acc_max = largest > facts->acc_max ? largest : facts->acc_max;
    facts->n_wide += largest > RQ_ACC_EXACT;
    facts->n_unsafe += !rq_saturation_free(q, n_taps);
    return RQ_OK;
}

static rq_status emit(rq_graph *graph, int node, const rq_tensor *wei,
                      const rq_integer_layer *layer, emission *out, rq_integer_layer_facts *facts,
                      rq_error *err)
{
    const rq_layer_view *view = &layer->view;
    RQ_TRY(rq_check_scales(view->name, "weight scale", layer->weight_scale, view->oc, err));
    RQ_TRY(add_params(graph, node, wei, layer, out, err));
    if (layer->isa_repair) {
        out->folded = rq_alloc_array(float, rq_layer_channel_size(view));
        out->scratch = rq_alloc_array(int8_t, rq_layer_channel_size(view));
        if (!out->folded || !out->scratch)
            return rq_no_memory(err);
    }
    for (int64_t oc = 0; oc < view->oc; oc++)
        RQ_TRY(emit_channel(layer, out, oc, facts, err));
    return RQ_OK;
}

rq_status rq_integer_layer_emit(rq_graph *graph, int node, const rq_tensor *wei,
                                const rq_integer_layer *layer, rq_integer_layer_facts *facts,
                                rq_error *err)
{
    emission out = {NULL};
    const rq_status status = emit(graph, node, wei, layer, &out, facts, err);
    rq_free(out.folded);
    rq_free(out.scratch);
    return status;
}
