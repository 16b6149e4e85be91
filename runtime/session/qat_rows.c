/* Rows of fake-quantized values (form qat): each computes what the exported integers give, in
 * integer-valued f32. Quantized layers are merged with the batch_norm, relu and fake_quant after
 * them. */
#include "runtime/dnn/integer_passes.h"
#include "runtime/model/gate.h"
#include "runtime/model/quant.h"
#include "runtime/session/integer_steps.h"
#include "runtime/session/rows.h"

/* A layer's integers, and where it ends. */
typedef struct fake_layer {
    int last;         /* node that it is merged up to */
    bool real_output; /* no fake_quant follows: s_y is 1 */
    rq_qparams y;
    rq_iconv_weights weights; /* in an arena */
    uint8_t zero_point[3];    /* of the image */
} fake_layer;

/* What is merged into a layer: its batch norm, and relu and fake_quant where it ends in integers;
 * where it gives real values, these stay operators. */
static rq_status find_end(const rq_plan *plan, int node, fake_layer *out, rq_error *err)
{
    const int layer = rq_plan_skip(plan, node, RQ_OP_BATCH_NORM);
    const int relu = rq_plan_skip(plan, layer, RQ_OP_RELU);
    const int quantizer = rq_plan_next(plan, relu, RQ_OP_FAKE_QUANT);
    out->real_output = rq_plan_node(plan, node)->op == RQ_OP_LINEAR || quantizer < 0;
    out->last = out->real_output ? layer : quantizer;
    out->y = (rq_qparams){1.0f, 0};
    if (!out->real_output)
        return rq_plan_qparams(plan, out->last, 0, &out->y, err);
    if (!rq_is_matrix(rq_plan_node(plan, node), rq_plan_in_shape(plan, node)))
        return rq_fail(err, RQ_ERR_MODEL,
                       "a quantized convolution must end in fake_quant (batch_norm and relu may "
                       "stand between)");
    return RQ_OK;
}

/* The integers, computed as lowering computes them. */
static rq_status find_integers(const rq_plan *plan, int node, float s_x, fake_layer *out,
                               rq_arena *arena, rq_error *err)
{
    rq_layer_view layer;
    RQ_TRY(rq_layer_view_init(&layer, plan->model, node, err));
    const size_t oc = (size_t)layer.oc, taps = rq_layer_channel_size(&layer);
    const float *s_w =
        rq_tensor_f32(rq_graph_tensor(&plan->model->graph, node, RQ_SLOT_WEIGHT_SCALE));
    int8_t *wei = rq_arena_array(arena, int8_t, oc * taps);
    int32_t *bias = rq_arena_array(arena, int32_t, oc);
    float *multiplier = rq_arena_array(arena, float, oc);
    if (!wei || !bias || !multiplier)
        return rq_no_memory(err);
    for (int c = 0; c < 3; c++)
        out->zero_point[c] = rq_pixel_zero_point(plan->model->preprocess.mean[c]);
    rq_layer_quantize(&layer, s_w, wei);
    for (size_t c = 0; c < oc; c++) {
        RQ_TRY(rq_layer_integer_bias(&layer, (int64_t)c, s_x, s_w[c], wei + c * taps,
                                     layer.std ? out->zero_point : NULL, &bias[c], err));
        multiplier[c] = rq_multiplier(s_x, s_w[c], out->y.scale);
    }
    out->weights = (rq_iconv_weights){.wei = wei, .bias = bias, .multiplier = multiplier};
    return RQ_OK;
}

