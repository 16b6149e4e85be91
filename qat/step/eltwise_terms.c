/* Statistics of batch norms, and what each kind of term makes of the sums of a pass. */
#include "qat/step/eltwise_terms.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "qat/step/convolution.h"
#include "qat/step/share.h"
#include "runtime/base/ranks.h"

#define BN_MOMENTUM 0.1

rq_status tr_term_allocate(rq_trainer *trainer, tr_term *term, size_t channels, rq_error *err)
{
    rq_arena *arena = &trainer->arena;
    if (!(term->mu = rq_arena_array(arena, double, channels)) ||
        !(term->sigma = rq_arena_array(arena, double, channels)) ||
        !(term->a = rq_arena_array(arena, float, channels)) ||
        !(term->pivot = rq_arena_array(arena, float, channels)) ||
        !(term->da = rq_arena_array(arena, float, channels)) ||
        !(term->db = rq_arena_array(arena, float, channels)) ||
        !(term->dc = rq_arena_array(arena, float, channels)))
        return rq_no_memory(err);
    return RQ_OK;
}

bool tr_term_is_live(const rq_trainer *trainer, const tr_term *term)
{
    return term->kind == TR_TERM_BN && !trainer->bn_frozen && !term->frozen;
}

bool tr_term_has_weight(const tr_term *term)
{
    return term->kind == TR_TERM_BN || term->kind == TR_TERM_SCALE;
}

static size_t channels_of(const tr_value *src)
{
    return (size_t)src->shape.c;
}

static size_t pixels_of(const tr_value *src)
{
    return rq_shape_elems(&src->shape) / channels_of(src);
}

/* Pixels of the whole batch. */
static double all_pixels(const tr_value *src)
{
    return (double)pixels_of(src) * rq_n_ranks();
}

static double channel_scale(const tr_value *src, size_t c)
{
    return src->channel_scale ? (double)src->channel_scale[c] : (double)src->scale;
}

/* ---- forward ---- */

/* From each rank's mean and variance, over equally many pixels, those of all. moments: [3, C], the
 * third row to work in. */
static void merge_ranks(double *moments, size_t channels)
{
    double *mean = moments, *var = moments + channels, *own = moments + 2 * channels;
    const double n = rq_n_ranks();
    memcpy(own, mean, channels * sizeof *own);
    rq_ranks_sum(mean, channels);
    for (size_t c = 0; c < channels; c++) {
        mean[c] /= n;
        var[c] += (own[c] - mean[c]) * (own[c] - mean[c]);
    }
    rq_ranks_sum(var, channels);
    for (size_t c = 0; c < channels; c++)
        var[c] /= n;
}

/* Batch mean and variance [2, C] of the numbers u, which each rank sums about a pivot (its first
 * pixel's numbers). *extremes: of u on the way, NULL when not wanted. */
static const double *batch_moments(rq_trainer *trainer, const tr_term *term, const tr_value *src,
                                   bool with_extremes, const float **extremes)
{
    const size_t channels = channels_of(src), pixels = pixels_of(src);
    const float *u = src->data;
    int n_threads = 1;
    memcpy(term->pivot, u, channels * sizeof *term->pivot);
#pragma omp parallel
    {
        const tr_share mine = tr_my_sums(trainer, pixels, channels);
#pragma omp single nowait
        n_threads = omp_get_num_threads();
        for (size_t p = mine.begin; p < mine.end; p += TR_BLOCK) {
            const size_t n = mine.end - p < TR_BLOCK ? mine.end - p : TR_BLOCK;
            tr_pass_moments(u + p * channels, term->pivot, mine.block, mine.block + channels,
                            with_extremes ? mine.extremes : NULL, n, channels);
            tr_flush_block(&mine, 2 * channels);
        }
    }
    *extremes = with_extremes ? tr_total_extremes(trainer, channels, n_threads) : NULL;
    double *moments = tr_total_sums(trainer, channels, n_threads);
    for (size_t c = 0; c < channels; c++) {
        const double shift = moments[c] / (double)pixels;
        const double spread = moments[channels + c] / (double)pixels - shift * shift;
        moments[c] = (double)term->pivot[c] + shift;
        moments[channels + c] = spread > 0.0 ? spread : 0.0;
    }
    if (rq_n_ranks() > 1)
        merge_ranks(moments, channels);
    return moments;
}

static void running_statistics(const tr_term *term, const tr_value *src)
{
    for (size_t c = 0; c < channels_of(src); c++) {
        term->mu[c] = (double)term->mean[c];
        term->sigma[c] = sqrt((double)term->var[c] + term->eps);
        term->pivot[c] = (float)(term->mu[c] / channel_scale(src, c));
    }
}

