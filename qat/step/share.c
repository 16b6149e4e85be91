/* Each thread's part of the trainer's scratch memory: sums, block, extremes. */
#include "qat/step/share.h"

#include <math.h>
#include <string.h>

size_t tr_sums_bytes(size_t channels)
{
    const size_t size_bytes =
        channels * (TR_N_SUMS * (sizeof(double) + sizeof(float)) + 2 * sizeof(float));
    return (size_bytes + RQ_ALIGNMENT - 1) & ~(size_t)(RQ_ALIGNMENT - 1);
}

static tr_share sums_of_thread(const rq_trainer *trainer, size_t channels, int thread)
{
    void *memory = (unsigned char *)trainer->scratch + (size_t)thread * tr_sums_bytes(channels);
    tr_share share = {.sums = memory};
    share.block = (float *)(void *)(share.sums + TR_N_SUMS * channels);
    share.extremes = share.block + TR_N_SUMS * channels;
    return share;
}

tr_share tr_my_sums(const rq_trainer *trainer, size_t pixels, size_t channels)
{
    const tr_share pixels_of_mine = tr_my_pixels(pixels);
    tr_share mine = sums_of_thread(trainer, channels, omp_get_thread_num());
    mine.begin = pixels_of_mine.begin;
    mine.end = pixels_of_mine.end;
    memset(mine.sums, 0, tr_sums_bytes(channels));
    for (size_t c = 0; c < channels; c++) {
        mine.extremes[c] = INFINITY;
        mine.extremes[channels + c] = -INFINITY;
    }
    return mine;
}

double *tr_total_sums(const rq_trainer *trainer, size_t channels, int n_threads)
{
    double *total = sums_of_thread(trainer, channels, 0).sums;
    for (int t = 1; t < n_threads; t++) {
        const double *part = sums_of_thread(trainer, channels, t).sums;
        for (size_t i = 0; i < TR_N_SUMS * channels; i++)
            total[i] += part[i];
    }
    return total;
}

const float *tr_total_extremes(const rq_trainer *trainer, size_t channels, int n_threads)
{
    float *total = sums_of_thread(trainer, channels, 0).extremes;
    for (int t = 1; t < n_threads; t++) {
        const float *part = sums_of_thread(trainer, channels, t).extremes;
        for (size_t c = 0; c < channels; c++) {
            total[c] = fminf(total[c], part[c]);
            total[channels + c] = fmaxf(total[channels + c], part[channels + c]);
        }
    }
    return total;
}
