/* Rows over real values: the float operators of every form, and max_pool over any. ReLU is merged
 * into a convolution, and in form qat the batch norm too. */
#include <math.h>
#include <string.h>

#include "runtime/dnn/float_passes.h"
#include "runtime/model/quant.h"
#include "runtime/session/rows.h"

rq_status rq_row_input(rq_plan *plan, int node, rq_error *err)
{
    (void)err;
    rq_plan_set_value(plan, node, RQ_REPR_IMAGE, -1);
    return RQ_OK;
}

/* ---- convolutions ---- */

static rq_status run_conv(const rq_executor *executor, rq_step *step, rq_error *err)
{
    return rq_float_conv_run(step->conv, rq_src(executor, step, 0), rq_dst(executor, step), err);
}

/* A layer in float, and what is merged into it. */
typedef struct float_layer {
    const float *weight, *bias; /* bias NULL: none */
    bool relu;
    int last; /* node that it is merged up to: a batch norm, then a relu */
} float_layer;

/* The batch norm folded into weights and bias, as lowering does it: a float layer of form qat gives
 * the numbers that it gives in the exported model. */
static rq_status fold_float_layer(const rq_plan *plan, int node, float_layer *layer,
                                  rq_arena *arena, rq_error *err)
{
    rq_layer_view view;
    RQ_TRY(rq_layer_view_init(&view, plan->model, node, err));
    const size_t oc = (size_t)view.oc, taps = rq_layer_channel_size(&view);
    float *weight = rq_arena_array(arena, float, oc *taps);
    float *bias = rq_arena_array(arena, float, oc);
    if (!weight || !bias)
        return rq_no_memory(err);
    for (size_t c = 0; c < oc; c++) {
        rq_layer_fold(&view, (int64_t)c, weight + c * taps);
        bias[c] = (float)rq_layer_bias(&view, (int64_t)c);
    }
    layer->weight = weight;
    layer->bias = bias;
    return RQ_OK;
}

static rq_status find_float_layer(const rq_plan *plan, int node, float_layer *layer,
                                  rq_arena *arena, rq_error *err)
{
    const rq_graph *graph = &plan->model->graph;
    const rq_tensor *bias = rq_graph_tensor(graph, node, RQ_SLOT_BIAS);
    const bool fold = plan->model->form == RQ_FORM_QAT;
    const int normed = fold ? rq_plan_skip(plan, node, RQ_OP_BATCH_NORM) : node;
    layer->weight = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT));
    layer->bias = bias ? rq_tensor_f32(bias) : NULL;
    layer->last =
        plan->executor->options.observer ? normed : rq_plan_skip(plan, normed, RQ_OP_RELU);
    layer->relu = layer->last != normed;
    return fold ? fold_float_layer(plan, node, layer, arena, err) : RQ_OK;
}

static rq_status add_float_conv(rq_plan *plan, int node, const float_layer *layer, rq_error *err)
{
    const rq_conv_shape shape = rq_plan_conv_shape(plan, node);
    const rq_float_conv_options options = {.bias = layer->bias != NULL, .relu = layer->relu};
    rq_executor *executor = plan->executor;
    int src, dst;
    rq_step *step;
    RQ_TRY(rq_plan_real_input(plan, node, 0, &src, err));
    const rq_step *twin = rq_plan_twin(plan);
    RQ_TRY(rq_plan_value_buffer(plan, node, sizeof(float), &dst, err));
    RQ_TRY(rq_plan_step(plan, node, "conv f32", &src, 1, &step, err));
    step->run = run_conv;
    step->node = layer->last;
    step->dst = dst;
    step->macs = rq_plan_macs(&shape);
    RQ_TRY(rq_float_conv_create(&step->conv, executor->dnn, &shape, &options, err));
    if (!twin || !rq_float_conv_share_weights(step->conv, twin->conv))
        RQ_TRY(rq_float_conv_set_weights(step->conv, layer->weight, layer->bias, err));
    executor->info.weight_bytes += rq_float_conv_bytes(step->conv);
    rq_plan_merge(plan, node, layer->last);
    rq_plan_set_value(plan, layer->last, RQ_REPR_REAL, dst);
    return RQ_OK;
}

rq_status rq_row_float_conv(rq_plan *plan, int node, rq_error *err)
{
    rq_arena arena = RQ_ARENA_INIT;
    float_layer layer;
    rq_status status;
    if ((status = find_float_layer(plan, node, &layer, &arena, err)))
        goto out;
    status = add_float_conv(plan, node, &layer, err);
out:
    rq_arena_deinit(&arena);
    return status;
}

/* ---- per channel ---- */

static rq_status run_scale_shift(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_scale_shift_f32(rq_src(executor, step, 0), step->factor, step->offset,
                       rq_dst(executor, step), (size_t)(step->in.n * step->in.h * step->in.w),
                       (size_t)step->in.c);
    return RQ_OK;
}

/* A step y = factor[c] x + offset[c]; both are zeroed, for the row to fill. */
static rq_status add_scale_shift(rq_plan *plan, int node, const char *kind, rq_step **out,
                                 rq_error *err)
{
    rq_arena *arena = &plan->executor->arena;
    RQ_TRY(rq_plan_real_step(plan, node, kind, run_scale_shift, out, err));
    rq_step *step = *out;
    step->factor = rq_arena_array(arena, float, step->in.c);
    step->offset = rq_arena_array(arena, float, step->in.c);
    return step->factor && step->offset ? RQ_OK : rq_no_memory(err);
}

