/* The pass from form deploy to form withbn. */
#include "calib/insert_bn.h"

#include <math.h>

#include "runtime/model/gate.h"

/* Is a node read by the pooling and, as the value, the product of squeeze-and-excitation alone? */
static bool is_gated(const rq_graph *graph, int node)
{
    int n = 0, n_pools = 0, n_products = 0;
    for (int i = node + 1; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_inputs; k++) {
            if (graph->nodes[i].input[k] != node)
                continue;
            n++;
            n_pools += graph->nodes[i].op == RQ_OP_GLOBAL_AVG_POOL;
            n_products += graph->nodes[i].op == RQ_OP_MUL && k == 0;
        }
    return n == 2 && n_pools == 1 && n_products == 1;
}

bool rq_takes_bn(const rq_graph *graph, int node)
{
    return graph->nodes[node].op == RQ_OP_CONV && graph->nodes[node].slot[RQ_SLOT_BIAS] >= 0 &&
           rq_gate_source(graph, node) < 0 &&
           (rq_graph_next(graph, node, RQ_OP_RELU) >= 0 || is_gated(graph, node));
}

static rq_status check_stats(const rq_graph *graph, int node, const rq_channel_stats *stats,
                             rq_error *err)
{
    const char *name = graph->nodes[node].name;
    if (!rq_takes_bn(graph, node))
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: not a convolution with bias before relu or squeeze-and-excitation",
                       name);
    const rq_tensor *bias = rq_graph_tensor(graph, node, RQ_SLOT_BIAS);
    if ((size_t)bias->dim[0] != stats->n_channels)
        return rq_fail(err, RQ_ERR_MODEL, "%s: statistics of %zu channels, but it has %lld", name,
                       stats->n_channels, (long long)bias->dim[0]);
    if (!(stats->count > 0.0))
        return rq_fail(err, RQ_ERR_RANGE, "%s: no values were recorded", name);
    for (size_t c = 0; c < stats->n_channels; c++) {
        const float mean = (float)stats->mean[c], variance = (float)rq_channel_variance(stats, c);
        if (!isfinite(mean) || !isfinite(variance))
            return rq_fail(err, RQ_ERR_RANGE, "%s: channel %zu has mean %g and variance %g", name,
                           c, (double)mean, (double)variance);
    }
    return RQ_OK;
}

/* P.conv: the node without its bias. */
static rq_status add_conv(rq_graph *graph, const rq_graph *source, int node, int input, int *out,
                          rq_error *err)
{
    const rq_node *conv = &source->nodes[node];
    const char *name = rq_arena_printf(&graph->arena, "%s.conv", conv->name);
    if (!name)
        return rq_no_memory(err);
    RQ_TRY(rq_graph_add_node(graph, RQ_OP_CONV, name, 1, &input, out, err));
    graph->nodes[*out].conv = conv->conv;
    return rq_graph_copy_param(graph, *out, RQ_SLOT_WEIGHT, NULL,
                               rq_graph_tensor(source, node, RQ_SLOT_WEIGHT), err);
}

static void fill_bn(const rq_graph *graph, int bn, const float *bias, const rq_channel_stats *stats)
{
    float *gamma = rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_WEIGHT));
    float *beta = rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_BIAS));
    float *mean = rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_MEAN));
    float *var = rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_VAR));
    for (size_t c = 0; c < stats->n_channels; c++) {
        mean[c] = (float)(stats->mean[c] - (double)bias[c]);
        var[c] = (float)rq_channel_variance(stats, c);
        gamma[c] = (float)sqrt((double)var[c] + (double)RQ_BN_EPS);
        beta[c] = (float)((double)bias[c] + (double)mean[c]);
    }
}

/* P.bn after P.conv. */
static rq_status add_bn(rq_graph *graph, const rq_graph *source, int node, int input,
                        const rq_channel_stats *stats, int *out, rq_error *err)
{
    static const rq_slot slots[] = {RQ_SLOT_WEIGHT, RQ_SLOT_BIAS, RQ_SLOT_MEAN, RQ_SLOT_VAR};
    const int64_t channels = (int64_t)stats->n_channels;
    const char *name = rq_arena_printf(&graph->arena, "%s.bn", source->nodes[node].name);
    if (!name)
        return rq_no_memory(err);
    RQ_TRY(rq_graph_add_node(graph, RQ_OP_BATCH_NORM, name, 1, &input, out, err));
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++)
        RQ_TRY(rq_graph_add_param(graph, *out, slots[i], RQ_F32, 1, &channels, err));
    RQ_TRY(rq_graph_add_param(graph, *out, RQ_SLOT_TRACKED, RQ_S64, 0, NULL, err));
    graph->nodes[*out].eps = RQ_BN_EPS;
    fill_bn(graph, *out, rq_tensor_f32(rq_graph_tensor(source, node, RQ_SLOT_BIAS)), stats);
    return RQ_OK;
}

/* at[i]: the node of out that has the value of source's node i. */
static rq_status build_node(rq_graph *out, const rq_graph *source, const rq_channel_stats *stats,
                            int node, int *at, rq_error *err)
{
    int inputs[RQ_MAX_INPUTS] = {0}, conv = 0;
    for (int k = 0; k < source->nodes[node].n_inputs; k++)
        inputs[k] = at[source->nodes[node].input[k]];
    if (stats[node].n_channels == 0)
        return rq_graph_copy_node(out, source, node, inputs, &at[node], err);
    RQ_TRY(check_stats(source, node, &stats[node], err));
    RQ_TRY(add_conv(out, source, node, inputs[0], &conv, err));
    return add_bn(out, source, node, conv, &stats[node], &at[node], err);
}

static rq_status build(rq_model *out, const rq_model *deploy, const rq_channel_stats *stats,
                       rq_arena *scratch, rq_error *err)
{
    const rq_graph *graph = &deploy->graph;
    int *at = rq_arena_array(scratch, int, graph->n_nodes);
    bool *needed = rq_arena_array(scratch, bool, graph->n_nodes);
    if (!at || !needed)
        return rq_no_memory(err);
    RQ_TRY(rq_model_copy_info(out, deploy, err));
    out->form = RQ_FORM_WITHBN;
    rq_graph_find_needed(graph, needed);
    for (int node = 0; node < graph->n_nodes; node++)
        if (needed[node])
            RQ_TRY(build_node(&out->graph, graph, stats, node, at, err));
    return RQ_OK;
}

rq_status rq_insert_bn(rq_model *out, const rq_model *deploy, const rq_channel_stats *stats,
                       rq_error *err)
{
    rq_arena scratch = RQ_ARENA_INIT;
    *out = (rq_model)RQ_MODEL_INIT;
    if (deploy->form != RQ_FORM_DEPLOY)
        return rq_fail(err, RQ_ERR_MODEL, "form is %s, batch norms are inserted into deploy",
                       rq_form_name(deploy->form));
    const rq_status status = build(out, deploy, stats, &scratch, err);
    rq_arena_deinit(&scratch);
    if (status)
        rq_model_deinit(out);
    return status;
}
