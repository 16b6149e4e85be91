/* Plain loops over nodes and elements. */
#include "tests/qat/reference.h"

#include <math.h>
#include <string.h>

#include "qat/step/convolution.h"
#include "tests/support/test.h"

static double *new_array(size_t n)
{
    double *array = rq_alloc(n * sizeof(double));
    assert_non_null(array);
    return array;
}

void reference_init(reference *r, const rq_model *model, const net_batch *batch, bool frozen,
                    double smoothing)
{
    rq_error err = RQ_ERROR_INIT;
    memset(r, 0, sizeof *r);
    r->model = model;
    r->batch = batch;
    r->frozen = frozen;
    r->smoothing = smoothing;
    const rq_graph *graph = &model->graph;
    const int side = model->preprocess.crop;
    assert_ok(rq_graph_shapes(graph, batch->n, side, side, r->shapes, &err), &err);
    for (int i = 0; i < graph->n_nodes; i++) {
        r->values[i] = new_array(rq_shape_elems(&r->shapes[i]));
        if (graph->nodes[i].slot[RQ_SLOT_WEIGHT_SCALE] >= 0 && graph->nodes[i].input[0] == 0)
            r->image_is_levels = true;
    }
    r->params = rq_alloc((size_t)graph->n_params * sizeof *r->params);
    for (int i = 0; i < graph->n_params; i++) {
        const rq_tensor *tensor = &graph->params[i].tensor;
        if (tensor->dtype != RQ_F32)
            continue;
        r->params[i] = new_array(rq_tensor_elems(tensor));
        for (size_t k = 0; k < rq_tensor_elems(tensor); k++)
            r->params[i][k] = (double)rq_tensor_f32(tensor)[k];
    }
}

void reference_deinit(reference *r)
{
    const rq_graph *graph = &r->model->graph;
    for (int i = 0; i < graph->n_params; i++)
        rq_free(r->params[i]);
    rq_free(r->params);
    for (int i = 0; i < graph->n_nodes; i++) {
        const staircase stairs[] = {r->weights[i], r->activations[i]};
        for (int k = 0; k < 2; k++) {
            rq_free(stairs[k].x0);
            rq_free(stairs[k].y0);
            rq_free(stairs[k].passes);
        }
        rq_free(r->values[i]);
        rq_free(r->offsets[i]);
        rq_free(r->zeros[i]);
        rq_free(r->factors[i]);
    }
}

static const double *slot_values(const reference *r, int node, rq_slot slot)
{
    const int param = r->model->graph.nodes[node].slot[slot];
    return param < 0 ? NULL : r->params[param];
}

/* ---- straight-through quantizers ---- */

/* x becomes Q(x). While anchors are taken: numbers[i] is the trainer's (less the zero point), Q(x0)
 * = scale[i / period] * numbers[i], and x0 must be within half a step of it (TIE: f32 may round the
 * other way). low and high: the ends of the numbers; shift: what rounding the zero point adds. */
static void quantize(const reference *r, staircase *q, double *x, size_t n, const float *numbers,
                     const float *scale, size_t period, double low, double high, double shift)
{
    static const double TIE = 5e-3;
    if (r->anchor) {
        q->x0 = new_array(n);
        q->y0 = new_array(n);
        q->passes = rq_alloc(n * sizeof *q->passes);
        for (size_t i = 0; i < n; i++) {
            const double s = (double)scale[i / period], steps = (x[i] + shift) / s;
            const double clamped = fmin(fmax(steps, low), high);
            assert_close(numbers[i], clamped, 0.5 + TIE, 0.0);
            q->x0[i] = x[i];
            q->y0[i] = s * (double)numbers[i];
            q->passes[i] = rint(steps) >= low && rint(steps) <= high;
        }
    }
    for (size_t i = 0; i < n; i++)
        x[i] = q->y0[i] + (q->passes[i] ? x[i] - q->x0[i] : 0.0);
}

static const tr_conv *conv_of(const rq_trainer *trainer, int node)
{
    for (int i = 0; i < trainer->n_units; i++)
        if (trainer->units[i].node == node && trainer->units[i].conv)
            return trainer->units[i].conv;
    return NULL;
}

