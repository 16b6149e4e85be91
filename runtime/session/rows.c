/* One row per operator: how a node becomes steps of a session. Merges where nothing is lost: ReLU
 * into a float convolution; conv, batch_norm, relu and fake_quant of a quantized layer into one
 * integer convolution. */
#include <math.h>
#include <string.h>

#include "runtime/model/quant.h"
#include "runtime/session/kernels.h"
#include "runtime/session/plan.h"

static int64_t pixels_of(const rq_shape *shape)
{
    return shape->n * shape->h * shape->w;
}

static const rq_node *node_at(const rq_session *s, int node)
{
    return &s->model->graph.nodes[node];
}

static rq_status f32_buffer(rq_session *s, int node, int *out, rq_error *err)
{
    return rq_plan_buffer(s, rq_shape_elems(&s->shapes[node]) * sizeof(float), out, err);
}

static void set_value(rq_session *s, int node, rq_repr repr, int buffer, float scale)
{
    s->values[node] = (rq_value){repr, buffer, scale};
}

/* ---- values as real f32 ---- */

static rq_status run_normalize(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_normalize_u8(s->pixels, step->factor, step->offset, rq_plan_at(s, step->dst),
                    (size_t)s->n_images * (size_t)(s->height * s->width));
    return RQ_OK;
}

static rq_status add_normalize(rq_session *s, int *buffer, rq_error *err)
{
    rq_step *step;
    rq_status status = f32_buffer(s, 0, buffer, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, 0, "normalize", NULL, 0, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_normalize;
    step->dst = *buffer;
    step->factor = rq_arena_alloc(&s->arena, 3 * sizeof(float));
    step->offset = rq_arena_alloc(&s->arena, 3 * sizeof(float));
    if (!step->factor || !step->offset)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    const rq_preprocess *p = &s->model->preprocess;
    for (int c = 0; c < 3; c++) {
        step->factor[c] = (float)(1.0 / (255.0 * (double)p->std[c]));
        step->offset[c] = (float)(-(double)p->mean[c] / (double)p->std[c]);
    }
    set_value(s, 0, RQ_REPR_REAL, *buffer, 1.0f);
    return RQ_OK;
}

static rq_status run_unfake(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_scale_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), rq_shape_elems(&step->in),
                 step->scale);
    return RQ_OK;
}

/* The buffer of input k of a node as real f32; converts the image and fake-quantized values on the
 * way. */
static rq_status real_input(rq_session *s, int node, int k, int *buffer, rq_error *err)
{
    const int source = node_at(s, node)->input[k];
    const rq_value *value = &s->values[source];
    switch (value->repr) {
    case RQ_REPR_REAL:
        *buffer = value->buffer;
        return RQ_OK;
    case RQ_REPR_IMAGE:
        return add_normalize(s, buffer, err);
    case RQ_REPR_FAKE: {
        rq_step *step;
        rq_status status = f32_buffer(s, source, buffer, err);
        if (status == RQ_OK)
            status = rq_plan_step(s, node, "unfake", &value->buffer, 1, &step, err);
        if (status != RQ_OK)
            return status;
        step->run = run_unfake;
        step->node = -1;
        step->dst = *buffer;
        step->scale = value->scale;
        return RQ_OK;
    }
    case RQ_REPR_U8:
        break;
    }
    return rq_fail(err, RQ_ERR_MODEL, "a float operator reads a u8 value without dequantize");
}

/* ---- float operators ---- */

static rq_status row_input(rq_session *s, int node, rq_error *err)
{
    (void)err;
    set_value(s, node, RQ_REPR_IMAGE, -1, 1.0f);
    return RQ_OK;
}

