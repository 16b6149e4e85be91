/* All gradients are in one block, the last node's first: in the order in which backward finishes
 * them. What no unit that is still to come will write is summed as soon as it is a bucket full. */
#include "qat/step/parameter_gradients.h"

#include <string.h>

#include "qat/step/convolution.h"
#include "qat/step/eltwise.h"
#include "runtime/base/ranks.h"

enum { BUCKET = 1 << 20, ALIGNED = RQ_ALIGNMENT / sizeof(float) }; /* elements */

/* ---- memory ---- */

static bool has_gradient(const rq_node *node)
{
    switch (node->op) {
    case RQ_OP_CONV:
    case RQ_OP_LINEAR:
    case RQ_OP_BATCH_NORM:
    case RQ_OP_SCALE:
        return !node->constant;
    default:
        return false;
    }
}

/* Gradients of a node's weight (k = 0) and bias (k = 1): its parameter, -1: none. */
static int parameter_of(const rq_model *model, int node, int k)
{
    const rq_node *n = &model->graph.nodes[node];
    return has_gradient(n) ? n->slot[k ? RQ_SLOT_BIAS : RQ_SLOT_WEIGHT] : -1;
}

/* A parameter's place in the block, with what follows it up to the next. */
static size_t padded_elems(const rq_model *model, int param)
{
    return (rq_tensor_elems(&model->graph.params[param].tensor) + ALIGNED - 1) / ALIGNED * ALIGNED;
}

rq_status tr_gradients_allocate(rq_trainer *trainer, rq_error *err)
{
    const rq_model *model = trainer->model;
    tr_gradients *all = &trainer->all_gradients;
    for (int i = 0; i < model->graph.n_nodes; i++)
        for (int k = 0; k < 2; k++)
            if (parameter_of(model, i, k) >= 0)
                all->n += padded_elems(model, parameter_of(model, i, k));
    all->block = rq_arena_array(&trainer->arena, float, all->n);
    if (!all->block)
        return rq_no_memory(err);
    float *next = all->block;
    for (int i = model->graph.n_nodes - 1; i >= 0; i--)
        for (int k = 0; k < 2; k++) {
            const int param = parameter_of(model, i, k);
            if (param < 0 || trainer->gradients[param])
                continue;
            trainer->gradients[param] = next;
            next += padded_elems(model, param);
        }
    return RQ_OK;
}

/* ---- sums ---- */

static void include(const tr_gradients *all, const float *gradient, size_t *first)
{
    if (gradient && (size_t)(gradient - all->block) < *first)
        *first = (size_t)(gradient - all->block);
}

/* The first element of the block that a unit writes; the block's end: none. */
static size_t first_written(const tr_gradients *all, const tr_unit *unit)
{
    size_t first = all->n;
    if (unit->conv) {
        include(all, unit->conv->dweight, &first);
        include(all, unit->conv->dgamma, &first);
    }
    for (int k = 0; unit->eltwise && k < unit->eltwise->n_terms; k++) {
        include(all, unit->eltwise->terms[k].dgamma, &first);
        include(all, unit->eltwise->terms[k].dbeta, &first);
    }
    return first;
}

void tr_gradients_plan_sums(rq_trainer *trainer)
{
    size_t finished = trainer->all_gradients.n;
    for (int i = 0; i < trainer->n_units; i++) {
        trainer->units[i].finished = finished;
        const size_t first = first_written(&trainer->all_gradients, &trainer->units[i]);
        finished = first < finished ? first : finished;
    }
}

void tr_gradients_sum(rq_trainer *trainer, int unit)
{
    tr_gradients *all = &trainer->all_gradients;
    const size_t finished = trainer->units[unit].finished;
    if (unit == trainer->n_units - 1)
        all->summed = 0;
    if (finished - all->summed < BUCKET && finished < all->n)
        return;
    rq_ranks_begin_sum(all->block + all->summed, finished - all->summed);
    all->summed = finished;
}
