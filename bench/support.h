/* What the programs of this folder share. They measure time: the first error ends them. */
#ifndef RQ_BENCH_SUPPORT_H
#define RQ_BENCH_SUPPORT_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "calib/insert_bn.h"

static rq_error bench_err;

static inline void bench_check(rq_status status)
{
    if (status) {
        (void)fprintf(stderr, "%s: %s\n", program_invocation_short_name, bench_err.text);
        exit(1);
    }
}

/* The memory if there is some. */
static inline void *bench_memory(void *memory)
{
    if (!memory)
        bench_check(rq_no_memory(&bench_err));
    return memory;
}

/* Statistics of mean 0 and variance 1 for every convolution that takes a batch norm. */
static inline rq_status bench_unit_stats(rq_channel_stats *stats, rq_arena *arena,
                                         const rq_graph *graph, rq_error *err)
{
    for (int i = 0; i < graph->n_nodes; i++) {
        if (!rq_takes_bn(graph, i))
            continue;
        const size_t channels = (size_t)rq_graph_tensor(graph, i, RQ_SLOT_BIAS)->dim[0];
        RQ_TRY(rq_channel_stats_init(&stats[i], arena, channels, err));
        stats[i].count = 1.0;
        for (size_t c = 0; c < channels; c++)
            stats[i].m2[c] = 1.0;
    }
    return RQ_OK;
}

/* Form withbn of a deploy form, for measuring speed: statistics are made up. */
static inline void bench_unit_bn(rq_model *out, const rq_model *deploy)
{
    rq_arena arena = RQ_ARENA_INIT;
    rq_channel_stats *stats =
        bench_memory(rq_arena_array(&arena, rq_channel_stats, deploy->graph.n_nodes));
    bench_check(bench_unit_stats(stats, &arena, &deploy->graph, &bench_err));
    bench_check(rq_insert_bn(out, deploy, stats, &bench_err));
    rq_arena_deinit(&arena);
}

#endif
