/* Facts about nodes, read from their parameters. */
#include "runtime/eval/layer_facts.h"

#include "runtime/model/proofs.h"
#include "runtime/model/quant.h"

static bool has_weights(rq_op op)
{
    return op == RQ_OP_CONV || op == RQ_OP_LINEAR || op == RQ_OP_QCONV || op == RQ_OP_QLINEAR;
}

static void count_params(rq_layer_facts *out, const rq_graph *graph, int node)
{
    for (int slot = 0; slot < RQ_N_SLOTS; slot++) {
        const rq_tensor *tensor = rq_graph_tensor(graph, node, (rq_slot)slot);
        const bool is_trained = slot == RQ_SLOT_WEIGHT || slot == RQ_SLOT_BIAS;
        if (tensor)
            *(is_trained ? &out->n_params : &out->n_buffers) += (int64_t)rq_tensor_elems(tensor);
    }
}

/* Each output pixel takes each weight of its channel once. */
static void count_macs(rq_layer_facts *out, const rq_graph *graph, int node, const rq_shape *shape)
{
    const rq_tensor *weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT);
    if (has_weights(graph->nodes[node].op))
        out->macs = (double)rq_tensor_elems(weight) * (double)(shape->h * shape->w);
}

static void find_scale(rq_layer_facts *out, const rq_graph *graph, int node)
{
    const rq_tensor *scale = rq_graph_tensor(graph, node, RQ_SLOT_SCALE);
    if (!scale)
        return;
    out->has_scale = true;
    out->scale = rq_tensor_f32(scale)[rq_tensor_elems(scale) - 1];
}

static void find_range(rq_layer_facts *out, const rq_graph *graph, int node)
{
    const rq_tensor *min = rq_graph_tensor(graph, node, RQ_SLOT_MIN);
    const rq_tensor *max = rq_graph_tensor(graph, node, RQ_SLOT_MAX);
    if (!min || !max)
        return;
    out->has_range = true;
    out->min = *rq_tensor_f32(min);
    out->max = *rq_tensor_f32(max);
}

static void find_weight_scales(rq_layer_facts *out, const rq_graph *graph, int node)
{
    const rq_tensor *scale = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT_SCALE);
    if (!scale)
        scale = rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER);
    if (!scale)
        return;
    const float *values = rq_tensor_f32(scale);
    out->has_weight_scale = true;
    out->weight_scale_min = out->weight_scale_max = values[0];
    for (size_t i = 1; i < rq_tensor_elems(scale); i++) {
        if (values[i] < out->weight_scale_min)
            out->weight_scale_min = values[i];
        if (values[i] > out->weight_scale_max)
            out->weight_scale_max = values[i];
    }
}

/* Form int8 states it. */
static void read_acc_max(rq_layer_facts *out, const rq_tensor *acc_max)
{
    const int64_t *pairs = acc_max->data; /* |acc|, |acc + b| of each channel */
    out->has_acc = true;
    for (int64_t oc = 0; oc < acc_max->dim[0]; oc++)
        if (pairs[2 * oc] > out->acc_max)
            out->acc_max = pairs[2 * oc];
}

/* Form qat: from the weights as they will be quantized. */
static rq_status compute_acc_max(rq_layer_facts *out, const rq_model *model, int node,
                                 const float *scale, rq_error *err)
{
    rq_layer_view layer;
    RQ_TRY(rq_layer_view_init(&layer, model, node, err));
    const size_t n_taps = rq_layer_channel_size(&layer);
    int8_t *q = rq_alloc_array(int8_t, n_taps);
    if (!q)
        return rq_no_memory(err);
    out->has_acc = true;
    for (int64_t oc = 0; oc < layer.oc; oc++) {
        rq_layer_quantize_channel(&layer, oc, scale[oc], q);
        const int64_t bound = rq_acc_bound(q, n_taps);
        if (bound > out->acc_max)
            out->acc_max = bound;
    }
    rq_free(q);
    return RQ_OK;
}

rq_status rq_layer_facts_get(rq_layer_facts *out, const rq_model *model, int node,
                             const rq_shape *shapes, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    const rq_tensor *acc_max = rq_graph_tensor(graph, node, RQ_SLOT_ACC_MAX);
    const rq_tensor *weight_scale = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT_SCALE);
    *out = (rq_layer_facts){0};
    count_params(out, graph, node);
    count_macs(out, graph, node, &shapes[node]);
    find_scale(out, graph, node);
    find_range(out, graph, node);
    find_weight_scales(out, graph, node);
    if (acc_max)
        read_acc_max(out, acc_max);
    else if (weight_scale)
        return compute_acc_max(out, model, node, rq_tensor_f32(weight_scale), err);
    return RQ_OK;
}
