/* Rows of fake-quantized values (form qat): each computes what the exported integers give, in
 * integer-valued f32. Quantized layers are merged with the batch_norm, relu and fake_quant behind
 * them. */
#include "runtime/model/quant.h"
#include "runtime/session/kernels.h"
#include "runtime/session/rows.h"

/* Integers of one fake-quantized layer, computed as lowering computes them. */
static rq_status layer_integers(rq_session *s, int node, float s_x, float s_y, bool real_output,
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
        multiplier[c] = rq_multiplier(s_x, s_w[c], real_output ? 1.0f : s_y);
    }
    *weights = (rq_iconv_weights){wei, bias, multiplier, false};
    return RQ_OK;
}

/* conv or linear with WEIGHT_SCALE: merged with the batch_norm, relu and fake_quant behind it. */
rq_status rq_row_fake_layer(rq_session *s, int node, rq_error *err)
{
    const rq_value *value = &s->values[rq_plan_node(s, node)->input[0]];
    if (value->repr != RQ_REPR_FAKE && value->repr != RQ_REPR_IMAGE)
        return rq_fail(err, RQ_ERR_MODEL, "quantized weights, but the input is not quantized");
    const bool real_output = rq_plan_node(s, node)->op == RQ_OP_LINEAR;
    int last = node;
    static const rq_op chain[] = {RQ_OP_BATCH_NORM, RQ_OP_RELU, RQ_OP_FAKE_QUANT};
    for (size_t i = 0; i < sizeof chain / sizeof chain[0]; i++) {
        const int next = rq_plan_next(s, last, chain[i]);
        if (next >= 0) {
            s->done[next] = true;
            last = next;
        }
    }
    if (!real_output && rq_plan_node(s, last)->op != RQ_OP_FAKE_QUANT)
        return rq_fail(err, RQ_ERR_MODEL,
                       "a quantized convolution must end in fake_quant (batch_norm and relu may "
                       "stand between)");
    const float s_x = value->repr == RQ_REPR_IMAGE ? 1.0f : value->scale;
    float s_y = 1.0f;
    rq_arena arena = RQ_ARENA_INIT;
    rq_iconv_weights weights;
    uint8_t zero_point[3];
    rq_status status = real_output ? RQ_OK : rq_plan_scale(s, last, &s_y, err);
    if (status == RQ_OK)
        status = layer_integers(s, node, s_x, s_y, real_output, &weights, zero_point, &arena, err);
    if (status == RQ_OK)
        status = rq_plan_integer_conv(s, node, last, RQ_ICONV_F32, &weights, zero_point, s_y,
                                      real_output, err);
    rq_arena_deinit(&arena);
    return status;
}

static rq_status run_pool_fake(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_pool_fake_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), (size_t)step->in.n,
                     (size_t)(step->in.h * step->in.w), (size_t)step->in.c, step->scale);
    return RQ_OK;
}

rq_status rq_row_fake_pool(rq_session *s, int node, rq_error *err)
{
    const rq_value *value = &s->values[rq_plan_node(s, node)->input[0]];
    const int next = rq_plan_next(s, node, RQ_OP_FAKE_QUANT);
    int dst;
    float s_y;
    rq_step *step;
    rq_status status = rq_plan_scale(s, next, &s_y, err);
    if (status == RQ_OK)
        status = rq_plan_f32_buffer(s, node, &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, "pool fake", &value->buffer, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_pool_fake;
    step->node = next;
    step->dst = dst;
    step->scale = rq_pool_multiplier(value->scale, s_y, step->in.h * step->in.w);
    s->done[next] = true;
    rq_plan_set_value(s, next, RQ_REPR_FAKE, dst, s_y);
    return RQ_OK;
}

static rq_status run_fake_quant(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_quantize_fake_f32(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                         rq_shape_elems(&step->out), step->scale);
    return RQ_OK;
}

rq_status rq_row_fake_quant(rq_session *s, int node, rq_error *err)
{
    float scale;
    rq_status status = rq_plan_scale(s, node, &scale, err);
    if (status == RQ_OK)
        status = rq_plan_real_step(s, node, "fake_quant", run_fake_quant, err);
    if (status != RQ_OK)
        return status;
    s->steps[s->n_steps - 1].scale = 1.0f / scale;
    rq_plan_set_value(s, node, RQ_REPR_FAKE, s->values[node].buffer, scale);
    return RQ_OK;
}
