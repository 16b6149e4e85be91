/* The shape rule of every operator, one row each: how many inputs of which type, which parameters,
 * and a function that checks their sizes and gives the shape of the value. */
#include <assert.h>
#include <math.h>

#include "runtime/base/size.h"
#include "runtime/model/graph.h"

/* What a shape function sees: the node with its inputs' shapes; out arrives as a copy of the first
 * input's. */
typedef struct op_context {
    const rq_graph *graph;
    const rq_node *node;
    int index;
    const rq_shape *inputs[RQ_MAX_INPUTS];
    rq_error *err;
} op_context;

typedef rq_status shape_function(const op_context *context, rq_shape *out);

typedef struct slot_rule {
    bool allowed, required;
    rq_dtype dtype;
    int rank;
} slot_rule;

typedef struct op_rule {
    int min_inputs, max_inputs;
    rq_dtype in, out;
    shape_function *shape; /* NULL: the shape of the first input */
    slot_rule slots[RQ_N_SLOTS];
} op_rule;

/* ---- pieces of rules ---- */

/* Dimension i of the parameter in a slot must be want; an absent parameter is fine here. */
static rq_status check_dim(const op_context *context, rq_slot slot, int i, int64_t want)
{
    const rq_tensor *tensor = rq_graph_tensor(context->graph, context->index, slot);
    if (!tensor || tensor->dim[i] == want)
        return RQ_OK;
    return rq_fail(context->err, RQ_ERR_MODEL, "%s: %s has %lld in dimension %d, it must have %lld",
                   context->node->name, rq_slot_name(slot), (long long)tensor->dim[i], i,
                   (long long)want);
}

/* The parameters in these slots hold one number for each of n channels. */
static rq_status check_vectors(const op_context *context, const rq_slot *slots, size_t n_slots,
                               int64_t n)
{
    for (size_t i = 0; i < n_slots; i++)
        RQ_TRY(check_dim(context, slots[i], 0, n));
    return RQ_OK;
}

#define CHECK_VECTORS(context, n, ...)                                                             \
    check_vectors((context), (const rq_slot[]){__VA_ARGS__},                                       \
                  sizeof((const rq_slot[]){__VA_ARGS__}) / sizeof(rq_slot), (n))

static rq_status check_attribute(const op_context *context, const char *what, int value, int min)
{
    if (value >= min && value <= RQ_MAX_SIDE)
        return RQ_OK;
    return rq_fail(context->err, RQ_ERR_MODEL, "%s: %s %d is not in %d..%d", context->node->name,
                   what, value, min, RQ_MAX_SIDE);
}

static rq_status check_geometry(const op_context *context)
{
    const rq_conv_attr *conv = &context->node->conv;
    for (int i = 0; i < 2; i++) {
        RQ_TRY(check_attribute(context, "kernel", conv->kernel[i], 1));
        RQ_TRY(check_attribute(context, "stride", conv->stride[i], 1));
        RQ_TRY(check_attribute(context, "padding", conv->pad[i], 0));
        RQ_TRY(check_attribute(context, "dilation", conv->dilation[i], 1));
    }
    return RQ_OK;
}

/* ---- shape functions ---- */

static rq_status shape_input(const op_context *context, rq_shape *out)
{
    (void)out; /* filled by rq_graph_shapes */
    if (context->index != 0)
        return rq_fail(context->err, RQ_ERR_MODEL, "%s: only the first node can be the input",
                       context->node->name);
    return RQ_OK;
}

/* Channels and parameters of conv and qconv: weight [OC, IC/G, KH, KW]. */
static rq_status check_conv_channels(const op_context *context, int64_t ic, int64_t *oc)
{
    const rq_node *node = context->node;
    const int groups = node->conv.groups;
    *oc = rq_graph_tensor(context->graph, context->index, RQ_SLOT_WEIGHT)->dim[0];
    if (groups < 1 || ic % groups != 0 || *oc % groups != 0)
        return rq_fail(context->err, RQ_ERR_MODEL,
                       "%s: %d groups do not divide %lld input and %lld output channels",
                       node->name, groups, (long long)ic, (long long)*oc);
    RQ_TRY(check_dim(context, RQ_SLOT_WEIGHT, 1, ic / groups));
    for (int i = 0; i < 2; i++)
        RQ_TRY(check_dim(context, RQ_SLOT_WEIGHT, 2 + i, node->conv.kernel[i]));
    return RQ_OK;
}

