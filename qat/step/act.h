/* What ends an eltwise or a product: ReLU and fake quantization, each optional. */
#ifndef RQ_QAT_STEP_ACT_H
#define RQ_QAT_STEP_ACT_H

#include "qat/step/values.h"

typedef struct tr_act {
    bool relu, quantize;
    float *min, *max, *scale; /* fake_quant's MIN, MAX and SCALE */
    uint8_t *zero_point;      /* fake_quant's ZERO_POINT; NULL: values are not negative */
} tr_act;

/* Take the range of fake_quant at node. */
void tr_act_quantize(tr_act *act, const rq_graph *graph, int node);

/* Let the range follow what was seen on all ranks, lo to hi: m <- m + 0.01 (seen - m), the first
 * batch copied. */
void tr_act_observe(const tr_act *act, float lo, float hi);

/* Give the value that act ends in the range's scale and zero point. */
void tr_act_settle(const tr_act *act, tr_value *value);

/* Errors: RQ_ERR_RANGE when the range has not been observed yet. */
RQ_NODISCARD rq_status tr_act_check(const tr_act *act, rq_error *err);

/* Fill in the parts of args that say what act does. */
void tr_act_args(const tr_act *act, const tr_value *value, tr_pass_args *args);

/* y = act(z) for a range of the value's numbers that begins at element `first`: as f32, as bf16 and
 * as u8, as the value has memory for. */
void tr_act_apply(const tr_pass_args *args, const tr_value *value, size_t first);

/* dz is so many times the gradient that act lets pass: 1, or 1 / scale of a quantized value, whose
 * gradients are with respect to its numbers. */
float tr_act_factor(const tr_act *act, const tr_value *value);

#endif