static int bn_of(const reference *r, int node)
{
    const rq_graph *graph = &r->model->graph;
    for (int i = node + 1; i < graph->n_nodes; i++)
        if (graph->nodes[i].op == RQ_OP_BATCH_NORM && graph->nodes[i].input[0] == node)
            return i;
    return -1;
}

static bool is_frozen(const reference *r, int bn)
{
    return r->frozen || (r->frozen_nodes && r->frozen_nodes[bn]);
}

static double sigma_of(const reference *r, int bn, int64_t c)
{
    return sqrt(slot_values(r, bn, RQ_SLOT_VAR)[c] + (double)r->model->graph.nodes[bn].eps);
}

/* t of channel c of a quantized layer. */
static double factor_of(reference *r, int node, int64_t c)
{
    const int bn = bn_of(r, node);
    const double t = bn < 0 ? 1.0 : slot_values(r, bn, RQ_SLOT_WEIGHT)[c] / sigma_of(r, bn, c);
    if (r->anchor)
        r->factors[node][c] = t;
    return r->hold_factor ? r->factors[node][c] : t;
}

/* What rounding the folded bias b to an integer adds to the layer's result. */
static void anchor_offset(reference *r, int node, const tr_conv *conv, int64_t c, double t)
{
    const int bn = bn_of(r, node);
    const double *bias = slot_values(r, node, RQ_SLOT_BIAS);
    const double step = (double)conv->s_x * (double)conv->s_w[c];
    double b = bias ? bias[c] * t : 0.0;
    if (bn >= 0)
        b += slot_values(r, bn, RQ_SLOT_BIAS)[c] - slot_values(r, bn, RQ_SLOT_MEAN)[c] * t;
    if (conv->layer.out_zero_point)
        b += (double)*conv->layer.out_zero_point * (double)*conv->layer.out_scale;
    r->offsets[bn < 0 ? node : bn][c] =
        bn < 0 || is_frozen(r, bn) ? rint(b / step) * step - b : 0.0;
}

/* The weights that a layer computes with, [OC, IC/G, taps]; the caller frees. */
static double *weights_of(reference *r, int node)
{
    const rq_node *n = &r->model->graph.nodes[node];
    const rq_tensor *tensor = rq_graph_tensor(&r->model->graph, node, RQ_SLOT_WEIGHT);
    const size_t elems = rq_tensor_elems(tensor), oc = (size_t)tensor->dim[0];
    const size_t per_channel = elems / oc;
    const size_t ic = (size_t)tensor->dim[1];
    double *w = new_array(elems);
    memcpy(w, slot_values(r, node, RQ_SLOT_WEIGHT), elems * sizeof *w);
    if (n->slot[RQ_SLOT_WEIGHT_SCALE] < 0)
        return w;
    const tr_conv *conv = r->anchor ? conv_of(r->anchor, node) : NULL;
    const int bn = bn_of(r, node);
    if (r->anchor) {
        r->factors[node] = new_array(oc);
        r->offsets[bn < 0 ? node : bn] = new_array(oc);
    }
    for (size_t c = 0; c < oc; c++) {
        const double t = factor_of(r, node, (int64_t)c);
        for (size_t i = 0; i < per_channel; i++) {
            const double std =
                (double)r->model->preprocess.std[n->input[0] ? 0 : i * ic / per_channel];
            w[c * per_channel + i] *= n->input[0] ? t : t / (255.0 * std);
        }
        if (r->anchor)
            anchor_offset(r, node, conv, (int64_t)c, t);
    }
    quantize(r, &r->weights[node], w, elems, conv ? conv->q : NULL, conv ? conv->s_w : NULL,
             per_channel, -127.0, 127.0, 0.0);
    for (size_t c = 0; c < oc; c++)
        for (size_t i = 0; i < per_channel; i++)
            w[c * per_channel + i] /= factor_of(r, node, (int64_t)c);
    return w;
}

/* ---- operators ---- */

static void run_input(reference *r)
{
    const rq_preprocess *pre = &r->model->preprocess;
    for (size_t i = 0; i < rq_shape_elems(&r->shapes[0]); i++) {
        const double p = (double)r->batch->pixels[i], mean = (double)pre->mean[i % 3];
        r->values[0][i] = r->image_is_levels ? p - rint(255.0 * mean)
                                             : (p / 255.0 - mean) / (double)pre->std[i % 3];
    }
}

