/* Values in the form that a reader wants, and the layers that give them: one recursion. */
#include "export/lowering.h"

#include "export/integer_layer.h"
#include "runtime/base/log.h"
#include "runtime/model/proofs.h"

rq_status lw_emit_node(lw_pass *self, rq_op op, const char *name, int input, int *out)
{
    return rq_graph_add_node(&self->out->graph, op, name, 1, &input, out, self->err);
}

rq_status lw_add_qparams(lw_pass *self, int node, const rq_qparams *q, int64_t n)
{
    rq_graph *graph = &self->out->graph;
    const bool has_zero_point = q[0].zero_point > 0 || q[n - 1].zero_point > 0;
    RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_SCALE, RQ_F32, 1, &n, self->err));
    if (has_zero_point)
        RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &n, self->err));
    for (int64_t i = 0; i < n; i++) {
        rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_SCALE))[i] = q[i].scale;
        if (has_zero_point)
            ((uint8_t *)rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT)->data)[i] =
                q[i].zero_point;
    }
    return RQ_OK;
}

rq_status lw_emit_conversion(lw_pass *self, rq_op op, const char *name, int input, rq_qparams q,
                             int *out)
{
    int node = LW_NONE;
    RQ_TRY(lw_emit_node(self, op, name, input, &node));
    RQ_TRY(lw_add_qparams(self, node, &q, 1));
    *out = node;
    return RQ_OK;
}

rq_status lw_claim(const lw_pass *self, int i)
{
    if (self->emitted[i] == LW_NONE)
        return RQ_OK;
    return rq_fail(self->err, RQ_ERR_MODEL,
                   "%s: its result is quantized twice, or read both with and without fake_quant",
                   lw_name(self, i));
}

rq_status lw_want_quantized(lw_pass *self, int reader, int i, lw_value *out)
{
    if (self->values[i].quantized == LW_NONE)
        return rq_fail(self->err, RQ_ERR_MODEL,
                       "%s: its weights are quantized but its input %s is not (no fake_quant)",
                       lw_name(self, reader), lw_name(self, i));
    *out = self->values[i];
    return RQ_OK;
}

rq_status lw_emit_float(lw_pass *self, int i, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    int inputs[RQ_MAX_INPUTS];
    for (int k = 0; k < source->n_inputs; k++)
        RQ_TRY(lw_want_real(self, source->input[k], &inputs[k]));
    return rq_graph_copy_node(&self->out->graph, &self->qat->graph, i, inputs, out, self->err);
}

/* ---- layers: as integers, or in float with their batch norm folded in ---- */

/* Zero points of the pixels; the model's mean must be exactly theirs. */
static rq_status pixel_zero_points(const lw_pass *self, int layer, uint8_t *zero_point)
{
    const float *mean = self->qat->preprocess.mean;
    for (int c = 0; c < 3; c++) {
        zero_point[c] = rq_pixel_zero_point(mean[c]);
        if (mean[c] != rq_pixel_mean(zero_point[c]))
            return rq_fail(self->err, RQ_ERR_MODEL,
                           "%s: reads pixels, but mean %d of the preprocessing, %.9g, is not a "
                           "whole level (%d / 255)",
                           lw_name(self, layer), c, (double)mean[c], zero_point[c]);
    }
    return RQ_OK;
}

