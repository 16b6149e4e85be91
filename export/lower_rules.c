/* Pooling and gates: operators that follow one rule for all channels. */
#include "export/lowering.h"
#include "runtime/base/log.h"
#include "runtime/model/gate.h"
#include "runtime/model/proofs.h"

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
           lw_source_node(self, i)->name, (long long)bound);
}

/* qglobal_avg_pool or qmul for a pending operator over quantized values, with the rule that it
 * follows. */
static rq_status emit_by_rule(lw_pass *self, rq_op op, int i, const rq_qparams *q, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    int inputs[RQ_MAX_INPUTS], node = LW_NONE;
    rq_status status = lw_claim(self, i);
    for (int k = 0; k < source->n_inputs && !status; k++) {
        lw_value input = LW_VALUE_NONE;
        status = lw_want_quantized(self, i, source->input[k], &input);
        inputs[k] = input.quantized;
    }
    if (!status)
        status = rq_graph_add_node(&self->out->graph, op, source->name, source->n_inputs, inputs,
                                   &node, self->err);
    if (!status)
        status = lw_add_qparams(self, node, q, 2);
    if (!status)
        self->emitted[i] = *out = node;
    return status;
}

rq_status lw_quantize_pool(lw_pass *self, int i, rq_qparams y, int *out)
{
    const rq_shape *in = lw_input_shape(self, i);
    const rq_qparams q[2] = {lw_input_value(self, i)->q, y};
    rq_rule rule = {0, 1.0f};
    const rq_status status = rq_pool_rule(&rule, q[0], y, in->h * in->w, self->err);
    if (status) {
        rq_error_prefix(self->err, "%s", lw_source_node(self, i)->name);
        return status;
    }
    note_rule(self, i, &rule, 0, 255 * in->h * in->w);
    return emit_by_rule(self, RQ_OP_QGLOBAL_AVG_POOL, i, q, out);
}

rq_status lw_quantize_mul(lw_pass *self, int i, rq_qparams y, int *out)
{
    const rq_qparams q[2] = {lw_input_value(self, i)->q, y};
    const int64_t z = q[0].zero_point;
    rq_rule rule = {0, 1.0f};
    const rq_status status = rq_gate_rule(&rule, q[0], y, self->err);
    if (status) {
        rq_error_prefix(self->err, "%s", lw_source_node(self, i)->name);
        return status;
    }
    note_rule(self, i, &rule, -255 * z, 255 * (255 - z));
    return emit_by_rule(self, RQ_OP_QMUL, i, q, out);
}

rq_status lw_quantize_sigmoid(lw_pass *self, int i, int quantizer, int *out)
{
    int input = LW_NONE;
    rq_status status = lw_claim(self, i);
    if (!status)
        status = rq_gate_check(&self->qat->graph, quantizer, self->err);
    if (!status)
        status = lw_want_real(self, lw_source_node(self, i)->input[0], &input);
    if (!status)
        status = lw_emit_node(self, RQ_OP_QSIGMOID, lw_source_node(self, i)->name, input, out);
    if (!status)
        self->emitted[i] = *out;
    return status;
}
