/* Plain operators: one input, no parameters, one pass forward and one backward over whole tensors,
 * and f(s x) = s f(x) for s > 0, so that numbers keep their scale. A row of this table is all that
 * sessions, training and lowering need to know of one (kind PLAIN of RQ_OP_LIST).
 *
 *   session    runs forward; over u8 and fake-quantized values too where there is a twin
 *   training   a unit of forward and backward
 *   lowering   the twin over u8 where there is one, else the operator stays in float */
#ifndef RQ_RUNTIME_DNN_PLAIN_OPS_H
#define RQ_RUNTIME_DNN_PLAIN_OPS_H

#include "runtime/model/graph.h"

/* One application: src [in->n, in->h, in->w, in->c], dst the same of out; f32, or both u8 where the
 * operator has a twin. window: the node's geometry. */
typedef struct rq_plain_args {
    const rq_shape *in, *out;
    const rq_conv_attr *window;
    bool is_u8;
} rq_plain_args;

typedef struct rq_plain_op {
    /* The operator of form int8 (kind TWIN), for one that only chooses among numbers: the result
     * has the scale and zero point of the input. RQ_OP_INPUT: none. */
    rq_op twin;
    void (*forward)(const rq_plain_args *args, const void *src, void *dst);
    /* dsrc = gradient of src, given ddst, which may be changed; src and dst as forward had them. */
    void (*backward)(const rq_plain_args *args, const float *src, const float *dst, float *ddst,
                     float *dsrc);
} rq_plain_op;

/* The row of an operator, or of the operator that it is the twin of; NULL for other kinds. */
const rq_plain_op *rq_plain_op_of(rq_op op);

#endif
