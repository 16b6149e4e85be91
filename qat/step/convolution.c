/* Folding and quantizing weights before the convolution, and their gradients back through it. */
#include "qat/step/convolution.h"

#include <math.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/simd.h"

/* A folding factor t near 0 (gamma near 0) would make 1 / t useless; the layer's output is then
 * beta anyway. */
#define FACTOR_MIN 1e-12

static rq_status quantized_buffers(rq_trainer *trainer, tr_conv *conv, size_t weights,
                                   rq_error *err)
{
    rq_arena *arena = &trainer->arena;
    const size_t oc = (size_t)conv->shape.oc;
    if (!(conv->folded = rq_arena_array(arena, float, weights)) ||
        !(conv->q = rq_arena_array(arena, float, weights)) ||
        !(conv->dq = rq_arena_array(arena, float, weights)) ||
        !(conv->s_w = rq_arena_array(arena, float, oc)) ||
        !(conv->channel_scale = rq_arena_array(arena, float, oc)) ||
        !(conv->factor = rq_arena_array(arena, double, oc)) ||
        !(conv->sigma = rq_arena_array(arena, double, oc)) ||
        !(conv->du_dot_u = rq_arena_array(arena, double, oc)))
        return rq_no_memory(err);
    return RQ_OK;
}

static double away_from_zero(double factor)
{
    return fabs(factor) > FACTOR_MIN ? factor : copysign(FACTOR_MIN, factor);
}

/* Fold, scale and quantize one output channel's weights; the channel's factor and scale of its sums
 * follow. */
static void quantize_channel(tr_conv *conv, int64_t oc)
{
    const size_t taps = rq_layer_channel_size(&conv->layer), at = (size_t)oc * taps;
    rq_layer_fold(&conv->layer, oc, conv->folded + at);
    const float inverse = 1.0f / conv->s_w[oc];
    for (size_t i = at; i < at + taps; i++)
        conv->q[i] = (float)rq_quantize_weight(conv->folded[i], inverse);
    const rq_layer_view *layer = &conv->layer;
    conv->factor[oc] = rq_layer_bn_factor(layer, oc);
    conv->sigma[oc] = layer->gamma ? sqrt((double)layer->var[oc] + (double)layer->eps) : 1.0;
    conv->channel_scale[oc] =
        (float)((double)conv->s_x * (double)conv->s_w[oc] / away_from_zero(conv->factor[oc]));
}

static rq_train_source source_of(const tr_unit *unit)
{
    const tr_value *src = unit->src[0];
    return (rq_train_source){.f32 = src->data, .bf16 = src->bf16, .u8 = src->u8};
}

/* The scales of source and weights. */
static void find_scales(tr_conv *conv, const tr_value *src)
{
    conv->s_x = conv->layer.std ? 1.0f : src->scale;
    rq_layer_weight_scales(&conv->layer, conv->s_x, conv->s_w);
}

static rq_status forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    tr_conv *conv = unit->conv;
    const double start = rq_clock();
    const float *weight = conv->weight;
    if (conv->quantized) {
        find_scales(conv, unit->src[0]);
#pragma omp parallel for schedule(static)
        for (int64_t oc = 0; oc < conv->shape.oc; oc++)
            quantize_channel(conv, oc);
        weight = conv->q;
    } else {
        unit->dst->scale = unit->src[0]->scale;
    }
    const double ready = rq_clock();
    trainer->profile.weights += ready - start;
    const rq_status status =
        rq_train_conv_forward(conv->conv, source_of(unit), weight, unit->dst->data, err);
    trainer->profile.forward_conv += rq_clock() - ready;
    return status;
}

enum { LANES = 8 }; /* sums, so that the compiler may keep them in one vector */

static inline __attribute__((always_inline)) void
unfold_lanes(const float *restrict folded, const float *restrict dq, float inverse, float factor,
             float *restrict dweight, double *restrict sums, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        const bool inside = fabsf(folded[k] * inverse) < 127.5f; /* ties go to even */
        const float dfolded = inside ? dq[k] * inverse : 0.0f;
        sums[k] += (double)dfolded * (double)folded[k];
        dweight[k] = dfolded * factor;
    }
}

/* From the gradient of the integers to that of weights which share a factor: straight through where
 * the integer, before it is clamped, lies in -127 to 127. Returns the sum of dfolded * folded. */
RQ_SIMD static double unfold_run(const float *folded, const float *dq, float inverse, float factor,
                                 float *dweight, size_t n)
{
    double sums[LANES] = {0.0}, total = 0.0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        unfold_lanes(folded + i, dq + i, inverse, factor, dweight + i, sums, LANES);
    unfold_lanes(folded + i, dq + i, inverse, factor, dweight + i, sums, n - i);
    for (size_t k = 0; k < LANES; k++)
        total += sums[k];
    return total;
}

/* The gradient of a channel's weights, and what gamma receives through the folding factor t = gamma
 * / sigma: sum dfolded * folded / t, less the 1 / t after the convolution. */
