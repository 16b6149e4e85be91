/* Steps that compute integers, as u8 (form int8) or as integer-valued f32 (form qat, as_f32): what
 * qat_rows.c and int8_rows.c have in common. Each is one step for the nodes first to last, a node and
 * what is merged into it: from the inputs of first to a new buffer of q for the value of last, which
 * is not set yet. Only for this folder. */
#ifndef RQ_RUNTIME_SESSION_INTEGER_STEPS_H
#define RQ_RUNTIME_SESSION_INTEGER_STEPS_H

#include "runtime/session/plan.h"

/* A layer; zero_point [3] where it reads the image. The buffer holds f32 where real_output. */
RQ_NODISCARD rq_status rq_add_integer_conv(rq_plan *plan, int first, int last, rq_iconv_kind kind,
                                           const rq_iconv_weights *weights,
                                           const uint8_t *zero_point, bool real_output, int *buffer,
                                           rq_error *err);

/* Global average pooling, a product with a gate, the gate of a real value. */
RQ_NODISCARD rq_status rq_add_integer_pool(rq_plan *plan, int first, int last, bool as_f32,
                                           rq_qparams x, rq_qparams y, int *buffer, rq_error *err);
RQ_NODISCARD rq_status rq_add_integer_mul(rq_plan *plan, int first, int last, bool as_f32,
                                          rq_qparams x, rq_qparams y, int *buffer, rq_error *err);
RQ_NODISCARD rq_status rq_add_gate(rq_plan *plan, int first, int last, bool as_f32, int *buffer,
                                   rq_error *err);

#endif
