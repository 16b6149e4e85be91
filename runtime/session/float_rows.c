/* Rows over real values: the float operators of every form, and max_pool over any. ReLU is merged
 * into a convolution, and in form qat the batch norm too. */
#include <math.h>
#include <string.h>

#include "runtime/dnn/float_passes.h"
#include "runtime/dnn/integer_passes.h"
#include "runtime/model/quant.h"
#include "runtime/session/rows.h"

rq_status rq_plan_f32_buffer(rq_session *s, int node, int *out, rq_error *err)
{
    return rq_plan_buffer(s, rq_shape_elems(&s->shapes[node]) * sizeof(float), out, err);
}

/* ---- inputs as real values ---- */

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
    rq_status status = rq_plan_f32_buffer(s, 0, buffer, err);
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
    rq_preprocess_normalization(&s->model->preprocess, step->factor, step->offset);
    rq_plan_set_value(s, 0, RQ_REPR_REAL, *buffer);
    return RQ_OK;
}

static rq_status run_unfake(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_dequantize(rq_plan_at(s, step->src[0]), true, rq_plan_at(s, step->dst),
                  rq_shape_elems(&step->in), step->q);
    return RQ_OK;
}

/* The buffer of input k of a node as real f32; converts the image and fake-quantized values on the
 * way. */
rq_status rq_plan_real_input(rq_session *s, int node, int k, int *buffer, rq_error *err)
{
    const int source = rq_plan_node(s, node)->input[k];
    const rq_value *value = &s->values[source];
    switch (value->repr) {
    case RQ_REPR_REAL:
        *buffer = value->buffer;
        return RQ_OK;
    case RQ_REPR_IMAGE:
        return add_normalize(s, buffer, err);
    case RQ_REPR_FAKE: {
        rq_step *step;
        rq_status status = rq_plan_f32_buffer(s, source, buffer, err);
        if (status == RQ_OK)
            status = rq_plan_step(s, node, "unfake", &value->buffer, 1, &step, err);
        if (status != RQ_OK)
            return status;
        step->run = run_unfake;
        step->node = -1;
        step->dst = *buffer;
        step->q = value->q;
        return RQ_OK;
    }
    case RQ_REPR_U8:
        break;
    }
    return rq_fail(err, RQ_ERR_MODEL, "a float operator reads a u8 value without dequantize");
}

/* ---- convolutions ---- */

rq_status rq_row_input(rq_session *s, int node, rq_error *err)
{
    (void)err;
    rq_plan_set_value(s, node, RQ_REPR_IMAGE, -1);
    return RQ_OK;
}

static rq_status run_conv(rq_session *s, rq_step *step, rq_error *err)
{
    return rq_float_conv_run(step->conv, rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                             err);
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
    const rq_conv_shape shape = rq_plan_conv_shape(s, node);
    int src, dst;
    rq_step *step;
    rq_status status = rq_plan_real_input(s, node, 0, &src, err);
    const rq_step *twin = rq_plan_twin(s);
    if (status == RQ_OK)
        status = rq_plan_f32_buffer(s, node, &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, "conv f32", &src, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_conv;
    step->dst = dst;
    step->macs = rq_plan_macs(&shape);
    const rq_float_conv_options options = {.bias = layer->bias != NULL, .relu = layer->relu >= 0};
    status = rq_float_conv_create(&step->conv, s->dnn, &shape, &options, err);
    if (status == RQ_OK && !(twin && rq_float_conv_share_weights(step->conv, twin->conv)))
        status = rq_float_conv_set_weights(step->conv, layer->weight, layer->bias, err);
    if (status != RQ_OK)
        return status;
    s->info.weight_bytes += rq_float_conv_bytes(step->conv);
    rq_plan_set_value(s, node, RQ_REPR_REAL, dst);
    const int merged[] = {layer->bn, layer->relu};
    for (int i = 0; i < 2; i++)
        if (merged[i] >= 0) {
            rq_plan_set_value(s, merged[i], RQ_REPR_REAL, dst);
            s->done[merged[i]] = true;
            step->node = merged[i];
        }
    return RQ_OK;
}

rq_status rq_row_float_conv(rq_session *s, int node, rq_error *err)
{
    rq_arena arena = RQ_ARENA_INIT;
    float_layer layer;
    rq_status status = find_float_layer(s, node, &layer, &arena, err);
    if (status == RQ_OK)
        status = add_float_conv(s, node, &layer, err);
    rq_arena_deinit(&arena);
    return status;
}

/* ---- the other operators ---- */

/* A step from all inputs as real values to a buffer of the node's shape. */
rq_status rq_plan_real_step(rq_session *s, int node, const char *kind, rq_run *run, rq_error *err)
{
    const int n = rq_plan_node(s, node)->n_inputs;
    int src[RQ_MAX_INPUTS], dst;
    rq_step *step;
    rq_status status = RQ_OK;
    for (int k = 0; k < n && status == RQ_OK; k++)
        status = rq_plan_real_input(s, node, k, &src[k], err);
    if (status == RQ_OK)
        status = rq_plan_f32_buffer(s, node, &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, kind, src, n, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run;
    step->dst = dst;
    rq_plan_set_value(s, node, RQ_REPR_REAL, dst);
    return RQ_OK;
}

static rq_status run_affine(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_scale_shift_f32(rq_plan_at(s, step->src[0]), step->factor, step->offset,
                       rq_plan_at(s, step->dst), (size_t)(step->in.n * step->in.h * step->in.w),
                       (size_t)step->in.c);
    return RQ_OK;
}

/* A step y = factor[c] x + offset[c]; both are zeroed, for the row to fill. */
static rq_status add_affine(rq_session *s, int node, const char *kind, rq_step **out, rq_error *err)
{
    const rq_status status = rq_plan_real_step(s, node, kind, run_affine, err);
    if (status != RQ_OK)
        return status;
    rq_step *step = *out = &s->steps[s->n_steps - 1];
    step->factor = rq_arena_alloc(&s->arena, (size_t)step->in.c * sizeof(float));
    step->offset = rq_arena_alloc(&s->arena, (size_t)step->in.c * sizeof(float));
    return step->factor && step->offset ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
}

rq_status rq_row_scale(rq_session *s, int node, rq_error *err)
{
    const rq_tensor *weight = rq_graph_tensor(&s->model->graph, node, RQ_SLOT_WEIGHT);
    rq_step *step;
    const rq_status status = add_affine(s, node, "scale", &step, err);
    if (status == RQ_OK)
        memcpy(step->factor, weight->data, (size_t)step->in.c * sizeof(float));
    return status;
}

rq_status rq_row_batch_norm(rq_session *s, int node, rq_error *err)
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

rq_status rq_row_add(rq_session *s, int node, rq_error *err)
{
    return rq_plan_real_step(s, node, "add", run_add, err);
}

static rq_status run_sigmoid(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_sigmoid_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                   rq_shape_elems(&step->out));
    return RQ_OK;
}

rq_status rq_row_float_sigmoid(rq_session *s, int node, rq_error *err)
{
    return rq_plan_real_step(s, node, "sigmoid", run_sigmoid, err);
}

static rq_status run_mul(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_gate_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->src[1]), rq_plan_at(s, step->dst),
                (size_t)step->in.n, (size_t)(step->in.h * step->in.w), (size_t)step->in.c);
    return RQ_OK;
}