static rq_conv_shape conv_shape(const rq_session *s, int node)
{
    const rq_node *n = node_at(s, node);
    const rq_shape *in = &s->shapes[n->input[0]], *out = &s->shapes[node];
    rq_conv_shape shape = {in->n, in->h, in->w, in->c, out->h, out->w, out->c, n->conv};
    if (n->op == RQ_OP_LINEAR || n->op == RQ_OP_QLINEAR)
        shape.conv = (rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    return shape;
}

static double macs_per_image(const rq_conv_shape *shape)
{
    const int64_t taps =
        shape->ic / shape->conv.groups * shape->conv.kernel[0] * shape->conv.kernel[1];
    return (double)(shape->oh * shape->ow * shape->oc) * (double)taps;
}

static rq_status run_conv(rq_session *s, rq_step *step, rq_error *err)
{
    return rq_dnn_conv_run(step->conv, rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), err);
}

/* A layer in float, and the nodes behind it that are merged into it; -1: none. */
typedef struct float_layer {
    const float *weight, *bias; /* bias NULL: none */
    int bn, relu;
} float_layer;

/* The batch norm folded into weights and bias, as lowering does it: a float layer of form qat gives
 * the numbers that it gives in the exported model. */
static rq_status fold_float_layer(const rq_session *s, int node, float_layer *layer,
                                  rq_arena *arena, rq_error *err)
{
    rq_layer_view view;
    const rq_status status = rq_layer_view_init(&view, s->model, node, err);
    if (status != RQ_OK)
        return status;
    const size_t oc = (size_t)view.oc, taps = rq_layer_channel_size(&view);
    float *weight = rq_arena_alloc(arena, oc * taps * sizeof *weight);
    float *bias = rq_arena_alloc(arena, oc * sizeof *bias);
    if (!weight || !bias)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    for (size_t c = 0; c < oc; c++) {
        rq_layer_fold(&view, (int64_t)c, weight + c * taps);
        bias[c] = (float)rq_layer_bias(&view, (int64_t)c);
    }
    layer->weight = weight;
    layer->bias = bias;
    return RQ_OK;
}

static rq_status find_float_layer(const rq_session *s, int node, float_layer *layer,
                                  rq_arena *arena, rq_error *err)
{
    const rq_graph *graph = &s->model->graph;
    const rq_tensor *bias = rq_graph_tensor(graph, node, RQ_SLOT_BIAS);
    const bool fold = s->model->form == RQ_FORM_QAT;
    layer->weight = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT));
    layer->bias = bias ? rq_tensor_f32(bias) : NULL;
    layer->bn = fold ? rq_plan_next(s, node, RQ_OP_BATCH_NORM) : -1;
    layer->relu =
        s->options.observer ? -1 : rq_plan_next(s, layer->bn >= 0 ? layer->bn : node, RQ_OP_RELU);
    return fold ? fold_float_layer(s, node, layer, arena, err) : RQ_OK;
}

