/* The passes of an eltwise, and when the output rule replaces the sum of its terms. */
#include "qat/step/eltwise.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "qat/step/convolution.h"
#include "qat/step/share.h"
#include "runtime/base/clock.h"
#include "runtime/base/ranks.h"

/* ---- forward ---- */

static bool observes(const rq_trainer *trainer, const tr_eltwise *eltwise)
{
    return eltwise->act.quantize && trainer->observing;
}

/* Each term's a, and c. Extremes of u are found on the way to a batch's statistics, where they give
 * the range to be observed. */
static void fold_terms(rq_trainer *trainer, tr_unit *unit)
{
    tr_eltwise *eltwise = unit->eltwise;
    const bool with_extremes = observes(trainer, eltwise) && eltwise->n_terms == 1;
    memset(eltwise->c, 0, eltwise->channels * sizeof *eltwise->c);
    for (int k = 0; k < eltwise->n_terms; k++)
        eltwise->extremes =
            tr_term_fold(trainer, &eltwise->terms[k], unit->src[k], eltwise->c, with_extremes);
}

static tr_pass_args args_of(const tr_unit *unit, size_t begin, size_t end)
{
    const tr_eltwise *eltwise = unit->eltwise;
    tr_pass_args args = {
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

/* Of all pixels, or of each channel's extremes of u: z = a u + c is monotone in u, in f32 too. */
static void observe_range(tr_unit *unit)
{
    tr_eltwise *eltwise = unit->eltwise;
    float lo = INFINITY, hi = -INFINITY;
    eltwise->by_rule = false;
    if (eltwise->extremes) {
        tr_pass_args args = args_of(unit, 0, 2);
        args.u[0] = eltwise->extremes;
        tr_pass_range(&args, &lo, &hi);
    } else {
#pragma omp parallel reduction(min : lo) reduction(max : hi)
        {
            const tr_share mine = tr_my_pixels(eltwise->pixels);
            const tr_pass_args args = args_of(unit, mine.begin, mine.end);
            tr_pass_range(&args, &lo, &hi);
        }
    }
    tr_act_observe(&eltwise->act, lo, hi);
}

/* Are this step's numbers exact sums, with nothing but constants between them and the result? */
static bool has_rule(const rq_trainer *trainer, const tr_unit *unit)
{
    const tr_term *term = &unit->eltwise->terms[0];
    return unit->eltwise->n_terms == 1 && term->kind != TR_TERM_SCALE &&
           !tr_term_is_live(trainer, term) &&
           (unit->src[0]->quantized_conv || unit->src[0]->pool_source);
}

/* Integer bias and multiplier of the output rule. */
static rq_status fill_rule(const tr_unit *unit, rq_error *err)
{
    const tr_eltwise *eltwise = unit->eltwise;
    const tr_value *src = unit->src[0];
    const tr_conv *conv = src->quantized_conv;
    const rq_qparams y = {eltwise->act.quantize ? unit->dst->scale : 1.0f, unit->dst->zero_point};
    rq_rule rule = {0, 1.0f};
    if (!conv) { /* numbers have no zero point */
        const rq_shape *shape = &src->pool_source->shape;
        const rq_qparams x = {src->pool_source->scale, 0};
        RQ_TRY(rq_pool_rule(&rule, x, y, shape->h * shape->w, err));
    }
    for (size_t c = 0; c < eltwise->channels; c++) {
        if (conv) {
            RQ_TRY(rq_layer_integer_bias(&conv->layer, (int64_t)c, conv->s_x, conv->s_w[c], NULL,
                                         NULL, &rule.bias, err));
            rule.multiplier = rq_multiplier(conv->s_x, conv->s_w[c], y.scale);
        }
        eltwise->rule_bias[c] = (float)rule.bias;
        eltwise->rule_multiplier[c] = rule.multiplier;
    }
    return RQ_OK;
}

/* While ranges move, a zero point may not fit yet into the bias of a channel whose weights are
 * nearly 0: their scale makes room for it in the next step. This one uses real numbers. */
static rq_status plan_rule(const rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    tr_eltwise *eltwise = unit->eltwise;
    eltwise->by_rule = has_rule(trainer, unit);
    const rq_status status = eltwise->by_rule ? fill_rule(unit, err) : RQ_OK;
    if (status != RQ_ERR_RANGE || !trainer->observing || !eltwise->act.zero_point)
        return status;
    eltwise->by_rule = false;
    return RQ_OK;
}

static rq_status forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    tr_eltwise *eltwise = unit->eltwise;
    const double start = rq_clock();
    fold_terms(trainer, unit);
    if (observes(trainer, eltwise))
        observe_range(unit);
    tr_act_settle(&eltwise->act, unit->dst);
    RQ_TRY(tr_act_check(&eltwise->act, err));
    RQ_TRY(plan_rule(trainer, unit, err));
#pragma omp parallel
    {
        const tr_share mine = tr_my_pixels(eltwise->pixels);
        const tr_pass_args args = args_of(unit, mine.begin, mine.end);
        tr_act_apply(&args, unit->dst, mine.begin * eltwise->channels);
    }
    trainer->profile.forward_pass += rq_clock() - start;
    return RQ_OK;
}

/* ---- backward ---- */

/* Leave in the first gradient buffer of dst what act lets pass; returns this rank's sums [1 +
 * n_terms, C]: dz, then dz * (u_k - pivot_k). */
static double *reduce(rq_trainer *trainer, tr_unit *unit)
{
    tr_eltwise *eltwise = unit->eltwise;
    const tr_value *dst = unit->dst;
    const size_t channels = eltwise->channels;
    const float factor = tr_act_factor(&eltwise->act, dst);
    int n_threads = 1;
#pragma omp parallel
    {
        const tr_share mine = tr_my_sums(trainer, eltwise->pixels, channels);
#pragma omp single nowait
        n_threads = omp_get_num_threads();
        const float *pivot[TR_MAX_TERMS] = {NULL};
        float *sum_dzu[TR_MAX_TERMS] = {NULL};
        for (int k = 0; k < eltwise->n_terms; k++) {
            pivot[k] = tr_term_has_weight(&eltwise->terms[k]) ? eltwise->terms[k].pivot : NULL;
            sum_dzu[k] = mine.block + (size_t)(1 + k) * channels;
        }
        for (size_t p = mine.begin; p < mine.end; p += TR_BLOCK) {
            const size_t stop = mine.end - p < TR_BLOCK ? mine.end : p + TR_BLOCK;
            const tr_pass_args args = args_of(unit, p, stop);
            const tr_pass_gradients g = tr_gradients_from(dst, p * channels);
            tr_pass_reduce(&args, &g, factor, pivot, mine.block, sum_dzu);
            tr_flush_block(&mine, (size_t)(1 + eltwise->n_terms) * channels);
        }
    }
    return tr_total_sums(trainer, channels, n_threads);
}

/* Do all ranks' sums enter the gradient of a source? */
static bool needs_all_sums(const rq_trainer *trainer, const tr_eltwise *eltwise)
{
    for (int k = 0; k < eltwise->n_terms; k++)
        if (tr_term_is_live(trainer, &eltwise->terms[k]))
            return true;
    return false;
}

/* For pixels begin to end. */
static void source_gradient(const rq_trainer *trainer, const tr_unit *unit, int k, size_t begin,
                            size_t end)
{
    const tr_term *term = &unit->eltwise->terms[k];
    const size_t channels = unit->eltwise->channels, at = begin * channels;
    const tr_value *dst = unit->dst, *src = unit->src[k];
    const tr_pass_gradients g = tr_gradients_from(dst, at);
    const tr_pass_gradient_args args = {
        .g = g.g[0],
        .g_type = g.type,
        .factor = tr_act_factor(&unit->eltwise->act, dst),
        .u = tr_term_is_live(trainer, term) ? src->data + at : NULL,
        .pivot = term->pivot,
        .da = term->da,
        .db = term->db,
        .dc = term->dc,
        .pixels = end - begin,
        .channels = channels,
    };
    if (unit->dsrc[k])
        tr_pass_gradient(&args, unit->dsrc[k] + at, TR_F32);
    else if (src->gradient_bf16)
        tr_pass_gradient(&args, src->gradient_bf16 + at, TR_BF16);
}

static rq_status backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    tr_eltwise *eltwise = unit->eltwise;
    const double start = rq_clock();
    double *sums = reduce(trainer, unit);
    for (int k = 0; k < eltwise->n_terms; k++)
        tr_term_parameters(trainer, &eltwise->terms[k], unit->src[k], sums,
                           sums + (size_t)(1 + k) * eltwise->channels);
    if (needs_all_sums(trainer, eltwise))
        rq_ranks_sum(sums, (size_t)(1 + eltwise->n_terms) * eltwise->channels);
    for (int k = 0; k < eltwise->n_terms; k++)
        tr_term_coefficients(trainer, &eltwise->terms[k], unit->src[k], sums,
                             sums + (size_t)(1 + k) * eltwise->channels);
#pragma omp parallel
    {
        const tr_share mine = tr_my_pixels(eltwise->pixels);
        /* term 0 last: its gradient may overwrite dst's */
        for (int k = eltwise->n_terms - 1; k >= 0; k--)
            source_gradient(trainer, unit, k, mine.begin, mine.end);
    }
    trainer->profile.backward_pass += rq_clock() - start;
    return RQ_OK;
}

rq_status tr_eltwise_create(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    tr_eltwise *eltwise = unit->eltwise;
    const size_t channels = (size_t)unit->dst->shape.c;
    assert(eltwise->n_terms >= 1 && eltwise->n_terms <= TR_MAX_TERMS);
    eltwise->channels = channels;
    eltwise->pixels = rq_shape_elems(&unit->dst->shape) / channels;
    rq_arena *arena = &trainer->arena;
    if (!(eltwise->c = rq_arena_array(arena, float, channels)) ||
        !(eltwise->one = rq_arena_array(arena, float, channels)) ||
        !(eltwise->rule_bias = rq_arena_array(arena, float, channels)) ||
        !(eltwise->rule_multiplier = rq_arena_array(arena, float, channels)))
        return rq_no_memory(err);
    for (int k = 0; k < eltwise->n_terms; k++)
        RQ_TRY(tr_term_allocate(trainer, &eltwise->terms[k], channels, err));
    for (size_t c = 0; c < channels; c++)
        eltwise->one[c] = 1.0f;
    unit->forward = forward;
    unit->backward = backward;
    unit->in_place = true;
    return RQ_OK;
}
