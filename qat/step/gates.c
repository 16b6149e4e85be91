/* The mean over an image, the sigmoid of a few numbers per image, for which plain loops do, and the
 * product: image by image an eltwise of one term whose factor is the gate, so the passes are the
 * same. */
#include "qat/step/gates.h"

#include <math.h>
#include <string.h>

#include "qat/step/share.h"
#include "runtime/base/clock.h"
#include "runtime/base/simd.h"
#include "runtime/dnn/float_passes.h"
#include "runtime/model/gate.h"
#include "runtime/model/quant.h"

/* ---- mean over an image ---- */

/* Quantized values are summed, exactly: the output rule divides. */
static rq_status pool_forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)trainer;
    (void)err;
    const tr_value *src = unit->src[0];
    const rq_shape *s = &src->shape;
    const size_t n = (size_t)s->n, pixels = (size_t)(s->h * s->w), channels = (size_t)s->c;
    const double share = 1.0 / (double)pixels;
    rq_pool_f32(src->data, unit->dst->data, n, pixels, channels,
                src->quantized ? 1.0f : (float)share);
    unit->dst->scale = src->quantized ? (float)((double)src->scale * share) : src->scale;
    return RQ_OK;
}

RQ_SIMD static void spread(const float *restrict g, float share, float *restrict dsrc,
                           size_t pixels, size_t channels)
{
    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < channels; c++)
            dsrc[p * channels + c] = g[c] * share;
}

static rq_status pool_backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)trainer;
    (void)err;
    if (!unit->dsrc[0])
        return RQ_OK;
    const rq_shape *s = &unit->src[0]->shape;
    const size_t pixels = (size_t)(s->h * s->w), channels = (size_t)s->c;
    const float share = unit->src[0]->quantized ? 1.0f : (float)(1.0 / (double)pixels);
    const float *g = tr_summed_gradient(unit->dst);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < (size_t)s->n; i++)
        spread(g + i * channels, share, unit->dsrc[0] + i * pixels * channels, pixels, channels);
    return RQ_OK;
}

void tr_pool_init(tr_unit *unit)
{
    unit->forward = pool_forward;
    unit->backward = pool_backward;
    if (unit->src[0]->quantized)
        unit->dst->pool_source = unit->src[0];
}

/* ---- sigmoid ---- */

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static rq_status sigmoid_forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)trainer;
    (void)err;
    const tr_value *src = unit->src[0];
    const tr_value *dst = unit->dst;
    for (size_t i = 0; i < rq_shape_elems(&dst->shape); i++) {
        const float x = src->scale * src->data[i];
        dst->data[i] = dst->is_gate ? (float)rq_gate_level(x) : sigmoid(x);
    }
    return RQ_OK;
}

/* Straight through the rounding: 255 sigmoid(x) lies inside 0 to 255 always. */
static rq_status sigmoid_backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)trainer;
    (void)err;
    const tr_value *src = unit->src[0], *dst = unit->dst;
    const float *ddst = tr_summed_gradient(dst);
    const float factor = src->scale / dst->scale;
    for (size_t i = 0; unit->dsrc[0] && i < rq_shape_elems(&dst->shape); i++) {
        const float y = sigmoid(src->scale * src->data[i]);
        unit->dsrc[0][i] = factor * y * (1.0f - y) * ddst[i];
    }
    return RQ_OK;
}

void tr_sigmoid_init(tr_unit *unit, bool quantize)
{
    unit->forward = sigmoid_forward;
    unit->backward = sigmoid_backward;
    unit->dst->quantized = unit->dst->is_gate = quantize;
    unit->dst->scale = quantize ? RQ_GATE_SCALE : 1.0f;
}

/* ---- product, forward ---- */

/* One image's pixels begin to end. */
static tr_pass_args args_of(const tr_unit *unit, size_t image, size_t begin, size_t end)
{
    const tr_product *product = unit->product;
    const size_t channels = product->channels, first = image * product->pixels + begin;
    tr_pass_args args = {
        .u = {unit->src[0]->data + first * channels},
        .n_terms = 1,
        .a = {(product->by_rule ? unit->src[1]->data : product->a) + image * channels},
        .c = product->zero,
        .by_rule = product->by_rule,
        .rule_bias = product->rule_bias,
        .rule_multiplier = product->rule_multiplier,
        .pixels = end - begin,
        .channels = channels,
    };
    tr_act_args(&product->act, unit->dst, &args);
    return args;
}

static void find_factors(const tr_unit *unit)
{
    const tr_product *product = unit->product;
    const double scale = (double)unit->src[0]->scale * (double)unit->src[1]->scale;
    for (size_t i = 0; i < product->images * product->channels; i++)
        product->a[i] = (float)(scale * (double)unit->src[1]->data[i]);
}

static void observe_range(tr_unit *unit)
{
    tr_product *product = unit->product;
    float lo = INFINITY, hi = -INFINITY;
    product->by_rule = false;
#pragma omp parallel for schedule(static) reduction(min : lo) reduction(max : hi)
    for (size_t i = 0; i < product->images; i++) {
        const tr_pass_args args = args_of(unit, i, 0, product->pixels);
        tr_pass_range(&args, &lo, &hi);
    }
    tr_act_observe(&product->act, lo, hi);
}

