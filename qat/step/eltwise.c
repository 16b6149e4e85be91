/* The eltwise unit: batch norms (or biases, or plain values), their sum, ReLU and fake quantization in
 * as few passes over the activations as the mathematics allows: forward one pass for batch
 * statistics and one to apply, backward one to reduce and one to write the gradients. */
#include <math.h>

#include "qat/step/eltwise_passes.h"
#include "qat/step/share.h"
#include "runtime/base/clock.h"
#include "runtime/base/ranks.h"

#define BN_MOMENTUM 0.1

/* Add up all threads' sums into thread 0's, in thread order. */
static double *total_sums(const rq_trainer *trainer, size_t channels, int n_threads)
{
    double *total = tr_sums_of_thread(trainer, channels, 0);
    for (int t = 1; t < n_threads; t++) {
        const double *part = tr_sums_of_thread(trainer, channels, t);
        for (size_t i = 0; i < TR_N_SUMS * channels; i++)
            total[i] += part[i];
    }
    return total;
}

/* The extremes of all threads, in thread 0's. */
static const float *total_extremes(const rq_trainer *trainer, size_t channels, int n_threads)
{
    float *total = tr_extremes_of_thread(trainer, channels, 0);
    for (int t = 1; t < n_threads; t++) {
        const float *part = tr_extremes_of_thread(trainer, channels, t);
        for (size_t c = 0; c < channels; c++) {
            total[c] = fminf(total[c], part[c]);
            total[channels + c] = fmaxf(total[channels + c], part[channels + c]);
        }
    }
    return total;
}

static double channel_scale(const tr_value *value, size_t c)
{
    return value->channel_scale ? (double)value->channel_scale[c] : (double)value->scale;
}

static bool observes(const rq_trainer *trainer, const eltwise_unit *eltwise)
{
    return eltwise->act.quantize && trainer->observing;
}

static bool uses_running(const rq_trainer *trainer, const eltwise_term *term)
{
    return trainer->bn_frozen || term->frozen;
}

/* ---- forward ---- */

/* Pixels of the whole batch. */
static double all_pixels(const eltwise_unit *eltwise)
{
    return (double)eltwise->pixels * rq_n_ranks();
}

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
 * pixel's numbers). Where a range is to be observed, u's extremes are found on the way. */
static const double *batch_moments(rq_trainer *trainer, eltwise_unit *eltwise,
                                   const eltwise_term *term, const float *u)
{
    const size_t channels = eltwise->channels;
    const bool with_extremes = observes(trainer, eltwise) && eltwise->n_terms == 1;
    int n_threads = 1;
    memcpy(term->pivot, u, channels * sizeof *term->pivot);
#pragma omp parallel
    {
        const tr_share mine = tr_my_sums(trainer, eltwise->pixels, channels);
#pragma omp single nowait
        n_threads = omp_get_num_threads();
        for (size_t p = mine.begin; p < mine.end; p += TR_BLOCK) {
            const size_t n = mine.end - p < TR_BLOCK ? mine.end - p : TR_BLOCK;
            eltwise_moments(u + p * channels, term->pivot, mine.block, mine.block + channels,
                            with_extremes ? mine.extremes : NULL, n, channels);
            tr_flush_block(&mine, 2 * channels);
        }
    }
    eltwise->extremes = with_extremes ? total_extremes(trainer, channels, n_threads) : NULL;
    double *moments = total_sums(trainer, channels, n_threads);
    for (size_t c = 0; c < channels; c++) {
        const double shift = moments[c] / (double)eltwise->pixels;
        const double spread = moments[channels + c] / (double)eltwise->pixels - shift * shift;
        moments[c] = (double)term->pivot[c] + shift;
        moments[channels + c] = spread > 0.0 ? spread : 0.0;
    }
    if (rq_n_ranks() > 1)
        merge_ranks(moments, channels);
    return moments;
}

/* mu and sigma of a batch norm in real units: of this batch (running statistics follow), or the
 * running ones. */
