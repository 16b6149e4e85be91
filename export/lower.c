/* The lowering pass. Every value of the source graph is followed as what it is in the lowered
 * graph: a float value, a quantized value, or an operator that is not emitted yet because its
 * reader decides its form. */
#include "export/lower.h"

#include <string.h>

#include "export/integer_layer.h"
#include "runtime/base/log.h"
#include "runtime/model/quant.h"
#include "runtime/session/integer.h"

enum { NONE = -1 };

/* What a value of the source graph has become. Node numbers are NONE until something is emitted. */
typedef struct value {
    int real;      /* lowered node with the f32 value */
    int quantized; /* lowered node with the u8 value */
    float scale;   /* of quantized */
    int layer;     /* source node of a conv or linear whose result this is, not emitted yet */
    int relu;      /* source node of the relu behind that layer */
    int pool;      /* source node of a global_avg_pool over a quantized value, not emitted yet */
} value;

#define VALUE_NONE                                                                                 \
    (value)                                                                                        \
    {                                                                                              \
        NONE, NONE, 0.0f, NONE, NONE, NONE                                                         \
    }

typedef struct lowering {
    const rq_model *qat;
    rq_model *out;
    value *values; /* one per source node */
    int *emitted;  /* per source layer or pool: its lowered node, NONE before */
    const rq_lower_options *options;
    rq_lower_report report;
    rq_error *err;
} lowering;

typedef rq_status lower_row(lowering *self, int i);

static const rq_node *source_node(const lowering *self, int i)
{
    return &self->qat->graph.nodes[i];
}

static value *input_value(const lowering *self, int i)
{
    return &self->values[source_node(self, i)->input[0]];
}

static bool has_weight_scale(const lowering *self, int layer)
{
    return source_node(self, layer)->slot[RQ_SLOT_WEIGHT_SCALE] >= 0;
}

static bool reads_image(const lowering *self, int i)
{
    return source_node(self, source_node(self, i)->input[0])->op == RQ_OP_INPUT;
}

/* ---- emitting nodes ---- */

static rq_status emit_node(lowering *self, rq_op op, const char *name, int input, int *out)
{
    return rq_graph_add_node(&self->out->graph, op, name, 1, &input, out, self->err);
}

/* A node whose parameters are 1 or 2 scales. */
static rq_status emit_scaled(lowering *self, rq_op op, const char *name, int input,
                             const float *scale, int64_t n_scales, int *out)
{
    rq_graph *graph = &self->out->graph;
    int node = NONE;
    rq_status status = emit_node(self, op, name, input, &node);
    if (!status)
        status = rq_graph_add_param(graph, node, RQ_SLOT_SCALE, RQ_F32, 1, &n_scales, self->err);
    if (status)
        return status;
    memcpy(rq_graph_tensor(graph, node, RQ_SLOT_SCALE)->data, scale,
           (size_t)n_scales * sizeof *scale);
    *out = node;
    return RQ_OK;
}

/* A layer or pool becomes one node, of one kind: is it still to be emitted? */
static rq_status claim(const lowering *self, int i)
{
    if (self->emitted[i] == NONE)
        return RQ_OK;
    return rq_fail(self->err, RQ_ERR_MODEL,
                   "%s: its result is quantized twice, or read both with and without fake_quant",
                   source_node(self, i)->name);
}

static rq_status want_real(lowering *self, int i, int *out);

static rq_status want_quantized(lowering *self, int reader, int i, value *out)
{
    if (self->values[i].quantized == NONE)
        return rq_fail(self->err, RQ_ERR_MODEL,
                       "%s: its weights are quantized but its input %s is not (no fake_quant)",
                       source_node(self, reader)->name, source_node(self, i)->name);
    *out = self->values[i];
    return RQ_OK;
}

/* Zero points of the pixels; the model's mean must be exactly what they stand for. */
static rq_status pixel_zero_points(const lowering *self, int layer, uint8_t *zero_point)
{
    const float *mean = self->qat->preprocess.mean;
    for (int c = 0; c < 3; c++) {
        zero_point[c] = rq_pixel_zero_point(mean[c]);
        if (mean[c] != rq_pixel_mean(zero_point[c]))
            return rq_fail(self->err, RQ_ERR_MODEL,
                           "%s: reads pixels, but mean %d of the preprocessing, %.9g, is not a "
                           "whole level (%d / 255)",
                           source_node(self, layer)->name, c, (double)mean[c], zero_point[c]);
    }
    return RQ_OK;
}