/* The sides that a window of the node's geometry gives. */
static rq_status slide_window(const op_context *context, rq_shape *out)
{
    const rq_conv_attr *conv = &context->node->conv;
    int64_t *sides[2] = {&out->h, &out->w};
    for (int i = 0; i < 2; i++) {
        const int64_t reach = (int64_t)conv->dilation[i] * (conv->kernel[i] - 1) + 1;
        const int64_t padded = *sides[i] + 2 * (int64_t)conv->pad[i];
        if (padded < reach)
            return rq_fail(context->err, RQ_ERR_MODEL,
                           "%s: the kernel reaches over %lld pixels, the padded input has %lld",
                           context->node->name, (long long)reach, (long long)padded);
        *sides[i] = (padded - reach) / conv->stride[i] + 1;
    }
    return RQ_OK;
}

static rq_status shape_conv(const op_context *context, rq_shape *out)
{
    int64_t oc = 0;
    RQ_TRY(check_geometry(context));
    RQ_TRY(check_conv_channels(context, out->c, &oc));
    RQ_TRY(CHECK_VECTORS(context, oc, RQ_SLOT_BIAS, RQ_SLOT_WEIGHT_SCALE, RQ_SLOT_MULTIPLIER,
                         RQ_SLOT_ACC_MAX));
    RQ_TRY(slide_window(context, out));
    out->c = oc;
    return RQ_OK;
}

static rq_status shape_qconv(const op_context *context, rq_shape *out)
{
    const bool pixels = context->node->input[0] == 0;
    const bool has_zero_point = context->node->slot[RQ_SLOT_ZERO_POINT] >= 0;
    if (pixels != has_zero_point)
        return rq_fail(context->err, RQ_ERR_MODEL,
                       "%s: zero_point belongs to a qconv that reads the input, and only there",
                       context->node->name);
    RQ_TRY(check_dim(context, RQ_SLOT_ZERO_POINT, 0, out->c));
    RQ_TRY(check_dim(context, RQ_SLOT_ACC_MAX, 1, 2));
    return shape_conv(context, out);
}

static rq_status shape_batch_norm(const op_context *context, rq_shape *out)
{
    const float eps = context->node->eps;
    if (!(eps > 0.0f) || !isfinite(eps))
        return rq_fail(context->err, RQ_ERR_MODEL, "%s: eps %g must be positive and finite",
                       context->node->name, (double)eps);
    return CHECK_VECTORS(context, out->c, RQ_SLOT_WEIGHT, RQ_SLOT_BIAS, RQ_SLOT_MEAN, RQ_SLOT_VAR);
}

static rq_status shape_add(const op_context *context, rq_shape *out)
{
    for (int i = 1; i < context->node->n_inputs; i++) {
        const rq_shape *other = context->inputs[i];
        if (other->h != out->h || other->w != out->w || other->c != out->c)
            return rq_fail(context->err, RQ_ERR_MODEL,
                           "%s: input %d is %lldx%lldx%lld (HxWxC), input 0 is %lldx%lldx%lld",
                           context->node->name, i, (long long)other->h, (long long)other->w,
                           (long long)other->c, (long long)out->h, (long long)out->w,
                           (long long)out->c);
    }
    return RQ_OK;
}

static rq_status shape_scale(const op_context *context, rq_shape *out)
{
    return CHECK_VECTORS(context, out->c, RQ_SLOT_WEIGHT);
}

static rq_status shape_window_pool(const op_context *context, rq_shape *out)
{
    const rq_conv_attr *conv = &context->node->conv;
    RQ_TRY(check_geometry(context));
    if (conv->groups != 1 || conv->dilation[0] != 1 || conv->dilation[1] != 1 ||
        conv->pad[0] >= conv->kernel[0] || conv->pad[1] >= conv->kernel[1])
        return rq_fail(context->err, RQ_ERR_MODEL,
                       "%s: a pooling window has no groups, no dilation, and less padding than "
                       "its size",
                       context->node->name);
    return slide_window(context, out);
}

static rq_status shape_mul(const op_context *context, rq_shape *out)
{
    const rq_shape *gate = context->inputs[1];
    if (gate->h == 1 && gate->w == 1 && gate->c == out->c)
        return RQ_OK;
    return rq_fail(context->err, RQ_ERR_MODEL,
                   "%s: the gate is %lldx%lldx%lld (HxWxC), it must be 1x1x%lld",
                   context->node->name, (long long)gate->h, (long long)gate->w, (long long)gate->c,
                   (long long)out->c);
}

static rq_status shape_pool(const op_context *context, rq_shape *out)
{
    (void)context;
    out->h = out->w = 1;
    return RQ_OK;
}