static void bn_statistics(rq_trainer *trainer, eltwise_unit *eltwise, eltwise_term *term,
                          const tr_value *src)
{
    const size_t channels = eltwise->channels;
    const double n = all_pixels(eltwise);
    if (uses_running(trainer, term)) {
        for (size_t c = 0; c < channels; c++) {
            term->mu[c] = (double)term->mean[c];
            term->sigma[c] = sqrt((double)term->var[c] + term->eps);
            term->pivot[c] = (float)(term->mu[c] / channel_scale(src, c));
        }
        return;
    }
    const double *moments = batch_moments(trainer, eltwise, term, src->data);
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

/* a and the terms' share of c. */
static void fold_terms(rq_trainer *trainer, tr_unit *unit)
{
    eltwise_unit *eltwise = unit->eltwise;
    eltwise->extremes = NULL;
    memset(eltwise->c, 0, eltwise->channels * sizeof *eltwise->c);
    for (int k = 0; k < eltwise->n_terms; k++) {
        eltwise_term *term = &eltwise->terms[k];
        const tr_value *src = unit->src[k];
        if (term->kind == TERM_BN)
            bn_statistics(trainer, eltwise, term, src);
        for (size_t c = 0; c < eltwise->channels; c++) {
            double a = channel_scale(src, c), offset = 0.0;
            if (term->kind == TERM_BN) {
                const double factor = (double)term->gamma[c] / term->sigma[c];
                offset = (double)term->beta[c] - factor * term->mu[c];
                a *= factor;
            } else if (term->kind == TERM_BIAS) {
                offset = (double)term->beta[c];
            } else if (term->kind == TERM_SCALE) {
                a *= (double)term->gamma[c];
            }
            term->a[c] = (float)a;
            eltwise->c[c] += (float)offset;
        }
    }
}

static eltwise_args args_of(const tr_unit *unit, size_t begin, size_t end)
{
    const eltwise_unit *eltwise = unit->eltwise;
    eltwise_args args = {
        .n_terms = eltwise->n_terms,
        .c = eltwise->c,
        .by_rule = eltwise->by_rule,
        .rule_bias = eltwise->rule_bias,
        .rule_multiplier = eltwise->rule_multiplier,
        .pixels = end - begin,
        .channels = eltwise->channels,
    };
    tr_act_args(&eltwise->act, unit->dst, &args);
    for (int k = 0; k < eltwise->n_terms; k++) {
        args.u[k] = unit->src[k]->data + begin * eltwise->channels;
        args.a[k] = eltwise->by_rule ? eltwise->one : eltwise->terms[k].a;
    }
    return args;
}

/* z = a u + c is monotone in u, in f32 too: each channel's extremes of u give those of z. */
static void range_of_extremes(const tr_unit *unit, float *lo, float *hi)
{
    eltwise_args args = args_of(unit, 0, 2);
    args.u[0] = unit->eltwise->extremes;
    eltwise_range(&args, lo, hi);
}

static void range_of_pixels(const tr_unit *unit, float *low, float *high)
{
    const eltwise_unit *eltwise = unit->eltwise;
    float lo = INFINITY, hi = -INFINITY;
#pragma omp parallel reduction(min : lo) reduction(max : hi)
    {
        const tr_share mine = tr_my_pixels(eltwise->pixels);
        if (mine.begin < mine.end) {
            const eltwise_args args = args_of(unit, mine.begin, mine.end);
            eltwise_range(&args, &lo, &hi);
        }
    }
    *low = lo;
    *high = hi;
}

static void observe_range(tr_unit *unit)
{
    eltwise_unit *eltwise = unit->eltwise;
    float lo = INFINITY, hi = -INFINITY;
    eltwise->by_rule = false;
    if (eltwise->extremes)
        range_of_extremes(unit, &lo, &hi);
    else
        range_of_pixels(unit, &lo, &hi);
    tr_act_observe(&eltwise->act, lo, hi);
}

/* Do this step's values stand for exact sums, with nothing but constants between them and the
 * result? */
static bool has_rule(const rq_trainer *trainer, const tr_unit *unit)
{
    const eltwise_term *term = &unit->eltwise->terms[0];
    const bool constant = term->kind == TERM_PLAIN || term->kind == TERM_BIAS ||
                          (term->kind == TERM_BN && uses_running(trainer, term));
    return unit->eltwise->n_terms == 1 && constant &&
           (unit->src[0]->quantized_conv || unit->src[0]->pool_source);
}

/* Integer bias and multiplier of the output rule. */
static rq_status fill_rule(const tr_unit *unit, rq_error *err)
{
    const eltwise_unit *eltwise = unit->eltwise;
    const tr_value *src = unit->src[0];
    const conv_unit *conv = src->quantized_conv;
    const rq_qparams y = {eltwise->act.quantize ? unit->dst->scale : 1.0f, unit->dst->zero_point};
    rq_rule rule = {0, 1.0f};
    rq_status status = RQ_OK;
    if (!conv) { /* numbers have no zero point */
        const rq_shape *shape = &src->pool_source->shape;
        const rq_qparams x = {src->pool_source->scale, 0};
        status = rq_pool_rule(&rule, x, y, shape->h * shape->w, err);
    }
    for (size_t c = 0; c < eltwise->channels && status == RQ_OK; c++) {
        if (conv) {
            status = rq_layer_integer_bias(&conv->layer, (int64_t)c, conv->s_x, conv->s_w[c], NULL,
                                           NULL, &rule.bias, err);
            rule.multiplier = rq_multiplier(conv->s_x, conv->s_w[c], y.scale);
        }
        eltwise->rule_bias[c] = (float)rule.bias;
        eltwise->rule_multiplier[c] = rule.multiplier;
    }
    return status;
}

/* While ranges move, a zero point may not fit yet into the bias of a channel whose weights are
 * nearly 0: their scale makes room for it in the next step. This one is computed in real numbers.
 */
static rq_status plan_rule(const rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    eltwise_unit *eltwise = unit->eltwise;
    eltwise->by_rule = has_rule(trainer, unit);
    const rq_status status = eltwise->by_rule ? fill_rule(unit, err) : RQ_OK;
    if (status != RQ_ERR_RANGE || !trainer->observing || !eltwise->act.zero_point)
        return status;
    eltwise->by_rule = false;
    return RQ_OK;
}

static rq_status mix_forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    eltwise_unit *eltwise = unit->eltwise;
    const double start = rq_clock();
    fold_terms(trainer, unit);
    if (observes(trainer, eltwise))
        observe_range(unit);
    tr_act_settle(&eltwise->act, unit->dst);
    rq_status status = tr_act_check(&eltwise->act, err);
    if (status == RQ_OK)
        status = plan_rule(trainer, unit, err);
    if (status != RQ_OK)
        return status;
#pragma omp parallel
    {
        const tr_share mine = tr_my_pixels(eltwise->pixels);
        if (mine.begin < mine.end) {
            const eltwise_args args = args_of(unit, mine.begin, mine.end);
            tr_act_apply(&args, unit->dst, mine.begin * eltwise->channels);
        }
    }
    trainer->profile.forward_pass += rq_clock() - start;
    return RQ_OK;
}