/* Of this batch; running statistics follow with the unbiased variance. */
static void batch_statistics(const tr_term *term, const tr_value *src, const double *moments)
{
    const size_t channels = channels_of(src);
    const double n = all_pixels(src);
    for (size_t c = 0; c < channels; c++) {
        const double scale = channel_scale(src, c);
        const double mean = moments[c] * scale;
        const double var = moments[channels + c] * scale * scale;
        term->mu[c] = mean;
        term->sigma[c] = sqrt(var + term->eps);
        term->pivot[c] = (float)moments[c];
        term->mean[c] = (float)((1.0 - BN_MOMENTUM) * (double)term->mean[c] + BN_MOMENTUM * mean);
        const double unbiased = n > 1.0 ? var * n / (n - 1.0) : var;
        term->var[c] = (float)((1.0 - BN_MOMENTUM) * (double)term->var[c] + BN_MOMENTUM * unbiased);
    }
    if (term->tracked)
        (*term->tracked)++;
}

const float *tr_term_fold(rq_trainer *trainer, tr_term *term, const tr_value *src, float *c,
                          bool with_extremes)
{
    const float *extremes = NULL;
    if (tr_term_is_live(trainer, term))
        batch_statistics(term, src, batch_moments(trainer, term, src, with_extremes, &extremes));
    else if (term->kind == TR_TERM_BN)
        running_statistics(term, src);
    for (size_t i = 0; i < channels_of(src); i++) {
        double a = channel_scale(src, i), offset = 0.0;
        if (term->kind == TR_TERM_BN) {
            const double factor = (double)term->gamma[i] / term->sigma[i];
            offset = (double)term->beta[i] - factor * term->mu[i];
            a *= factor;
        } else if (term->kind == TR_TERM_BIAS) {
            offset = (double)term->beta[i];
        } else if (term->kind == TR_TERM_SCALE) {
            a *= (double)term->gamma[i];
        }
        term->a[i] = (float)a;
        c[i] += (float)offset;
    }
    return extremes;
}

/* ---- backward ---- */

/* The gradient of gamma that sums of dz and dz * (u - pivot) over some pixels make. */
static double gamma_gradient(const tr_term *term, const tr_value *src, size_t c, double sum_dz,
                             double sum_dzu)
{
    const double scale = channel_scale(src, c);
    /* the pivot is the rounded mean: what it misses is made up here */
    const double off = (double)term->pivot[c] - term->mu[c] / scale;
    return (sum_dzu + off * sum_dz) * scale / term->sigma[c];
}

/* This rank's share of the gradients of a batch norm's parameters. */
static void bn_parameters(const rq_trainer *trainer, const tr_term *term, const tr_value *src,
                          const double *sum_dz, const double *sum_dzu)
{
    tr_conv *conv = src->quantized_conv;
    for (size_t c = 0; c < channels_of(src); c++) {
        const double gamma = (double)term->gamma[c], sigma = term->sigma[c];
        const double dgamma = gamma_gradient(term, src, c, sum_dz[c], sum_dzu[c]);
        term->dgamma[c] = (float)dgamma;
        term->dbeta[c] = (float)sum_dz[c];
        if (!conv)
            continue;
        conv->du_dot_u[c] = tr_term_is_live(trainer, term)
                                ? gamma * dgamma * term->eps / (sigma * sigma)
                                : gamma * dgamma + gamma / sigma * term->mu[c] * sum_dz[c];
    }
}

/* The coefficients of du, from all ranks' sums. */
static void bn_coefficients(const rq_trainer *trainer, const tr_term *term, const tr_value *src,
                            const double *sum_dz, const double *sum_dzu)
{
    const double n = all_pixels(src);
    for (size_t c = 0; c < channels_of(src); c++) {
        const double scale = channel_scale(src, c), sigma = term->sigma[c];
        const double da = (double)term->gamma[c] * scale / sigma;
        term->da[c] = (float)da;
        term->db[c] = term->dc[c] = 0.0f;
        if (!tr_term_is_live(trainer, term))
            continue;
        const double dgamma = gamma_gradient(term, src, c, sum_dz[c], sum_dzu[c]);
        const double db = -da * scale / sigma * dgamma / n;
        const double off = (double)term->pivot[c] - term->mu[c] / scale;
        term->db[c] = (float)db;
        term->dc[c] = (float)(-da * sum_dz[c] / n + db * off);
    }
}

void tr_term_parameters(const rq_trainer *trainer, const tr_term *term, const tr_value *src,
                        const double *sum_dz, const double *sum_dzu)
{
    if (term->kind == TR_TERM_BN) {
        bn_parameters(trainer, term, src, sum_dz, sum_dzu);
        return;
    }
    for (size_t c = 0; c < channels_of(src); c++) {
        if (term->kind == TR_TERM_BIAS)
            term->dbeta[c] = (float)sum_dz[c];
        if (term->kind == TR_TERM_SCALE && term->dgamma)
            term->dgamma[c] = (float)(sum_dzu[c] * channel_scale(src, c));
    }
}

void tr_term_coefficients(const rq_trainer *trainer, const tr_term *term, const tr_value *src,
                          const double *sum_dz, const double *sum_dzu)
{
    if (term->kind == TR_TERM_BN)
        bn_coefficients(trainer, term, src, sum_dz, sum_dzu);
    else
        memcpy(term->da, term->a, channels_of(src) * sizeof *term->da);
}
