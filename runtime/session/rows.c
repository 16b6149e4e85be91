/* The table, and the choice where an operator has a row for real values and one for integers. */
#include "runtime/session/rows.h"

#include "runtime/model/gate.h"

/* conv and linear: fake-quantized with WEIGHT_SCALE, else float. */
static rq_status row_layer(rq_plan *plan, int node, rq_error *err)
{
    return rq_graph_tensor(&plan->model->graph, node, RQ_SLOT_WEIGHT_SCALE)
               ? rq_row_fake_layer(plan, node, err)
               : rq_row_float_conv(plan, node, err);
}

/* Over quantized values with a quantizer after it, else float. */
static rq_status row_pool(rq_plan *plan, int node, rq_error *err)
{
    const bool is_fake = rq_plan_input(plan, node, 0)->repr == RQ_REPR_FAKE;
    return is_fake && rq_plan_next(plan, node, RQ_OP_FAKE_QUANT) >= 0
               ? rq_row_fake_pool(plan, node, err)
               : rq_row_float_pool(plan, node, err);
}

static rq_status row_sigmoid(rq_plan *plan, int node, rq_error *err)
{
    return rq_plan_next(plan, node, RQ_OP_FAKE_QUANT) >= 0 ? rq_row_fake_sigmoid(plan, node, err)
                                                           : rq_row_float_sigmoid(plan, node, err);
}

/* Of a quantized value and a quantized gate, with a quantizer after it (and relu before that). */
static rq_status row_mul(rq_plan *plan, int node, rq_error *err)
{
    const int product = rq_plan_skip(plan, node, RQ_OP_RELU);
    const bool is_fake = rq_plan_input(plan, node, 0)->repr == RQ_REPR_FAKE &&
                         rq_is_gate(&plan->model->graph, rq_plan_node(plan, node)->input[1]);
    return is_fake && rq_plan_next(plan, product, RQ_OP_FAKE_QUANT) >= 0
               ? rq_row_fake_mul(plan, node, err)
               : rq_row_float_mul(plan, node, err);
}

/* operators that share a row, or have one of several */
#define rq_row_conv            row_layer
#define rq_row_linear          row_layer
#define rq_row_global_avg_pool row_pool
#define rq_row_sigmoid         row_sigmoid
#define rq_row_mul             row_mul
#define rq_row_quantize        rq_row_convert
#define rq_row_dequantize      rq_row_convert
#define rq_row_qconv           rq_row_integer_layer
#define rq_row_qlinear         rq_row_integer_layer

#define ROW_OWN(name)     rq_row_##name
#define ROW_PLAIN(name)   rq_row_plain
#define ROW_INTEGER(name) rq_row_##name
#define ROW_TWIN(name)    rq_row_plain

rq_row *const rq_rows[RQ_N_OPS] = {
#define X(code, name, kind) [RQ_OP_##code] = ROW_##kind(name),
    RQ_OP_LIST(X)
#undef X
};
