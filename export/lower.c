/* The lowering pass: one row per operator, and the walk. */
#include "export/lower.h"

#include "export/integer_layer.h"
#include "export/lowering.h"
#include "runtime/model/gate.h"
#include "runtime/model/proofs.h"

typedef rq_status lower_row(lw_pass *self, int i);

/* ---- the rows: one per operator ---- */

static rq_status lower_input(lw_pass *self, int i)
{
    return rq_graph_add_node(&self->out->graph, RQ_OP_INPUT, lw_source_node(self, i)->name, 0, NULL,
                             &self->values[i].real, self->err);
}

static rq_status lower_float(lw_pass *self, int i)
{
    return lw_emit_float(self, i, &self->values[i].real);
}

/* A conv or linear layer waits for its reader; so does a sigmoid. */
static rq_status lower_later(lw_pass *self, int i)
{
    self->values[i].pending = i;
    return RQ_OK;
}

/* The batch norm right behind a layer is part of it (rq_layer_view). */
static rq_status lower_batch_norm(lw_pass *self, int i)
{
    const int input = lw_source_node(self, i)->input[0];
    const rq_op op = lw_source_node(self, input)->op;
    if (self->values[input].pending != input || (op != RQ_OP_CONV && op != RQ_OP_LINEAR))
        return lower_float(self, i);
    self->values[i].pending = input;
    return RQ_OK;
}

/* Behind a layer or a product it is the clamp at 0; quantized values with zero point 0 are their
 * own relu. */
static rq_status lower_relu(lw_pass *self, int i)
{
    const lw_value *input = lw_input_value(self, i);
    const rq_op op =
        input->pending == LW_NONE ? RQ_OP_INPUT : lw_source_node(self, input->pending)->op;
    const bool merges = op == RQ_OP_CONV || op == RQ_OP_LINEAR || op == RQ_OP_MUL;
    const bool is_same = input->quantized != LW_NONE && input->q.zero_point == 0;
    if (!merges && !is_same)
        return lower_float(self, i);
    self->values[i] = *input;
    if (merges && input->relu == LW_NONE) {
        self->values[i].relu = i;
        self->values[i].real = LW_NONE;
    }
    return RQ_OK;
}

/* Integers keep what they stand for. */
static rq_status lower_max_pool(lw_pass *self, int i)
{
    const rq_node *source = lw_source_node(self, i);
    const lw_value *input = lw_input_value(self, i);
    lw_value *v = &self->values[i];
    if (input->quantized == LW_NONE)
        return lower_float(self, i);
    const rq_status status =
        lw_emit_node(self, RQ_OP_QMAX_POOL, source->name, input->quantized, &v->quantized);
    if (status)
        return status;
    self->out->graph.nodes[v->quantized].conv = source->conv;
    v->q = input->q;
    return RQ_OK;
}

static rq_status lower_global_avg_pool(lw_pass *self, int i)
{
    return lw_input_value(self, i)->quantized == LW_NONE ? lower_float(self, i)
                                                         : lower_later(self, i);
}

/* Of a quantized value and a quantized gate. */
static rq_status lower_mul(lw_pass *self, int i)
{
    return lw_input_value(self, i)->quantized == LW_NONE ||
                   !rq_is_gate(&self->qat->graph, lw_source_node(self, i)->input[1])
               ? lower_float(self, i)
               : lower_later(self, i);
}

static rq_status quantize_real(lw_pass *self, int i, rq_qparams y, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    int real = LW_NONE;
    const rq_status status = lw_want_real(self, source->input[0], &real);
    return status ? status : lw_emit_conversion(self, RQ_OP_QUANTIZE, source->name, real, y, out);
}