static rq_status add_float_conv(rq_session *s, int node, const float_layer *layer, rq_error *err)
{
    const rq_conv_shape shape = conv_shape(s, node);
    int src, dst;
    rq_step *step;
    rq_status status = real_input(s, node, 0, &src, err);
    if (status == RQ_OK)
        status = f32_buffer(s, node, &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, "conv f32", &src, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_conv;
    step->dst = dst;
    step->macs = macs_per_image(&shape);
    const rq_dnn_conv_options options = {
        .types = RQ_DNN_F32, .bias = layer->bias != NULL, .relu = layer->relu >= 0};
    status = rq_dnn_conv_create(&step->conv, s->dnn, &shape, &options, err);
    if (status == RQ_OK)
        status = rq_dnn_conv_set_weights(step->conv, layer->weight, layer->bias, err);
    if (status != RQ_OK)
        return status;
    s->info.weight_bytes += rq_dnn_conv_bytes(step->conv);
    set_value(s, node, RQ_REPR_REAL, dst, 1.0f);
    const int merged[] = {layer->bn, layer->relu};
    for (int i = 0; i < 2; i++)
        if (merged[i] >= 0) {
            set_value(s, merged[i], RQ_REPR_REAL, dst, 1.0f);
            s->done[merged[i]] = true;
            step->node = merged[i];
        }
    return RQ_OK;
}

static rq_status row_float_conv(rq_session *s, int node, rq_error *err)
{
    rq_arena arena = RQ_ARENA_INIT;
    float_layer layer;
    rq_status status = find_float_layer(s, node, &layer, &arena, err);
    if (status == RQ_OK)
        status = add_float_conv(s, node, &layer, err);
    rq_arena_deinit(&arena);
    return status;
}

/* A step from all inputs as real values to a buffer of the node's shape. */
static rq_status add_real_step(rq_session *s, int node, const char *kind, rq_run *run,
                               rq_error *err)
{
    const int n = node_at(s, node)->n_inputs;
    int src[RQ_MAX_INPUTS], dst;
    rq_step *step;
    rq_status status = RQ_OK;
    for (int k = 0; k < n && status == RQ_OK; k++)
        status = real_input(s, node, k, &src[k], err);
    if (status == RQ_OK)
        status = f32_buffer(s, node, &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, kind, src, n, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run;
    step->dst = dst;
    set_value(s, node, RQ_REPR_REAL, dst, 1.0f);
    return RQ_OK;
}

static rq_status run_affine(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_affine_f32(rq_plan_at(s, step->src[0]), step->factor, step->offset, rq_plan_at(s, step->dst),
                  (size_t)pixels_of(&step->in), (size_t)step->in.c);
    return RQ_OK;
}

/* A step y = factor[c] x + offset[c]; both are zeroed, for the row to fill. */
static rq_status add_affine(rq_session *s, int node, const char *kind, rq_step **out, rq_error *err)
{
    const rq_status status = add_real_step(s, node, kind, run_affine, err);
    if (status != RQ_OK)
        return status;
    rq_step *step = *out = &s->steps[s->n_steps - 1];
    step->factor = rq_arena_alloc(&s->arena, (size_t)step->in.c * sizeof(float));
    step->offset = rq_arena_alloc(&s->arena, (size_t)step->in.c * sizeof(float));
    return step->factor && step->offset ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
}

static rq_status row_scale(rq_session *s, int node, rq_error *err)
{
    const rq_tensor *weight = rq_graph_tensor(&s->model->graph, node, RQ_SLOT_WEIGHT);
    rq_step *step;
    const rq_status status = add_affine(s, node, "scale", &step, err);
    if (status == RQ_OK)
        memcpy(step->factor, weight->data, (size_t)step->in.c * sizeof(float));
    return status;
}

static rq_status row_batch_norm(rq_session *s, int node, rq_error *err)
{
    const rq_graph *graph = &s->model->graph;
    rq_step *step;
    const rq_status status = add_affine(s, node, "batch_norm", &step, err);
    if (status != RQ_OK)
        return status;
    const size_t channels = (size_t)step->in.c;
    const float *gamma = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT));
    const float *beta = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_BIAS));
    const float *mean = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MEAN));
    const float *var = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_VAR));
    const double eps = (double)graph->nodes[node].eps;
    for (size_t c = 0; c < channels; c++) {
        const double factor = (double)gamma[c] / sqrt((double)var[c] + eps);
        step->factor[c] = (float)factor;
        step->offset[c] = (float)((double)beta[c] - (double)mean[c] * factor);
    }
    return RQ_OK;
}

static rq_status run_add(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    const float *src[RQ_MAX_INPUTS];
    for (int k = 0; k < step->n_src; k++)
        src[k] = rq_plan_at(s, step->src[k]);
    rq_add_f32(src, step->n_src, rq_plan_at(s, step->dst), rq_shape_elems(&step->out));
    return RQ_OK;
}

static rq_status row_add(rq_session *s, int node, rq_error *err)
{
    return add_real_step(s, node, "add", run_add, err);
}

static rq_status run_sigmoid(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_sigmoid_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                   rq_shape_elems(&step->out));
    return RQ_OK;
}

static rq_status row_sigmoid(rq_session *s, int node, rq_error *err)
{
    return add_real_step(s, node, "sigmoid", run_sigmoid, err);
}

