/* Mergeable channel statistics; threads take ranges of pixels, loops run along channels. */
#include "calib/channel_stats.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

#include "runtime/base/ranks.h"
#include "runtime/base/simd.h"
#include "runtime/base/size.h"

enum {
    SHORT_RANGE = 64,  /* pixels summed in f32 before they go to double */
    PIVOT_PIXELS = 64, /* pixels that a pivot is taken from */
};
#define AVERAGE_MOMENTUM 0.1

rq_status rq_channel_stats_init(rq_channel_stats *out, rq_arena *arena, size_t n_channels,
                                rq_error *err)
{
    *out = (rq_channel_stats){.n_channels = n_channels,
                              .mean = rq_arena_array(arena, double, n_channels),
                              .m2 = rq_arena_array(arena, double, n_channels)};
    return out->mean && out->m2 ? RQ_OK : rq_no_memory(err);
}

static void copy(rq_channel_stats *into, const rq_channel_stats *from)
{
    into->count = from->count;
    memcpy(into->mean, from->mean, from->n_channels * sizeof *from->mean);
    memcpy(into->m2, from->m2, from->n_channels * sizeof *from->m2);
}

void rq_channel_stats_merge(rq_channel_stats *into, const rq_channel_stats *from)
{
    assert(into->n_channels == from->n_channels);
    if (from->count == 0.0)
        return;
    if (into->count == 0.0) {
        copy(into, from);
        return;
    }
    const double count = into->count + from->count;
    const double share = from->count / count;
    for (size_t c = 0; c < into->n_channels; c++) {
        const double delta = from->mean[c] - into->mean[c];
        into->mean[c] += delta * share;
        into->m2[c] += from->m2[c] + delta * delta * into->count * share;
    }
    into->count = count;
}

void rq_channel_stats_merge_ranks(rq_channel_stats *stats, double *work)
{
    const size_t n = stats->n_channels;
    const double own = stats->count;
    rq_ranks_sum(&stats->count, 1);
    for (size_t c = 0; c < n; c++) {
        work[c] = stats->mean[c];
        stats->mean[c] *= own;
    }
    rq_ranks_sum(stats->mean, n);
    for (size_t c = 0; c < n && stats->count > 0.0; c++) {
        stats->mean[c] /= stats->count;
        stats->m2[c] += own * (work[c] - stats->mean[c]) * (work[c] - stats->mean[c]);
    }
    rq_ranks_sum(stats->m2, n);
}

void rq_channel_stats_average(rq_channel_stats *into, const rq_channel_stats *batch)
{
    assert(into->n_channels == batch->n_channels);
    const double momentum = into->count == 0.0 ? 1.0 : AVERAGE_MOMENTUM;
    for (size_t c = 0; c < into->n_channels; c++) {
        into->mean[c] = (1.0 - momentum) * into->mean[c] + momentum * batch->mean[c];
        into->m2[c] = (1.0 - momentum) * into->m2[c] + momentum * rq_channel_variance(batch, c);
    }
    into->count = 1.0;
}

rq_status rq_stats_scratch_init(rq_stats_scratch *out, rq_arena *arena, size_t max_channels,
                                rq_error *err)
{
    const size_t n_threads = (size_t)omp_get_max_threads();
    size_t n_sums = 0;
    if (!rq_mul_size(2 * n_threads, max_channels, &n_sums))
        return rq_no_memory(err);
    *out = (rq_stats_scratch){.n_threads = (int)n_threads,
                              .max_channels = max_channels,
                              .pivot = rq_arena_array(arena, float, max_channels),
                              .short_sums = rq_arena_array(arena, float, n_sums),
                              .sums = rq_arena_array(arena, double, n_sums)};
    if (!out->pivot || !out->short_sums || !out->sums)
        return rq_no_memory(err);
    return rq_channel_stats_init(&out->block, arena, max_channels, err);
}

/* The guess, or the mean of a few pixels spread over the block. */
static void choose_pivot(float *pivot, const float *values, size_t n_pixels, size_t n_channels,
                         const double *guess)
{
    const size_t n = n_pixels < PIVOT_PIXELS ? n_pixels : PIVOT_PIXELS;
    const size_t step = n_pixels / n * n_channels;
    for (size_t c = 0; c < n_channels; c++) {
        double sum = 0.0;
        for (size_t i = 0; i < n && !guess; i++)
            sum += (double)values[i * step + c];
        pivot[c] = (float)(guess ? guess[c] : sum / (double)n);
    }
}

/* sums[0..C) += deviations, sums[C..2C) += their squares, over a few pixels. */
RQ_SIMD static void sum_short(const float *restrict values, size_t n_pixels, size_t n_channels,
                              const float *restrict pivot, float *restrict sums)
{
    float *restrict squares = sums + n_channels;
    for (size_t p = 0; p < n_pixels; p++)
        for (size_t c = 0; c < n_channels; c++) {
            const float deviation = values[p * n_channels + c] - pivot[c];
            sums[c] += deviation;
            squares[c] += deviation * deviation;
        }
}

RQ_SIMD static void flush(float *restrict from, double *restrict into, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        into[i] += (double)from[i];
        from[i] = 0.0f;
    }
}

/* One thread's pixels. */
static void sum_range(const float *values, size_t n_pixels, size_t n_channels, const float *pivot,
                      float *short_sums, double *sums)
{
    memset(short_sums, 0, 2 * n_channels * sizeof *short_sums);
    memset(sums, 0, 2 * n_channels * sizeof *sums);
    for (size_t first = 0; first < n_pixels; first += SHORT_RANGE) {
        const size_t left = n_pixels - first;
        sum_short(values + first * n_channels, left < SHORT_RANGE ? left : SHORT_RANGE, n_channels,
                  pivot, short_sums);
        flush(short_sums, sums, 2 * n_channels);
    }
}

const rq_channel_stats *rq_block_stats(rq_stats_scratch *scratch, const float *values,
                                       size_t n_pixels, size_t n_channels, const double *guess)
{
    assert(n_pixels > 0 && n_channels <= scratch->max_channels);
    const int n_threads = scratch->n_threads;
    rq_channel_stats *block = &scratch->block;
    choose_pivot(scratch->pivot, values, n_pixels, n_channels, guess);
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (int t = 0; t < n_threads; t++) {
        const size_t first = n_pixels * (size_t)t / (size_t)n_threads;
        const size_t end = n_pixels * ((size_t)t + 1) / (size_t)n_threads;
        const size_t at = (size_t)t * 2 * scratch->max_channels;
        sum_range(values + first * n_channels, end - first, n_channels, scratch->pivot,
                  scratch->short_sums + at, scratch->sums + at);
    }
    block->n_channels = n_channels;
    block->count = (double)n_pixels;
    for (size_t c = 0; c < n_channels; c++) {
        double sum = 0.0, squares = 0.0;
        for (int t = 0; t < n_threads; t++) {
            const double *sums = scratch->sums + (size_t)t * 2 * scratch->max_channels;
            sum += sums[c];
            squares += sums[n_channels + c];
        }
        const double offset = sum / block->count;
        const double m2 = squares - sum * offset;
        block->mean[c] = (double)scratch->pivot[c] + offset;
        block->m2[c] = m2 < 0.0 ? 0.0 : m2; /* NaN stays */
    }
    return block;
}
