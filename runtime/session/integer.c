/* The scalar integer kernels, the proofs over weights, and the walk over a graph. The rule stands
 * in integer.h; nothing here is written for speed. */
#include "runtime/session/integer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "runtime/model/quant.h"

/* ---- proofs ---- */

typedef struct acc_range {
    int64_t low, high;
} acc_range;

static acc_range range_of(const int8_t *weights, size_t n_taps)
{
    acc_range range = {0, 0};
    for (size_t i = 0; i < n_taps; i++)
        *(weights[i] < 0 ? &range.low : &range.high) += 255 * (int64_t)weights[i];
    return range;
}

static int64_t larger_magnitude(int64_t low, int64_t high)
{
    const int64_t a = low < 0 ? -low : low, b = high < 0 ? -high : high;
    return a > b ? a : b;
}

int64_t rq_acc_bound(const int8_t *weights, size_t n_taps)
{
    const acc_range range = range_of(weights, n_taps);
    return larger_magnitude(range.low, range.high);
}

int64_t rq_acc_bias_bound(const int8_t *weights, size_t n_taps, int32_t bias)
{
    const acc_range range = range_of(weights, n_taps);
    return larger_magnitude(range.low + bias, range.high + bias);
}

bool rq_saturation_free(const int8_t *weights, size_t n_taps)
{
    int largest[2] = {0, 0}, second[2] = {0, 0}; /* magnitudes of negative, positive weights */
    for (size_t i = 0; i < n_taps; i++) {
        const int sign = weights[i] > 0;
        const int magnitude = sign ? weights[i] : -weights[i];
        if (magnitude > largest[sign]) {
            second[sign] = largest[sign];
            largest[sign] = magnitude;
        } else if (magnitude > second[sign]) {
            second[sign] = magnitude;
        }
    }
    return largest[0] + second[0] <= RQ_PAIR_MAX && largest[1] + second[1] <= RQ_PAIR_MAX;
}

static rq_status check_channel(const rq_model *model, int node, int64_t oc, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    const rq_tensor *weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT);
    const size_t n_taps = rq_tensor_elems(weight) / (size_t)weight->dim[0];
    const int8_t *w = (const int8_t *)weight->data + (size_t)oc * n_taps;
    const int32_t bias = ((const int32_t *)rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->data)[oc];
    const float m = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER))[oc];
    const int64_t *acc_max =
        (const int64_t *)rq_graph_tensor(graph, node, RQ_SLOT_ACC_MAX)->data + 2 * oc;
    const char *name = graph->nodes[node].name;
    const long long channel = oc;

    const int64_t bound = rq_acc_bound(w, n_taps), bias_bound = rq_acc_bias_bound(w, n_taps, bias);
    if (memchr(w, INT8_MIN, n_taps))
        return rq_fail(err, RQ_ERR_MODEL, "%s: channel %lld has a weight -128, not in -127..127",
                       name, channel);
    if (!(m > 0.0f) || !isfinite(m))
        return rq_fail(err, RQ_ERR_MODEL, "%s: multiplier %lld is %g", name, channel, (double)m);
    if (bound > INT32_MAX || bias_bound > INT32_MAX)
        return rq_fail(err, RQ_ERR_RANGE,
                       "%s: channel %lld can reach %lld in its accumulator, more than 2^31 - 1",
                       name, channel, (long long)larger_magnitude(bound, bias_bound));
    if (acc_max[0] != bound || acc_max[1] != bias_bound)
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: acc_max of channel %lld is %lld, %lld; its weights give %lld, %lld",
                       name, channel, (long long)acc_max[0], (long long)acc_max[1],
                       (long long)bound, (long long)bias_bound);
    if (model->isa_proof && !rq_saturation_free(w, n_taps))
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: channel %lld has a pair of weights over %d, but the model says that "
                       "it has none (isa_proof)",
                       name, channel, RQ_PAIR_MAX);
    return RQ_OK;
}