/* ---- backward ---- */

/* Is sum dz * u needed for the term's parameter? */
static bool has_weight(const eltwise_term *term)
{
    return term->kind == TERM_BN || term->kind == TERM_SCALE;
}

/* Leave in the first gradient buffer of dst what act lets pass; returns this rank's sums [1 +
 * n_terms, C]: dz, then dz * (u_k - pivot_k). */
static double *reduce(rq_trainer *trainer, tr_unit *unit)
{
    eltwise_unit *eltwise = unit->eltwise;
    const tr_value *dst = unit->dst;
    const size_t channels = eltwise->channels;
    const float factor = tr_act_factor(&eltwise->act, dst);
    int n_threads = 1;
#pragma omp parallel
    {
        const tr_share mine = tr_my_sums(trainer, eltwise->pixels, channels);
#pragma omp single nowait
        n_threads = omp_get_num_threads();
        const float *pivot[RQ_MAX_TERMS] = {NULL};
        float *sum_dzu[RQ_MAX_TERMS] = {NULL};
        for (int k = 0; k < eltwise->n_terms; k++) {
            pivot[k] = has_weight(&eltwise->terms[k]) ? eltwise->terms[k].pivot : NULL;
            sum_dzu[k] = mine.block + (size_t)(1 + k) * channels;
        }
        for (size_t p = mine.begin; p < mine.end; p += TR_BLOCK) {
            const size_t stop = mine.end - p < TR_BLOCK ? mine.end : p + TR_BLOCK;
            const eltwise_args args = args_of(unit, p, stop);
            const eltwise_gradients g = tr_gradients_from(dst, p * channels);
            eltwise_reduce(&args, &g, factor, pivot, mine.block, sum_dzu);
            tr_flush_block(&mine, (size_t)(1 + eltwise->n_terms) * channels);
        }
    }
    return total_sums(trainer, channels, n_threads);
}

