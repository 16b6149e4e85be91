/* Folding and quantizing one layer. Channels are independent, so the loops over them run in
 * parallel with the same result at any number of threads. Folding: Jacob et al. 2018 (arXiv
 * 1712.05877), section 3.2. */
#include "runtime/model/quant.h"

#include <assert.h>
#include <string.h>

#include "runtime/model/gate.h"
#include "runtime/model/model.h"

#define INTEGER_BIAS_MAX 0x1p30

enum { PARALLEL_ELEMS = 1 << 16 }; /* fewer weights are done before threads have woken up */

rq_status rq_integer_bias(double bias, float s_x, float s_w, int32_t *out, rq_error *err)
{
    const double b = rint(bias / ((double)s_x * (double)s_w));
    if (!(fabs(b) <= INTEGER_BIAS_MAX))
        return rq_fail(err, RQ_ERR_RANGE,
                       "bias %g is %g steps of the accumulator (scales %g and %g), more than 2^30",
                       bias, b, (double)s_x, (double)s_w);
    *out = (int32_t)b;
    return RQ_OK;
}

static rq_status check_multiplier(float m, rq_error *err)
{
    return m > 0.0f && isfinite(m)
               ? RQ_OK
               : rq_fail(err, RQ_ERR_RANGE, "the scales give the multiplier %g", (double)m);
}

rq_status rq_pool_rule(rq_rule *out, rq_qparams x, rq_qparams y, int64_t n_pixels, rq_error *err)
{
    assert(n_pixels > 0);
    const double n = (double)n_pixels;
    const double b = rint((double)y.zero_point * (double)y.scale * n / (double)x.scale) -
                     (double)x.zero_point * n;
    if (n_pixels > INT32_MAX / 255 || !(fabs(b) <= INTEGER_BIAS_MAX))
        return rq_fail(err, RQ_ERR_RANGE, "the sum of %lld pixels and its bias %g leave s32",
                       (long long)n_pixels, b);
    out->bias = (int32_t)b;
    out->multiplier = (float)((double)x.scale / ((double)y.scale * n));
    return check_multiplier(out->multiplier, err);
}

rq_status rq_gate_rule(rq_rule *out, rq_qparams x, rq_qparams y, rq_error *err)
{
    RQ_TRY(rq_integer_bias((double)y.zero_point * (double)y.scale, x.scale, RQ_GATE_SCALE,
                           &out->bias, err));
    out->multiplier = rq_multiplier(x.scale, RQ_GATE_SCALE, y.scale);
    return check_multiplier(out->multiplier, err);
}

