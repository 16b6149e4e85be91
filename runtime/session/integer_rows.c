/* Rows of form int8: u8 values, parameters as they are stored. */
#include "runtime/dnn/integer_passes.h"
#include "runtime/model/quant.h"
#include "runtime/session/rows.h"

static rq_status check_u8(const rq_session *s, int node, int k, rq_error *err)
{
    if (rq_plan_input(s, node, k)->repr == RQ_REPR_U8)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL, "an integer operator reads a float value");
}

static rq_status run_quantize(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_quantize(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), false,
                rq_shape_elems(&step->out), step->q);
    return RQ_OK;
}

static rq_status run_dequantize(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_dequantize(rq_plan_at(s, step->src[0]), false, rq_plan_at(s, step->dst),
                  rq_shape_elems(&step->out), step->q);
    return RQ_OK;
}

/* quantize and dequantize. */
rq_status rq_row_convert(rq_session *s, int node, rq_error *err)
{
    const bool to_u8 = rq_plan_node(s, node)->op == RQ_OP_QUANTIZE;
    const size_t elem_size = to_u8 ? 1 : sizeof(float);
    int src = rq_plan_input(s, node, 0)->buffer, dst = -1;
    rq_qparams q;
    rq_step *step;
    rq_status status = rq_plan_qparams(s, node, 0, &q, err);
    if (status == RQ_OK)
        status = to_u8 ? rq_plan_real_input(s, node, 0, &src, err) : check_u8(s, node, 0, err);
    if (status == RQ_OK)
        status = rq_plan_buffer(s, rq_shape_elems(&s->shapes[node]) * elem_size, &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, node, to_u8 ? "quantize" : "dequantize", &src, 1, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = to_u8 ? run_quantize : run_dequantize;
    step->dst = dst;
    step->q = q;
    rq_plan_set_value(s, node, to_u8 ? RQ_REPR_U8 : RQ_REPR_REAL, dst);
    return RQ_OK;
}

rq_status rq_row_integer_layer(rq_session *s, int node, rq_error *err)
{
    const rq_graph *graph = &s->model->graph;
    const bool pixels = rq_plan_node(s, node)->input[0] == 0;
    const bool real_output = graph->nodes[node].op == RQ_OP_QLINEAR;
    int buffer;
    rq_status status = pixels ? RQ_OK : check_u8(s, node, 0, err);
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
        NULL,
    };
    status = rq_plan_integer_conv(s, node, node, RQ_ICONV_U8, &weights,
                                  pixels ? zero_point->data : NULL, real_output, &buffer, err);
    if (status == RQ_OK)
        rq_plan_set_value(s, node, real_output ? RQ_REPR_REAL : RQ_REPR_U8, buffer);
    return status;
}

/* Scales and zero points of the input and of the output. */
static rq_status get_qparams(const rq_session *s, int node, rq_qparams *x, rq_qparams *y,
                             rq_error *err)
{
    const rq_status status = rq_plan_qparams(s, node, 0, x, err);
    return status == RQ_OK ? rq_plan_qparams(s, node, 1, y, err) : status;
}

rq_status rq_row_qglobal_avg_pool(rq_session *s, int node, rq_error *err)
{
    rq_qparams x, y;
    int buffer;
    rq_status status = check_u8(s, node, 0, err);
    if (status == RQ_OK)
        status = get_qparams(s, node, &x, &y, err);
    if (status == RQ_OK)
        status = rq_plan_integer_pool(s, node, node, false, x, y, &buffer, err);
    if (status == RQ_OK)
        rq_plan_set_value(s, node, RQ_REPR_U8, buffer);
    return status;
}

rq_status rq_row_qmul(rq_session *s, int node, rq_error *err)
{
    rq_qparams x, y;
    int buffer;
    rq_status status = check_u8(s, node, 0, err);
    if (status == RQ_OK)
        status = check_u8(s, node, 1, err);
    if (status == RQ_OK)
        status = get_qparams(s, node, &x, &y, err);
    if (status == RQ_OK)
        status = rq_plan_integer_mul(s, node, node, false, x, y, &buffer, err);
    if (status == RQ_OK)
        rq_plan_set_value(s, node, RQ_REPR_U8, buffer);
    return status;
}

/* Reads real values: a qlinear's, or a float layer's. */
rq_status rq_row_qsigmoid(rq_session *s, int node, rq_error *err)
{
    int buffer;
    if (rq_plan_input(s, node, 0)->repr != RQ_REPR_REAL)
        return rq_fail(err, RQ_ERR_MODEL, "a gate is computed of a real value");
    const rq_status status = rq_plan_gate(s, node, node, false, &buffer, err);
    if (status == RQ_OK)
        rq_plan_set_value(s, node, RQ_REPR_U8, buffer);
    return status;
}