rq_status rq_row_float_mul(rq_session *s, int node, rq_error *err)
{
    return rq_plan_real_step(s, node, "mul", run_mul, err);
}

static rq_status run_avg_pool(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_avg_pool_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), &step->in, &step->out,
                    &step->window);
    return RQ_OK;
}

rq_status rq_row_avg_pool(rq_session *s, int node, rq_error *err)
{
    const rq_status status = rq_plan_real_step(s, node, "avg_pool", run_avg_pool, err);
    if (status == RQ_OK)
        s->steps[s->n_steps - 1].window = rq_plan_node(s, node)->conv;
    return status;
}

static rq_status run_max_pool(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_max_pool(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), step->as_f32, &step->in,
                &step->out, &step->window);
    return RQ_OK;
}

/* max_pool and qmax_pool, of a value in whatever form it stands: that is how the result stands. */
rq_status rq_row_max_pool(rq_session *s, int node, rq_error *err)
{
    rq_value value = *rq_plan_input(s, node, 0);
    rq_step *step;
    rq_status status = RQ_OK;
    if (value.repr == RQ_REPR_IMAGE) {
        status = rq_plan_real_input(s, node, 0, &value.buffer, err);
        value.repr = RQ_REPR_REAL;
    }
    const int src = value.buffer;
    const bool as_f32 = value.repr != RQ_REPR_U8;
    const size_t elem_size = as_f32 ? sizeof(float) : 1;
    if (status == RQ_OK)
        status =
            rq_plan_buffer(s, rq_shape_elems(&s->shapes[node]) * elem_size, &value.buffer, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, "max_pool", &src, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_max_pool;
    step->dst = value.buffer;
    step->as_f32 = as_f32;
    step->window = rq_plan_node(s, node)->conv;
    s->values[node] = value;
    return RQ_OK;
}

static rq_status run_relu(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_relu_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), rq_shape_elems(&step->out));
    return RQ_OK;
}

/* In place, where nobody else reads the source. */
rq_status rq_row_relu(rq_session *s, int node, rq_error *err)
{
    const int source = rq_plan_node(s, node)->input[0];
    const rq_value *value = &s->values[source];
    rq_step *step;
    if (value->repr != RQ_REPR_REAL || rq_graph_only_reader(&s->model->graph, source) < 0)
        return rq_plan_real_step(s, node, "relu", run_relu, err);
    const rq_status status = rq_plan_step(s, node, "relu", &value->buffer, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_relu;
    step->dst = value->buffer;
    rq_plan_set_value(s, node, RQ_REPR_REAL, step->dst);
    return RQ_OK;
}

static rq_status run_mean(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    const int64_t pixels = step->in.h * step->in.w;
    rq_pool_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), (size_t)step->in.n,
                (size_t)pixels, (size_t)step->in.c, (float)(1.0 / (double)pixels));
    return RQ_OK;
}

rq_status rq_row_float_pool(rq_session *s, int node, rq_error *err)
{
    return rq_plan_real_step(s, node, "global_avg_pool", run_mean, err);
}
