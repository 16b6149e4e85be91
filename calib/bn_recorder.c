/* Which nodes are recorded, and how a batch enters their statistics. */
#include "calib/bn_recorder.h"

#include <assert.h>

#include "calib/insert_bn.h"

rq_status rq_bn_recorder_init(rq_bn_recorder *out, const rq_graph *graph, rq_stat_kind kind,
                              rq_error *err)
{
    size_t max_channels = 0;
    *out = (rq_bn_recorder){.arena = RQ_ARENA_INIT, .kind = kind, .n_nodes = graph->n_nodes};
    bool *needed = rq_arena_array(&out->arena, bool, graph->n_nodes);
    out->stats = rq_arena_array(&out->arena, rq_channel_stats, graph->n_nodes);
    if (!needed || !out->stats)
        return rq_no_memory(err);
    rq_graph_find_needed(graph, needed);
    for (int node = 0; node < graph->n_nodes; node++) {
        if (!needed[node] || !rq_takes_bn(graph, node))
            continue;
        const size_t channels = (size_t)rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->dim[0];
        max_channels = channels > max_channels ? channels : max_channels;
        RQ_TRY(rq_channel_stats_init(&out->stats[node], &out->arena, channels, err));
    }
    if (max_channels == 0)
        return rq_fail(err, RQ_ERR_MODEL, "no block's convolution takes a batch norm");
    return rq_stats_scratch_init(&out->scratch, &out->arena, max_channels, err);
}

void rq_bn_recorder_deinit(rq_bn_recorder *recorder)
{
    rq_arena_deinit(&recorder->arena);
    *recorder = (rq_bn_recorder)RQ_BN_RECORDER_INIT;
}

void rq_bn_recorder_observe(void *recorder, int node, const void *value, const rq_shape *shape)
{
    rq_bn_recorder *self = recorder;
    assert(self->n_images <= shape->n);
    rq_channel_stats *stats = &self->stats[node];
    const size_t n_pixels = (size_t)self->n_images * (size_t)(shape->h * shape->w);
    if (stats->n_channels == 0 || n_pixels == 0)
        return;
    const rq_channel_stats *batch =
        rq_block_stats(&self->scratch, value, n_pixels, stats->n_channels,
                       stats->count > 0.0 ? stats->mean : NULL);
    if (self->kind == RQ_STAT_EMA)
        rq_channel_stats_average(stats, batch);
    else
        rq_channel_stats_merge(stats, batch);
}

void rq_bn_recorder_merge_ranks(rq_bn_recorder *recorder)
{
    assert(recorder->kind == RQ_STAT_EXACT);
    for (int i = 0; i < recorder->n_nodes; i++)
        if (recorder->stats[i].n_channels > 0)
            rq_channel_stats_merge_ranks(&recorder->stats[i], recorder->scratch.sums);
}
