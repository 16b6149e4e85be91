/* The convolution unit: float, or quantized with the batch norm behind it folded into its weights.
 */
#include <math.h>
#include <string.h>

#include "qat/step/eltwise_passes.h"
#include "qat/step/units.h"
#include "runtime/base/clock.h"
#include "runtime/base/simd.h"

/* A folding factor t near 0 (gamma near 0) would make 1 / t useless; the layer's output is then
 * beta anyway. */
#define FACTOR_MIN 1e-12

static rq_status quantized_buffers(rq_trainer *trainer, conv_unit *conv, size_t weights,
                                   rq_error *err)
{
    const size_t oc = (size_t)conv->shape.oc;
    const struct {
        void **array;
        size_t n, size;
    } arrays[] = {
        {(void **)&conv->folded, weights, sizeof(float)},
        {(void **)&conv->q, weights, sizeof(float)},
        {(void **)&conv->dq, weights, sizeof(float)},
        {(void **)&conv->s_w, oc, sizeof(float)},
        {(void **)&conv->channel_scale, oc, sizeof(float)},
        {(void **)&conv->factor, oc, sizeof(double)},
        {(void **)&conv->sigma, oc, sizeof(double)},
        {(void **)&conv->du_dot_u, oc, sizeof(double)},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        const rq_status status =
            rq_arena_array_old(&trainer->arena, arrays[i].array, arrays[i].n, arrays[i].size, err);
        if (status != RQ_OK)
            return status;
    }
    return RQ_OK;
}

static double away_from_zero(double factor)
{
    return fabs(factor) > FACTOR_MIN ? factor : copysign(FACTOR_MIN, factor);
}

/* Fold, scale and quantize one output channel's weights; the channel's factor and scale of its sums
 * follow. */
static void quantize_channel(conv_unit *conv, int64_t oc)
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

static rq_status forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    conv_unit *conv = unit->conv;
    const double start = rq_clock();
    const float *weight = conv->weight;
    if (conv->quantized) {
        conv->s_x = conv->layer.std ? 1.0f : unit->src[0]->scale;
        rq_layer_weight_scales(&conv->layer, conv->s_x, conv->s_w);
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
 * / sigma: sum dfolded * folded / t, less the 1 / t behind the convolution. */
static void unfold_channel(conv_unit *conv, int64_t oc)
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

float *tr_summed_gradient(const tr_value *value)
{
    const size_t n = rq_shape_elems(&value->shape);
    for (int k = 1; k < value->n_readers; k++) {
        enum { CHUNK = 16384 };
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < n; i += CHUNK)
            eltwise_add(value->gradient[0] + i, value->gradient[k] + i,
                        n - i < CHUNK ? n - i : CHUNK);
    }
    return value->gradient[0];
}

void tr_round(uint16_t *dst, const float *src, size_t n)
{
    enum { CHUNK = 16384 };
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        eltwise_round(dst + i, src + i, n - i < CHUNK ? n - i : CHUNK);
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
    conv_unit *conv = unit->conv;
    const double start = rq_clock();
    const void *ddst = gradient_of(unit->dst);
    const rq_status status = rq_train_conv_backward(
        conv->conv, source_of(unit), conv->quantized ? conv->q : conv->weight, ddst,
        conv->quantized ? conv->dq : conv->dweight, source_gradient(unit), err);
    const double convolved = rq_clock();
    trainer->profile.backward_conv += convolved - start;
    if (status == RQ_OK && conv->quantized) {
#pragma omp parallel for schedule(static)
        for (int64_t oc = 0; oc < conv->shape.oc; oc++)
            unfold_channel(conv, oc);
    }
    trainer->profile.weights += rq_clock() - convolved;
    return status;
}

/* What the integer contract takes for granted; batch norm is folded into sums that have no bias
 * yet. */
static rq_status check_quantized(const conv_unit *conv, const tr_value *src, rq_error *err)
{
    if (!conv->layer.std && !src->quantized)
        return rq_fail(err, RQ_ERR_UNSUPPORTED,
                       "quantized weights, but the input is not quantized");
    if (conv->layer.gamma && conv->layer.bias)
        return rq_fail(err, RQ_ERR_UNSUPPORTED,
                       "a quantized convolution has a bias and a batch norm");
    return RQ_OK;
}

/* Can the gradient of the source stay bf16? A mix must read it, and from nobody else. */
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

rq_status tr_conv_create(rq_trainer *trainer, tr_unit *unit, int node, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    conv_unit *conv = unit->conv;
    const rq_tensor *weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT);
    const rq_tensor *scale = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT_SCALE);
    conv->shape = rq_graph_conv_shape(graph, trainer->shapes, node);
    conv->precision = rq_train_conv_precision(&conv->shape, trainer->options.precision);
    conv->weight = weight->data;
    conv->dweight = trainer->gradients[graph->nodes[node].slot[RQ_SLOT_WEIGHT]];
    unit->forward = forward;
    unit->backward = backward;
    unit->destroy = destroy;
    const rq_train_conv_options options = {
        .precision = conv->precision,
        .with_dsrc = unit->src[0]->needs_gradient,
        .exact_forward = scale != NULL,
        .u8_source = unit->src[0]->is_u8,
        .bf16_dsrc = leaves_bf16(trainer, unit, node),
    };
    conv->leaves_bf16 = options.bf16_dsrc;
    rq_status status = rq_train_conv_create(&conv->conv, trainer->dnn, &conv->shape, &options, err);
    if (status != RQ_OK || !scale)
        return status;
    conv->quantized = true;
    conv->stored_scale = rq_tensor_f32(scale);
    status = rq_layer_view_init(&conv->layer, trainer->model, node, err);
    if (status == RQ_OK)
        status = check_quantized(conv, unit->src[0], err);
    if (status == RQ_OK)
        status = quantized_buffers(trainer, conv, rq_tensor_elems(weight), err);
    unit->dst->channel_scale = conv->channel_scale;
    unit->dst->quantized_conv = conv;
    return status;
}
