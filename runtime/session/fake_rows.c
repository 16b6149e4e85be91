/* Rows of fake-quantized values (form qat): each computes what the exported integers give, in
 * integer-valued f32. Quantized layers are merged with the batch_norm, relu and fake_quant behind
 * them. */
#include "runtime/dnn/integer_passes.h"
#include "runtime/model/gate.h"
#include "runtime/model/quant.h"
#include "runtime/session/rows.h"

/* Integers of one fake-quantized layer, computed as lowering computes them. s_y: 1 for real values.
 */
static rq_status layer_integers(rq_session *s, int node, float s_x, float s_y,
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
        multiplier[c] = rq_multiplier(s_x, s_w[c], s_y);
    }
    *weights = (rq_iconv_weights){wei, bias, multiplier, false, NULL};
    return RQ_OK;
}

/* What is merged behind a layer: its batch norm, and relu and fake_quant where it ends in integers;
 * where it gives real values, these stay operators. */
static rq_status find_end(const rq_session *s, int node, int *last, bool *real_output,
                          rq_error *err)
{
    const int bn = rq_plan_next(s, node, RQ_OP_BATCH_NORM), layer = bn >= 0 ? bn : node;
    const int relu = rq_plan_next(s, layer, RQ_OP_RELU);
    const int quantizer = rq_plan_next(s, relu >= 0 ? relu : layer, RQ_OP_FAKE_QUANT);
    *real_output = rq_plan_node(s, node)->op == RQ_OP_LINEAR || quantizer < 0;
    *last = *real_output ? layer : quantizer;
    if (*real_output && !rq_is_matrix(rq_plan_node(s, node), rq_plan_in_shape(s, node)))
        return rq_fail(err, RQ_ERR_MODEL,
                       "a quantized convolution must end in fake_quant (batch_norm and relu may "
                       "stand between)");
    return RQ_OK;
}

/* The nodes from first to last are one step. */
static void mark_done(const rq_session *s, int first, int last)
{
    for (int i = last; i != first; i = rq_plan_node(s, i)->input[0])
        s->done[i] = true;
}

/* conv or linear with WEIGHT_SCALE: merged with the batch_norm, relu and fake_quant behind it. */
rq_status rq_row_fake_layer(rq_session *s, int node, rq_error *err)
{
    const rq_value *value = rq_plan_input(s, node, 0);
    if (value->repr != RQ_REPR_FAKE && value->repr != RQ_REPR_IMAGE)
        return rq_fail(err, RQ_ERR_MODEL, "quantized weights, but the input is not quantized");
    const float s_x = value->repr == RQ_REPR_IMAGE ? RQ_PIXEL_SCALE : value->q.scale;
    int last = node, buffer = -1;
    bool real_output = false;
    rq_qparams y = {1.0f, 0};
    rq_arena arena = RQ_ARENA_INIT;
    rq_iconv_weights weights;
    uint8_t zero_point[3];
    rq_status status = find_end(s, node, &last, &real_output, err);
    if (status == RQ_OK && !real_output)
        status = rq_plan_qparams(s, last, 0, &y, err);
    if (status == RQ_OK)
        status = layer_integers(s, node, s_x, y.scale, &weights, zero_point, &arena, err);
    if (status == RQ_OK)
        status = rq_plan_integer_conv(s, node, last, RQ_ICONV_F32, &weights, zero_point,
                                      real_output, &buffer, err);
    rq_arena_deinit(&arena);
    if (status != RQ_OK)
        return status;
    mark_done(s, node, last);
    if (real_output)
        rq_plan_set_value(s, last, RQ_REPR_REAL, buffer);
    else
        rq_plan_set_fake(s, last, buffer, y);
    return RQ_OK;
}

rq_status rq_row_fake_pool(rq_session *s, int node, rq_error *err)
{
    const int last = rq_plan_next(s, node, RQ_OP_FAKE_QUANT);
    int buffer;
    rq_qparams y;
    rq_status status = rq_plan_qparams(s, last, 0, &y, err);
    if (status == RQ_OK)
        status = rq_plan_integer_pool(s, node, last, true, rq_plan_input(s, node, 0)->q, y, &buffer,
                                      err);
    if (status != RQ_OK)
        return status;
    mark_done(s, node, last);
    rq_plan_set_fake(s, last, buffer, y);
    return RQ_OK;
}

/* A sigmoid with the fake_quant behind it. */
rq_status rq_row_fake_sigmoid(rq_session *s, int node, rq_error *err)
{
    const int last = rq_plan_next(s, node, RQ_OP_FAKE_QUANT);
    int buffer;
    rq_status status = rq_gate_check(&s->model->graph, last, err);
    if (status == RQ_OK)
        status = rq_plan_gate(s, node, last, true, &buffer, err);
    if (status != RQ_OK)
        return status;
    mark_done(s, node, last);
    rq_plan_set_fake(s, last, buffer, (rq_qparams){RQ_GATE_SCALE, 0});
    return RQ_OK;
}

/* A product with a gate, with relu and fake_quant behind it: relu is the clamp at 0. */
rq_status rq_row_fake_mul(rq_session *s, int node, rq_error *err)
{
    const int relu = rq_plan_next(s, node, RQ_OP_RELU);
    const int last = rq_plan_next(s, relu >= 0 ? relu : node, RQ_OP_FAKE_QUANT);
    int buffer;
    rq_qparams y;
    rq_status status = rq_plan_qparams(s, last, 0, &y, err);
    if (status == RQ_OK)
        status =
            rq_plan_integer_mul(s, node, last, true, rq_plan_input(s, node, 0)->q, y, &buffer, err);
    if (status != RQ_OK)
        return status;
    mark_done(s, node, last);
    rq_plan_set_fake(s, last, buffer, y);
    return RQ_OK;
}

static rq_status run_fake_quant(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_quantize(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), true,
                rq_shape_elems(&step->out), step->q);
    return RQ_OK;
}

rq_status rq_row_fake_quant(rq_session *s, int node, rq_error *err)
{
    rq_qparams y;
    rq_status status = rq_plan_qparams(s, node, 0, &y, err);
    if (status == RQ_OK)
        status = rq_plan_real_step(s, node, "fake_quant", run_fake_quant, err);
    if (status != RQ_OK)
        return status;
    s->steps[s->n_steps - 1].q = y;
    rq_plan_set_fake(s, node, s->values[node].buffer, y);
    return RQ_OK;
}