rq_status rq_row_scale(rq_plan *plan, int node, rq_error *err)
{
    const rq_tensor *weight = rq_graph_tensor(&plan->model->graph, node, RQ_SLOT_WEIGHT);
    rq_step *step;
    RQ_TRY(add_scale_shift(plan, node, "scale", &step, err));
    memcpy(step->factor, weight->data, (size_t)step->in.c * sizeof(float));
    return RQ_OK;
}

rq_status rq_row_batch_norm(rq_plan *plan, int node, rq_error *err)
{
    const rq_graph *graph = &plan->model->graph;
    rq_step *step;
    RQ_TRY(add_scale_shift(plan, node, "batch_norm", &step, err));
    const float *gamma = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT));
    const float *beta = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_BIAS));
    const float *mean = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MEAN));
    const float *var = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_VAR));
    const double eps = (double)rq_plan_node(plan, node)->eps;
    for (int64_t c = 0; c < step->in.c; c++) {
        const double factor = (double)gamma[c] / sqrt((double)var[c] + eps);
        step->factor[c] = (float)factor;
        step->offset[c] = (float)((double)beta[c] - (double)mean[c] * factor);
    }
    return RQ_OK;
}

/* ---- elementwise ---- */

static rq_status run_add(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    const float *src[RQ_MAX_INPUTS];
    for (int k = 0; k < step->n_src; k++)
        src[k] = rq_src(executor, step, k);
    rq_add_f32(src, step->n_src, rq_dst(executor, step), rq_shape_elems(&step->out));
    return RQ_OK;
}

rq_status rq_row_add(rq_plan *plan, int node, rq_error *err)
{
    rq_step *step;
    return rq_plan_real_step(plan, node, "add", run_add, &step, err);
}

static rq_status run_sigmoid(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_sigmoid_f32(rq_src(executor, step, 0), rq_dst(executor, step), rq_shape_elems(&step->out));
    return RQ_OK;
}

rq_status rq_row_float_sigmoid(rq_plan *plan, int node, rq_error *err)
{
    rq_step *step;
    return rq_plan_real_step(plan, node, "sigmoid", run_sigmoid, &step, err);
}

static rq_status run_mul(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_gate_f32(rq_src(executor, step, 0), rq_src(executor, step, 1), rq_dst(executor, step),
                (size_t)step->in.n, (size_t)(step->in.h * step->in.w), (size_t)step->in.c);
    return RQ_OK;
}

rq_status rq_row_float_mul(rq_plan *plan, int node, rq_error *err)
{
    rq_step *step;
    return rq_plan_real_step(plan, node, "mul", run_mul, &step, err);
}

static rq_status run_relu(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_relu_f32(rq_src(executor, step, 0), rq_dst(executor, step), rq_shape_elems(&step->out));
    return RQ_OK;
}

/* In place, where nobody else reads the source. */
rq_status rq_row_relu(rq_plan *plan, int node, rq_error *err)
{
    const rq_value *value = rq_plan_input(plan, node, 0);
    rq_step *step;
    const int source = rq_plan_node(plan, node)->input[0];
    if (value->repr != RQ_REPR_REAL || rq_graph_only_reader(&plan->model->graph, source) < 0)
        return rq_plan_real_step(plan, node, "relu", run_relu, &step, err);
    RQ_TRY(rq_plan_step(plan, node, "relu", &value->buffer, 1, &step, err));
    step->run = run_relu;
    step->dst = value->buffer;
    rq_plan_set_value(plan, node, RQ_REPR_REAL, step->dst);
    return RQ_OK;
}

/* ---- plain operators, and the mean over an image ---- */

static rq_status run_plain(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    const rq_plain_args args = {
        .in = &step->in, .out = &step->out, .window = &step->window, .is_u8 = !step->as_f32};
    step->plain->forward(&args, rq_src(executor, step, 0), rq_dst(executor, step));
    return RQ_OK;
}

/* A plain operator, or the twin of one. Where there is a twin, the result is the kind of value that
 * the input is; else both are real. */
rq_status rq_row_plain(rq_plan *plan, int node, rq_error *err)
{
    const rq_node *n = rq_plan_node(plan, node);
    const rq_plain_op *op = rq_plain_op_of(n->op);
    rq_value value = *rq_plan_input(plan, node, 0);
    rq_step *step;
    if (value.repr == RQ_REPR_IMAGE || op->twin == RQ_OP_INPUT) {
        RQ_TRY(rq_plan_real_input(plan, node, 0, &value.buffer, err));
        value.repr = RQ_REPR_REAL;
    }
    const int src = value.buffer;
    const bool as_f32 = value.repr != RQ_REPR_U8;
    RQ_TRY(rq_plan_value_buffer(plan, node, as_f32 ? sizeof(float) : 1, &value.buffer, err));
    RQ_TRY(rq_plan_step(plan, node, rq_op_name(n->op), &src, 1, &step, err));
    step->run = run_plain;
    step->dst = value.buffer;
    step->as_f32 = as_f32;
    step->plain = op;
    step->window = n->conv;
    plan->values[node] = value;
    return RQ_OK;
}

static rq_status run_mean(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    const int64_t pixels = step->in.h * step->in.w;
    rq_pool_f32(rq_src(executor, step, 0), rq_dst(executor, step), (size_t)step->in.n,
                (size_t)pixels, (size_t)step->in.c, (float)(1.0 / (double)pixels));
    return RQ_OK;
}

rq_status rq_row_float_pool(rq_plan *plan, int node, rq_error *err)
{
    rq_step *step;
    return rq_plan_real_step(plan, node, "global_avg_pool", run_mean, &step, err);
}