static rq_status run_mul(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_gate_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->src[1]), rq_plan_at(s, step->dst),
                (size_t)step->in.n, (size_t)(step->in.h * step->in.w), (size_t)step->in.c);
    return RQ_OK;
}

static rq_status row_mul(rq_session *s, int node, rq_error *err)
{
    return add_real_step(s, node, "mul", run_mul, err);
}

static rq_status run_avg_pool(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_avg_pool_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), &step->in, &step->out,
                    &step->window);
    return RQ_OK;
}

static rq_status row_avg_pool(rq_session *s, int node, rq_error *err)
{
    const rq_status status = add_real_step(s, node, "avg_pool", run_avg_pool, err);
    if (status == RQ_OK)
        s->steps[s->n_steps - 1].window = node_at(s, node)->conv;
    return status;
}

static rq_status run_relu(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_relu_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), rq_shape_elems(&step->out));
    return RQ_OK;
}

static rq_status row_relu(rq_session *s, int node, rq_error *err)
{
    return add_real_step(s, node, "relu", run_relu, err);
}

static rq_status run_mean(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    const int64_t pixels = step->in.h * step->in.w;
    rq_pool_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), (size_t)step->in.n,
                (size_t)pixels, (size_t)step->in.c, (float)(1.0 / (double)pixels));
    return RQ_OK;
}

/* ---- quantized layers (forms qat and int8) ---- */

static rq_status run_pad_image(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    const size_t n = (size_t)s->n_images, h = (size_t)s->height, w = (size_t)s->width;
    rq_pad_image(s->pixels, rq_plan_at(s, step->dst), step->out.dtype == RQ_F32, n, h, w, step->pad,
                 step->zero_point);
    return RQ_OK;
}

/* The image with its border of zero points, as the first quantized convolution reads it; shape then
 * describes a convolution without padding. */