static rq_status check_scales(const rq_graph *graph, int node, rq_error *err)
{
    const rq_tensor *scale = rq_graph_tensor(graph, node, RQ_SLOT_SCALE);
    for (size_t i = 0; scale && i < rq_tensor_elems(scale); i++) {
        const float s = rq_tensor_f32(scale)[i];
        if (!(s >= RQ_SCALE_MIN) || !isfinite(s))
            return rq_fail(err, RQ_ERR_MODEL, "%s: scale %zu is %g", graph->nodes[node].name, i,
                           (double)s);
    }
    return RQ_OK;
}

rq_status rq_integer_check(const rq_model *model, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    rq_status status = RQ_OK;
    for (int node = 0; node < graph->n_nodes && !status; node++) {
        const rq_op op = graph->nodes[node].op;
        status = check_scales(graph, node, err);
        if (op != RQ_OP_QCONV && op != RQ_OP_QLINEAR)
            continue;
        const int64_t n_channels = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)->dim[0];
        for (int64_t oc = 0; oc < n_channels && !status; oc++)
            status = check_channel(model, node, oc, err);
    }
    return status;
}

/* ---- convolution ---- */

/* Where a convolution reads for one output pixel and one kernel position: the index of the input's
 * pixel within its image, or -1 outside. */
static int64_t tap_pixel(const rq_conv_shape *shape, int64_t oy, int64_t ox, int ky, int kx)
{
    const rq_conv_attr *conv = &shape->conv;
    const int64_t iy = oy * conv->stride[0] - conv->pad[0] + (int64_t)ky * conv->dilation[0];
    const int64_t ix = ox * conv->stride[1] - conv->pad[1] + (int64_t)kx * conv->dilation[1];
    const bool inside = iy >= 0 && iy < shape->ih && ix >= 0 && ix < shape->iw;
    return inside ? iy * shape->iw + ix : -1;
}

/* acc of output channel oc at one pixel. src: one image. wei: all weights. */
static int32_t conv_acc(const rq_conv_shape *shape, const uint8_t *src, const int8_t *wei,
                        const uint8_t *zero_point, int64_t oy, int64_t ox, int64_t oc)
{
    const rq_conv_attr *conv = &shape->conv;
    const int64_t ic_group = shape->ic / conv->groups;
    const int64_t first_ic = oc / (shape->oc / conv->groups) * ic_group;
    const int n_kernel = conv->kernel[0] * conv->kernel[1];
    int32_t acc = 0;
    for (int k = 0; k < n_kernel; k++) {
        const int64_t pixel = tap_pixel(shape, oy, ox, k / conv->kernel[1], k % conv->kernel[1]);
        for (int64_t ic = 0; ic < ic_group; ic++) {
            const int32_t outside = zero_point ? zero_point[first_ic + ic] : 0;
            const int32_t x = pixel < 0 ? outside : src[pixel * shape->ic + first_ic + ic];
            acc += x * wei[(oc * ic_group + ic) * n_kernel + k];
        }
    }
    return acc;
}

void rq_qconv_ref(const rq_conv_shape *shape, const uint8_t *src, const int8_t *wei,
                  const int32_t *bias, const float *multiplier, const uint8_t *zero_point,
                  uint8_t *dst)
{
    const int64_t n_pixels = shape->oh * shape->ow;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < shape->n * n_pixels; i++) {
        const uint8_t *image = src + i / n_pixels * shape->ih * shape->iw * shape->ic;
        const int64_t oy = i % n_pixels / shape->ow, ox = i % shape->ow;
        for (int64_t oc = 0; oc < shape->oc; oc++) {
            const int32_t acc = conv_acc(shape, image, wei, zero_point, oy, ox, oc);
            dst[i * shape->oc + oc] = rq_requantize_u8(acc, bias[oc], multiplier[oc]);
        }
    }
}

static float conv_f32(const rq_conv_shape *shape, const float *src, const float *wei, int64_t oy,
                      int64_t ox, int64_t oc, double bias)
{
    const rq_conv_attr *conv = &shape->conv;
    const int64_t ic_group = shape->ic / conv->groups;
    const int64_t first_ic = oc / (shape->oc / conv->groups) * ic_group;
    const int n_kernel = conv->kernel[0] * conv->kernel[1];
    double sum = bias;
    for (int k = 0; k < n_kernel; k++) {
        const int64_t pixel = tap_pixel(shape, oy, ox, k / conv->kernel[1], k % conv->kernel[1]);
        for (int64_t ic = 0; ic < ic_group && pixel >= 0; ic++)
            sum += (double)src[pixel * shape->ic + first_ic + ic] *
                   (double)wei[(oc * ic_group + ic) * n_kernel + k];
    }
    return (float)sum;
}

