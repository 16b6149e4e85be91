/* Mean and variance of each channel of a stream of values, in constant memory.
 *
 * Exact: the values so far are held as their count, mean and sum of squared deviations; two such
 * summaries merge into that of both together, so the order of blocks does not matter except for the
 * last bits. Source: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for
 * computing sample variances".
 *
 * Within a block, deviations from a pivot near the mean are summed in f32 over short ranges of
 * pixels, and these sums in double. The result is the same for the same number of threads. */
#ifndef RQ_CALIB_CHANNEL_STATS_H
#define RQ_CALIB_CHANNEL_STATS_H

#include <stddef.h>

#include "runtime/base/memory.h"

typedef struct rq_channel_stats {
    size_t n_channels;
    double count; /* values per channel; 0: nothing yet */
    double *mean; /* [C] */
    double *m2;   /* [C] sum of squared deviations from the mean */
} rq_channel_stats;

/* Empty statistics whose arrays live in the arena. Errors: RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_channel_stats_init(rq_channel_stats *out, rq_arena *arena,
                                             size_t n_channels, rq_error *err);

/* The biased variance of channel c, m2 / count. */
static inline double rq_channel_variance(const rq_channel_stats *stats, size_t c)
{
    return stats->m2[c] / stats->count;
}

/* into becomes the statistics of both; the same number of channels. */
void rq_channel_stats_merge(rq_channel_stats *into, const rq_channel_stats *from);

/* The statistics of all ranks (ranks.h) together, on each of them. work: [C]. */
void rq_channel_stats_merge_ranks(rq_channel_stats *stats, double *work);

/* The moving average of the original insert_bn: the first batch is copied, then mean and variance
 * become 0.9 times what they were plus 0.1 times those of the batch. Later batches weigh more. into
 * then has count 1. Use either this or merge on one object. */
void rq_channel_stats_average(rq_channel_stats *into, const rq_channel_stats *batch);

/* Working memory for blocks, shared by all statistics that one thread feeds: the number of threads
 * is OpenMP's at creation. */
typedef struct rq_stats_scratch {
    int n_threads;
    size_t max_channels;
    float *pivot;           /* [max_channels] */
    float *short_sums;      /* [n_threads, 2, max_channels] */
    double *sums;           /* [n_threads, 2, max_channels] */
    rq_channel_stats block; /* the last result */
} rq_stats_scratch;

RQ_NODISCARD rq_status rq_stats_scratch_init(rq_stats_scratch *out, rq_arena *arena,
                                             size_t max_channels, rq_error *err);

/* Statistics of f32 [n_pixels, n_channels], n_pixels > 0, n_channels <= max_channels. guess: a mean
 * for each channel to take deviations from (NULL: one is taken from the block). The result belongs
 * to the scratch and is valid until the next call. Allocates nothing. */
const rq_channel_stats *rq_block_stats(rq_stats_scratch *scratch, const float *values,
                                       size_t n_pixels, size_t n_channels, const double *guess);

#endif