static rq_status add_pad_image(rq_session *s, rq_conv_shape *shape, rq_iconv_kind kind,
                               const uint8_t *zero_point, int *buffer, rq_error *err)
{
    rq_step *step;
    const int pad[2] = {shape->conv.pad[0], shape->conv.pad[1]};
    shape->ih += 2 * (int64_t)pad[0];
    shape->iw += 2 * (int64_t)pad[1];
    shape->conv.pad[0] = shape->conv.pad[1] = 0;
    const size_t elem_size = kind == RQ_ICONV_U8 ? 1 : sizeof(float);
    rq_status status =
        rq_plan_buffer(s, (size_t)(shape->n * shape->ih * shape->iw * 3) * elem_size, buffer, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, 0, "pad image", NULL, 0, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_pad_image;
    step->node = -1;
    step->dst = *buffer;
    step->out.dtype = kind == RQ_ICONV_U8 ? RQ_U8 : RQ_F32;
    memcpy(step->zero_point, zero_point, 3);
    memcpy(step->pad, pad, sizeof pad);
    return RQ_OK;
}

static rq_status run_iconv(rq_session *s, rq_step *step, rq_error *err)
{
    return rq_iconv_run(step->iconv, rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                        step->scratch >= 0 ? rq_plan_at(s, step->scratch) : NULL, err);
}

/* One integer convolution for the nodes first…last (a conv and what was merged behind it). */
static rq_status add_iconv(rq_session *s, int first, int last, rq_iconv_kind kind,
                           const rq_iconv_weights *weights, const uint8_t *zero_point,
                           float out_scale, bool real_output, rq_error *err)
{
    const rq_value *value = &s->values[node_at(s, first)->input[0]];
    rq_conv_shape shape = conv_shape(s, first);
    int src = value->buffer, dst, scratch = -1;
    rq_iconv *iconv = NULL;
    rq_step *step;
    rq_status status = RQ_OK;
    if (value->repr == RQ_REPR_IMAGE)
        status = add_pad_image(s, &shape, kind, zero_point, &src, err);
    if (status == RQ_OK)
        status = rq_iconv_create(&iconv, s->dnn, &shape, kind, weights, real_output, err);
    const bool u8_output = kind == RQ_ICONV_U8 && !real_output;
    if (status == RQ_OK)
        status =
            rq_plan_buffer(s, rq_shape_elems(&s->shapes[last]) * (u8_output ? 1 : 4), &dst, err);
    /* f32 sums are turned into the result in place */
    const bool in_place = kind == RQ_ICONV_F32 && iconv && !rq_iconv_is_split(iconv);
    if (status == RQ_OK && !in_place && rq_iconv_scratch_bytes(iconv))
        status = rq_plan_buffer(s, rq_iconv_scratch_bytes(iconv), &scratch, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, last, kind == RQ_ICONV_U8 ? "conv u8s8" : "conv fake", &src, 1,
                              &step, err);
    if (status != RQ_OK) {
        rq_iconv_destroy(iconv);
        return status;
    }
    step->run = run_iconv;
    step->iconv = iconv;
    step->dst = dst;
    step->scratch = in_place ? dst : scratch;
    step->macs = macs_per_image(&shape);
    s->info.weight_bytes += rq_iconv_weight_bytes(iconv);
    s->info.saturation_safe |= kind == RQ_ICONV_U8 && rq_iconv_is_split(iconv);
    const rq_repr repr = real_output ? RQ_REPR_REAL : u8_output ? RQ_REPR_U8 : RQ_REPR_FAKE;
    set_value(s, last, repr, dst, out_scale);
    return RQ_OK;
}

/* Integers of one fake-quantized layer, computed as lowering computes them. */
static rq_status layer_integers(rq_session *s, int node, float s_x, float s_y, bool real_output,
                                rq_iconv_weights *weights, uint8_t *zero_point, rq_arena *arena,
                                rq_error *err)
{
    rq_layer_view layer;
    rq_status status = rq_layer_view_init(&layer, s->model, node, err);
    if (status != RQ_OK)
        return status;
    const size_t oc = (size_t)layer.oc, taps = rq_layer_channel_size(&layer);
    const float *s_w = rq_tensor_f32(rq_graph_tensor(&s->model->graph, node, RQ_SLOT_WEIGHT_SCALE));
    int8_t *wei = rq_arena_alloc(arena, oc * taps);
    int32_t *bias = rq_arena_alloc(arena, oc * sizeof *bias);
    float *multiplier = rq_arena_alloc(arena, oc * sizeof *multiplier);
    if (!wei || !bias || !multiplier)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    for (int c = 0; c < 3; c++)
        zero_point[c] = rq_pixel_zero_point(s->model->preprocess.mean[c]);
    rq_layer_quantize(&layer, s_w, wei);
    for (size_t c = 0; c < oc; c++) {
        status = rq_layer_integer_bias(&layer, (int64_t)c, s_x, s_w[c], wei + c * taps,
                                       layer.std ? zero_point : NULL, &bias[c], err);
        if (status != RQ_OK)
            return status;
        multiplier[c] = rq_multiplier(s_x, s_w[c], real_output ? 1.0f : s_y);
    }
    *weights = (rq_iconv_weights){wei, bias, multiplier, false};
    return RQ_OK;
}

static rq_status get_scale(const rq_session *s, int node, float *scale, rq_error *err)
{
    *scale = *rq_tensor_f32(rq_graph_tensor(&s->model->graph, node, RQ_SLOT_SCALE));
    if (!(*scale >= RQ_SCALE_MIN) || !isfinite(*scale))
        return rq_fail(err, RQ_ERR_MODEL, "%s: scale %g: no range has been observed yet",
                       node_at(s, node)->name, (double)*scale);
    return RQ_OK;
}

/* conv or linear with WEIGHT_SCALE: merged with the batch_norm, relu and fake_quant behind it. */
static rq_status row_fake_layer(rq_session *s, int node, rq_error *err)
{
    const rq_value *value = &s->values[node_at(s, node)->input[0]];
    if (value->repr != RQ_REPR_FAKE && value->repr != RQ_REPR_IMAGE)
        return rq_fail(err, RQ_ERR_MODEL, "quantized weights, but the input is not quantized");
    const bool real_output = node_at(s, node)->op == RQ_OP_LINEAR;
    int last = node;
    static const rq_op chain[] = {RQ_OP_BATCH_NORM, RQ_OP_RELU, RQ_OP_FAKE_QUANT};
    for (size_t i = 0; i < sizeof chain / sizeof chain[0]; i++) {
        const int next = rq_plan_next(s, last, chain[i]);
        if (next >= 0) {
            s->done[next] = true;
            last = next;
        }
    }
    if (!real_output && node_at(s, last)->op != RQ_OP_FAKE_QUANT)
        return rq_fail(err, RQ_ERR_MODEL,
                       "a quantized convolution must end in fake_quant (batch_norm and relu may "
                       "stand between)");
    const float s_x = value->repr == RQ_REPR_IMAGE ? 1.0f : value->scale;
    float s_y = 1.0f;
    rq_arena arena = RQ_ARENA_INIT;
    rq_iconv_weights weights;
    uint8_t zero_point[3];
    rq_status status = real_output ? RQ_OK : get_scale(s, last, &s_y, err);
    if (status == RQ_OK)
        status = layer_integers(s, node, s_x, s_y, real_output, &weights, zero_point, &arena, err);
    if (status == RQ_OK)
        status =
            add_iconv(s, node, last, RQ_ICONV_F32, &weights, zero_point, s_y, real_output, err);
    rq_arena_deinit(&arena);
    return status;
}

static rq_status row_conv(rq_session *s, int node, rq_error *err)
{
    return rq_graph_tensor(&s->model->graph, node, RQ_SLOT_WEIGHT_SCALE)
               ? row_fake_layer(s, node, err)
               : row_float_conv(s, node, err);
}

static rq_status run_pool_fake(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_pool_fake_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), (size_t)step->in.n,
                     (size_t)(step->in.h * step->in.w), (size_t)step->in.c, step->scale);
    return RQ_OK;
}