/* The gradient of gamma that sums of dz and dz * (u - pivot) over some pixels make. */
static double gamma_gradient(const eltwise_term *term, const tr_value *src, size_t c, double sum_dz,
                             double sum_dzu)
{
    const double scale = channel_scale(src, c);
    /* the pivot is the rounded mean: what it misses is made up here */
    const double off = (double)term->pivot[c] - term->mu[c] / scale;
    return (sum_dzu + off * sum_dz) * scale / term->sigma[c];
}

/* This rank's share of the gradients of a batch norm's parameters. */
static void bn_parameters(const rq_trainer *trainer, const eltwise_unit *eltwise,
                          const eltwise_term *term, const tr_value *src, const double *sum_dz,
                          const double *sum_dzu)
{
    conv_unit *conv = src->quantized_conv;
    for (size_t c = 0; c < eltwise->channels; c++) {
        const double gamma = (double)term->gamma[c], sigma = term->sigma[c];
        const double dgamma = gamma_gradient(term, src, c, sum_dz[c], sum_dzu[c]);
        term->dgamma[c] = (float)dgamma;
        term->dbeta[c] = (float)sum_dz[c];
        if (!conv)
            continue;
        conv->du_dot_u[c] = uses_running(trainer, term)
                                ? gamma * dgamma + gamma / sigma * term->mu[c] * sum_dz[c]
                                : gamma * dgamma * term->eps / (sigma * sigma);
    }
}

/* The coefficients of du, from all ranks' sums. */
static void bn_coefficients(const rq_trainer *trainer, const eltwise_unit *eltwise,
                            const eltwise_term *term, const tr_value *src, const double *sum_dz,
                            const double *sum_dzu)
{
    const double n = all_pixels(eltwise);
    for (size_t c = 0; c < eltwise->channels; c++) {
        const double scale = channel_scale(src, c), sigma = term->sigma[c];
        const double da = (double)term->gamma[c] * scale / sigma;
        term->da[c] = (float)da;
        term->db[c] = term->dc[c] = 0.0f;
        if (uses_running(trainer, term))
            continue;
        const double dgamma = gamma_gradient(term, src, c, sum_dz[c], sum_dzu[c]);
        const double db = -da * scale / sigma * dgamma / n;
        const double off = (double)term->pivot[c] - term->mu[c] / scale;
        term->db[c] = (float)db;
        term->dc[c] = (float)(-da * sum_dz[c] / n + db * off);
    }
}

static void term_parameters(const rq_trainer *trainer, const tr_unit *unit, int k,
                            const double *sums)
{
    const eltwise_unit *eltwise = unit->eltwise;
    const eltwise_term *term = &eltwise->terms[k];
    const double *sum_dzu = sums + (size_t)(1 + k) * eltwise->channels;
    if (term->kind == TERM_BN) {
        bn_parameters(trainer, eltwise, term, unit->src[k], sums, sum_dzu);
        return;
    }
    for (size_t c = 0; c < eltwise->channels; c++) {
        if (term->kind == TERM_BIAS)
            term->dbeta[c] = (float)sums[c];
        if (term->kind == TERM_SCALE && term->dgamma)
            term->dgamma[c] = (float)(sum_dzu[c] * channel_scale(unit->src[k], c));
    }
}

static void term_coefficients(const rq_trainer *trainer, const tr_unit *unit, int k,
                              const double *sums)
{
    const eltwise_unit *eltwise = unit->eltwise;
    const eltwise_term *term = &eltwise->terms[k];
    if (term->kind == TERM_BN)
        bn_coefficients(trainer, eltwise, term, unit->src[k], sums,
                        sums + (size_t)(1 + k) * eltwise->channels);
    else
        memcpy(term->da, term->a, eltwise->channels * sizeof *term->da);
}

