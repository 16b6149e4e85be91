/* What the rows of a session share. The rows themselves stand in float_rows.c (real values, every
 * form), fake_rows.c (form qat) and integer_rows.c (form int8); integer_steps.c adds the steps that
 * the last two have in common. Not for other rooms. */
#ifndef RQ_RUNTIME_SESSION_ROWS_H
#define RQ_RUNTIME_SESSION_ROWS_H

#include "runtime/session/plan.h"

static inline const rq_node *rq_plan_node(const rq_session *session, int node)
{
    return &session->model->graph.nodes[node];
}

static inline const rq_value *rq_plan_input(const rq_session *session, int node, int k)
{
    return &session->values[rq_plan_node(session, node)->input[k]];
}

/* Of input 0. */
static inline const rq_shape *rq_plan_in_shape(const rq_session *session, int node)
{
    return &session->shapes[rq_plan_node(session, node)->input[0]];
}

/* A real value, or one of form int8. */
static inline void rq_plan_set_value(rq_session *session, int node, rq_repr repr, int buffer)
{
    session->values[node] = (rq_value){.repr = repr, .buffer = buffer};
}

static inline void rq_plan_set_fake(rq_session *session, int node, int buffer, rq_qparams q)
{
    session->values[node] = (rq_value){RQ_REPR_FAKE, buffer, q};
}

/* A conv, linear, qconv or qlinear node at the session's size, and its multiply-adds per image. */
rq_conv_shape rq_plan_conv_shape(const rq_session *session, int node);
double rq_plan_macs(const rq_conv_shape *shape);

/* Element i of SCALE and ZERO_POINT of a node. Errors: RQ_ERR_MODEL when no range has been observed
 * yet. */
RQ_NODISCARD rq_status rq_plan_qparams(const rq_session *session, int node, int i, rq_qparams *out,
                                       rq_error *err);

/* ---- real values ---- */

/* A buffer for a node's value as f32. */
RQ_NODISCARD rq_status rq_plan_f32_buffer(rq_session *session, int node, int *out, rq_error *err);

/* The buffer of input k of a node as real f32; converts the image and fake-quantized values on the
 * way. Errors: RQ_ERR_MODEL for a u8 value. */
RQ_NODISCARD rq_status rq_plan_real_input(rq_session *session, int node, int k, int *buffer,
                                          rq_error *err);

/* A step from all inputs as real values to a new buffer of the node's shape, which becomes its
 * value. The step is the last one of the session. */
RQ_NODISCARD rq_status rq_plan_real_step(rq_session *session, int node, const char *kind,
                                         rq_run *run, rq_error *err);

/* ---- integers, as u8 or as integer-valued f32 ---- */

/* One integer convolution for the nodes first to last (a layer and what was merged behind it);
 * zero_point [3] where it reads the image. The value is not set yet: *buffer holds q, or f32 where
 * real_output. */
RQ_NODISCARD rq_status rq_plan_integer_conv(rq_session *session, int first, int last,
                                            rq_iconv_kind kind, const rq_iconv_weights *weights,
                                            const uint8_t *zero_point, bool real_output,
                                            int *buffer, rq_error *err);

/* Pooling, product with a gate, gate of a real value: from input 0 (and 1) of first to a new buffer
 * of q, which stands for the value of last. */
RQ_NODISCARD rq_status rq_plan_integer_pool(rq_session *session, int first, int last, bool as_f32,
                                            rq_qparams x, rq_qparams y, int *buffer, rq_error *err);
RQ_NODISCARD rq_status rq_plan_integer_mul(rq_session *session, int first, int last, bool as_f32,
                                           rq_qparams x, rq_qparams y, int *buffer, rq_error *err);
RQ_NODISCARD rq_status rq_plan_gate(rq_session *session, int first, int last, bool as_f32,
                                    int *buffer, rq_error *err);

/* ---- rows that are called by other rows ---- */

rq_row rq_row_float_conv, rq_row_float_pool, rq_row_float_sigmoid, rq_row_float_mul;
rq_row rq_row_fake_layer, rq_row_fake_pool, rq_row_fake_sigmoid, rq_row_fake_mul;

/* ---- the rows of the table ---- */

rq_row rq_row_input, rq_row_batch_norm, rq_row_add, rq_row_relu, rq_row_scale, rq_row_avg_pool,
    rq_row_max_pool;
rq_row rq_row_fake_quant;
rq_row rq_row_convert, rq_row_integer_layer, rq_row_qglobal_avg_pool, rq_row_qsigmoid, rq_row_qmul;

#endif