static void note_layer(lw_pass *self, const rq_integer_layer *layer,
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

rq_status lw_emit_integer_layer(lw_pass *self, int i, bool real_output, float s_y, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    const rq_graph *graph = &self->qat->graph;
    const bool pixels = !real_output && rq_graph_producer(graph, i, 0)->op == RQ_OP_INPUT;
    uint8_t zero_point[3];
    lw_value input = {.quantized = 0, .q = {RQ_PIXEL_SCALE, 0}};
    rq_integer_layer layer = {
        .weight_scale = rq_tensor_f32(rq_graph_tensor(graph, i, RQ_SLOT_WEIGHT_SCALE)),
        .s_y = s_y,
        .zero_point = pixels ? zero_point : NULL,
        .isa_repair = self->isa_repair,
    };
    int node = LW_NONE;
    RQ_TRY(lw_claim(self, i));
    RQ_TRY(rq_layer_view_init(&layer.view, self->qat, i, self->err));
    RQ_TRY(pixels ? pixel_zero_points(self, i, zero_point)
                  : lw_want_quantized(self, i, source->input[0], &input));
    RQ_TRY(lw_emit_node(self, real_output ? RQ_OP_QLINEAR : RQ_OP_QCONV, source->name,
                        input.quantized, &node));
    if (!real_output)
        self->out->graph.nodes[node].conv = source->conv;
    layer.s_x = input.q.scale;
    rq_integer_layer_facts facts = {.repair = self->report.repair};
    rq_tensor dims = *rq_graph_tensor(graph, i, RQ_SLOT_WEIGHT);
    if (real_output)
        dims.rank = 2; /* a qlinear: those of a convolution's window are 1 */
    RQ_TRY(rq_integer_layer_emit(&self->out->graph, node, &dims, &layer, &facts, self->err));
    note_layer(self, &layer, &facts);
    self->emitted[i] = *out = node;
    return RQ_OK;
}

/* The float layer with its batch norm folded in. */
static rq_status emit_float_layer(lw_pass *self, int i, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    const rq_tensor *wei = rq_graph_tensor(&self->qat->graph, i, RQ_SLOT_WEIGHT);
    rq_graph *graph = &self->out->graph;
    rq_layer_view view;
    int input = LW_NONE, node = LW_NONE;
    RQ_TRY(rq_layer_view_init(&view, self->qat, i, self->err));
    RQ_TRY(lw_want_real(self, source->input[0], &input));
    RQ_TRY(lw_emit_node(self, source->op, source->name, input, &node));
    RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_WEIGHT, RQ_F32, wei->rank, wei->dim, self->err));
    RQ_TRY(rq_graph_add_param(graph, node, RQ_SLOT_BIAS, RQ_F32, 1, wei->dim, self->err));
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

static rq_status emit_real_layer(lw_pass *self, int i, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    if (lw_has_weight_scale(self, i) && !rq_is_matrix(source, lw_input_shape(self, i)))
        return rq_fail(self->err, RQ_ERR_MODEL,
                       "%s: its weights are quantized but its output is read without fake_quant",
                       source->name);
    const int emitted = self->emitted[i];
    if (emitted != LW_NONE && self->out->graph.nodes[emitted].op != RQ_OP_QCONV) {
        *out = emitted; /* for another reader */
        return RQ_OK;
    }
    return lw_has_weight_scale(self, i) ? lw_emit_integer_layer(self, i, true, 1.0f, out)
                                        : emit_float_layer(self, i, out);
}

/* ---- real values ---- */

static rq_status emit_real_pending(lw_pass *self, int i, int *out)
{
    const rq_op op = lw_source_node(self, i)->op;
    if (op == RQ_OP_CONV || op == RQ_OP_LINEAR)
        return emit_real_layer(self, i, out);
    RQ_TRY(lw_claim(self, i));
    return lw_emit_float(self, i, out);
}

static rq_status emit_dequantize(lw_pass *self, int i, int *out)
{
    const lw_value *v = &self->values[i];
    const char *name = rq_arena_printf(&self->out->graph.arena, "%s.dequantize", lw_name(self, i));
    if (!name)
        return rq_no_memory(self->err);
    return lw_emit_conversion(self, RQ_OP_DEQUANTIZE, name, v->quantized, v->q, out);
}

rq_status lw_want_real(lw_pass *self, int i, int *out)
{
    lw_value *v = &self->values[i];
    int node = v->real;
    if (node == LW_NONE && v->pending != LW_NONE) {
        RQ_TRY(emit_real_pending(self, v->pending, &node));
        if (v->relu != LW_NONE)
            RQ_TRY(lw_emit_node(self, RQ_OP_RELU, lw_name(self, v->relu), node, &node));
    } else if (node == LW_NONE) {
        RQ_TRY(emit_dequantize(self, i, &node));
    }
    v->real = *out = node;
    return RQ_OK;
}