static void note_layer(lowering *self, const rq_integer_layer *layer,
                       const rq_integer_layer_facts *facts)
{
    rq_lower_report *report = &self->report;
    report->n_integer_layers++;
    report->n_channels += layer->view.oc;
    report->n_unsafe_channels += facts->n_unsafe;
    report->repair = facts->repair;
    if (facts->acc_max > report->acc_max)
        report->acc_max = facts->acc_max;
    if (facts->n_wide == 0)
        return;
    report->n_wide_layers++;
    rq_log(RQ_LOG_INFO,
           "%s: %lld of %lld channels could exceed 2^24 in the accumulator (at most %lld); f32 "
           "rounds there",
           layer->view.name, (long long)facts->n_wide, (long long)layer->view.oc,
           (long long)facts->acc_max);
}

/* qconv or qlinear for a source layer whose output has scale s_y. */
static rq_status emit_integer_layer(lowering *self, int i, float s_y, int *out)
{
    const rq_node *source = source_node(self, i);
    const rq_graph *graph = &self->qat->graph;
    const bool pixels = source->op == RQ_OP_CONV && reads_image(self, i);
    uint8_t zero_point[3];
    value input = {.quantized = 0, .scale = RQ_PIXEL_SCALE};
    rq_integer_layer layer = {
        .weight_scale = rq_tensor_f32(rq_graph_tensor(graph, i, RQ_SLOT_WEIGHT_SCALE)),
        .s_y = s_y,
        .zero_point = pixels ? zero_point : NULL,
        .isa_repair = self->options->isa_repair,
    };
    int node = NONE;
    rq_status status = claim(self, i);
    if (!status)
        status = rq_layer_view_init(&layer.view, self->qat, i, self->err);
    if (!status)
        status = pixels ? pixel_zero_points(self, i, zero_point)
                        : want_quantized(self, i, source->input[0], &input);
    if (!status)
        status = emit_node(self, source->op == RQ_OP_CONV ? RQ_OP_QCONV : RQ_OP_QLINEAR,
                           source->name, input.quantized, &node);
    if (status)
        return status;
    self->out->graph.nodes[node].conv = source->conv;
    layer.s_x = input.scale;
    rq_integer_layer_facts facts = {.repair = self->report.repair};
    status =
        rq_integer_layer_emit(&self->out->graph, node, rq_graph_tensor(graph, i, RQ_SLOT_WEIGHT),
                              &layer, &facts, self->err);
    if (status)
        return status;
    note_layer(self, &layer, &facts);
    self->emitted[i] = *out = node;
    return RQ_OK;
}

/* The float layer with its batch norm folded in. */
static rq_status emit_float_layer(lowering *self, int i, int *out)
{
    const rq_node *source = source_node(self, i);
    const rq_tensor *wei = rq_graph_tensor(&self->qat->graph, i, RQ_SLOT_WEIGHT);
    rq_graph *graph = &self->out->graph;
    rq_layer_view view;
    int input = NONE, node = NONE;
    rq_status status = rq_layer_view_init(&view, self->qat, i, self->err);
    if (!status)
        status = want_real(self, source->input[0], &input);
    if (!status)
        status = emit_node(self, source->op, source->name, input, &node);
    if (!status)
        status =
            rq_graph_add_param(graph, node, RQ_SLOT_WEIGHT, RQ_F32, wei->rank, wei->dim, self->err);
    if (!status)
        status = rq_graph_add_param(graph, node, RQ_SLOT_BIAS, RQ_F32, 1, wei->dim, self->err);
    if (status)
        return status;
    graph->nodes[node].conv = source->conv;
    float *folded = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT));
    float *bias = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_BIAS));
    for (int64_t oc = 0; oc < view.oc; oc++) {
        rq_layer_fold(&view, oc, folded + (size_t)oc * rq_layer_channel_size(&view));
        bias[oc] = (float)rq_layer_bias(&view, oc);
    }
    self->report.n_float_layers++;
    self->emitted[i] = *out = node;
    return RQ_OK;
}

/* The f32 result of a layer: the float layer, or logits from integers. */
static rq_status emit_real_layer(lowering *self, int i, int *out)
{
    const rq_node *source = source_node(self, i);
    if (has_weight_scale(self, i) && source->op == RQ_OP_CONV)
        return rq_fail(self->err, RQ_ERR_MODEL,
                       "%s: its weights are quantized but its output is read without fake_quant",
                       source->name);
    if (self->emitted[i] != NONE) { /* for another reader */
        *out = self->emitted[i];
        return RQ_OK;
    }
    return has_weight_scale(self, i) ? emit_integer_layer(self, i, 1.0f, out)
                                     : emit_float_layer(self, i, out);
}

