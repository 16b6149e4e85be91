/* A thread's share of a pass over pixels, and sums per channel that threads collect: a range of
 * pixels and sums that depend on the number of threads only, so a run repeats its bytes. */
#ifndef RQ_QAT_STEP_SHARE_H
#define RQ_QAT_STEP_SHARE_H

#include <math.h>
#include <omp.h>
#include <string.h>

#include "qat/step/units.h"

enum {
    TR_BLOCK = 64,                /* pixels summed in f32 before they are added to the doubles */
    TR_N_SUMS = 1 + RQ_MAX_TERMS, /* sums per channel: dz, and dz * u of each term */
};

/* Pixels begin to end, and sums per channel, in double and for the running block in f32. */
typedef struct tr_share {
    size_t begin, end;
    double *sums;    /* [TR_N_SUMS, C] */
    float *block;    /* [TR_N_SUMS, C] */
    float *extremes; /* [2, C] smallest and largest so far, of whatever the pass looks at */
} tr_share;

/* Bytes of sums that one thread needs for so many channels: whole cache lines. */
static inline size_t tr_sums_bytes(size_t channels)
{
    const size_t size_bytes =
        channels * (TR_N_SUMS * (sizeof(double) + sizeof(float)) + 2 * sizeof(float));
    return (size_bytes + RQ_ALIGNMENT - 1) & ~(size_t)(RQ_ALIGNMENT - 1);
}

static inline double *tr_sums_of_thread(const rq_trainer *trainer, size_t channels, int thread)
{
    return (double *)(void *)((unsigned char *)trainer->scratch +
                              (size_t)thread * tr_sums_bytes(channels));
}

static inline float *tr_extremes_of_thread(const rq_trainer *trainer, size_t channels, int thread)
{
    double *sums = tr_sums_of_thread(trainer, channels, thread);
    return (float *)(void *)(sums + TR_N_SUMS * channels) + TR_N_SUMS * channels;
}

/* Inside a parallel region: this thread's even share of the pixels. */
static inline tr_share tr_my_pixels(size_t pixels)
{
    const size_t thread = (size_t)omp_get_thread_num(), n = (size_t)omp_get_num_threads();
    return (tr_share){.begin = pixels * thread / n, .end = pixels * (thread + 1) / n};
}

/* The same with its sums, cleared. */
static inline tr_share tr_my_sums(const rq_trainer *trainer, size_t pixels, size_t channels)
{
    tr_share mine = tr_my_pixels(pixels);
    mine.sums = tr_sums_of_thread(trainer, channels, omp_get_thread_num());
    mine.block = (float *)(void *)(mine.sums + TR_N_SUMS * channels);
    mine.extremes = tr_extremes_of_thread(trainer, channels, omp_get_thread_num());
    memset(mine.sums, 0, tr_sums_bytes(channels));
    for (size_t c = 0; c < channels; c++) {
        mine.extremes[c] = INFINITY;
        mine.extremes[channels + c] = -INFINITY;
    }
    return mine;
}

/* Add the block to the sums, n of both. */
static inline void tr_flush_block(const tr_share *mine, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mine->sums[i] += (double)mine->block[i];
        mine->block[i] = 0.0f;
    }
}

#endif