/* ---- the walk ---- */

typedef struct ref_run {
    const rq_model *model;
    const uint8_t *pixels;
    const rq_shape *shapes; /* of every value */
    void **values;
    rq_error *err;
} ref_run;

/* One node as its kernel sees it. */
typedef struct ref_node {
    const ref_run *run;
    int index;
    const rq_node *node;
    const rq_shape *in, *out; /* of input 0 (the node's own for the input) and of the value */
    const void *src;          /* value of input 0, NULL for the input */
    void *dst;
} ref_node;

typedef rq_status ref_kernel(const ref_node *self);

static const void *slot_data(const ref_node *self, rq_slot slot)
{
    const rq_tensor *tensor = rq_graph_tensor(&self->run->model->graph, self->index, slot);
    return tensor ? tensor->data : NULL;
}

static rq_conv_shape conv_shape(const ref_node *self)
{
    const rq_shape *in = self->in, *out = self->out;
    return (rq_conv_shape){in->n, in->h, in->w, in->c, out->h, out->w, out->c, self->node->conv};
}

static rq_status ref_input(const ref_node *self)
{
    const rq_preprocess *preprocess = &self->run->model->preprocess;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = ((float)self->run->pixels[i] / 255.0f - preprocess->mean[i % 3]) /
                 preprocess->std[i % 3];
    return RQ_OK;
}

static rq_status ref_conv(const ref_node *self)
{
    const rq_conv_shape shape = conv_shape(self);
    const float *wei = slot_data(self, RQ_SLOT_WEIGHT), *bias = slot_data(self, RQ_SLOT_BIAS);
    const float *src = self->src;
    float *dst = self->dst;
    const int64_t n_pixels = shape.oh * shape.ow;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < shape.n * n_pixels; i++) {
        const float *image = src + i / n_pixels * shape.ih * shape.iw * shape.ic;
        const int64_t oy = i % n_pixels / shape.ow, ox = i % shape.ow;
        for (int64_t oc = 0; oc < shape.oc; oc++)
            dst[i * shape.oc + oc] =
                conv_f32(&shape, image, wei, oy, ox, oc, bias ? (double)bias[oc] : 0.0);
    }
    return RQ_OK;
}

static rq_status ref_batch_norm(const ref_node *self)
{
    const float *gamma = slot_data(self, RQ_SLOT_WEIGHT), *beta = slot_data(self, RQ_SLOT_BIAS);
    const float *mean = slot_data(self, RQ_SLOT_MEAN), *var = slot_data(self, RQ_SLOT_VAR);
    const float *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++) {
        const size_t c = i % (size_t)self->out->c;
        const double sigma = sqrt((double)var[c] + (double)self->node->eps);
        const double scaled = (double)gamma[c] * ((double)src[i] - (double)mean[c]) / sigma;
        dst[i] = (float)(scaled + (double)beta[c]);
    }
    return RQ_OK;
}

static rq_status ref_add(const ref_node *self)
{
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++) {
        double sum = 0.0;
        for (int k = 0; k < self->node->n_inputs; k++)
            sum += (double)((const float *)self->run->values[self->node->input[k]])[i];
        dst[i] = (float)sum;
    }
    return RQ_OK;
}

static rq_status ref_relu(const ref_node *self)
{
    const float *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = src[i] > 0.0f ? src[i] : 0.0f;
    return RQ_OK;
}

static rq_status ref_scale(const ref_node *self)
{
    const float *weight = slot_data(self, RQ_SLOT_WEIGHT), *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = src[i] * weight[i % (size_t)self->out->c];
    return RQ_OK;
}

