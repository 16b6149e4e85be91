/* Statistics of the values that get a batch norm: a session observer that feeds one
 * rq_channel_stats per convolution. */
#ifndef RQ_CALIB_BN_RECORDER_H
#define RQ_CALIB_BN_RECORDER_H

#include "calib/channel_stats.h"
#include "runtime/model/model.h"

typedef enum rq_stat_kind {
    RQ_STAT_EXACT, /* over all images alike */
    RQ_STAT_EMA,   /* the original's moving average over batches */
} rq_stat_kind;

typedef struct rq_bn_recorder {
    rq_arena arena; /* all below */
    rq_stat_kind kind;
    rq_channel_stats *stats; /* [n_nodes] of the node's value, bias included; n_channels 0: not
                                recorded */
    int n_nodes;
    rq_stats_scratch scratch;
    int n_images; /* of the batch that is running: set before each rq_session_run */
} rq_bn_recorder;

#define RQ_BN_RECORDER_INIT                                                                        \
    {                                                                                              \
        .arena = RQ_ARENA_INIT                                                                     \
    }

/* Record every node for which rq_takes_bn (insert_bn.h) holds. Errors: RQ_ERR_MODEL (there is
 * none), RQ_ERR_NOMEM. On error, too, the recorder wants rq_bn_recorder_deinit. */
RQ_NODISCARD rq_status rq_bn_recorder_init(rq_bn_recorder *out, const rq_graph *graph,
                                           rq_stat_kind kind, rq_error *err);
void rq_bn_recorder_deinit(rq_bn_recorder *recorder);

/* Statistics of what all ranks (ranks.h) have recorded, on each of them; RQ_STAT_EXACT only. */
void rq_bn_recorder_merge_ranks(rq_bn_recorder *recorder);

/* An rq_value_observer with the recorder as its context. */
void rq_bn_recorder_observe(void *recorder, int node, const void *value, const rq_shape *shape);

#endif