static double sum_taps(const double *src, const rq_shape *in, const rq_conv_attr *conv,
                       const double *w, int64_t icg, int64_t first, int64_t n, int64_t y, int64_t x)
{
    double sum = 0.0;
    for (int u = 0; u < conv->kernel[0]; u++)
        for (int v = 0; v < conv->kernel[1]; v++) {
            const int64_t iy = y * conv->stride[0] - conv->pad[0] + u * conv->dilation[0];
            const int64_t ix = x * conv->stride[1] - conv->pad[1] + v * conv->dilation[1];
            if (iy < 0 || ix < 0 || iy >= in->h || ix >= in->w)
                continue;
            const double *pixel = src + ((n * in->h + iy) * in->w + ix) * in->c + first;
            for (int64_t ic = 0; ic < icg; ic++)
                sum += pixel[ic] * w[(ic * conv->kernel[0] + u) * conv->kernel[1] + v];
        }
    return sum;
}

/* conv and linear */
static void run_conv(reference *r, int node)
{
    const rq_node *n = &r->model->graph.nodes[node];
    const rq_conv_attr conv = n->op == RQ_OP_LINEAR ? NET_K1 : n->conv;
    const rq_shape *in = &r->shapes[n->input[0]], *out = &r->shapes[node];
    const double *bias = slot_values(r, node, RQ_SLOT_BIAS);
    double *w = weights_of(r, node);
    const int64_t icg = in->c / conv.groups, ocg = out->c / conv.groups;
    const int64_t per_channel = icg * conv.kernel[0] * conv.kernel[1];
    for (size_t i = 0; i < rq_shape_elems(out); i++) {
        const int64_t c = (int64_t)i % out->c, p = (int64_t)i / out->c;
        const int64_t x = p % out->w, y = p / out->w % out->h;
        const double offset = bias && r->offsets[node] ? r->offsets[node][c] : 0.0;
        r->values[node][i] = sum_taps(r->values[n->input[0]], in, &conv, w + c * per_channel, icg,
                                      c / ocg * icg, p / out->w / out->h, y, x) +
                             (bias ? bias[c] : 0.0) + offset;
    }
    rq_free(w);
}

static void run_batch_norm(reference *r, int node)
{
    const double *src = r->values[r->model->graph.nodes[node].input[0]];
    const double eps = (double)r->model->graph.nodes[node].eps;
    const size_t channels = (size_t)r->shapes[node].c;
    const size_t pixels = rq_shape_elems(&r->shapes[node]) / channels;
    for (size_t c = 0; c < channels; c++) {
        double mean = slot_values(r, node, RQ_SLOT_MEAN)[c];
        double var = slot_values(r, node, RQ_SLOT_VAR)[c];
        if (!is_frozen(r, node)) {
            mean = var = 0.0;
            for (size_t p = 0; p < pixels; p++)
                mean += src[p * channels + c] / (double)pixels;
            for (size_t p = 0; p < pixels; p++)
                var += pow(src[p * channels + c] - mean, 2.0) / (double)pixels;
        }
        const double factor = slot_values(r, node, RQ_SLOT_WEIGHT)[c] / sqrt(var + eps);
        const double offset = r->offsets[node] ? r->offsets[node][c] : 0.0;
        for (size_t p = 0; p < pixels; p++)
            r->values[node][p * channels + c] = factor * (src[p * channels + c] - mean) +
                                                slot_values(r, node, RQ_SLOT_BIAS)[c] + offset;
    }
}

/* At 0 the slope is 0 by definition. Integers are exactly 0 often (a product with a gate): such
 * values are held there, others that come near 0 are kinks. */
static void run_relu(reference *r, int node)
{
    const double *src = r->values[r->model->graph.nodes[node].input[0]];
    const size_t n = rq_shape_elems(&r->shapes[node]);
    if (r->anchor) {
        r->zeros[node] = rq_alloc(n * sizeof(bool));
        assert_non_null(r->zeros[node]);
        for (size_t i = 0; i < n; i++)
            r->zeros[node][i] = src[i] == 0.0;
    }
    for (size_t i = 0; i < n; i++) {
        const bool held = r->zeros[node] && r->zeros[node][i];
        r->values[node][i] = held ? 0.0 : fmax(src[i], 0.0);
        r->signs = (r->signs ^ (!held && src[i] > 0.0)) * 0x100000001b3ULL; /* FNV-1a */
    }
}