static rq_status emit_real_pool(lowering *self, int i, int *out)
{
    int input = NONE;
    rq_status status = claim(self, i);
    if (!status)
        status = want_real(self, source_node(self, i)->input[0], &input);
    if (!status)
        status = emit_node(self, RQ_OP_GLOBAL_AVG_POOL, source_node(self, i)->name, input, out);
    return status;
}

static rq_status emit_dequantize(lowering *self, int i, int *out)
{
    const value *v = &self->values[i];
    const char *name = source_node(self, i)->name;
    const char *node_name = rq_arena_printf(&self->out->graph.arena, "%s.dequantize", name);
    if (!node_name)
        return rq_fail(self->err, RQ_ERR_NOMEM, "%s: out of memory", name);
    return emit_scaled(self, RQ_OP_DEQUANTIZE, node_name, v->quantized, &v->scale, 1, out);
}

/* The lowered node that holds value i as f32; emits what is missing. */
static rq_status want_real(lowering *self, int i, int *out)
{
    value *v = &self->values[i];
    int node = v->real;
    rq_status status = RQ_OK;
    if (node != NONE) {
        /* there already */
    } else if (v->layer != NONE) {
        status = emit_real_layer(self, v->layer, &node);
        if (!status && v->relu != NONE)
            status = emit_node(self, RQ_OP_RELU, source_node(self, v->relu)->name, node, &node);
    } else if (v->pool != NONE) {
        status = emit_real_pool(self, v->pool, &node);
    } else {
        status = emit_dequantize(self, i, &node);
    }
    if (!status)
        v->real = *out = node;
    return status;
}

/* ---- the rows: one per operator ---- */

static rq_status lower_input(lowering *self, int i)
{
    return rq_graph_add_node(&self->out->graph, RQ_OP_INPUT, source_node(self, i)->name, 0, NULL,
                             &self->values[i].real, self->err);
}

/* Any operator over float values, copied. */
static rq_status lower_float(lowering *self, int i)
{
    const rq_node *source = source_node(self, i);
    int inputs[RQ_MAX_INPUTS];
    rq_status status = RQ_OK;
    for (int k = 0; k < source->n_inputs && !status; k++)
        status = want_real(self, source->input[k], &inputs[k]);
    if (status)
        return status;
    return rq_graph_copy_node(&self->out->graph, &self->qat->graph, i, inputs,
                              &self->values[i].real, self->err);
}

/* A conv or linear layer waits for its reader. */
static rq_status lower_layer(lowering *self, int i)
{
    self->values[i].layer = i;
    return RQ_OK;
}

/* The batch norm right behind a layer is part of it (rq_layer_view). */
static rq_status lower_batch_norm(lowering *self, int i)
{
    const int input = source_node(self, i)->input[0];
    if (self->values[input].layer != input)
        return lower_float(self, i);
    self->values[i].layer = input;
    return RQ_OK;
}

static rq_status lower_relu(lowering *self, int i)
{
    const value *input = input_value(self, i);
    if (input->layer == NONE && input->quantized == NONE)
        return lower_float(self, i);
    self->values[i] = *input; /* quantized values are >= 0 */
    if (input->layer != NONE && input->relu == NONE) {
        self->values[i].relu = i;
        self->values[i].real = NONE;
    }
    return RQ_OK;
}

static rq_status lower_global_avg_pool(lowering *self, int i)
{
    if (input_value(self, i)->quantized == NONE)
        return lower_float(self, i);
    self->values[i].pool = i;
    return RQ_OK;
}

static rq_status quantize_pool(lowering *self, int i, int pool, float scale)
{
    const value *input = input_value(self, pool);
    const float scales[2] = {input->scale, scale};
    rq_status status = claim(self, pool);
    if (!status)
        status = emit_scaled(self, RQ_OP_QGLOBAL_AVG_POOL, source_node(self, pool)->name,
                             input->quantized, scales, 2, &self->values[i].quantized);
    if (!status)
        self->emitted[pool] = self->values[i].quantized;
    return status;
}

static rq_status lower_fake_quant(lowering *self, int i)
{
    const rq_node *source = source_node(self, i);
    const float *scale = rq_tensor_f32(rq_graph_tensor(&self->qat->graph, i, RQ_SLOT_SCALE));
    const value *input = input_value(self, i);
    value *v = &self->values[i];
    rq_status status = rq_check_scales(source->name, "scale", scale, 1, self->err);
    if (status)
        return status;
    if (input->quantized != NONE && input->scale == *scale) {
        *v = *input;
        return RQ_OK;
    }
    v->scale = *scale;
    if (input->layer != NONE && has_weight_scale(self, input->layer) &&
        source_node(self, input->layer)->op == RQ_OP_CONV)
        return emit_integer_layer(self, input->layer, *scale, &v->quantized);
    if (input->pool != NONE && input->real == NONE)
        return quantize_pool(self, i, input->pool, *scale);
    int real = NONE;
    status = want_real(self, source->input[0], &real);
    return status ? status
                  : emit_scaled(self, RQ_OP_QUANTIZE, source->name, real, scale, 1, &v->quantized);
}

