/* The pass from form deploy to form withbn. */
#include "calib/insert_bn.h"

#include <math.h>

#include "runtime/model/gate.h"

/* What reads a node. */
typedef struct readers {
    int n, n_relus, n_pools, n_products; /* products: as the value, not as the gate */
} readers;

static readers count_readers(const rq_graph *graph, int node)
{
    readers found = {0};
    for (int i = node + 1; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_inputs; k++) {
            const rq_op op = graph->nodes[i].op;
            if (graph->nodes[i].input[k] != node)
                continue;
            found.n++;
            found.n_relus += op == RQ_OP_RELU;
            found.n_pools += op == RQ_OP_GLOBAL_AVG_POOL;
            found.n_products += op == RQ_OP_MUL && k == 0;
        }
    return found;
}

bool rq_takes_bn(const rq_graph *graph, int node)
{
    if (graph->nodes[node].op != RQ_OP_CONV || graph->nodes[node].slot[RQ_SLOT_BIAS] < 0 ||
        rq_gate_source(graph, node) >= 0)
        return false;
    const readers found = count_readers(graph, node);
    const bool is_gated = found.n == 2 && found.n_pools == 1 && found.n_products == 1;
    return is_gated || (found.n == 1 && found.n_relus == 1);
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
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    rq_status status = rq_graph_add_node(graph, RQ_OP_CONV, name, 1, &input, out, err);
    if (status != RQ_OK)
        return status;
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

/* P.bn behind P.conv. */
static rq_status add_bn(rq_graph *graph, const rq_graph *source, int node, int input,
                        const rq_channel_stats *stats, int *out, rq_error *err)
{
    static const rq_slot slots[] = {RQ_SLOT_WEIGHT, RQ_SLOT_BIAS, RQ_SLOT_MEAN, RQ_SLOT_VAR};
    const int64_t channels = (int64_t)stats->n_channels;
    const char *name = rq_arena_printf(&graph->arena, "%s.bn", source->nodes[node].name);
    if (!name)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    rq_status status = rq_graph_add_node(graph, RQ_OP_BATCH_NORM, name, 1, &input, out, err);
    for (size_t i = 0; i < sizeof slots / sizeof slots[0] && status == RQ_OK; i++)
        status = rq_graph_add_param(graph, *out, slots[i], RQ_F32, 1, &channels, err);
    if (status == RQ_OK)
        status = rq_graph_add_param(graph, *out, RQ_SLOT_TRACKED, RQ_S64, 0, NULL, err);
    if (status != RQ_OK)
        return status;
    graph->nodes[*out].eps = RQ_BN_EPS;
    fill_bn(graph, *out, rq_tensor_f32(rq_graph_tensor(source, node, RQ_SLOT_BIAS)), stats);
    return RQ_OK;
}

/* at[i]: the node of out that has the value of source's node i. */
static rq_status build(rq_graph *out, const rq_graph *source, const rq_channel_stats *stats,
                       int *at, const bool *needed, rq_error *err)
{
    rq_status status = RQ_OK;
    for (int node = 0; node < source->n_nodes && status == RQ_OK; node++) {
        int inputs[RQ_MAX_INPUTS] = {0}, conv = 0;
        if (!needed[node])
            continue;
        for (int k = 0; k < source->nodes[node].n_inputs; k++)
            inputs[k] = at[source->nodes[node].input[k]];
        if (stats[node].n_channels == 0) {
            status = rq_graph_copy_node(out, source, node, inputs, &at[node], err);
            continue;
        }
        status = check_stats(source, node, &stats[node], err);
        if (status == RQ_OK)
            status = add_conv(out, source, node, inputs[0], &conv, err);
        if (status == RQ_OK)
            status = add_bn(out, source, node, conv, &stats[node], &at[node], err);
    }
    return status;
}

rq_status rq_insert_bn(rq_model *out, const rq_model *deploy, const rq_channel_stats *stats,
                       rq_error *err)
{
    const rq_graph *graph = &deploy->graph;
    void *at = NULL, *needed = NULL;
    *out = (rq_model)RQ_MODEL_INIT;
    if (deploy->form != RQ_FORM_DEPLOY)
        return rq_fail(err, RQ_ERR_MODEL, "form is %s, batch norms are inserted into deploy",
                       rq_form_name(deploy->form));
    rq_status status = rq_model_copy_info(out, deploy, err);
    if (status == RQ_OK)
        status = rq_alloc_array_old(&at, (size_t)graph->n_nodes, sizeof(int), err);
    if (status == RQ_OK)
        status = rq_alloc_array_old(&needed, (size_t)graph->n_nodes, sizeof(bool), err);
    if (status == RQ_OK) {
        rq_graph_find_needed(graph, needed);
        status = build(&out->graph, graph, stats, at, needed, err);
    }
    out->form = RQ_FORM_WITHBN;
    rq_free(at);
    rq_free(needed);
    if (status != RQ_OK)
        rq_model_deinit(out);
    return status;
}