static rq_status row_global_avg_pool(rq_session *s, int node, rq_error *err)
{
    const rq_value *value = &s->values[node_at(s, node)->input[0]];
    const int next = rq_plan_next(s, node, RQ_OP_FAKE_QUANT);
    if (value->repr != RQ_REPR_FAKE || next < 0)
        return add_real_step(s, node, "global_avg_pool", run_mean, err);
    int dst;
    float s_y;
    rq_step *step;
    rq_status status = get_scale(s, next, &s_y, err);
    if (status == RQ_OK)
        status = f32_buffer(s, node, &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, "pool fake", &value->buffer, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_pool_fake;
    step->node = next;
    step->dst = dst;
    step->scale = rq_pool_multiplier(value->scale, s_y, step->in.h * step->in.w);
    s->done[next] = true;
    set_value(s, next, RQ_REPR_FAKE, dst, s_y);
    return RQ_OK;
}

static rq_status run_fake_quant(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_quantize_fake_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                         rq_shape_elems(&step->out), step->scale);
    return RQ_OK;
}

static rq_status row_fake_quant(rq_session *s, int node, rq_error *err)
{
    float scale;
    rq_status status = get_scale(s, node, &scale, err);
    if (status == RQ_OK)
        status = add_real_step(s, node, "fake_quant", run_fake_quant, err);
    if (status != RQ_OK)
        return status;
    s->steps[s->n_steps - 1].scale = 1.0f / scale;
    set_value(s, node, RQ_REPR_FAKE, s->values[node].buffer, scale);
    return RQ_OK;
}

/* ---- form int8 ---- */

static rq_status u8_input(const rq_session *s, int node, int *buffer, rq_error *err)
{
    const rq_value *value = &s->values[node_at(s, node)->input[0]];
    if (value->repr != RQ_REPR_U8)
        return rq_fail(err, RQ_ERR_MODEL, "an integer operator reads a float value");
    *buffer = value->buffer;
    return RQ_OK;
}