/* Scales and zero points of the input and of the output. */
static rq_status shape_qpool(const op_context *context, rq_shape *out)
{
    RQ_TRY(CHECK_VECTORS(context, 2, RQ_SLOT_SCALE, RQ_SLOT_ZERO_POINT));
    return shape_pool(context, out);
}

static rq_status shape_qmul(const op_context *context, rq_shape *out)
{
    RQ_TRY(CHECK_VECTORS(context, 2, RQ_SLOT_SCALE, RQ_SLOT_ZERO_POINT));
    return shape_mul(context, out);
}

static rq_status shape_linear(const op_context *context, rq_shape *out)
{
    if (out->h != 1 || out->w != 1)
        return rq_fail(context->err, RQ_ERR_MODEL,
                       "%s: the input is %lldx%lld pixels, a linear layer takes 1x1",
                       context->node->name, (long long)out->h, (long long)out->w);
    const int64_t ic = out->c;
    out->c = rq_graph_tensor(context->graph, context->index, RQ_SLOT_WEIGHT)->dim[0];
    RQ_TRY(check_dim(context, RQ_SLOT_WEIGHT, 1, ic));
    RQ_TRY(CHECK_VECTORS(context, out->c, RQ_SLOT_BIAS, RQ_SLOT_WEIGHT_SCALE, RQ_SLOT_MULTIPLIER,
                         RQ_SLOT_ACC_MAX));
    return check_dim(context, RQ_SLOT_ACC_MAX, 1, 2);
}

static rq_status shape_one_scale(const op_context *context, rq_shape *out)
{
    (void)out;
    return CHECK_VECTORS(context, 1, RQ_SLOT_SCALE, RQ_SLOT_ZERO_POINT, RQ_SLOT_MIN, RQ_SLOT_MAX);
}

static rq_status shape_fake_quant(const op_context *context, rq_shape *out)
{
    const rq_op input = rq_graph_producer(context->graph, context->index, 0)->op;
    if (context->node->slot[RQ_SLOT_ZERO_POINT] >= 0 &&
        (input == RQ_OP_RELU || input == RQ_OP_SIGMOID))
        return rq_fail(context->err, RQ_ERR_MODEL,
                       "%s: zero_point after %s, whose values are never negative",
                       context->node->name, rq_op_name(input));
    return shape_one_scale(context, out);
}

/* ---- the rows ---- */

#define REQUIRED(slot, dtype, rank) [RQ_SLOT_##slot] = {true, true, (dtype), (rank)}
#define OPTIONAL(slot, dtype, rank) [RQ_SLOT_##slot] = {true, false, (dtype), (rank)}
#define NO_PARAMS                                                                                  \
    {                                                                                              \
        false, false, RQ_F32, 0                                                                    \
    }

/* operator, fewest and most inputs, their type and the value's, shape, parameters */
#define RULE(name, fewest, most, takes, gives, function, ...)                                      \
    static const op_rule rule_##name = {.min_inputs = (fewest),                                    \
                                        .max_inputs = (most),                                      \
                                        .in = (takes),                                             \
                                        .out = (gives),                                            \
                                        .shape = (function),                                       \
                                        .slots = {__VA_ARGS__}}

RULE(input, 0, 0, RQ_F32, RQ_F32, shape_input, NO_PARAMS);
RULE(conv, 1, 1, RQ_F32, RQ_F32, shape_conv, REQUIRED(WEIGHT, RQ_F32, 4), OPTIONAL(BIAS, RQ_F32, 1),
     OPTIONAL(WEIGHT_SCALE, RQ_F32, 1));
RULE(batch_norm, 1, 1, RQ_F32, RQ_F32, shape_batch_norm, REQUIRED(WEIGHT, RQ_F32, 1),
     REQUIRED(BIAS, RQ_F32, 1), REQUIRED(MEAN, RQ_F32, 1), REQUIRED(VAR, RQ_F32, 1),
     OPTIONAL(TRACKED, RQ_S64, 0));
