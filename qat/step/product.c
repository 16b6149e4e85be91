/* The product unit: a value times a gate per image and channel, ReLU and fake quantization. Image
 * by image it is a mix of one term whose factor is the gate, so the passes are those of mixes. */
#include <math.h>

#include "qat/step/eltwise_passes.h"
#include "qat/step/share.h"
#include "runtime/base/clock.h"
#include "runtime/model/gate.h"

/* One image's pixels begin to end. */
static eltwise_args args_of(const tr_unit *unit, size_t image, size_t begin, size_t end)
{
    const product_unit *product = unit->product;
    const size_t channels = product->channels, first = image * product->pixels + begin;
    eltwise_args args = {
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

/* ---- forward ---- */

static void find_factors(const tr_unit *unit)
{
    const product_unit *product = unit->product;
    const double scale = (double)unit->src[0]->scale * (double)unit->src[1]->scale;
    for (size_t i = 0; i < product->images * product->channels; i++)
        product->a[i] = (float)(scale * (double)unit->src[1]->data[i]);
}

static void observe_range(tr_unit *unit)
{
    product_unit *product = unit->product;
    float lo = INFINITY, hi = -INFINITY;
    product->by_rule = false;
#pragma omp parallel for schedule(static) reduction(min : lo) reduction(max : hi)
    for (size_t i = 0; i < product->images; i++) {
        const eltwise_args args = args_of(unit, i, 0, product->pixels);
        eltwise_range(&args, &lo, &hi);
    }
    tr_act_observe(&product->act, lo, hi);
}

/* Integers times a quantized gate, to be quantized: exact products, to which the output rule
 * applies. Numbers have no zero point. */
static rq_status plan_rule(const tr_unit *unit, rq_error *err)
{
    product_unit *product = unit->product;
    const rq_qparams x = {unit->src[0]->scale, 0}, y = {unit->dst->scale, unit->dst->zero_point};
    rq_rule rule;
    product->by_rule = product->act.quantize && unit->src[0]->quantized && unit->src[1]->is_gate;
    if (!product->by_rule)
        return RQ_OK;
    const rq_status status = rq_gate_rule(&rule, x, y, err);
    for (size_t c = 0; c < product->channels && status == RQ_OK; c++) {
        product->rule_bias[c] = (float)rule.bias;
        product->rule_multiplier[c] = rule.multiplier;
    }
    return status;
}

static rq_status forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    const product_unit *product = unit->product;
    const double start = rq_clock();
    find_factors(unit);
    if (product->act.quantize && trainer->observing)
        observe_range(unit);
    tr_act_settle(&product->act, unit->dst);
    rq_status status = tr_act_check(&product->act, err);
    if (status == RQ_OK)
        status = plan_rule(unit, err);
    if (status != RQ_OK)
        return status;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < product->images; i++) {
        const eltwise_args args = args_of(unit, i, 0, product->pixels);
        tr_act_apply(&args, unit->dst, i * product->pixels * product->channels);
    }
    trainer->profile.forward_pass += rq_clock() - start;
    return RQ_OK;
}

/* ---- backward ---- */

/* The masked gradient of one image over dst's first gradient buffer; the sums of dz * u by channel
 * are left in mine.sums. */
static void reduce_image(const tr_unit *unit, size_t image, const tr_share *mine)
{
    const product_unit *product = unit->product;
    const tr_value *dst = unit->dst;
    const size_t channels = product->channels;
    const float factor = tr_act_factor(&product->act, dst);
    const float *const pivot[MIX_TERMS] = {product->zero};
    float *const sum_dzu[MIX_TERMS] = {mine->block + channels};
    memset(mine->sums, 0, tr_sums_bytes(channels));
    for (size_t p = 0; p < product->pixels; p += TR_BLOCK) {
        const size_t stop = product->pixels - p < TR_BLOCK ? product->pixels : p + TR_BLOCK;
        const eltwise_args args = args_of(unit, image, p, stop);
        const eltwise_gradients g =
            tr_gradients_from(dst, (image * product->pixels + p) * channels);
        eltwise_reduce(&args, &g, factor, pivot, mine->block, sum_dzu);
        tr_flush_block(mine, 2 * channels);
    }
}

/* y = s_x s_g u g: dg = s_x s_g sum over pixels of dz u, du = s_x s_g g dz. */
static void image_gradient(const tr_unit *unit, size_t image, const tr_share *mine)
{
    const product_unit *product = unit->product;
    const size_t channels = product->channels, pixels = product->pixels;
    const double scale = (double)unit->src[0]->scale * (double)unit->src[1]->scale;
    const size_t first = image * pixels * channels;
    reduce_image(unit, image, mine);
    for (size_t c = 0; unit->dsrc[1] && c < channels; c++)
        unit->dsrc[1][image * channels + c] = (float)(scale * mine->sums[channels + c]);
    const eltwise_gradient_args args = {
        .g = unit->dst->gradient[0] + first,
        .g_type = ELTWISE_F32,
        .factor = tr_act_factor(&product->act, unit->dst),
        .da = product->a + image * channels,
        .pixels = pixels,
        .channels = channels,
    };
    if (unit->dsrc[0])
        eltwise_gradient(&args, unit->dsrc[0] + first, ELTWISE_F32);
}

static rq_status backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    const product_unit *product = unit->product;
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
    product_unit *product = unit->product;
    const rq_shape *shape = &unit->dst->shape;
    product->images = (size_t)shape->n;
    product->pixels = (size_t)(shape->h * shape->w);
    product->channels = (size_t)shape->c;
    const struct {
        float **array;
        size_t n;
    } arrays[] = {
        {&product->a, product->images * product->channels},
        {&product->zero, product->channels},
        {&product->rule_bias, product->channels},
        {&product->rule_multiplier, product->channels},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        void *memory = NULL;
        const rq_status status =
            rq_arena_array_old(&trainer->arena, &memory, arrays[i].n, sizeof(float), err);
        if (status != RQ_OK)
            return status;
        *arrays[i].array = memory;
    }
    unit->forward = forward;
    unit->backward = backward;
    unit->in_place = true;
    return RQ_OK;
}
