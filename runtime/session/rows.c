/* The table: one row per operator, how a node becomes steps of a session. */
#include "runtime/session/rows.h"

#include <math.h>

#include "runtime/model/gate.h"
#include "runtime/model/quant.h"

rq_conv_shape rq_plan_conv_shape(const rq_session *s, int node)
{
    return rq_graph_conv_shape(&s->model->graph, s->shapes, node);
}

double rq_plan_macs(const rq_conv_shape *shape)
{
    const int64_t taps =
        shape->ic / shape->conv.groups * shape->conv.kernel[0] * shape->conv.kernel[1];
    return (double)(shape->oh * shape->ow * shape->oc) * (double)taps;
}

rq_status rq_plan_qparams(const rq_session *s, int node, int i, rq_qparams *out, rq_error *err)
{
    const rq_graph *graph = &s->model->graph;
    const rq_tensor *zero_point = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT);
    out->scale = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_SCALE))[i];
    out->zero_point = zero_point ? ((const uint8_t *)zero_point->data)[i] : 0;
    if (!(out->scale >= RQ_SCALE_MIN) || !isfinite(out->scale))
        return rq_fail(err, RQ_ERR_MODEL, "%s: scale %g: no range has been observed yet",
                       graph->nodes[node].name, (double)out->scale);
    return RQ_OK;
}

/* conv and linear: fake-quantized with WEIGHT_SCALE, else float. */
static rq_status row_layer(rq_session *s, int node, rq_error *err)
{
    return rq_graph_tensor(&s->model->graph, node, RQ_SLOT_WEIGHT_SCALE)
               ? rq_row_fake_layer(s, node, err)
               : rq_row_float_conv(s, node, err);
}

/* Over quantized values with a quantizer behind it, else float. */
static rq_status row_pool(rq_session *s, int node, rq_error *err)
{
    const bool is_fake = rq_plan_input(s, node, 0)->repr == RQ_REPR_FAKE;
    return is_fake && rq_plan_next(s, node, RQ_OP_FAKE_QUANT) >= 0
               ? rq_row_fake_pool(s, node, err)
               : rq_row_float_pool(s, node, err);
}

static rq_status row_sigmoid(rq_session *s, int node, rq_error *err)
{
    return rq_plan_next(s, node, RQ_OP_FAKE_QUANT) >= 0 ? rq_row_fake_sigmoid(s, node, err)
                                                        : rq_row_float_sigmoid(s, node, err);
}

/* Of a quantized value and a quantized gate, with a quantizer behind it (and relu before that). */
static rq_status row_mul(rq_session *s, int node, rq_error *err)
{
    const int relu = rq_plan_next(s, node, RQ_OP_RELU);
    const bool is_fake = rq_plan_input(s, node, 0)->repr == RQ_REPR_FAKE &&
                         rq_is_gate(&s->model->graph, rq_plan_node(s, node)->input[1]);
    return is_fake && rq_plan_next(s, relu >= 0 ? relu : node, RQ_OP_FAKE_QUANT) >= 0
               ? rq_row_fake_mul(s, node, err)
               : rq_row_float_mul(s, node, err);
}

/* operators that share a row, or have one by form */
#define rq_row_conv            row_layer
#define rq_row_linear          row_layer
#define rq_row_global_avg_pool row_pool
#define rq_row_sigmoid         row_sigmoid
#define rq_row_mul             row_mul
#define rq_row_qmax_pool       rq_row_max_pool
#define rq_row_quantize        rq_row_convert
#define rq_row_dequantize      rq_row_convert
#define rq_row_qconv           rq_row_integer_layer
#define rq_row_qlinear         rq_row_integer_layer

rq_row *const rq_session_rows[RQ_N_OPS] = {
#define X(code, name) [RQ_OP_##code] = rq_row_##name,
    RQ_OP_LIST(X)
#undef X
};
