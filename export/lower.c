/* The lowering pass: one row per operator, and the walk. */
#include "export/lower.h"

#include "export/integer_layer.h"
#include "export/lowering.h"
#include "runtime/base/log.h"
#include "runtime/dnn/plain_ops.h"
#include "runtime/model/gate.h"
#include "runtime/model/proofs.h"

typedef rq_status lower_row(lw_pass *self, int i);

/* ---- the rows: one per operator ---- */

static rq_status lower_input(lw_pass *self, int i)
{
    return rq_graph_add_node(&self->out->graph, RQ_OP_INPUT, lw_name(self, i), 0, NULL,
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

/* The batch norm right after a layer is part of it (rq_layer_view). */
static rq_status lower_batch_norm(lw_pass *self, int i)
{
    const int input = lw_source_node(self, i)->input[0];
    const rq_op op = lw_source_node(self, input)->op;
    if (self->values[input].pending != input || (op != RQ_OP_CONV && op != RQ_OP_LINEAR))
        return lower_float(self, i);
    self->values[i].pending = input;
    return RQ_OK;
}

/* After a layer or a product it is the clamp at 0; quantized values with zero point 0 are their
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

/* Its twin over integers, which keep what they mean; else it stays in float. */
static rq_status lower_plain(lw_pass *self, int i)
{
    const rq_node *source = lw_source_node(self, i);
    const lw_value *input = lw_input_value(self, i);
    const rq_op twin = rq_plain_op_of(source->op)->twin;
    lw_value *v = &self->values[i];
    if (twin == RQ_OP_INPUT || input->quantized == LW_NONE)
        return lower_float(self, i);
    RQ_TRY(lw_emit_node(self, twin, source->name, input->quantized, &v->quantized));
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

/* ---- quantizers: of a real value, or of an operator with one rule for all channels ---- */

static rq_status quantize_real(lw_pass *self, int i, rq_qparams y, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    int real = LW_NONE;
    RQ_TRY(lw_want_real(self, source->input[0], &real));
    return lw_emit_conversion(self, RQ_OP_QUANTIZE, source->name, real, y, out);
}

/* The bounds of an operator with one rule for all channels, whose acc lies in low..high. */
static void note_rule(lw_pass *self, int i, const rq_rule *rule, int64_t low, int64_t high)
{
    const int64_t bound = rq_rule_bound(rule, low, high);
    if (bound > self->report.acc_max)
        self->report.acc_max = bound;
    if (bound <= RQ_ACC_EXACT)
        return;
    self->report.n_wide_layers++;
    rq_log(RQ_LOG_INFO, "%s: could exceed 2^24 in the accumulator (at most %lld); f32 rounds there",
           lw_name(self, i), (long long)bound);
}

/* qglobal_avg_pool or qmul for a pending operator over quantized values, with the rule that it
 * follows. */
static rq_status emit_by_rule(lw_pass *self, rq_op op, int i, const rq_qparams *q, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    int inputs[RQ_MAX_INPUTS], node = LW_NONE;
    RQ_TRY(lw_claim(self, i));
    for (int k = 0; k < source->n_inputs; k++) {
        lw_value input = LW_VALUE_NONE;
        RQ_TRY(lw_want_quantized(self, i, source->input[k], &input));
        inputs[k] = input.quantized;
    }
    RQ_TRY(rq_graph_add_node(&self->out->graph, op, source->name, source->n_inputs, inputs, &node,
                             self->err));
    RQ_TRY(lw_add_qparams(self, node, q, 2));
    self->emitted[i] = *out = node;
    return RQ_OK;
}

static rq_status quantize_pool(lw_pass *self, int i, rq_qparams y, int *out)
{
    const rq_shape *in = lw_input_shape(self, i);
    const rq_qparams q[2] = {lw_input_value(self, i)->q, y};
    rq_rule rule = {0, 1.0f};
    const rq_status status = rq_pool_rule(&rule, q[0], y, in->h * in->w, self->err);
    if (status) {
        rq_error_prefix(self->err, "%s", lw_name(self, i));
        return status;
    }
    note_rule(self, i, &rule, 0, 255 * in->h * in->w);
    return emit_by_rule(self, RQ_OP_QGLOBAL_AVG_POOL, i, q, out);
}

static rq_status quantize_mul(lw_pass *self, int i, rq_qparams y, int *out)
{
    const rq_qparams q[2] = {lw_input_value(self, i)->q, y};
    const int64_t z = q[0].zero_point;
    rq_rule rule = {0, 1.0f};
    const rq_status status = rq_gate_rule(&rule, q[0], y, self->err);
    if (status) {
        rq_error_prefix(self->err, "%s", lw_name(self, i));
        return status;
    }
    note_rule(self, i, &rule, -255 * z, 255 * (255 - z));
    return emit_by_rule(self, RQ_OP_QMUL, i, q, out);
}

static rq_status quantize_sigmoid(lw_pass *self, int i, int quantizer, int *out)
{
    int input = LW_NONE;
    RQ_TRY(lw_claim(self, i));
    RQ_TRY(rq_gate_check(&self->qat->graph, quantizer, self->err));
    RQ_TRY(lw_want_real(self, lw_source_node(self, i)->input[0], &input));
    RQ_TRY(lw_emit_node(self, RQ_OP_QSIGMOID, lw_name(self, i), input, out));
    self->emitted[i] = *out;
    return RQ_OK;
}

static rq_status lower_fake_quant(lw_pass *self, int i)
{
    const rq_graph *graph = &self->qat->graph;
    const float *scale = rq_tensor_f32(rq_graph_tensor(graph, i, RQ_SLOT_SCALE));
    const rq_tensor *zero_point = rq_graph_tensor(graph, i, RQ_SLOT_ZERO_POINT);
    const lw_value *input = lw_input_value(self, i);
    lw_value *v = &self->values[i];
    RQ_TRY(rq_check_scales(lw_name(self, i), "scale", scale, 1, self->err));
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
        return quantize_pool(self, pending, v->q, &v->quantized);
    case RQ_OP_SIGMOID:
        return quantize_sigmoid(self, pending, i, &v->quantized);
    case RQ_OP_MUL:
        return quantize_mul(self, pending, v->q, &v->quantized);
    default:
        return quantize_real(self, i, v->q, &v->quantized);
    }
}

static rq_status refuse_lowered(lw_pass *self, int i)
{
    return rq_fail(self->err, RQ_ERR_MODEL, "%s: %s is an integer operator, the model is lowered",
                   lw_name(self, i), rq_op_name(lw_source_node(self, i)->op));
}

/* operators that share a row */
#define lower_conv    lower_later
#define lower_linear  lower_later
#define lower_sigmoid lower_later
#define lower_add     lower_float
#define lower_scale   lower_float

#define ROW_OWN(name)     lower_##name
#define ROW_PLAIN(name)   lower_plain
#define ROW_INTEGER(name) refuse_lowered
#define ROW_TWIN(name)    refuse_lowered

static lower_row *const rows[RQ_N_OPS] = {
#define X(code, name, kind) [RQ_OP_##code] = ROW_##kind(name),
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
    for (int i = 0; i <= last; i++)
        RQ_TRY(rows[lw_source_node(self, i)->op](self, i));
    RQ_TRY(lw_want_real(self, last, &output));
    if (output != self->out->graph.n_nodes - 1)
        return rq_fail(self->err, RQ_ERR_MODEL, "%s: the output is not computed last",
                       lw_name(self, last));
    return RQ_OK;
}

/* The result obeys the rules that readers of int8 models check. */
static rq_status check_result(const rq_model *out, rq_arena *scratch, rq_error *err)
{
    const int64_t side = out->preprocess.crop;
    rq_shape *shapes = rq_arena_array(scratch, rq_shape, out->graph.n_nodes);
    if (!shapes)
        return rq_no_memory(err);
    RQ_TRY(rq_graph_shapes(&out->graph, 1, side, side, shapes, err));
    return rq_integer_check(out, err);
}

static rq_status lower(lw_pass *self, rq_arena *scratch)
{
    const int n_nodes = self->qat->graph.n_nodes;
    rq_shape *shapes = rq_arena_array(scratch, rq_shape, n_nodes);
    self->shapes = shapes;
    self->values = rq_arena_array(scratch, lw_value, n_nodes);
    self->emitted = rq_arena_array(scratch, int, n_nodes);
    if (!shapes || !self->values || !self->emitted)
        return rq_no_memory(self->err);
    for (int i = 0; i < n_nodes; i++) {
        self->values[i] = LW_VALUE_NONE;
        self->emitted[i] = LW_NONE;
    }
    RQ_TRY(check_source(self->qat, shapes, self->err));
    RQ_TRY(rq_model_copy_info(self->out, self->qat, self->err));
    RQ_TRY(lower_graph(self));
    self->out->form = RQ_FORM_INT8;
    self->out->isa_proof = self->report.n_unsafe_channels == 0;
    return check_result(self->out, scratch, self->err);
}

rq_status rq_lower(rq_model *out, const rq_model *qat, const rq_lower_options *options,
                   rq_error *err)
{
    rq_arena scratch = RQ_ARENA_INIT;
    lw_pass self = {
        .qat = qat, .out = out, .isa_repair = options && options->isa_repair, .err = err};
    *out = (rq_model)RQ_MODEL_INIT;
    const rq_status status = lower(&self, &scratch);
    rq_arena_deinit(&scratch);
    if (status)
        rq_model_deinit(out);
    else if (options && options->report)
        *options->report = self.report;
    return status;
}
