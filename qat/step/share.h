/* A thread's share of a pass over pixels, and sums per channel that threads collect: a range of
 * pixels and sums that depend on the number of threads only, so a run repeats its bytes. */
#ifndef RQ_QAT_STEP_SHARE_H
#define RQ_QAT_STEP_SHARE_H

#include <omp.h>

#include "qat/step/eltwise_passes.h"
#include "qat/step/units.h"

enum {
    TR_BLOCK = 64,                /* pixels summed in f32 before they are added to the doubles */
    TR_N_SUMS = 1 + TR_MAX_TERMS, /* sums per channel: dz, and dz * u of each term */
};

/* Pixels begin to end, and sums per channel, in double and for the running block in f32. */
typedef struct tr_share {
    size_t begin, end;
    double *sums;    /* [TR_N_SUMS, C] */
    float *block;    /* [TR_N_SUMS, C] */
    float *extremes; /* [2, C] smallest and largest so far, of whatever the pass looks at */
} tr_share;

/* Bytes of sums that one thread needs for so many channels: whole cache lines. */
size_t tr_sums_bytes(size_t channels);

/* Inside a parallel region: this thread's even share of the pixels. */
static inline tr_share tr_my_pixels(size_t pixels)
{
    const size_t thread = (size_t)omp_get_thread_num(), n = (size_t)omp_get_num_threads();
    return (tr_share){.begin = pixels * thread / n, .end = pixels * (thread + 1) / n};
}

/* The same with its sums, cleared. */
tr_share tr_my_sums(const rq_trainer *trainer, size_t pixels, size_t channels);

/* Add the block to the sums, n of both. */
static inline void tr_flush_block(const tr_share *mine, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mine->sums[i] += (double)mine->block[i];
        mine->block[i] = 0.0f;
    }
}

/* After the region: the sums [TR_N_SUMS, C] of all its threads, added up in thread order; and their
 * extremes [2, C]. Both are in the scratch memory, where the next pass writes. */
double *tr_total_sums(const rq_trainer *trainer, size_t channels, int n_threads);
const float *tr_total_extremes(const rq_trainer *trainer, size_t channels, int n_threads);

#endif