static void unfold_channel(tr_conv *conv, int64_t oc)
{
    const rq_layer_view *layer = &conv->layer;
    const size_t taps = rq_layer_channel_size(layer);
    const size_t run = layer->std ? (size_t)layer->taps : taps; /* weights that share a factor */
    const float inverse = 1.0f / conv->s_w[oc];
    const int64_t first = oc / (layer->oc / layer->groups) * layer->ic; /* of the group */
    const double t = conv->factor[oc]; /* as rq_layer_factor had it before var moved */
    double dot = 0.0;
    for (size_t i = 0; i < taps; i += run) {
        const size_t at = (size_t)oc * taps + i, ic = (size_t)first + i / run;
        const double factor = layer->std ? t / (255.0 * (double)layer->std[ic]) : t;
        dot += unfold_run(conv->folded + at, conv->dq + at, inverse, (float)factor,
                          conv->dweight + at, run);
    }
    if (conv->dgamma)
        conv->dgamma[oc] += (float)((dot - conv->du_dot_u[oc]) / away_from_zero(conv->factor[oc]) /
                                    conv->sigma[oc]);
}

/* Where the gradient of the source goes; NULL: not needed. */
static void *source_gradient(const tr_unit *unit)
{
    return unit->conv->leaves_bf16 ? (void *)unit->src[0]->gradient_bf16 : (void *)unit->dsrc[0];
}

/* The gradient of the unit's sums, as the convolution reads it. */
static const void *gradient_of(const tr_value *dst)
{
    if (!dst->gradient_bf16)
        return tr_summed_gradient(dst);
    if (dst->n_readers)
        tr_round(dst->gradient_bf16, tr_summed_gradient(dst), rq_shape_elems(&dst->shape));
    return dst->gradient_bf16;
}

static rq_status backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    tr_conv *conv = unit->conv;
    const double start = rq_clock();
    const void *ddst = gradient_of(unit->dst);
    const rq_status status = rq_train_conv_backward(
        conv->conv, source_of(unit), conv->quantized ? conv->q : conv->weight, ddst,
        conv->quantized ? conv->dq : conv->dweight, source_gradient(unit), err);
    const double convolved = rq_clock();
    trainer->profile.backward_conv += convolved - start;
    if (!status && conv->quantized) {
#pragma omp parallel for schedule(static)
        for (int64_t oc = 0; oc < conv->shape.oc; oc++)
            unfold_channel(conv, oc);
    }
    trainer->profile.weights += rq_clock() - convolved;
    return status;
}

/* What the integer contract takes for granted; batch norm is folded into sums that have no bias
 * yet. */
static rq_status check_quantized(const tr_conv *conv, const tr_value *src, rq_error *err)
{
    if (!conv->layer.std && !src->quantized)
        return rq_fail(err, RQ_ERR_UNSUPPORTED,
                       "quantized weights, but the input is not quantized");
    if (conv->layer.gamma && conv->layer.bias)
        return rq_fail(err, RQ_ERR_UNSUPPORTED,
                       "a quantized convolution has a bias and a batch norm");
    return RQ_OK;
}

/* Can the gradient of the source stay bf16? An eltwise must have made it, and nobody else read
 * it. */
static bool leaves_bf16(const rq_trainer *trainer, const tr_unit *unit, int node)
{
    const rq_graph *graph = &trainer->model->graph;
    const tr_value *src = unit->src[0];
    if (unit->conv->precision != RQ_PRECISION_BF16 || !src->needs_gradient ||
        rq_graph_only_reader(graph, graph->nodes[node].input[0]) < 0)
        return false;
    const tr_unit *producer = tr_producer(trainer, src);
    return producer && producer->eltwise;
}

static void destroy(tr_unit *unit)
{
    rq_train_conv_destroy(unit->conv->conv);
}

static rq_status create_quantized(rq_trainer *trainer, tr_unit *unit, int node, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    tr_conv *conv = unit->conv;
    conv->quantized = true;
    conv->stored_scale = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT_SCALE));
    RQ_TRY(rq_layer_view_init(&conv->layer, trainer->model, node, err));
    RQ_TRY(check_quantized(conv, unit->src[0], err));
    RQ_TRY(quantized_buffers(trainer, conv,
                             rq_tensor_elems(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)), err));
    unit->dst->channel_scale = conv->channel_scale;
    unit->dst->quantized_conv = conv;
    return RQ_OK;
}

rq_status tr_conv_create(rq_trainer *trainer, tr_unit *unit, int node, rq_error *err)
{
    const rq_node *n = &trainer->model->graph.nodes[node];
    tr_conv *conv = unit->conv;
    const bool quantized = n->slot[RQ_SLOT_WEIGHT_SCALE] >= 0;
    conv->shape = rq_graph_conv_shape(&trainer->model->graph, trainer->shapes, node);
    conv->precision = rq_train_conv_precision(&conv->shape, trainer->options.precision);
    conv->weight = rq_graph_tensor(&trainer->model->graph, node, RQ_SLOT_WEIGHT)->data;
    conv->dweight = trainer->gradients[n->slot[RQ_SLOT_WEIGHT]];
    conv->leaves_bf16 = leaves_bf16(trainer, unit, node);
    unit->forward = forward;
    unit->backward = backward;
    unit->destroy = destroy;
    const rq_train_conv_options options = {
        .precision = conv->precision,
        .with_dsrc = unit->src[0]->needs_gradient,
        .exact_forward = quantized,
        .u8_source = unit->src[0]->is_u8,
        .bf16_dsrc = conv->leaves_bf16,
    };
    RQ_TRY(rq_train_conv_create(&conv->conv, trainer->dnn, &conv->shape, &options, err));
    return quantized ? create_quantized(trainer, unit, node, err) : RQ_OK;
}

void tr_conv_settle(tr_unit *unit)
{
    tr_conv *conv = unit->conv;
    if (!conv->quantized)
        return;
    find_scales(conv, unit->src[0]);
    memcpy(conv->stored_scale, conv->s_w, (size_t)conv->shape.oc * sizeof *conv->s_w);
}