static void run_global_avg_pool(reference *r, int node)
{
    const int src = r->model->graph.nodes[node].input[0];
    const size_t channels = (size_t)r->shapes[src].c;
    const size_t pixels = (size_t)(r->shapes[src].h * r->shapes[src].w);
    memset(r->values[node], 0, rq_shape_elems(&r->shapes[node]) * sizeof(double));
    for (size_t i = 0; i < rq_shape_elems(&r->shapes[src]); i++)
        r->values[node][i / channels / pixels * channels + i % channels] +=
            r->values[src][i] / (double)pixels;
}

/* Pooling and gates have their zero point in an integer bias too: what rounding it adds. */
static double zero_shift(const reference *r, int node, double z, float scale)
{
    const rq_graph *graph = &r->model->graph;
    const rq_node *source = &graph->nodes[graph->nodes[node].input[0]];
    if (source->op != RQ_OP_GLOBAL_AVG_POOL && source->op != RQ_OP_MUL)
        return 0.0;
    const rq_shape *in = &r->shapes[source->input[0]];
    float s_x;
    if (!rq_trainer_value(r->anchor, source->input[0], &s_x))
        return 0.0;
    const double parts = source->op == RQ_OP_MUL ? 255.0 : (double)(in->h * in->w);
    const double unit = (double)s_x / parts, zero = z * (double)scale;
    return rint(zero / unit) * unit - zero;
}

static void run_fake_quant(reference *r, int node)
{
    const size_t n = rq_shape_elems(&r->shapes[node]);
    memcpy(r->values[node], r->values[r->model->graph.nodes[node].input[0]], n * sizeof(double));
    float scale = 1.0f;
    const float *numbers = r->anchor ? rq_trainer_value(r->anchor, node, &scale) : NULL;
    const rq_tensor *zero_point = rq_graph_tensor(&r->model->graph, node, RQ_SLOT_ZERO_POINT);
    const double z = zero_point ? (double)*(const uint8_t *)zero_point->data : 0.0;
    quantize(r, &r->activations[node], r->values[node], n, numbers, &scale, n, -z, 255.0 - z,
             r->anchor ? zero_shift(r, node, z, scale) : 0.0);
}

static void run_scale(reference *r, int node)
{
    const double *src = r->values[r->model->graph.nodes[node].input[0]];
    const size_t channels = (size_t)r->shapes[node].c;
    for (size_t i = 0; i < rq_shape_elems(&r->shapes[node]); i++)
        r->values[node][i] = slot_values(r, node, RQ_SLOT_WEIGHT)[i % channels] * src[i];
}

static void run_sigmoid(reference *r, int node)
{
    const double *src = r->values[r->model->graph.nodes[node].input[0]];
    for (size_t i = 0; i < rq_shape_elems(&r->shapes[node]); i++)
        r->values[node][i] = 1.0 / (1.0 + exp(-src[i]));
}

static void run_mul(reference *r, int node)
{
    const rq_node *n = &r->model->graph.nodes[node];
    const size_t channels = (size_t)r->shapes[node].c;
    const size_t image = rq_shape_elems(&r->shapes[node]) / (size_t)r->shapes[node].n;
    for (size_t i = 0; i < rq_shape_elems(&r->shapes[node]); i++)
        r->values[node][i] =
            r->values[n->input[0]][i] * r->values[n->input[1]][i / image * channels + i % channels];
}

/* Windows of zeros outside the image: a depthwise convolution with equal weights. */
static void run_avg_pool(reference *r, int node)
{
    const rq_node *n = &r->model->graph.nodes[node];
    const rq_shape *in = &r->shapes[n->input[0]], *out = &r->shapes[node];
    const int taps = n->conv.kernel[0] * n->conv.kernel[1];
    double *w = new_array((size_t)taps);
    for (int k = 0; k < taps; k++)
        w[k] = 1.0 / taps;
    for (size_t i = 0; i < rq_shape_elems(out); i++) {
        const int64_t c = (int64_t)i % out->c, p = (int64_t)i / out->c;
        r->values[node][i] = sum_taps(r->values[n->input[0]], in, &n->conv, w, 1, c,
                                      p / out->w / out->h, p / out->w % out->h, p % out->w);
    }
    rq_free(w);
}

