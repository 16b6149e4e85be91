/* The graph: few explicit operators over named parameters.
 *
 * Nodes are in topological order; node i produces value i, and node 0 is the input (the image). A
 * node names its parameters through slots. Node names are PyTorch module paths
 * ("stage1.0.rbr_dense.conv"), parameter names are PyTorch state_dict keys
 * ("stage1.0.rbr_dense.conv.weight"). The last node is the model's output, [N, classes]; any other
 * node without a reader is an auxiliary output, [N, classes] too: form train may have some, for the
 * loss alone, and every other form is made without them.
 *
 * Activations are [N, H, W, C]. One operator is one row. The list below names all operators and
 * their kinds, and these rooms have one table each, built from the list, so that an operator
 * without a row does not compile:
 *
 *   shape rule        runtime/model/ops.c
 *   steps of a run    runtime/session/rows.c, over the kernels of runtime/dnn
 *   scalar truth      runtime/reference/integer.c
 *   gradient          qat/step/build.c
 *   integer lowering  export/lower.c
 *
 * The graph owns everything that it points to: in its arena, or as views of files that it closes
 * (rq_graph_own). Values that are views are read-only. */
#ifndef RQ_RUNTIME_MODEL_GRAPH_H
#define RQ_RUNTIME_MODEL_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/status.h"
#include "runtime/model/tensor.h"

/* Operators: code, name in files and tables, kind.
 *
 *   kind      rows
 *   OWN       in every table
 *   PLAIN     shape rule, scalar truth, and its passes in runtime/dnn/plain_ops.c; session, gradient
 *             and lowering follow from them
 *   INTEGER   shape rule, scalar truth, steps of a run; form int8 only
 *   TWIN      shape rule and scalar truth: what a PLAIN operator is lowered to
 *
 * Float:
 *   input             the image, normalised: x = (pixel / 255 - mean) / std
 *   conv              WEIGHT [OC, IC/G, KH, KW], optional BIAS [OC]; with WEIGHT_SCALE [OC] (form
 *                     qat) its weights are fake-quantized
 *   batch_norm        WEIGHT (gamma), BIAS (beta), MEAN, VAR [C], optional TRACKED s64 [];
 *                     y = gamma * (x - mean) / sqrt(var + eps) + beta
 *   add               sum of 2 to 4 values of one shape
 *   relu              max(x, 0)
 *   scale             WEIGHT [C]: y = weight * x per channel (RepOptimizer's ScaleLayer)
 *   avg_pool          mean over the kernel's window; padding counts as zeros (PyTorch's default)
 *   max_pool          largest of the kernel's window; padding never counts (PyTorch)
 *   global_avg_pool   [N, H, W, C] -> [N, 1, 1, C]
 *   sigmoid           1 / (1 + exp(-x))
 *   mul               [N, H, W, C] times a gate [N, 1, 1, C] (squeeze-and-excitation)
 *   linear            WEIGHT [OC, IC], BIAS [OC]; [N, 1, 1, IC] -> [N, 1, 1, OC]; WEIGHT_SCALE
 *                     as for conv
 *   fake_quant        SCALE, MIN, MAX f32 [1], optional ZERO_POINT u8 [1] (z; without it 0, and
 *                     MIN is not observed): y = scale * (clamp(rne(x / scale) + z, 0, 255) - z);
 *                     form qat only. After relu and sigmoid there is no zero point; after
 *                     sigmoid SCALE is 1 / 255 (runtime/model/gate.h)
 *
 * Integer (form int8; u8 values are real = scale * (q - z); the rule is written in
 * runtime/reference/integer.h). ZERO_POINT is optional, 0 where it is missing; for qconv see below:
 *   quantize          f32 -> u8 by SCALE [1], ZERO_POINT u8 [1]
 *   dequantize        u8 -> f32 by SCALE [1], ZERO_POINT u8 [1]
 *   qconv             u8 -> u8; WEIGHT s8, BIAS s32 [OC], MULTIPLIER f32 [OC], ACC_MAX s64 [OC, 2].
 *                     On the input node it reads the pixels themselves; the border is then padded
 *                     with ZERO_POINT u8 [IC]
 *   qmax_pool         u8 -> u8, with the scale and zero point of its input: the largest q is the
 *                     largest value
 *   qglobal_avg_pool  u8 -> u8; SCALE f32 [2], ZERO_POINT u8 [2]: of the input and of the output
 *   qlinear           u8 -> f32; slots as qconv, without ZERO_POINT
 *   qsigmoid          f32 -> u8 gate: rne(255 * sigmoid(x))
 *   qmul              u8 [N, H, W, C] times a u8 gate [N, 1, 1, C] -> u8; SCALE f32 [2], ZERO_POINT
 *                     u8 [2]: of the input and of the output */