int64_t rq_rule_bound(const rq_rule *rule, int64_t low, int64_t high)
{
    assert(low <= high);
    const int64_t sums[] = {low, high, low + rule->bias, high + rule->bias};
    int64_t largest = 0;
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
        const int64_t magnitude = sums[i] < 0 ? -sums[i] : sums[i];
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

/* The batch norm that reads a layer; -1 when none does. */
static rq_status find_batch_norm(const rq_graph *graph, int node, int *out, rq_error *err)
{
    *out = rq_graph_next(graph, node, RQ_OP_BATCH_NORM);
    for (int i = node + 1; *out < 0 && i < graph->n_nodes; i++) {
        const rq_node *reader = &graph->nodes[i];
        if (reader->op == RQ_OP_BATCH_NORM && reader->input[0] == node)
            return rq_fail(err, RQ_ERR_MODEL,
                           "%s: other nodes read it too, batch norm %s must be the only one",
                           graph->nodes[node].name, reader->name);
    }
    return RQ_OK;
}

static rq_status check_finite(const char *name, const float *values, size_t n, const char *what,
                              rq_error *err)
{
    for (size_t i = 0; values && i < n; i++)
        if (!isfinite(values[i]))
            return rq_fail(err, RQ_ERR_MODEL, "%s: %s %zu is %g", name, what, i, (double)values[i]);
    return RQ_OK;
}

static rq_status check_view(const rq_layer_view *layer, rq_error *err)
{
    const size_t oc = (size_t)layer->oc;
    const struct {
        const float *values;
        size_t n;
        const char *what;
    } parts[] = {
        {layer->weight, oc * rq_layer_channel_size(layer), "weight"},
        {layer->bias, oc, "bias"},
        {layer->gamma, oc, "batch norm weight"},
        {layer->beta, oc, "batch norm bias"},
        {layer->mean, oc, "batch norm mean"},
        {layer->var, oc, "batch norm variance"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        RQ_TRY(check_finite(layer->name, parts[i].values, parts[i].n, parts[i].what, err));
    for (size_t i = 0; layer->var && i < oc; i++)
        if (layer->var[i] < 0.0f || !(layer->eps > 0.0f))
            return rq_fail(err, RQ_ERR_MODEL, "%s: batch norm variance %zu is %g, eps %g",
                           layer->name, i, (double)layer->var[i], (double)layer->eps);
    for (int64_t i = 0; layer->std && i < layer->groups * layer->ic; i++)
        if (!(layer->std[i] > 0.0f) || !isfinite(layer->std[i]))
            return rq_fail(err, RQ_ERR_MODEL, "%s: std %lld of the pixels is %g", layer->name,
                           (long long)i, (double)layer->std[i]);
    return RQ_OK;
}

static const float *slot_f32(const rq_graph *graph, int node, rq_slot slot)
{
    const rq_tensor *tensor = rq_graph_tensor(graph, node, slot);
    return tensor ? tensor->data : NULL;
}

int rq_quantizer_of(const rq_graph *graph, int node)
{
    while (graph->nodes[node].op == RQ_OP_MAX_POOL)
        node = graph->nodes[node].input[0];
    return graph->nodes[node].op == RQ_OP_FAKE_QUANT ? node : -1;
}

static const uint8_t *zero_point_of(const rq_graph *graph, int node)
{
    const rq_tensor *tensor = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT);
    return tensor ? tensor->data : NULL;
}

/* What a quantized layer reads and gives: pixels, or values with a zero point. last: the layer or
 * its batch norm. */
static void find_zero_points(rq_layer_view *view, const rq_model *model, int node, int last)
{
    const rq_graph *graph = &model->graph;
    const int input = rq_quantizer_of(graph, graph->nodes[node].input[0]);
    const int output = rq_graph_next(graph, last, RQ_OP_FAKE_QUANT);
    if (rq_graph_producer(graph, node, 0)->op == RQ_OP_INPUT)
        view->std = model->preprocess.std;
    else if (input >= 0)
        view->in_zero_point = zero_point_of(graph, input);
    if (output < 0)
        return;
    view->out_zero_point = zero_point_of(graph, output);
    view->out_scale = slot_f32(graph, output, RQ_SLOT_SCALE);
}

rq_status rq_layer_view_init(rq_layer_view *out, const rq_model *model, int node, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    const rq_node *layer = &graph->nodes[node];
    if (layer->op != RQ_OP_CONV && layer->op != RQ_OP_LINEAR)
        return rq_fail(err, RQ_ERR_MODEL, "%s: %s has no weights to quantize", layer->name,
                       rq_op_name(layer->op));
    int bn = -1;
    RQ_TRY(find_batch_norm(graph, node, &bn, err));

    const bool is_conv = layer->op == RQ_OP_CONV;
    const rq_tensor *weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT);
    rq_layer_view view = {
        .name = layer->name,
        .oc = weight->dim[0],
        .ic = weight->dim[1],
        .taps = is_conv ? weight->dim[2] * weight->dim[3] : 1,
        .groups = is_conv ? layer->conv.groups : 1,
        .weight = weight->data,
        .bias = slot_f32(graph, node, RQ_SLOT_BIAS),
    };
    if (bn >= 0) {
        view.gamma = slot_f32(graph, bn, RQ_SLOT_WEIGHT);
        view.beta = slot_f32(graph, bn, RQ_SLOT_BIAS);
        view.mean = slot_f32(graph, bn, RQ_SLOT_MEAN);
        view.var = slot_f32(graph, bn, RQ_SLOT_VAR);
        view.eps = graph->nodes[bn].eps;
    }
    if (layer->slot[RQ_SLOT_WEIGHT_SCALE] >= 0)
        find_zero_points(&view, model, node, bn >= 0 ? bn : node);
    if (view.in_zero_point && is_conv && (layer->conv.pad[0] > 0 || layer->conv.pad[1] > 0))
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: pads %s, which has a zero point: the border would not be 0",
                       layer->name, rq_graph_producer(graph, node, 0)->name);
    RQ_TRY(check_view(&view, err));
    *out = view;
    return RQ_OK;
}

bool rq_is_matrix(const rq_node *node, const rq_shape *in)
{
    const rq_conv_attr *conv = &node->conv;
    return node->op == RQ_OP_LINEAR ||
           (node->op == RQ_OP_CONV && conv->groups == 1 && conv->kernel[0] == 1 &&
            conv->kernel[1] == 1 && conv->pad[0] == 0 && conv->pad[1] == 0 && in->h == 1 &&
            in->w == 1);
}

double rq_layer_bn_factor(const rq_layer_view *layer, int64_t oc)
{
    if (!layer->gamma)
        return 1.0;
    return (double)layer->gamma[oc] / sqrt((double)layer->var[oc] + (double)layer->eps);
}

double rq_layer_bias(const rq_layer_view *layer, int64_t oc)
{
    const double conv_bias = layer->bias ? (double)layer->bias[oc] : 0.0;
    const double zero =
        layer->out_zero_point ? (double)*layer->out_zero_point * (double)*layer->out_scale : 0.0;
    if (!layer->gamma)
        return conv_bias + zero;
    const double t = rq_layer_bn_factor(layer, oc);
    return (double)layer->beta[oc] - (double)layer->mean[oc] * t + conv_bias * t + zero;
}

/* Index of input channel ic of oc's group, counted over all groups. */
static int64_t input_channel(const rq_layer_view *layer, int64_t oc, int64_t ic)
{
    return oc / (layer->oc / layer->groups) * layer->ic + ic;
}