/* All but the value; the arena holds what is needed meanwhile. */
static rq_status add_layer(rq_plan *plan, int node, fake_layer *layer, int *buffer, rq_arena *arena,
                           rq_error *err)
{
    const rq_value *value = rq_plan_input(plan, node, 0);
    if (value->repr != RQ_REPR_FAKE && value->repr != RQ_REPR_IMAGE)
        return rq_fail(err, RQ_ERR_MODEL, "quantized weights, but the input is not quantized");
    const float s_x = value->repr == RQ_REPR_IMAGE ? RQ_PIXEL_SCALE : value->q.scale;
    RQ_TRY(find_end(plan, node, layer, err));
    RQ_TRY(find_integers(plan, node, s_x, layer, arena, err));
    return rq_add_integer_conv(plan, node, layer->last, RQ_ICONV_F32, &layer->weights,
                               layer->zero_point, layer->real_output, buffer, err);
}

/* conv or linear with WEIGHT_SCALE: merged with the batch_norm, relu and fake_quant after it. */
rq_status rq_row_fake_layer(rq_plan *plan, int node, rq_error *err)
{
    rq_arena arena = RQ_ARENA_INIT;
    fake_layer layer;
    int buffer;
    const rq_status status = add_layer(plan, node, &layer, &buffer, &arena, err);
    rq_arena_deinit(&arena);
    if (status)
        return status;
    rq_plan_merge(plan, node, layer.last);
    if (layer.real_output)
        rq_plan_set_value(plan, layer.last, RQ_REPR_REAL, buffer);
    else
        rq_plan_set_fake(plan, layer.last, buffer, layer.y);
    return RQ_OK;
}

rq_status rq_row_fake_pool(rq_plan *plan, int node, rq_error *err)
{
    const int last = rq_plan_next(plan, node, RQ_OP_FAKE_QUANT);
    int buffer;
    rq_qparams y;
    RQ_TRY(rq_plan_qparams(plan, last, 0, &y, err));
    RQ_TRY(rq_add_integer_pool(plan, node, last, true, rq_plan_input(plan, node, 0)->q, y, &buffer,
                               err));
    rq_plan_merge(plan, node, last);
    rq_plan_set_fake(plan, last, buffer, y);
    return RQ_OK;
}

/* A sigmoid with the fake_quant after it. */
rq_status rq_row_fake_sigmoid(rq_plan *plan, int node, rq_error *err)
{
    const int last = rq_plan_next(plan, node, RQ_OP_FAKE_QUANT);
    int buffer;
    RQ_TRY(rq_gate_check(&plan->model->graph, last, err));
    RQ_TRY(rq_add_gate(plan, node, last, true, &buffer, err));
    rq_plan_merge(plan, node, last);
    rq_plan_set_fake(plan, last, buffer, (rq_qparams){RQ_GATE_SCALE, 0});
    return RQ_OK;
}

/* A product with a gate, with relu and fake_quant after it: relu is the clamp at 0. */
rq_status rq_row_fake_mul(rq_plan *plan, int node, rq_error *err)
{
    const int relu = rq_plan_skip(plan, node, RQ_OP_RELU);
    const int last = rq_plan_next(plan, relu, RQ_OP_FAKE_QUANT);
    int buffer;
    rq_qparams y;
    RQ_TRY(rq_plan_qparams(plan, last, 0, &y, err));
    RQ_TRY(rq_add_integer_mul(plan, node, last, true, rq_plan_input(plan, node, 0)->q, y, &buffer,
                              err));
    rq_plan_merge(plan, node, last);
    rq_plan_set_fake(plan, last, buffer, y);
    return RQ_OK;
}

static rq_status run_fake_quant(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_quantize(rq_src(executor, step, 0), rq_dst(executor, step), true, rq_shape_elems(&step->out),
                step->q);
    return RQ_OK;
}

rq_status rq_row_fake_quant(rq_plan *plan, int node, rq_error *err)
{
    rq_qparams y;
    rq_step *step;
    RQ_TRY(rq_plan_qparams(plan, node, 0, &y, err));
    RQ_TRY(rq_plan_real_step(plan, node, "fake_quant", run_fake_quant, &step, err));
    step->q = y;
    rq_plan_set_fake(plan, node, step->dst, y);
    return RQ_OK;
}