#define RQ_OP_LIST(X)                                                                              \
    X(INPUT, input, OWN)                                                                           \
    X(CONV, conv, OWN)                                                                             \
    X(BATCH_NORM, batch_norm, OWN)                                                                 \
    X(ADD, add, OWN)                                                                               \
    X(RELU, relu, OWN)                                                                             \
    X(SCALE, scale, OWN)                                                                           \
    X(AVG_POOL, avg_pool, PLAIN)                                                                   \
    X(MAX_POOL, max_pool, PLAIN)                                                                   \
    X(GLOBAL_AVG_POOL, global_avg_pool, OWN)                                                       \
    X(SIGMOID, sigmoid, OWN)                                                                       \
    X(MUL, mul, OWN)                                                                               \
    X(LINEAR, linear, OWN)                                                                         \
    X(FAKE_QUANT, fake_quant, OWN)                                                                 \
    X(QUANTIZE, quantize, INTEGER)                                                                 \
    X(DEQUANTIZE, dequantize, INTEGER)                                                             \
    X(QCONV, qconv, INTEGER)                                                                       \
    X(QMAX_POOL, qmax_pool, TWIN)                                                                  \
    X(QGLOBAL_AVG_POOL, qglobal_avg_pool, INTEGER)                                                 \
    X(QLINEAR, qlinear, INTEGER)                                                                   \
    X(QSIGMOID, qsigmoid, INTEGER)                                                                 \
    X(QMUL, qmul, INTEGER)

typedef enum rq_op {
#define X(code, name, kind) RQ_OP_##code,
    RQ_OP_LIST(X)
#undef X
        RQ_N_OPS
} rq_op;

const char *rq_op_name(rq_op op);

/* Does it belong to form int8: kind INTEGER or TWIN? */
bool rq_op_is_integer(rq_op op);

/* Does it slide a window over its input: a convolution, or pooling by windows? */
bool rq_op_has_window(rq_op op);

/* Parameter slots: code, name in files. WEIGHT and BIAS are what training changes, except where the
 * node is constant; the rest are buffers. */
#define RQ_SLOT_LIST(X)                                                                            \
    X(WEIGHT, weight)                                                                              \
    X(BIAS, bias)                                                                                  \
    X(MEAN, running_mean)                                                                          \
    X(VAR, running_var)                                                                            \
    X(TRACKED, num_batches_tracked)                                                                \
    X(WEIGHT_SCALE, weight_scale)                                                                  \
    X(SCALE, scale)                                                                                \
    X(MIN, min_val)                                                                                \
    X(MAX, max_val)                                                                                \
    X(MULTIPLIER, multiplier)                                                                      \
    X(ZERO_POINT, zero_point)                                                                      \
    X(ACC_MAX, acc_max)

typedef enum rq_slot {
#define X(code, name) RQ_SLOT_##code,
    RQ_SLOT_LIST(X)
#undef X
        RQ_N_SLOTS
} rq_slot;

const char *rq_slot_name(rq_slot slot);

enum {
    RQ_MAX_INPUTS = 4,
    RQ_MAX_NODES = 1 << 12, /* limits for files */
    RQ_MAX_PARAMS = 1 << 14,
    RQ_MAX_SIDE = 1 << 14, /* kernel, stride, padding, image side */
    RQ_MAX_CHANNELS = 1 << 20,
    RQ_MAX_IMAGE_ELEMS = 1 << 28, /* of one value, for one image */
};

/* Convolution geometry; square unless said otherwise is not assumed. groups divides IC and OC. */
typedef struct rq_conv_attr {
    int kernel[2], stride[2], pad[2], dilation[2]; /* height, width; dilation 1 = dense */
    int groups;
} rq_conv_attr;

/* One convolution at one size: src [n, ih, iw, ic], wei [oc, ic/g, kh, kw], dst [n, oh, ow, oc]. */
typedef struct rq_conv_shape {
    int64_t n, ih, iw, ic, oh, ow, oc;
    rq_conv_attr conv;
} rq_conv_shape;

typedef struct rq_node {
    rq_op op;
    const char *name;
    int n_inputs;
    int input[RQ_MAX_INPUTS]; /* indices of earlier nodes */
    int slot[RQ_N_SLOTS];     /* indices into params, -1 = absent */
    rq_conv_attr conv;        /* rq_op_has_window; of pools, dilation and groups are 1 */
    float eps;                /* batch_norm */
    bool constant;            /* training leaves its WEIGHT and BIAS as they are */
} rq_node;

/* What parameters may be views of. */
typedef struct rq_owned {
    struct rq_owned *next;
    void *object;
    void (*close)(void *object);
    rq_mapping mapping; /* a copy; its pages are what rq_graph_release gives back */
} rq_owned;

typedef struct rq_graph {
    rq_arena arena;
    rq_owned *owned;
    rq_node *nodes;
    int n_nodes, cap_nodes;
    rq_param *params;
    int n_params, cap_params;
} rq_graph;

/* The shape of one value for given input size. */
typedef struct rq_shape {
    int64_t n, h, w, c;
    rq_dtype dtype; /* RQ_F32 or RQ_U8; the input is RQ_F32 (see qconv for the exception) */
} rq_shape;

static inline size_t rq_shape_elems(const rq_shape *shape)
{
    return (size_t)(shape->n * shape->h * shape->w * shape->c);
}

