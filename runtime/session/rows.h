/* The table of a session's operators: one row per operator, how a node becomes steps of a plan. The
 * rows are in float_rows.c (real values, every form), qat_rows.c (fake-quantized values of form qat)
 * and int8_rows.c (form int8); integer_steps.c has the steps that the last two have in common. Only
 * for this folder. */
#ifndef RQ_RUNTIME_SESSION_ROWS_H
#define RQ_RUNTIME_SESSION_ROWS_H

#include "runtime/session/plan.h"

typedef rq_status rq_row(rq_plan *plan, int node, rq_error *err);
extern rq_row *const rq_rows[RQ_N_OPS];

/* Rows that rows.c chooses from by the node's values and parameters. */
rq_row rq_row_float_conv, rq_row_float_pool, rq_row_float_sigmoid, rq_row_float_mul;
rq_row rq_row_fake_layer, rq_row_fake_pool, rq_row_fake_sigmoid, rq_row_fake_mul;

/* The other rows of the table. */
rq_row rq_row_input, rq_row_batch_norm, rq_row_add, rq_row_relu, rq_row_scale, rq_row_plain;
rq_row rq_row_fake_quant;
rq_row rq_row_convert, rq_row_integer_layer, rq_row_qglobal_avg_pool, rq_row_qsigmoid, rq_row_qmul;

#endif
