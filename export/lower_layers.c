/* Convolutions and linear layers: as integers, or in float with their batch norm folded in. */
#include "export/integer_layer.h"
#include "export/lowering.h"
#include "runtime/base/log.h"
#include "runtime/model/proofs.h"

static bool reads_image(const lw_pass *self, int i)
{
    return lw_source_node(self, lw_source_node(self, i)->input[0])->op == RQ_OP_INPUT;
}

/* Zero points of the pixels; the model's mean must be exactly what they stand for. */
static rq_status pixel_zero_points(const lw_pass *self, int layer, uint8_t *zero_point)
{
    const float *mean = self->qat->preprocess.mean;
    for (int c = 0; c < 3; c++) {
        zero_point[c] = rq_pixel_zero_point(mean[c]);
        if (mean[c] != rq_pixel_mean(zero_point[c]))
            return rq_fail(self->err, RQ_ERR_MODEL,
                           "%s: reads pixels, but mean %d of the preprocessing, %.9g, is not a "
                           "whole level (%d / 255)",
                           lw_source_node(self, layer)->name, c, (double)mean[c], zero_point[c]);
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

/* The weights' dimensions: a convolution that gives real values becomes a qlinear. */
static rq_tensor integer_dims(const lw_pass *self, int i, bool real_output)
{
    rq_tensor dims = *rq_graph_tensor(&self->qat->graph, i, RQ_SLOT_WEIGHT);
    if (real_output)
        dims.rank = 2; /* the others are 1 */
    return dims;
}

/* qconv for a source layer whose value has scale s_y, or qlinear for one that gives real values
 * (s_y is 1 then). */
rq_status lw_emit_integer_layer(lw_pass *self, int i, bool real_output, float s_y, int *out)
{
    const rq_node *source = lw_source_node(self, i);
    const rq_graph *graph = &self->qat->graph;
    const bool pixels = !real_output && reads_image(self, i);
    uint8_t zero_point[3];
    lw_value input = {.quantized = 0, .q = {RQ_PIXEL_SCALE, 0}};
    rq_integer_layer layer = {
        .weight_scale = rq_tensor_f32(rq_graph_tensor(graph, i, RQ_SLOT_WEIGHT_SCALE)),
        .s_y = s_y,
        .zero_point = pixels ? zero_point : NULL,
        .isa_repair = self->options->isa_repair,
    };
    int node = LW_NONE;
    rq_status status = lw_claim(self, i);
    if (!status)
        status = rq_layer_view_init(&layer.view, self->qat, i, self->err);
    if (!status)
        status = pixels ? pixel_zero_points(self, i, zero_point)
                        : lw_want_quantized(self, i, source->input[0], &input);
    if (!status)
        status = lw_emit_node(self, real_output ? RQ_OP_QLINEAR : RQ_OP_QCONV, source->name,
                              input.quantized, &node);
    if (status)
        return status;
    if (!real_output)
        self->out->graph.nodes[node].conv = source->conv;
    layer.s_x = input.q.scale;
    rq_integer_layer_facts facts = {.repair = self->report.repair};
    const rq_tensor dims = integer_dims(self, i, real_output);
    status = rq_integer_layer_emit(&self->out->graph, node, &dims, &layer, &facts, self->err);
    if (status)
        return status;
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
    rq_status status = rq_layer_view_init(&view, self->qat, i, self->err);
    if (!status)
        status = lw_want_real(self, source->input[0], &input);
    if (!status)
        status = lw_emit_node(self, source->op, source->name, input, &node);
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

rq_status lw_emit_real_layer(lw_pass *self, int i, int *out)
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