/* Do all ranks' sums enter the gradient of a source? */
static bool needs_all_sums(const rq_trainer *trainer, const eltwise_unit *eltwise)
{
    for (int k = 0; k < eltwise->n_terms; k++)
        if (eltwise->terms[k].kind == TERM_BN && !uses_running(trainer, &eltwise->terms[k]))
            return true;
    return false;
}

/* For pixels begin to end. */
static void source_gradient(const rq_trainer *trainer, const tr_unit *unit, int k, size_t begin,
                            size_t end)
{
    const eltwise_term *term = &unit->eltwise->terms[k];
    const bool live = term->kind == TERM_BN && !uses_running(trainer, term);
    const size_t channels = unit->eltwise->channels, at = begin * channels;
    const tr_value *dst = unit->dst, *src = unit->src[k];
    const eltwise_gradients g = tr_gradients_from(dst, at);
    const eltwise_gradient_args args = {
        .g = g.g[0],
        .g_type = g.type,
        .factor = tr_act_factor(&unit->eltwise->act, dst),
        .u = live ? src->data + at : NULL,
        .pivot = term->pivot,
        .da = term->da,
        .db = term->db,
        .dc = term->dc,
        .pixels = end - begin,
        .channels = channels,
    };
    if (unit->dsrc[k])
        eltwise_gradient(&args, unit->dsrc[k] + at, ELTWISE_F32);
    else if (src->gradient_bf16)
        eltwise_gradient(&args, src->gradient_bf16 + at, ELTWISE_BF16);
}

static rq_status mix_backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    eltwise_unit *eltwise = unit->eltwise;
    const double start = rq_clock();
    double *sums = reduce(trainer, unit);
    for (int k = 0; k < eltwise->n_terms; k++)
        term_parameters(trainer, unit, k, sums);
    if (needs_all_sums(trainer, eltwise))
        rq_ranks_sum(sums, (size_t)(1 + eltwise->n_terms) * eltwise->channels);
    for (int k = 0; k < eltwise->n_terms; k++)
        term_coefficients(trainer, unit, k, sums);
#pragma omp parallel
    {
        const tr_share mine = tr_my_pixels(eltwise->pixels);
        /* term 0 last: its gradient may stand where dst's stands */
        for (int k = eltwise->n_terms - 1; k >= 0; k--)
            source_gradient(trainer, unit, k, mine.begin, mine.end);
    }
    trainer->profile.backward_pass += rq_clock() - start;
    return RQ_OK;
}

rq_status tr_eltwise_create(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    eltwise_unit *eltwise = unit->eltwise;
    const size_t channels = (size_t)unit->dst->shape.c;
    eltwise->channels = channels;
    eltwise->pixels = rq_shape_elems(&unit->dst->shape) / channels;
    struct {
        void **array;
        size_t size;
    } arrays[4 + 7 * RQ_MAX_TERMS];
    int n = 0;
#define ARRAY(field) (arrays[n].array = (void **)&(field), arrays[n++].size = sizeof *(field))
    ARRAY(eltwise->c);
    ARRAY(eltwise->one);
    ARRAY(eltwise->rule_bias);
    ARRAY(eltwise->rule_multiplier);
    for (int k = 0; k < eltwise->n_terms; k++) {
        eltwise_term *term = &eltwise->terms[k];
        ARRAY(term->mu);
        ARRAY(term->sigma);
        ARRAY(term->a);
        ARRAY(term->pivot);
        ARRAY(term->da);
        ARRAY(term->db);
        ARRAY(term->dc);
    }
#undef ARRAY
    for (int i = 0; i < n; i++) {
        const rq_status status =
            rq_arena_array_old(&trainer->arena, arrays[i].array, channels, arrays[i].size, err);
        if (status != RQ_OK)
            return status;
    }
    for (size_t c = 0; c < channels; c++)
        eltwise->one[c] = 1.0f;
    unit->forward = mix_forward;
    unit->backward = mix_backward;
    unit->in_place = true;
    return RQ_OK;
}