/* Integers times a quantized gate, to be quantized: exact products, to which the output rule
 * applies. Numbers have no zero point. */
static rq_status plan_rule(const tr_unit *unit, rq_error *err)
{
    tr_product *product = unit->product;
    const rq_qparams x = {unit->src[0]->scale, 0}, y = {unit->dst->scale, unit->dst->zero_point};
    rq_rule rule;
    product->by_rule = product->act.quantize && unit->src[0]->quantized && unit->src[1]->is_gate;
    if (!product->by_rule)
        return RQ_OK;
    RQ_TRY(rq_gate_rule(&rule, x, y, err));
    for (size_t c = 0; c < product->channels; c++) {
        product->rule_bias[c] = (float)rule.bias;
        product->rule_multiplier[c] = rule.multiplier;
    }
    return RQ_OK;
}

static rq_status product_forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    const tr_product *product = unit->product;
    const double start = rq_clock();
    find_factors(unit);
    if (product->act.quantize && trainer->observing)
        observe_range(unit);
    tr_act_settle(&product->act, unit->dst);
    RQ_TRY(tr_act_check(&product->act, err));
    RQ_TRY(plan_rule(unit, err));
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < product->images; i++) {
        const tr_pass_args args = args_of(unit, i, 0, product->pixels);
        tr_act_apply(&args, unit->dst, i * product->pixels * product->channels);
    }
    trainer->profile.forward_pass += rq_clock() - start;
    return RQ_OK;
}

/* ---- product, backward ---- */

/* The masked gradient of one image over dst's first gradient buffer; the sums of dz * u by channel
 * are left in mine.sums. */
static void reduce_image(const tr_unit *unit, size_t image, const tr_share *mine)
{
    const tr_product *product = unit->product;
    const tr_value *dst = unit->dst;
    const size_t channels = product->channels;
    const float factor = tr_act_factor(&product->act, dst);
    const float *const pivot[TR_MAX_TERMS] = {product->zero};
    float *const sum_dzu[TR_MAX_TERMS] = {mine->block + channels};
    memset(mine->sums, 0, tr_sums_bytes(channels));
    for (size_t p = 0; p < product->pixels; p += TR_BLOCK) {
        const size_t stop = product->pixels - p < TR_BLOCK ? product->pixels : p + TR_BLOCK;
        const tr_pass_args args = args_of(unit, image, p, stop);
        const tr_pass_gradients g =
            tr_gradients_from(dst, (image * product->pixels + p) * channels);
        tr_pass_reduce(&args, &g, factor, pivot, mine->block, sum_dzu);
        tr_flush_block(mine, 2 * channels);
    }
}

/* y = s_x s_g u g: dg = s_x s_g sum over pixels of dz u, du = s_x s_g g dz. */
static void image_gradient(const tr_unit *unit, size_t image, const tr_share *mine)
{
    const tr_product *product = unit->product;
    const size_t channels = product->channels, pixels = product->pixels;
    const double scale = (double)unit->src[0]->scale * (double)unit->src[1]->scale;
    const size_t first = image * pixels * channels;
    reduce_image(unit, image, mine);
    for (size_t c = 0; unit->dsrc[1] && c < channels; c++)
        unit->dsrc[1][image * channels + c] = (float)(scale * mine->sums[channels + c]);
    const tr_pass_gradient_args args = {
        .g = unit->dst->gradient[0] + first,
        .g_type = TR_F32,
        .factor = tr_act_factor(&product->act, unit->dst),
        .da = product->a + image * channels,
        .pixels = pixels,
        .channels = channels,
    };
    if (unit->dsrc[0])
        tr_pass_gradient(&args, unit->dsrc[0] + first, TR_F32);
}

static rq_status product_backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    const tr_product *product = unit->product;
    const double start = rq_clock();
#pragma omp parallel
    {
        const tr_share mine = tr_my_sums(trainer, product->images, product->channels);
        for (size_t i = mine.begin; i < mine.end; i++)
            image_gradient(unit, i, &mine);
    }
    trainer->profile.backward_pass += rq_clock() - start;
    return RQ_OK;
}

rq_status tr_product_create(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    tr_product *product = unit->product;
    const rq_shape *shape = &unit->dst->shape;
    product->images = (size_t)shape->n;
    product->pixels = (size_t)(shape->h * shape->w);
    product->channels = (size_t)shape->c;
    rq_arena *arena = &trainer->arena;
    if (!(product->a = rq_arena_array(arena, float, product->images * product->channels)) ||
        !(product->zero = rq_arena_array(arena, float, product->channels)) ||
        !(product->rule_bias = rq_arena_array(arena, float, product->channels)) ||
        !(product->rule_multiplier = rq_arena_array(arena, float, product->channels)))
        return rq_no_memory(err);
    unit->forward = product_forward;
    unit->backward = product_backward;
    unit->in_place = true;
    return RQ_OK;
}