static rq_status lower_fake_quant(lw_pass *self, int i)
{
    const rq_graph *graph = &self->qat->graph;
    const float *scale = rq_tensor_f32(rq_graph_tensor(graph, i, RQ_SLOT_SCALE));
    const rq_tensor *zero_point = rq_graph_tensor(graph, i, RQ_SLOT_ZERO_POINT);
    const lw_value *input = lw_input_value(self, i);
    lw_value *v = &self->values[i];
    const rq_status status =
        rq_check_scales(lw_source_node(self, i)->name, "scale", scale, 1, self->err);
    if (status)
        return status;
    v->q = (rq_qparams){*scale, zero_point ? *(const uint8_t *)zero_point->data : 0};
    if (input->quantized != LW_NONE && input->q.scale == v->q.scale &&
        input->q.zero_point == v->q.zero_point) {
        *v = *input;
        return RQ_OK;
    }
    const int pending = input->real == LW_NONE ? input->pending : LW_NONE;
    switch (pending == LW_NONE ? RQ_OP_INPUT : lw_source_node(self, pending)->op) {
    case RQ_OP_CONV:
        return lw_has_weight_scale(self, pending)
                   ? lw_emit_integer_layer(self, pending, false, *scale, &v->quantized)
                   : quantize_real(self, i, v->q, &v->quantized);
    case RQ_OP_GLOBAL_AVG_POOL:
        return lw_quantize_pool(self, pending, v->q, &v->quantized);
    case RQ_OP_SIGMOID:
        return lw_quantize_sigmoid(self, pending, i, &v->quantized);
    case RQ_OP_MUL:
        return lw_quantize_mul(self, pending, v->q, &v->quantized);
    default:
        return quantize_real(self, i, v->q, &v->quantized);
    }
}

static rq_status refuse_lowered(lw_pass *self, int i)
{
    return rq_fail(self->err, RQ_ERR_MODEL, "%s: %s is an integer operator, the model is lowered",
                   lw_source_node(self, i)->name, rq_op_name(lw_source_node(self, i)->op));
}

/* Operators that share a row. */
#define lower_conv             lower_later
#define lower_linear           lower_later
#define lower_sigmoid          lower_later
#define lower_add              lower_float
#define lower_scale            lower_float
#define lower_avg_pool         lower_float
#define lower_quantize         refuse_lowered
#define lower_dequantize       refuse_lowered
#define lower_qconv            refuse_lowered
#define lower_qmax_pool        refuse_lowered
#define lower_qglobal_avg_pool refuse_lowered
#define lower_qlinear          refuse_lowered
#define lower_qsigmoid         refuse_lowered
#define lower_qmul             refuse_lowered

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

static rq_status lower_graph(lw_pass *self)
{
    const int last = self->qat->graph.n_nodes - 1;
    int output = LW_NONE;
    rq_status status = RQ_OK;
    for (int i = 0; i <= last && !status; i++)
        status = rows[lw_source_node(self, i)->op](self, i);
    if (!status)
        status = lw_want_real(self, last, &output);
    if (!status && output != self->out->graph.n_nodes - 1)
        status = rq_fail(self->err, RQ_ERR_MODEL, "%s: the output is not computed last",
                         lw_source_node(self, last)->name);
    return status;
}

/* The result obeys the rules that readers of int8 models check. */
static rq_status check_result(const rq_model *out, rq_arena *scratch, rq_error *err)
{
    void *shapes = NULL;
    const int64_t side = out->preprocess.crop;
    rq_status status =
        rq_arena_array_old(scratch, &shapes, (size_t)out->graph.n_nodes, sizeof(rq_shape), err);
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
    lw_pass self = {
        .qat = qat, .out = &lowered, .options = options ? options : &defaults, .err = err};
    void *shapes = NULL, *values = NULL, *emitted = NULL;
    *out = (rq_model)RQ_MODEL_INIT;

    rq_status status = rq_arena_array_old(&scratch, &shapes, n_nodes, sizeof(rq_shape), err);
    if (!status)
        status = rq_arena_array_old(&scratch, &values, n_nodes, sizeof(lw_value), err);
    if (!status)
        status = rq_arena_array_old(&scratch, &emitted, n_nodes, sizeof(int), err);
    if (!status)
        status = check_source(qat, shapes, err);
    if (status)
        goto out;
    self.shapes = shapes;
    self.values = values;
    self.emitted = emitted;
    for (size_t i = 0; i < n_nodes; i++) {
        self.values[i] = LW_VALUE_NONE;
        self.emitted[i] = LW_NONE;
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