/* Called after each node with its value: u8 or f32 by shape->dtype, [N, H, W, C]. */
typedef void rq_value_observer(void *context, int node, const void *value, const rq_shape *shape);

#define RQ_GRAPH_INIT                                                                              \
    {                                                                                              \
        RQ_ARENA_INIT, NULL, NULL, 0, 0, NULL, 0, 0                                                \
    }
void rq_graph_deinit(rq_graph *graph); /* a zeroed graph is fine */

/* Append a node with n_inputs inputs; its slots are all -1. *out (may be NULL) receives its index;
 * further fields are set through graph->nodes[*out]. name is copied. Errors: RQ_ERR_MODEL (an input
 * is not an earlier node, the name is empty or taken), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_graph_add_node(rq_graph *graph, rq_op op, const char *name, int n_inputs,
                                         const int *inputs, int *out, rq_error *err);

/* Create a zeroed parameter "node_name.slot_name" (a name already taken is an error) in a slot of a
 * node. Errors: RQ_ERR_MODEL, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_graph_add_param(rq_graph *graph, int node, rq_slot slot, rq_dtype dtype,
                                          int rank, const int64_t *dims, rq_error *err);

/* The same with the values of source (same graph or another; copied) and the given full name (NULL
 * = default). */
RQ_NODISCARD rq_status rq_graph_copy_param(rq_graph *graph, int node, rq_slot slot,
                                           const char *name, const rq_tensor *source,
                                           rq_error *err);

/* Take an object, typically an open file, that parameters will be views of: close(object) is called
 * when the graph goes. mapping: the read-only memory in it. On error (RQ_ERR_NOMEM) the object
 * stays the caller's. */
RQ_NODISCARD rq_status rq_graph_own(rq_graph *graph, void *object, void (*close)(void *object),
                                    const rq_mapping *mapping, rq_error *err);

/* As rq_graph_copy_param, but the values stay where source has them: in an owned object. */
RQ_NODISCARD rq_status rq_graph_view_param(rq_graph *graph, int node, rq_slot slot,
                                           const char *name, const rq_tensor *source,
                                           rq_error *err);

/* Is this a view of a mapped file? Else the values are the graph's own. */
bool rq_graph_is_view(const rq_graph *graph, const rq_tensor *tensor);

/* These values have been read and will not be soon: where they are a view of a mapped file, their
 * pages leave memory and come back when they are read. So a pass over a large model needs the
 * memory of its largest parameters only. The second does so for all parameters of a node. */
void rq_graph_release(const rq_graph *graph, const rq_tensor *tensor);
void rq_graph_release_node(const rq_graph *graph, int node);

/* Append a copy of node i of another graph, attributes and parameters (same names) included,
 * reading the given inputs of this graph (as many as node i has). Errors: RQ_ERR_MODEL,
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_graph_copy_node(rq_graph *graph, const rq_graph *source, int i,
                                          const int *inputs, int *out, rq_error *err);

/* The tensor in a slot, NULL when absent. */
rq_tensor *rq_graph_tensor(const rq_graph *graph, int node, rq_slot slot);

/* Index of a node or parameter by name, -1 when there is none. */
int rq_graph_find_node(const rq_graph *graph, const char *name);
int rq_graph_find_param(const rq_graph *graph, const char *name);

/* The node that computes input k of a node. */
static inline const rq_node *rq_graph_producer(const rq_graph *graph, int node, int k)
{
    return &graph->nodes[graph->nodes[node].input[k]];
}

/* The only node that reads this one, -1 when none or several read it or one reads it twice. */
int rq_graph_only_reader(const rq_graph *graph, int node);

/* The same where it is of this operator, else -1: what may be merged into the node, as the batch
 * norm after a convolution. */
int rq_graph_next(const rq_graph *graph, int node, rq_op op);

/* Does no node read this one? Then it is the model's output (the last node) or an auxiliary one. */
bool rq_graph_is_output(const rq_graph *graph, int node);

/* Which nodes the model's output is made from, itself included (needed[i], n_nodes entries). The
 * others are auxiliary outputs and what only they read. */
void rq_graph_find_needed(const rq_graph *graph, bool *needed);

/* Shapes of all values for an input of n images of h x w pixels, 3 channels; shapes has n_nodes
 * entries. Checks every rule of every operator: number of inputs, ranks and sizes of parameters,
 * dtypes, groups, that sizes stay positive and below the limits. Errors: RQ_ERR_MODEL with the
 * node's name and the rule broken. */
RQ_NODISCARD rq_status rq_graph_shapes(const rq_graph *graph, int64_t n, int64_t h, int64_t w,
                                       rq_shape *shapes, rq_error *err);

/* A node with a window (rq_op_has_window), or a linear layer as a convolution of one pixel, at the
 * sizes that rq_graph_shapes gave. */
rq_conv_shape rq_graph_conv_shape(const rq_graph *graph, const rq_shape *shapes, int node);

/* A deep copy. */
RQ_NODISCARD rq_status rq_graph_clone(rq_graph *out, const rq_graph *source, rq_error *err);

#endif
