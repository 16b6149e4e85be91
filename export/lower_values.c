/* Values in the form that a reader wants: real or quantized. */
#include "export/lowering.h"

rq_status lw_emit_node(lw_pass *self, rq_op op, const char *name, int input, int *out)
{
    return rq_graph_add_node(&self->out->graph, op, name, 1, &input, out, self->err);
}

rq_status lw_add_qparams(lw_pass *self, int node, const rq_qparams *q, int64_t n)
{
    rq_graph *graph = &self->out->graph;
    const bool has_zero_point = q[0].zero_point > 0 || q[n - 1].zero_point > 0;
    rq_status status = rq_graph_add_param(graph, node, RQ_SLOT_SCALE, RQ_F32, 1, &n, self->err);
    if (!status && has_zero_point)
        status = rq_graph_add_param(graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &n, self->err);
    for (int64_t i = 0; i < n && !status; i++) {
        rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_SCALE))[i] = q[i].scale;
        if (has_zero_point)
            ((uint8_t *)rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT)->data)[i] =
                q[i].zero_point;
    }
    return status;
}

rq_status lw_emit_conversion(lw_pass *self, rq_op op, const char *name, int input, rq_qparams q,
                             int *out)
{
    int node = LW_NONE;
    rq_status status = lw_emit_node(self, op, name, input, &node);
    if (!status)
        status = lw_add_qparams(self, node, &q, 1);
    if (!status)
        *out = node;
    return status;
}

rq_status lw_claim(const lw_pass *self, int i)
{
    if (self->emitted[i] == LW_NONE)
        return RQ_OK;
    return rq_fail(self->err, RQ_ERR_MODEL,
                   "%s: its result is quantized twice, or read both with and without fake_quant",
                   lw_source_node(self, i)->name);
}

rq_status lw_want_quantized(lw_pass *self, int reader, int i, lw_value *out)
{
    if (self->values[i].quantized == LW_NONE)
        return rq_fail(self->err, RQ_ERR_MODEL,
                       "%s: its weights are quantized but its input %s is not (no fake_quant)",
                       lw_source_node(self, reader)->name, lw_source_node(self, i)->name);
    *out = self->values[i];
    return RQ_OK;
}

rq_status lw_emit_float(lw_pass *self, int i, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    int inputs[RQ_MAX_INPUTS];
    rq_status status = RQ_OK;
    for (int k = 0; k < source->n_inputs && !status; k++)
        status = lw_want_real(self, source->input[k], &inputs[k]);
    return status ? status
                  : rq_graph_copy_node(&self->out->graph, &self->qat->graph, i, inputs, out,
                                       self->err);
}

static rq_status emit_real_pending(lw_pass *self, int i, int *out)
{
    const rq_op op = lw_source_node(self, i)->op;
    if (op == RQ_OP_CONV || op == RQ_OP_LINEAR)
        return lw_emit_real_layer(self, i, out);
    const rq_status status = lw_claim(self, i);
    return status ? status : lw_emit_float(self, i, out);
}

static rq_status emit_dequantize(lw_pass *self, int i, int *out)
{
    const lw_value *v = &self->values[i];
    const char *name = lw_source_node(self, i)->name;
    const char *node_name = rq_arena_printf(&self->out->graph.arena, "%s.dequantize", name);
    if (!node_name)
        return rq_fail(self->err, RQ_ERR_NOMEM, "%s: out of memory", name);
    return lw_emit_conversion(self, RQ_OP_DEQUANTIZE, node_name, v->quantized, v->q, out);
}

rq_status lw_want_real(lw_pass *self, int i, int *out)
{
    lw_value *v = &self->values[i];
    int node = v->real;
    rq_status status = RQ_OK;
    if (node != LW_NONE) {
        /* there already */
    } else if (v->pending != LW_NONE) {
        status = emit_real_pending(self, v->pending, &node);
        if (!status && v->relu != LW_NONE)
            status =
                lw_emit_node(self, RQ_OP_RELU, lw_source_node(self, v->relu)->name, node, &node);
    } else {
        status = emit_dequantize(self, i, &node);
    }
    if (!status)
        v->real = *out = node;
    return status;
}
