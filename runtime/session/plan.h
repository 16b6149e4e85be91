/* How a graph becomes the steps of an executor: rows (rows.h) turn nodes into steps, values say what
 * the nodes' results became, and at the end the buffers get their places by their lifetimes. Only for
 * this folder. */
#ifndef RQ_RUNTIME_SESSION_PLAN_H
#define RQ_RUNTIME_SESSION_PLAN_H

#include "runtime/session/step.h"

/* What the numbers of a value are. */
typedef enum rq_repr {
    RQ_REPR_REAL,  /* f32 */
    RQ_REPR_FAKE,  /* the q of integers as f32 (form qat) */
    RQ_REPR_U8,    /* u8 (form int8) */
    RQ_REPR_IMAGE, /* the caller's u8 pixels; no buffer */
} rq_repr;

typedef struct rq_value {
    rq_repr repr;
    int buffer;   /* index into the executor's buffers */
    rq_qparams q; /* of FAKE; form int8 has them in its operators */
} rq_value;

typedef struct rq_plan {
    rq_executor *executor; /* that gets the steps */
    const rq_executor *weights_of;
    const rq_model *model;
    rq_arena arena; /* all below; [n_nodes] each */
    rq_shape *shapes;
    rq_value *values;
    bool *done;   /* merged into an earlier step */
    bool *needed; /* the output is made from it */
} rq_plan;

/* The executor, weights_of and the model are set, the rest is zero. Errors: as rq_graph_shapes. */
RQ_NODISCARD rq_status rq_plan_init(rq_plan *plan, rq_error *err);
void rq_plan_deinit(rq_plan *plan);

/* Place all buffers in one block, and allocate that. */
RQ_NODISCARD rq_status rq_plan_place_buffers(const rq_plan *plan, rq_error *err);

/* ---- what the graph says ---- */

static inline const rq_node *rq_plan_node(const rq_plan *plan, int node)
{
    return &plan->model->graph.nodes[node];
}

static inline const rq_value *rq_plan_input(const rq_plan *plan, int node, int k)
{
    return &plan->values[rq_plan_node(plan, node)->input[k]];
}

/* Of input 0. */
static inline const rq_shape *rq_plan_in_shape(const rq_plan *plan, int node)
{
    return &plan->shapes[rq_plan_node(plan, node)->input[0]];
}

/* The only reader of a node's value when it has exactly one and that is of the given kind and may
 * be merged; else -1. */
static inline int rq_plan_next(const rq_plan *plan, int node, rq_op op)
{
    return rq_graph_next(&plan->model->graph, node, op);
}

/* The same reader, or the node itself where there is none. */
static inline int rq_plan_skip(const rq_plan *plan, int node, rq_op op)
{
    const int next = rq_plan_next(plan, node, op);
    return next >= 0 ? next : node;
}

/* A conv, linear, qconv or qlinear node at the plan's size. */
static inline rq_conv_shape rq_plan_conv_shape(const rq_plan *plan, int node)
{
    return rq_graph_conv_shape(&plan->model->graph, plan->shapes, node);
}

/* Multiply-adds per image. */
double rq_plan_macs(const rq_conv_shape *shape);

/* Element i of SCALE and ZERO_POINT of a node. Errors: RQ_ERR_MODEL when no range has been observed
 * yet. */
RQ_NODISCARD rq_status rq_plan_qparams(const rq_plan *plan, int node, int i, rq_qparams *out,
                                       rq_error *err);

/* ---- buffers, steps and values ---- */

/* It comes to life at the next step added. */
RQ_NODISCARD rq_status rq_plan_buffer(rq_plan *plan, size_t size_bytes, int *out, rq_error *err);

/* For a node's value of elem_bytes per element: 1 (u8) or 4 (f32). */
RQ_NODISCARD rq_status rq_plan_value_buffer(rq_plan *plan, int node, size_t elem_bytes, int *out,
                                            rq_error *err);

/* Append a zeroed step for a node reading buffers; fills name, kind, node, in, out, src. *out is
 * valid until the next call. */
RQ_NODISCARD rq_status rq_plan_step(rq_plan *plan, int node, const char *kind,
                                    const int *src_buffers, int n_src, rq_step **out,
                                    rq_error *err);

/* The step of plan->weights_of that the next step added will be the like of; NULL without one. */
static inline const rq_step *rq_plan_twin(const rq_plan *plan)
{
    const rq_executor *of = plan->weights_of;
    const int i = plan->executor->n_steps;
    return of && i < of->n_steps ? &of->steps[i] : NULL;
}

/* A real value, or one of form int8. */
static inline void rq_plan_set_value(rq_plan *plan, int node, rq_repr repr, int buffer)
{
    plan->values[node] = (rq_value){.repr = repr, .buffer = buffer};
}

static inline void rq_plan_set_fake(rq_plan *plan, int node, int buffer, rq_qparams q)
{
    plan->values[node] = (rq_value){RQ_REPR_FAKE, buffer, q};
}

/* The nodes from first to last, a chain of single readers, are one step. */
void rq_plan_merge(const rq_plan *plan, int first, int last);

/* ---- real values ---- */

/* The buffer of input k of a node as real f32; converts the image and fake-quantized values on the
 * way. Errors: RQ_ERR_MODEL for a u8 value. */
RQ_NODISCARD rq_status rq_plan_real_input(rq_plan *plan, int node, int k, int *buffer,
                                          rq_error *err);

/* A step from all inputs as real values to a new buffer of the node's shape, which becomes its real
 * value. */
RQ_NODISCARD rq_status rq_plan_real_step(rq_plan *plan, int node, const char *kind, rq_run *run,
                                         rq_step **out, rq_error *err);

#endif