static void run_max_pool(reference *r, int node)
{
    const rq_node *n = &r->model->graph.nodes[node];
    const rq_shape *in = &r->shapes[n->input[0]], *out = &r->shapes[node];
    const double *src = r->values[n->input[0]];
    for (size_t i = 0; i < rq_shape_elems(out); i++) {
        const int64_t c = (int64_t)i % out->c, p = (int64_t)i / out->c;
        const int64_t image = p / out->w / out->h;
        r->values[node][i] = -INFINITY;
        for (int k = 0; k < n->conv.kernel[0] * n->conv.kernel[1]; k++) {
            const int64_t y =
                p / out->w % out->h * n->conv.stride[0] - n->conv.pad[0] + k / n->conv.kernel[1];
            const int64_t x =
                p % out->w * n->conv.stride[1] - n->conv.pad[1] + k % n->conv.kernel[1];
            if (y >= 0 && y < in->h && x >= 0 && x < in->w)
                r->values[node][i] =
                    fmax(r->values[node][i], src[((image * in->h + y) * in->w + x) * in->c + c]);
        }
    }
}

static void run_node(reference *r, int node)
{
    const rq_node *n = &r->model->graph.nodes[node];
    switch (n->op) {
    case RQ_OP_INPUT:
        run_input(r);
        break;
    case RQ_OP_CONV:
    case RQ_OP_LINEAR:
        run_conv(r, node);
        break;
    case RQ_OP_BATCH_NORM:
        run_batch_norm(r, node);
        break;
    case RQ_OP_ADD:
        for (size_t i = 0; i < rq_shape_elems(&r->shapes[node]); i++) {
            r->values[node][i] = 0.0;
            for (int k = 0; k < n->n_inputs; k++)
                r->values[node][i] += r->values[n->input[k]][i];
        }
        break;
    case RQ_OP_RELU:
        run_relu(r, node);
        break;
    case RQ_OP_GLOBAL_AVG_POOL:
        run_global_avg_pool(r, node);
        break;
    case RQ_OP_FAKE_QUANT:
        run_fake_quant(r, node);
        break;
    case RQ_OP_SCALE:
        run_scale(r, node);
        break;
    case RQ_OP_SIGMOID:
        run_sigmoid(r, node);
        break;
    case RQ_OP_MUL:
        run_mul(r, node);
        break;
    case RQ_OP_AVG_POOL:
        run_avg_pool(r, node);
        break;
    case RQ_OP_MAX_POOL:
        run_max_pool(r, node);
        break;
    default:
        fail_msg("the reference has no %s", rq_op_name(n->op));
    }
}

/* ---- loss ---- */

double reference_loss(const double *logits, const int32_t *labels, int n, int classes,
                      double smoothing)
{
    double loss = 0.0;
    int counted = 0;
    for (int i = 0; i < n; i++) {
        if (labels[i] == RQ_LABEL_IGNORE)
            continue;
        counted++;
        double total = 0.0;
        for (int k = 0; k < classes; k++)
            total += exp(logits[i * classes + k]);
        for (int k = 0; k < classes; k++)
            loss -= ((k == labels[i] ? 1.0 - smoothing : 0.0) + smoothing / classes) *
                    (logits[i * classes + k] - log(total));
    }
    return counted ? loss / counted : 0.0;
}

double reference_forward(reference *r)
{
    const rq_graph *graph = &r->model->graph;
    double loss = 0.0;
    r->signs = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        run_node(r, i);
        if (rq_graph_is_output(graph, i))
            loss += (i == graph->n_nodes - 1 ? 1.0 : 0.1) *
                    reference_loss(r->values[i], r->batch->labels, r->batch->n, r->model->n_classes,
                                   r->smoothing);
    }
    return loss;
}

double reference_anchor(reference *r, rq_trainer *trainer)
{
    r->anchor = trainer;
    const double loss = reference_forward(r);
    r->anchor = NULL;
    return loss;
}

bool reference_slope(reference *r, int param, size_t i, double *slope)
{
    static const double H = 1e-6;
    double *value = &r->params[param][i];
    const double at = *value;
    *value = at + H;
    const double above = reference_forward(r);
    const uint64_t signs = r->signs;
    *value = at - H;
    const double below = reference_forward(r);
    *value = at;
    *slope = (above - below) / (2.0 * H);
    return signs == r->signs;
}
