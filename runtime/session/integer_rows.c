/* Rows of form int8: u8 values, parameters as they are stored. */
#include "runtime/model/quant.h"
#include "runtime/session/kernels.h"
#include "runtime/session/rows.h"

static rq_status u8_input(const rq_session *s, int node, int *buffer, rq_error *err)
{
    const rq_value *value = &s->values[rq_plan_node(s, node)->input[0]];
    if (value->repr != RQ_REPR_U8)
        return rq_fail(err, RQ_ERR_MODEL, "an integer operator reads a float value");
    *buffer = value->buffer;
    return RQ_OK;
}

static rq_status run_quantize(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_quantize_u8(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                   rq_shape_elems(&step->out), step->scale);
    return RQ_OK;
}

static rq_status run_dequantize(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_dequantize_u8(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                     rq_shape_elems(&step->out), step->scale);
    return RQ_OK;
}

/* quantize and dequantize. */
rq_status rq_row_convert(rq_session *s, int node, rq_error *err)
{
    const bool to_u8 = rq_plan_node(s, node)->op == RQ_OP_QUANTIZE;
    int src = -1, dst = -1;
    float scale;
    rq_step *step;
    rq_status status = rq_plan_scale(s, node, &scale, err);
    if (status == RQ_OK)
        status = to_u8 ? rq_plan_real_input(s, node, 0, &src, err) : u8_input(s, node, &src, err);
    if (status == RQ_OK)
        status = rq_plan_buffer(s, rq_shape_elems(&s->shapes[node]) * (to_u8 ? 1 : sizeof(float)),
                                &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, to_u8 ? "quantize" : "dequantize", &src, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = to_u8 ? run_quantize : run_dequantize;
    step->dst = dst;
    step->scale = to_u8 ? 1.0f / scale : scale;
    rq_plan_set_value(s, node, to_u8 ? RQ_REPR_U8 : RQ_REPR_REAL, dst, 1.0f);
    return RQ_OK;
}

rq_status rq_row_integer_layer(rq_session *s, int node, rq_error *err)
{
    const rq_graph *graph = &s->model->graph;
    const bool pixels = rq_plan_node(s, node)->input[0] == 0;
    int buffer;
    const rq_status status = pixels ? RQ_OK : u8_input(s, node, &buffer, err);
    if (status != RQ_OK)
        return status;
    const rq_tensor *zero_point = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT);
    if (pixels && !zero_point)
        return rq_fail(err, RQ_ERR_MODEL, "reads the image, but has no zero points");
    const rq_iconv_weights weights = {
        rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)->data,
        rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->data,
        rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER)->data,
        s->model->isa_proof,
    };
    return rq_plan_integer_conv(s, node, node, RQ_ICONV_U8, &weights,
                                pixels ? zero_point->data : NULL, 1.0f,
                                graph->nodes[node].op == RQ_OP_QLINEAR, err);
}

static rq_status run_pool_u8(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_pool_u8(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), (size_t)step->in.n,
               (size_t)(step->in.h * step->in.w), (size_t)step->in.c, step->scale);
    return RQ_OK;
}

rq_status rq_row_qglobal_avg_pool(rq_session *s, int node, rq_error *err)
{
    const float *scale = rq_tensor_f32(rq_graph_tensor(&s->model->graph, node, RQ_SLOT_SCALE));
    int src = -1, dst = -1;
    rq_step *step;
    rq_status status = u8_input(s, node, &src, err);
    if (status == RQ_OK)
        status = rq_plan_buffer(s, rq_shape_elems(&s->shapes[node]), &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, "pool u8", &src, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_pool_u8;
    step->dst = dst;
    step->scale = rq_pool_multiplier(scale[0], scale[1], step->in.h * step->in.w);
    rq_plan_set_value(s, node, RQ_REPR_U8, dst, 1.0f);
    return RQ_OK;
}
