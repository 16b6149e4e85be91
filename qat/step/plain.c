/* What is particular to an operator is in its row of dnn/plain_ops.h. */
#include "qat/step/plain.h"

#include "qat/step/values.h"
#include "runtime/dnn/plain_ops.h"

static const rq_node *node_of(const rq_trainer *trainer, const tr_unit *unit)
{
    return &trainer->model->graph.nodes[unit->node];
}

static rq_plain_args args_of(const rq_trainer *trainer, const tr_unit *unit)
{
    return (rq_plain_args){.in = &unit->src[0]->shape,
                           .out = &unit->dst->shape,
                           .window = &node_of(trainer, unit)->conv};
}

static rq_status forward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    const tr_value *src = unit->src[0];
    const rq_plain_args args = args_of(trainer, unit);
    rq_plain_op_of(node_of(trainer, unit)->op)->forward(&args, src->data, unit->dst->data);
    unit->dst->scale = src->scale;
    if (unit->dst->quantized)
        unit->dst->zero_point = src->zero_point;
    return RQ_OK;
}

static rq_status backward(rq_trainer *trainer, tr_unit *unit, rq_error *err)
{
    (void)err;
    const rq_plain_args args = args_of(trainer, unit);
    if (unit->dsrc[0])
        rq_plain_op_of(node_of(trainer, unit)->op)
            ->backward(&args, unit->src[0]->data, unit->dst->data, tr_summed_gradient(unit->dst),
                       unit->dsrc[0]);
    return RQ_OK;
}

void tr_plain_init(const rq_trainer *trainer, tr_unit *unit)
{
    const bool has_twin = rq_plain_op_of(node_of(trainer, unit)->op)->twin != RQ_OP_INPUT;
    unit->forward = forward;
    unit->backward = backward;
    unit->dst->quantized = has_twin && unit->src[0]->quantized;
}