static rq_status ref_avg_pool(const ref_node *self)
{
    const rq_conv_shape shape = conv_shape(self);
    const int n_kernel = shape.conv.kernel[0] * shape.conv.kernel[1];
    const float *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < (int64_t)rq_shape_elems(self->out); i++) {
        const int64_t c = i % shape.oc, ox = i / shape.oc % shape.ow;
        const int64_t oy = i / shape.oc / shape.ow % shape.oh;
        const float *image =
            src + i / (shape.oc * shape.oh * shape.ow) * shape.ih * shape.iw * shape.ic;
        double sum = 0.0;
        for (int k = 0; k < n_kernel; k++) {
            const int64_t pixel =
                tap_pixel(&shape, oy, ox, k / shape.conv.kernel[1], k % shape.conv.kernel[1]);
            sum += pixel >= 0 ? (double)image[pixel * shape.ic + c] : 0.0;
        }
        dst[i] = (float)(sum / n_kernel);
    }
    return RQ_OK;
}

static rq_status ref_sigmoid(const ref_node *self)
{
    const float *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = (float)(1.0 / (1.0 + exp(-(double)src[i])));
    return RQ_OK;
}

static rq_status ref_mul(const ref_node *self)
{
    const float *src = self->src, *gate = self->run->values[self->node->input[1]];
    float *dst = self->dst;
    const size_t image = rq_shape_elems(self->out) / (size_t)self->out->n;
    const size_t channels = (size_t)self->out->c;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = src[i] * gate[i / image * channels + i % channels];
    return RQ_OK;
}

static rq_status ref_global_avg_pool(const ref_node *self)
{
    const int64_t n_pixels = self->in->h * self->in->w, c = self->in->c;
    const float *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < self->out->n * c; i++) {
        double sum = 0.0;
        for (int64_t p = 0; p < n_pixels; p++)
            sum += (double)src[(i / c * n_pixels + p) * c + i % c];
        dst[i] = (float)(sum / (double)n_pixels);
    }
    return RQ_OK;
}

static rq_status ref_linear(const ref_node *self)
{
    const float *wei = slot_data(self, RQ_SLOT_WEIGHT), *bias = slot_data(self, RQ_SLOT_BIAS);
    const int64_t ic = self->in->c, oc = self->out->c;
    const float *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < self->out->n * oc; i++) {
        double sum = (double)bias[i % oc];
        for (int64_t k = 0; k < ic; k++)
            sum += (double)src[i / oc * ic + k] * (double)wei[i % oc * ic + k];
        dst[i] = (float)sum;
    }
    return RQ_OK;
}

static rq_status ref_fake_quant(const ref_node *self)
{
    return rq_fail(self->run->err, RQ_ERR_MODEL, "%s: fake_quant does not belong into form int8",
                   self->node->name);
}

static rq_status ref_quantize(const ref_node *self)
{
    const float inverse_scale = 1.0f / ((const float *)slot_data(self, RQ_SLOT_SCALE))[0];
    const float *src = self->src;
    uint8_t *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = rq_quantize_activation(src[i], inverse_scale);
    return RQ_OK;
}

static rq_status ref_dequantize(const ref_node *self)
{
    const float scale = ((const float *)slot_data(self, RQ_SLOT_SCALE))[0];
    const uint8_t *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = scale * (float)src[i];
    return RQ_OK;
}

static rq_status ref_qconv(const ref_node *self)
{
    const rq_conv_shape shape = conv_shape(self);
    const uint8_t *zero_point = slot_data(self, RQ_SLOT_ZERO_POINT);
    const uint8_t *src = self->node->input[0] == 0 ? self->run->pixels : self->src;
    rq_qconv_ref(&shape, src, slot_data(self, RQ_SLOT_WEIGHT), slot_data(self, RQ_SLOT_BIAS),
                 slot_data(self, RQ_SLOT_MULTIPLIER), zero_point, self->dst);
    return RQ_OK;
}

static rq_status ref_qglobal_avg_pool(const ref_node *self)
{
    const int64_t n_pixels = self->in->h * self->in->w, c = self->in->c;
    if (n_pixels > INT32_MAX / 255)
        return rq_fail(self->run->err, RQ_ERR_RANGE, "%s: the sum of %lld pixels leaves s32",
                       self->node->name, (long long)n_pixels);
    const float *scale = slot_data(self, RQ_SLOT_SCALE);
    const float m = rq_pool_multiplier(scale[0], scale[1], n_pixels);
    const uint8_t *src = self->src;
    uint8_t *dst = self->dst;
    for (int64_t i = 0; i < self->out->n * c; i++) {
        int32_t acc = 0;
        for (int64_t p = 0; p < n_pixels; p++)
            acc += src[(i / c * n_pixels + p) * c + i % c];
        dst[i] = rq_requantize_u8(acc, 0, m);
    }
    return RQ_OK;
}

