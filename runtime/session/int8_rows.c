/* Rows of form int8: u8 values, parameters as they are stored. */
#include "runtime/dnn/integer_passes.h"
#include "runtime/model/quant.h"
#include "runtime/session/integer_steps.h"
#include "runtime/session/rows.h"

static rq_status check_u8(const rq_plan *plan, int node, int k, rq_error *err)
{
    if (rq_plan_input(plan, node, k)->repr == RQ_REPR_U8)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL, "an integer operator reads a float value");
}

static rq_status run_quantize(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_quantize(rq_src(executor, step, 0), rq_dst(executor, step), false,
                rq_shape_elems(&step->out), step->q);
    return RQ_OK;
}

static rq_status run_dequantize(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_dequantize(rq_src(executor, step, 0), false, rq_dst(executor, step),
                  rq_shape_elems(&step->out), step->q);
    return RQ_OK;
}

/* quantize and dequantize. */
rq_status rq_row_convert(rq_plan *plan, int node, rq_error *err)
{
    const bool to_u8 = rq_plan_node(plan, node)->op == RQ_OP_QUANTIZE;
    int src = rq_plan_input(plan, node, 0)->buffer, dst;
    rq_qparams q;
    rq_step *step;
    RQ_TRY(rq_plan_qparams(plan, node, 0, &q, err));
    if (to_u8)
        RQ_TRY(rq_plan_real_input(plan, node, 0, &src, err));
    else
        RQ_TRY(check_u8(plan, node, 0, err));
    RQ_TRY(rq_plan_value_buffer(plan, node, to_u8 ? 1 : sizeof(float), &dst, err));
    RQ_TRY(rq_plan_step(plan, node, to_u8 ? "quantize" : "dequantize", &src, 1, &step, err));
    step->run = to_u8 ? run_quantize : run_dequantize;
    step->dst = dst;
    step->q = q;
    rq_plan_set_value(plan, node, to_u8 ? RQ_REPR_U8 : RQ_REPR_REAL, dst);
    return RQ_OK;
}

/* qconv and qlinear. */
rq_status rq_row_integer_layer(rq_plan *plan, int node, rq_error *err)
{
    const rq_graph *graph = &plan->model->graph;
    const bool pixels = rq_plan_node(plan, node)->input[0] == 0;
    const bool real_output = rq_plan_node(plan, node)->op == RQ_OP_QLINEAR;
    const rq_tensor *zero_point = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT);
    int buffer;
    if (!pixels)
        RQ_TRY(check_u8(plan, node, 0, err));
    else if (!zero_point)
        return rq_fail(err, RQ_ERR_MODEL, "reads the image, but has no zero points");
    const rq_iconv_weights weights = {
        .wei = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)->data,
        .bias = rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->data,
        .multiplier = rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER)->data,
        .saturation_free = plan->model->isa_proof,
    };
    RQ_TRY(rq_add_integer_conv(plan, node, node, RQ_ICONV_U8, &weights,
                               pixels ? zero_point->data : NULL, real_output, &buffer, err));
    rq_plan_set_value(plan, node, real_output ? RQ_REPR_REAL : RQ_REPR_U8, buffer);
    return RQ_OK;
}

/* Scales and zero points of the input and of the output. */
static rq_status get_qparams(const rq_plan *plan, int node, rq_qparams *x, rq_qparams *y,
                             rq_error *err)
{
    RQ_TRY(rq_plan_qparams(plan, node, 0, x, err));
    return rq_plan_qparams(plan, node, 1, y, err);
}

rq_status rq_row_qglobal_avg_pool(rq_plan *plan, int node, rq_error *err)
{
    rq_qparams x, y;
    int buffer;
    RQ_TRY(check_u8(plan, node, 0, err));
    RQ_TRY(get_qparams(plan, node, &x, &y, err));
    RQ_TRY(rq_add_integer_pool(plan, node, node, false, x, y, &buffer, err));
    rq_plan_set_value(plan, node, RQ_REPR_U8, buffer);
    return RQ_OK;
}

rq_status rq_row_qmul(rq_plan *plan, int node, rq_error *err)
{
    rq_qparams x, y;
    int buffer;
    RQ_TRY(check_u8(plan, node, 0, err));
    RQ_TRY(check_u8(plan, node, 1, err));
    RQ_TRY(get_qparams(plan, node, &x, &y, err));
    RQ_TRY(rq_add_integer_mul(plan, node, node, false, x, y, &buffer, err));
    rq_plan_set_value(plan, node, RQ_REPR_U8, buffer);
    return RQ_OK;
}

/* Reads real values: a qlinear's, or a float layer's. */
rq_status rq_row_qsigmoid(rq_plan *plan, int node, rq_error *err)
{
    int buffer;
    if (rq_plan_input(plan, node, 0)->repr != RQ_REPR_REAL)
        return rq_fail(err, RQ_ERR_MODEL, "a gate is computed of a real value");
    RQ_TRY(rq_add_gate(plan, node, node, false, &buffer, err));
    rq_plan_set_value(plan, node, RQ_REPR_U8, buffer);
    return RQ_OK;
}