RULE(add, 2, RQ_MAX_INPUTS, RQ_F32, RQ_F32, shape_add, NO_PARAMS);
RULE(relu, 1, 1, RQ_F32, RQ_F32, NULL, NO_PARAMS);
RULE(scale, 1, 1, RQ_F32, RQ_F32, shape_scale, REQUIRED(WEIGHT, RQ_F32, 1));
RULE(avg_pool, 1, 1, RQ_F32, RQ_F32, shape_window_pool, NO_PARAMS);
RULE(max_pool, 1, 1, RQ_F32, RQ_F32, shape_window_pool, NO_PARAMS);
RULE(sigmoid, 1, 1, RQ_F32, RQ_F32, NULL, NO_PARAMS);
RULE(mul, 2, 2, RQ_F32, RQ_F32, shape_mul, NO_PARAMS);
RULE(global_avg_pool, 1, 1, RQ_F32, RQ_F32, shape_pool, NO_PARAMS);
RULE(linear, 1, 1, RQ_F32, RQ_F32, shape_linear, REQUIRED(WEIGHT, RQ_F32, 2),
     REQUIRED(BIAS, RQ_F32, 1), OPTIONAL(WEIGHT_SCALE, RQ_F32, 1));
RULE(fake_quant, 1, 1, RQ_F32, RQ_F32, shape_fake_quant, REQUIRED(SCALE, RQ_F32, 1),
     REQUIRED(MIN, RQ_F32, 1), REQUIRED(MAX, RQ_F32, 1), OPTIONAL(ZERO_POINT, RQ_U8, 1));
RULE(quantize, 1, 1, RQ_F32, RQ_U8, shape_one_scale, REQUIRED(SCALE, RQ_F32, 1),
     OPTIONAL(ZERO_POINT, RQ_U8, 1));
RULE(dequantize, 1, 1, RQ_U8, RQ_F32, shape_one_scale, REQUIRED(SCALE, RQ_F32, 1),
     OPTIONAL(ZERO_POINT, RQ_U8, 1));
RULE(qconv, 1, 1, RQ_U8, RQ_U8, shape_qconv, REQUIRED(WEIGHT, RQ_S8, 4), REQUIRED(BIAS, RQ_S32, 1),
     REQUIRED(MULTIPLIER, RQ_F32, 1), REQUIRED(ACC_MAX, RQ_S64, 2), OPTIONAL(ZERO_POINT, RQ_U8, 1));
RULE(qmax_pool, 1, 1, RQ_U8, RQ_U8, shape_window_pool, NO_PARAMS);
RULE(qglobal_avg_pool, 1, 1, RQ_U8, RQ_U8, shape_qpool, REQUIRED(SCALE, RQ_F32, 1),
     OPTIONAL(ZERO_POINT, RQ_U8, 1));
RULE(qsigmoid, 1, 1, RQ_F32, RQ_U8, NULL, NO_PARAMS);
RULE(qmul, 2, 2, RQ_U8, RQ_U8, shape_qmul, REQUIRED(SCALE, RQ_F32, 1),
     OPTIONAL(ZERO_POINT, RQ_U8, 1));
RULE(qlinear, 1, 1, RQ_U8, RQ_F32, shape_linear, REQUIRED(WEIGHT, RQ_S8, 2),
     REQUIRED(BIAS, RQ_S32, 1), REQUIRED(MULTIPLIER, RQ_F32, 1), REQUIRED(ACC_MAX, RQ_S64, 2));

enum op_kind { OWN, PLAIN, INTEGER, TWIN };

static const struct {
    const char *name;
    enum op_kind kind;
    const op_rule *rule;
} op_table[RQ_N_OPS] = {
#define X(code, name, kind) [RQ_OP_##code] = {#name, kind, &rule_##name},
    RQ_OP_LIST(X)
#undef X
};

const char *rq_op_name(rq_op op)
{
    return op_table[op].name;
}

bool rq_op_is_integer(rq_op op)
{
    return op_table[op].kind == INTEGER || op_table[op].kind == TWIN;
}

bool rq_op_has_window(rq_op op)
{
    const op_rule *rule = op_table[op].rule;
    return rule->shape == shape_conv || rule->shape == shape_qconv ||
           rule->shape == shape_window_pool;
}

/* ---- the checks that all operators share ---- */

static rq_status check_inputs(const op_context *context, const op_rule *rule,
                              const rq_shape *shapes)
{
    const rq_node *node = context->node;
    if (node->n_inputs < rule->min_inputs || node->n_inputs > rule->max_inputs)
        return rq_fail(context->err, RQ_ERR_MODEL, "%s: %s takes %d to %d inputs, this has %d",
                       node->name, rq_op_name(node->op), rule->min_inputs, rule->max_inputs,
                       node->n_inputs);
    for (int i = 0; i < node->n_inputs; i++) {
        if (node->input[i] < 0 || node->input[i] >= context->index)
            return rq_fail(context->err, RQ_ERR_MODEL, "%s: input %d is not an earlier node",
                           node->name, i);
        const bool pixels = node->op == RQ_OP_QCONV && node->input[i] == 0;
        const rq_dtype have = shapes[node->input[i]].dtype;
        if (have != rule->in && !pixels)
            return rq_fail(context->err, RQ_ERR_MODEL, "%s: %s takes %s, %s gives %s", node->name,
                           rq_op_name(node->op), rq_dtype_name(rule->in),
                           rq_graph_producer(context->graph, context->index, i)->name,
                           rq_dtype_name(have));
    }
    return RQ_OK;
}

