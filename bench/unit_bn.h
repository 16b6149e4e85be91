/* What the benchmarks share: batch norm with mean 0 and variance 1 behind every convolution of a
 * deploy form, where only the time matters. */
#ifndef RQ_BENCH_UNIT_BN_H
#define RQ_BENCH_UNIT_BN_H

#include "calib/insert_bn.h"

static inline rq_status bench_unit_bn(rq_model *out, const rq_model *deploy, rq_error *err)
{
    const rq_graph *graph = &deploy->graph;
    rq_arena arena = RQ_ARENA_INIT;
    void *memory = NULL;
    rq_status status =
        rq_arena_array_old(&arena, &memory, (size_t)graph->n_nodes, sizeof(rq_channel_stats), err);
    rq_channel_stats *stats = memory;
    for (int i = 0; i < graph->n_nodes && status == RQ_OK; i++) {
        if (!rq_takes_bn(graph, i))
            continue;
        const size_t channels = (size_t)rq_graph_tensor(graph, i, RQ_SLOT_BIAS)->dim[0];
        status = rq_channel_stats_init(&stats[i], &arena, channels, err);
        stats[i].count = 1.0;
        for (size_t c = 0; c < channels && status == RQ_OK; c++)
            stats[i].m2[c] = 1.0;
    }
    if (status == RQ_OK)
        status = rq_insert_bn(out, deploy, stats, err);
    rq_arena_deinit(&arena);
    return status;
}

#endif