/* A step from one value to a new buffer of elem_size bytes per element. */
static rq_status add_conversion(rq_session *s, int node, const char *kind, int src,
                                size_t elem_size, rq_repr repr, rq_step **step, rq_error *err)
{
    int dst;
    rq_status status = rq_plan_buffer(s, rq_shape_elems(&s->shapes[node]) * elem_size, &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, kind, &src, 1, step, err);
    if (status != RQ_OK)
        return status;
    (*step)->dst = dst;
    set_value(s, node, repr, dst, 1.0f);
    return RQ_OK;
}

static rq_status run_quantize(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_quantize_u8(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                   rq_shape_elems(&step->out), step->scale);
    return RQ_OK;
}

static rq_status row_quantize(rq_session *s, int node, rq_error *err)
{
    int src = -1;
    float scale;
    rq_step *step;
    rq_status status = get_scale(s, node, &scale, err);
    if (status == RQ_OK)
        status = real_input(s, node, 0, &src, err);
    if (status == RQ_OK)
        status = add_conversion(s, node, "quantize", src, 1, RQ_REPR_U8, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_quantize;
    step->scale = 1.0f / scale;
    return RQ_OK;
}

static rq_status run_dequantize(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_dequantize_u8(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                     rq_shape_elems(&step->out), step->scale);
    return RQ_OK;
}

static rq_status row_dequantize(rq_session *s, int node, rq_error *err)
{
    int src = -1;
    rq_step *step;
    float scale;
    rq_status status = get_scale(s, node, &scale, err);
    if (status == RQ_OK)
        status = u8_input(s, node, &src, err);
    if (status == RQ_OK)
        status = add_conversion(s, node, "dequantize", src, 4, RQ_REPR_REAL, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_dequantize;
    step->scale = scale;
    return RQ_OK;
}

static rq_status row_integer_layer(rq_session *s, int node, rq_error *err)
{
    const rq_graph *graph = &s->model->graph;
    const bool pixels = node_at(s, node)->input[0] == 0;
    int buffer;
    const rq_status status = pixels ? RQ_OK : u8_input(s, node, &buffer, err);
    if (status != RQ_OK)
        return status;
    const rq_tensor *zero_point = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT);
    if (pixels && !zero_point)
        return rq_fail(err, RQ_ERR_MODEL, "reads the image, but has no zero points");
    const rq_iconv_weights weights = {
        rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)->data,
        rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->data,
        rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER)->data,
        s->model->isa_proof,
    };
    return add_iconv(s, node, node, RQ_ICONV_U8, &weights, pixels ? zero_point->data : NULL, 1.0f,
                     graph->nodes[node].op == RQ_OP_QLINEAR, err);
}

static rq_status run_pool_u8(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_pool_u8(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), (size_t)step->in.n,
               (size_t)(step->in.h * step->in.w), (size_t)step->in.c, step->scale);
    return RQ_OK;
}

static rq_status row_qglobal_avg_pool(rq_session *s, int node, rq_error *err)
{
    int src = -1;
    rq_step *step;
    rq_status status = u8_input(s, node, &src, err);
    if (status == RQ_OK)
        status = add_conversion(s, node, "pool u8", src, 1, RQ_REPR_U8, &step, err);
    if (status != RQ_OK)
        return status;
    const float *scale = rq_tensor_f32(rq_graph_tensor(&s->model->graph, node, RQ_SLOT_SCALE));
    step->run = run_pool_u8;
    step->scale = rq_pool_multiplier(scale[0], scale[1], step->in.h * step->in.w);
    return RQ_OK;
}

/* operators that share a row */
#define row_linear  row_conv
#define row_qconv   row_integer_layer
#define row_qlinear row_integer_layer

rq_row *const rq_session_rows[RQ_N_OPS] = {
#define X(code, name) [RQ_OP_##code] = row_##name,
    RQ_OP_LIST(X)
#undef X
};