static rq_status check_slot(const op_context *context, const op_rule *rule, rq_slot slot)
{
    const rq_node *node = context->node;
    const slot_rule *expected = &rule->slots[slot];
    const int param = node->slot[slot];
    if (param < 0)
        return expected->required ? rq_fail(context->err, RQ_ERR_MODEL, "%s: %s is missing",
                                            node->name, rq_slot_name(slot))
                                  : RQ_OK;
    if (!expected->allowed)
        return rq_fail(context->err, RQ_ERR_MODEL, "%s: %s has no %s", node->name,
                       rq_op_name(node->op), rq_slot_name(slot));
    if (param >= context->graph->n_params)
        return rq_fail(context->err, RQ_ERR_MODEL, "%s: %s is parameter %d of %d", node->name,
                       rq_slot_name(slot), param, context->graph->n_params);
    const rq_tensor *tensor = &context->graph->params[param].tensor;
    if (tensor->dtype != expected->dtype)
        return rq_fail(context->err, RQ_ERR_MODEL, "%s: %s is %s, it must be %s", node->name,
                       rq_slot_name(slot), rq_dtype_name(tensor->dtype),
                       rq_dtype_name(expected->dtype));
    if (tensor->rank != expected->rank)
        return rq_fail(context->err, RQ_ERR_MODEL, "%s: %s has %d dimensions, it must have %d",
                       node->name, rq_slot_name(slot), tensor->rank, expected->rank);
    return RQ_OK;
}

static rq_status check_limits(const op_context *context, const rq_shape *shape)
{
    const int64_t image[3] = {shape->h, shape->w, shape->c};
    size_t elems = 0, total = 0;
    if (shape->n < 1 || shape->h < 1 || shape->w < 1 || shape->c < 1 || shape->h > RQ_MAX_SIDE ||
        shape->w > RQ_MAX_SIDE || shape->c > RQ_MAX_CHANNELS || !rq_dims_elems(image, 3, &elems) ||
        elems > RQ_MAX_IMAGE_ELEMS || !rq_mul_size(elems, (size_t)shape->n, &total) ||
        total > PTRDIFF_MAX / sizeof(double))
        return rq_fail(context->err, RQ_ERR_MODEL,
                       "%s: the value %lldx%lldx%lldx%lld (NxHxWxC) is empty or beyond the limits",
                       context->node->name, (long long)shape->n, (long long)shape->h,
                       (long long)shape->w, (long long)shape->c);
    return RQ_OK;
}

static rq_status node_shape(const op_context *context, const rq_shape *shapes, rq_shape *out)
{
    const op_rule *rule = op_table[context->node->op].rule;
    RQ_TRY(check_inputs(context, rule, shapes));
    for (int slot = 0; slot < RQ_N_SLOTS; slot++)
        RQ_TRY(check_slot(context, rule, (rq_slot)slot));
    op_context with_inputs = *context;
    for (int i = 0; i < context->node->n_inputs; i++)
        with_inputs.inputs[i] = &shapes[context->node->input[i]];
    if (context->node->n_inputs > 0)
        *out = *with_inputs.inputs[0];
    out->dtype = rule->out;
    if (rule->shape)
        RQ_TRY(rule->shape(&with_inputs, out));
    return check_limits(context, out);
}

rq_status rq_graph_shapes(const rq_graph *graph, int64_t n, int64_t h, int64_t w, rq_shape *shapes,
                          rq_error *err)
{
    if (graph->n_nodes == 0 || graph->nodes[0].op != RQ_OP_INPUT)
        return rq_fail(err, RQ_ERR_MODEL, "the graph's first node must be its input");
    shapes[0] = (rq_shape){n, h, w, 3, RQ_F32};
    for (int i = 0; i < graph->n_nodes; i++) {
        assert(graph->nodes[i].op < RQ_N_OPS);
        const op_context context = {
            .graph = graph, .node = &graph->nodes[i], .index = i, .err = err};
        RQ_TRY(node_shape(&context, shapes, &shapes[i]));
    }
    return RQ_OK;
}