static rq_status ref_qlinear(const ref_node *self)
{
    const int8_t *wei = slot_data(self, RQ_SLOT_WEIGHT);
    const int32_t *bias = slot_data(self, RQ_SLOT_BIAS);
    const float *multiplier = slot_data(self, RQ_SLOT_MULTIPLIER);
    const int64_t ic = self->in->c, oc = self->out->c;
    const uint8_t *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < self->out->n * oc; i++) {
        int32_t acc = 0;
        for (int64_t k = 0; k < ic; k++)
            acc += (int32_t)src[i / oc * ic + k] * wei[i % oc * ic + k];
        dst[i] = rq_requantize_f32(acc, bias[i % oc], multiplier[i % oc]);
    }
    return RQ_OK;
}

static ref_kernel *const kernels[RQ_N_OPS] = {
#define X(code, name) [RQ_OP_##code] = ref_##name,
    RQ_OP_LIST(X)
#undef X
};

static rq_status run_node(const ref_run *run, int i, rq_arena *arena)
{
    const rq_node *node = &run->model->graph.nodes[i];
    const int input = node->n_inputs > 0 ? node->input[0] : i;
    const rq_shape *out = &run->shapes[i];
    const rq_status status = rq_arena_array(arena, &run->values[i], rq_shape_elems(out),
                                            rq_dtype_size(out->dtype), run->err);
    if (status)
        return status;
    const ref_node self = {
        .run = run,
        .index = i,
        .node = node,
        .in = &run->shapes[input],
        .out = out,
        .src = node->n_inputs > 0 ? run->values[input] : NULL,
        .dst = run->values[i],
    };
    return kernels[node->op](&self);
}

static rq_status check_output(const rq_model *model, const rq_shape *shape, rq_error *err)
{
    if (shape->dtype == RQ_F32 && shape->h * shape->w * shape->c == model->n_classes)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL,
                   "%s: the output is %s %lldx%lldx%lld (HxWxC), it must be F32 1x1x%d",
                   model->graph.nodes[model->graph.n_nodes - 1].name, rq_dtype_name(shape->dtype),
                   (long long)shape->h, (long long)shape->w, (long long)shape->c, model->n_classes);
}

rq_status rq_integer_run_ref(const rq_model *model, const uint8_t *pixels, int64_t n, int64_t h,
                             int64_t w, float *logits, rq_value_observer *observer, void *context,
                             rq_error *err)
{
    const rq_graph *graph = &model->graph;
    const size_t n_nodes = (size_t)graph->n_nodes;
    rq_arena arena = RQ_ARENA_INIT;
    void *shapes_memory = NULL, *values = NULL;
    rq_status status = RQ_OK;
    if (model->form != RQ_FORM_INT8)
        return rq_fail(err, RQ_ERR_MODEL, "the model's form is %s, not int8",
                       rq_form_name(model->form));

    status = rq_arena_array(&arena, &shapes_memory, n_nodes, sizeof(rq_shape), err);
    if (!status)
        status = rq_arena_array(&arena, &values, n_nodes, sizeof(void *), err);
    if (status)
        goto out;
    rq_shape *shapes = shapes_memory;
    status = rq_graph_shapes(graph, n, h, w, shapes, err);
    if (!status)
        status = check_output(model, &shapes[n_nodes - 1], err);
    if (!status)
        status = rq_integer_check(model, err);

    const ref_run run = {model, pixels, shapes, values, err};
    for (int i = 0; i < graph->n_nodes && !status; i++) {
        status = run_node(&run, i, &arena);
        if (!status && observer)
            observer(context, i, run.values[i], &shapes[i]);
    }
    if (!status)
        memcpy(logits, run.values[n_nodes - 1],
               rq_shape_elems(&shapes[n_nodes - 1]) * sizeof(float));
out:
    rq_arena_deinit(&arena);
    return status;
}