float rq_layer_factor(const rq_layer_view *layer, int64_t oc, int64_t ic)
{
    const double t = rq_layer_bn_factor(layer, oc);
    if (!layer->std)
        return (float)t;
    return (float)(t / (255.0 * (double)layer->std[input_channel(layer, oc, ic)]));
}

/* Weights that share one factor are together: all of a channel, or for pixels one input channel's
 * taps. */
typedef struct weight_runs {
    int64_t n_runs, n_weights;
} weight_runs;

static weight_runs channel_runs(const rq_layer_view *layer)
{
    return layer->std ? (weight_runs){layer->ic, layer->taps}
                      : (weight_runs){1, layer->ic * layer->taps};
}

static const float *channel_weights(const rq_layer_view *layer, int64_t oc)
{
    return layer->weight + (size_t)oc * rq_layer_channel_size(layer);
}

void rq_layer_fold(const rq_layer_view *layer, int64_t oc, float *folded)
{
    const weight_runs runs = channel_runs(layer);
    const float *w = channel_weights(layer, oc);
    for (int64_t r = 0; r < runs.n_runs; r++, w += runs.n_weights, folded += runs.n_weights) {
        const float factor = rq_layer_factor(layer, oc, r);
        for (int64_t i = 0; i < runs.n_weights; i++)
            folded[i] = w[i] * factor;
    }
}

/* Magnitudes of floats sort as their bits do, and integer maxima vectorise. NaN wins, so it is not
 * lost. */
static float max_abs(const float *x, int64_t n)
{
    int32_t max = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= INT32_MAX;
        max = bits > max ? bits : max;
    }
    float value;
    memcpy(&value, &max, sizeof value);
    return value;
}

static float channel_scale(const rq_layer_view *layer, int64_t oc, float s_x)
{
    const weight_runs runs = channel_runs(layer);
    const float *w = channel_weights(layer, oc);
    float max = 0.0f;
    for (int64_t r = 0; r < runs.n_runs; r++, w += runs.n_weights) {
        /* rounding is monotone: the largest product is the product of the largest */
        const float product = max_abs(w, runs.n_weights) * fabsf(rq_layer_factor(layer, oc, r));
        if (!(product <= max))
            max = product; /* NaN too */
    }
    return rq_weight_scale(max, rq_layer_bias(layer, oc), (double)s_x);
}

static bool worth_threads(const rq_layer_view *layer)
{
    return (size_t)layer->oc * rq_layer_channel_size(layer) >= PARALLEL_ELEMS;
}

void rq_layer_weight_scales(const rq_layer_view *layer, float s_x, float *scale)
{
#pragma omp parallel for schedule(static) if (worth_threads(layer))
    for (int64_t oc = 0; oc < layer->oc; oc++)
        scale[oc] = channel_scale(layer, oc, s_x);
}

void rq_layer_quantize_channel(const rq_layer_view *layer, int64_t oc, float s_w, int8_t *q)
{
    const weight_runs runs = channel_runs(layer);
    const float inverse_scale = 1.0f / s_w;
    const float *w = channel_weights(layer, oc);
    for (int64_t r = 0; r < runs.n_runs; r++, w += runs.n_weights, q += runs.n_weights) {
        const float factor = rq_layer_factor(layer, oc, r);
        for (int64_t i = 0; i < runs.n_weights; i++)
            q[i] = rq_quantize_weight(w[i] * factor, inverse_scale);
    }
}

void rq_layer_quantize(const rq_layer_view *layer, const float *scale, int8_t *q)
{
    const size_t n = rq_layer_channel_size(layer);
#pragma omp parallel for schedule(static) if (worth_threads(layer))
    for (int64_t oc = 0; oc < layer->oc; oc++)
        rq_layer_quantize_channel(layer, oc, scale[oc], q + (size_t)oc * n);
}

rq_status rq_layer_integer_bias(const rq_layer_view *layer, int64_t oc, float s_x, float s_w,
                                const int8_t *q, const uint8_t *zero_point, int32_t *out,
                                rq_error *err)
{
    int32_t real_bias = 0;
    const rq_status status = rq_integer_bias(rq_layer_bias(layer, oc), s_x, s_w, &real_bias, err);
    if (status) {
        rq_error_prefix(err, "%s: channel %lld", layer->name, (long long)oc);
        return status;
    }
    int64_t b = real_bias;
    for (int64_t ic = 0; q && ic < layer->ic; ic++) {
        const int64_t z = zero_point             ? zero_point[input_channel(layer, oc, ic)]
                          : layer->in_zero_point ? *layer->in_zero_point
                                                 : 0;
        for (int64_t i = 0; i < layer->taps && z; i++)
            b -= z * q[ic * layer->taps + i];
    }
    if (b < INT32_MIN || b > INT32_MAX)
        return rq_fail(err, RQ_ERR_RANGE, "%s: channel %lld: the bias with zero points is %lld",
                       layer->name, (long long)oc, (long long)b);
    *out = (int32_t)b;
    return RQ_OK;
}