static rq_status refuse_lowered(lowering *self, int i)
{
    return rq_fail(self->err, RQ_ERR_MODEL, "%s: %s is an integer operator, the model is lowered",
                   source_node(self, i)->name, rq_op_name(source_node(self, i)->op));
}

/* Operators that share a row. */
#define lower_conv             lower_layer
#define lower_linear           lower_layer
#define lower_add              lower_float
#define lower_scale            lower_float
#define lower_avg_pool         lower_float
#define lower_sigmoid          lower_float
#define lower_mul              lower_float
#define lower_quantize         refuse_lowered
#define lower_dequantize       refuse_lowered
#define lower_qconv            refuse_lowered
#define lower_qglobal_avg_pool refuse_lowered
#define lower_qlinear          refuse_lowered

static lower_row *const rows[RQ_N_OPS] = {
#define X(code, name) [RQ_OP_##code] = lower_##name,
    RQ_OP_LIST(X)
#undef X
};

/* ---- the pass ---- */

static rq_status check_source(const rq_model *qat, rq_shape *shapes, rq_error *err)
{
    if (qat->form != RQ_FORM_QAT)
        return rq_fail(err, RQ_ERR_MODEL, "the model's form is %s, only qat can be lowered",
                       rq_form_name(qat->form));
    const int64_t side = qat->preprocess.crop;
    return rq_graph_shapes(&qat->graph, 1, side, side, shapes, err);
}

static rq_status lower_graph(lowering *self)
{
    const int last = self->qat->graph.n_nodes - 1;
    int output = NONE;
    rq_status status = RQ_OK;
    for (int i = 0; i <= last && !status; i++)
        status = rows[source_node(self, i)->op](self, i);
    if (!status)
        status = want_real(self, last, &output);
    if (!status && output != self->out->graph.n_nodes - 1)
        status = rq_fail(self->err, RQ_ERR_MODEL, "%s: the output is not computed last",
                         source_node(self, last)->name);
    return status;
}

/* The result obeys the rules that readers of int8 models check. */
static rq_status check_result(const rq_model *out, rq_arena *scratch, rq_error *err)
{
    void *shapes = NULL;
    const int64_t side = out->preprocess.crop;
    rq_status status =
        rq_arena_array(scratch, &shapes, (size_t)out->graph.n_nodes, sizeof(rq_shape), err);
    if (!status)
        status = rq_graph_shapes(&out->graph, 1, side, side, shapes, err);
    return status ? status : rq_integer_check(out, err);
}

rq_status rq_lower(rq_model *out, const rq_model *qat, const rq_lower_options *options,
                   rq_error *err)
{
    static const rq_lower_options defaults = RQ_LOWER_OPTIONS_INIT;
    const size_t n_nodes = (size_t)qat->graph.n_nodes;
    rq_arena scratch = RQ_ARENA_INIT;
    rq_model lowered = RQ_MODEL_INIT;
    lowering self = {
        .qat = qat, .out = &lowered, .options = options ? options : &defaults, .err = err};
    void *shapes = NULL, *values = NULL, *emitted = NULL;
    *out = (rq_model)RQ_MODEL_INIT;

    rq_status status = rq_arena_array(&scratch, &shapes, n_nodes, sizeof(rq_shape), err);
    if (!status)
        status = rq_arena_array(&scratch, &values, n_nodes, sizeof(value), err);
    if (!status)
        status = rq_arena_array(&scratch, &emitted, n_nodes, sizeof(int), err);
    if (!status)
        status = check_source(qat, shapes, err);
    if (status)
        goto out;
    self.values = values;
    self.emitted = emitted;
    for (size_t i = 0; i < n_nodes; i++) {
        self.values[i] = VALUE_NONE;
        self.emitted[i] = NONE;
    }

    status = rq_model_copy_info(&lowered, qat, err);
    if (!status)
        status = lower_graph(&self);
    if (status)
        goto out;
    lowered.form = RQ_FORM_INT8;
    lowered.isa_proof = self.report.n_unsafe_channels == 0;
    status = check_result(&lowered, &scratch, err);
    if (status)
        goto out;
    *out = lowered;
    lowered = (rq_model)RQ_MODEL_INIT;
    if (self.options->report)
        *self.options->report = self.report;
out:
    rq_model_deinit(&lowered);
    rq_arena_deinit(&scratch);
    return status;
}
