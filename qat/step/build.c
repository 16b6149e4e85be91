/* One walk over the graph: which elementwise operators merge, and the unit of each operator. */
#include "qat/step/build.h"

#include "qat/step/convolution.h"
#include "qat/step/eltwise.h"
#include "qat/step/gates.h"
#include "qat/step/plain.h"
#include "qat/step/step.h"
#include "runtime/model/gate.h"

/* ---- merging: an elementwise node goes into its only reader when that can take it ---- */

static bool has_bias(const rq_graph *graph, int node)
{
    const rq_op op = graph->nodes[node].op;
    return (op == RQ_OP_CONV || op == RQ_OP_LINEAR) && graph->nodes[node].slot[RQ_SLOT_BIAS] >= 0;
}

/* What one unit may compute, each part optional:
 *
 *   fake_quant( relu( sum of batch norms, scales, biases, values ) )
 *   fake_quant( relu( product ) )
 *   fake_quant( sigmoid ) */
static bool absorbs(const rq_graph *graph, int reader, int node)
{
    const rq_op op = graph->nodes[node].op;
    const bool term = op == RQ_OP_BATCH_NORM || op == RQ_OP_SCALE || has_bias(graph, node);
    switch (graph->nodes[reader].op) {
    case RQ_OP_FAKE_QUANT:
        return op == RQ_OP_RELU || op == RQ_OP_ADD || op == RQ_OP_MUL || op == RQ_OP_SIGMOID ||
               term;
    case RQ_OP_RELU:
        return op == RQ_OP_ADD || op == RQ_OP_MUL || term;
    case RQ_OP_ADD:
        return term;
    default:
        return false;
    }
}

static bool is_absorbed(const rq_trainer *trainer, int node)
{
    const rq_graph *graph = &trainer->model->graph;
    const int reader = rq_graph_only_reader(graph, node);
    return reader >= 0 && absorbs(graph, reader, node);
}

/* ---- units and their sources ---- */

/* A unit for a node, with a new value for its result. */
static rq_status new_unit(tr_unit **out, rq_trainer *trainer, int node, tr_value **dst,
                          rq_error *err)
{
    RQ_TRY(tr_value_create(dst, trainer, node, err));
    *out = &trainer->units[trainer->n_units++];
    **out = (tr_unit){.node = node, .dst = *dst};
    return RQ_OK;
}

static rq_status add_source(tr_unit *unit, tr_value *value, rq_error *err)
{
    if (value->n_readers == TR_MAX_READERS)
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "a value is read by more than %d operators",
                       TR_MAX_READERS);
    unit->src[unit->n_src++] = value;
    value->n_readers++;
    return RQ_OK;
}

/* The source of a unit that takes one scale for all channels. */
static rq_status add_scaled_source(tr_unit *unit, tr_value *value, rq_error *err)
{
    if (value->channel_scale)
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "reads a quantized convolution's bare sums");
    return add_source(unit, value, err);
}

static tr_value *input_value(const rq_trainer *trainer, int node, int k)
{
    return trainer->values[trainer->model->graph.nodes[node].input[k]];
}

/* ---- the terms of an eltwise ---- */

static float *f32_slot(const rq_graph *graph, int node, rq_slot slot)
{
    const rq_tensor *tensor = rq_graph_tensor(graph, node, slot);
    return tensor ? rq_tensor_f32(tensor) : NULL;
}

static float *gradient_slot(const rq_trainer *trainer, int node, rq_slot slot)
{
    return trainer->gradients[trainer->model->graph.nodes[node].slot[slot]];
}

static rq_status add_bn_term(const rq_trainer *trainer, tr_unit *unit, tr_term *term, int node,
                             rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    const rq_tensor *tracked = rq_graph_tensor(graph, node, RQ_SLOT_TRACKED);
    tr_value *src = input_value(trainer, node, 0);
    term->kind = TR_TERM_BN;
    term->gamma = f32_slot(graph, node, RQ_SLOT_WEIGHT);
    term->beta = f32_slot(graph, node, RQ_SLOT_BIAS);
    term->mean = f32_slot(graph, node, RQ_SLOT_MEAN);
    term->var = f32_slot(graph, node, RQ_SLOT_VAR);
    term->dgamma = gradient_slot(trainer, node, RQ_SLOT_WEIGHT);
    term->dbeta = gradient_slot(trainer, node, RQ_SLOT_BIAS);
    term->eps = (double)graph->nodes[node].eps;
    term->frozen = trainer->options.frozen_nodes && trainer->options.frozen_nodes[node];
    term->tracked = tracked ? tracked->data : NULL;
    if (src->quantized_conv)
        src->quantized_conv->dgamma = term->dgamma;
    return add_source(unit, src, err);
}

/* A term for a node: absorbed (or own) batch norm, scale or bias, or the node's value as it is. */
static rq_status add_term(rq_trainer *trainer, tr_unit *unit, int node, bool own, tr_value **raw,
                          rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    const rq_op op = graph->nodes[node].op;
    tr_term *term = &unit->eltwise->terms[unit->eltwise->n_terms++];
    const bool merged = own || is_absorbed(trainer, node);
    if (merged && op == RQ_OP_BATCH_NORM)
        return add_bn_term(trainer, unit, term, node, err);
    if (merged && op == RQ_OP_SCALE) {
        term->kind = TR_TERM_SCALE;
        term->gamma = f32_slot(graph, node, RQ_SLOT_WEIGHT);
        term->dgamma = gradient_slot(trainer, node, RQ_SLOT_WEIGHT);
        return add_source(unit, input_value(trainer, node, 0), err);
    }
    if (merged && has_bias(graph, node)) {
        term->kind = TR_TERM_BIAS;
        term->beta = f32_slot(graph, node, RQ_SLOT_BIAS);
        term->dbeta = gradient_slot(trainer, node, RQ_SLOT_BIAS);
        return add_source(unit, raw[node], err);
    }
    term->kind = TR_TERM_PLAIN;
    return add_source(unit, trainer->values[node], err);
}

/* ---- elementwise units ---- */

/* An elementwise unit from its last node back: act, and the node that act is of. */
typedef struct chain {
    tr_act act;
    int core;
    bool own; /* core is part of the unit */
} chain;

static chain follow_chain(const rq_trainer *trainer, int root)
{
    const rq_graph *graph = &trainer->model->graph;
    chain c = {.core = root, .own = true};
    if (graph->nodes[c.core].op == RQ_OP_FAKE_QUANT) {
        tr_act_quantize(&c.act, graph, c.core);
        c.core = graph->nodes[c.core].input[0];
        c.own = is_absorbed(trainer, c.core);
    }
    if (c.own && graph->nodes[c.core].op == RQ_OP_RELU) {
        c.act.relu = true;
        c.core = graph->nodes[c.core].input[0];
        c.own = is_absorbed(trainer, c.core);
    }
    return c;
}

static rq_status add_eltwise(rq_trainer *trainer, const chain *c, tr_unit *unit, tr_value **raw,
                             rq_error *err)
{
    const rq_node *core = &trainer->model->graph.nodes[c->core];
    unit->eltwise = rq_arena_array(&trainer->arena, tr_eltwise, 1);
    if (!unit->eltwise)
        return rq_no_memory(err);
    unit->eltwise->act = c->act;
    if (!c->own || core->op != RQ_OP_ADD)
        RQ_TRY(add_term(trainer, unit, c->core, c->own, raw, err));
    else
        for (int k = 0; k < core->n_inputs; k++)
            RQ_TRY(add_term(trainer, unit, core->input[k], false, raw, err));
    return tr_eltwise_create(trainer, unit, err);
}

static rq_status add_product(rq_trainer *trainer, const chain *c, tr_unit *unit, rq_error *err)
{
    unit->product = rq_arena_array(&trainer->arena, tr_product, 1);
    if (!unit->product)
        return rq_no_memory(err);
    unit->product->act = c->act;
    for (int k = 0; k < 2; k++)
        RQ_TRY(add_scaled_source(unit, input_value(trainer, c->core, k), err));
    return tr_product_create(trainer, unit, err);
}

static rq_status add_sigmoid(rq_trainer *trainer, const chain *c, tr_unit *unit, rq_error *err)
{
    RQ_TRY(add_scaled_source(unit, input_value(trainer, c->core, 0), err));
    if (c->act.quantize)
        RQ_TRY(rq_gate_check(&trainer->model->graph, unit->node, err));
    tr_sigmoid_init(unit, c->act.quantize);
    return RQ_OK;
}

/* The unit of an elementwise operator that no other absorbs. */
static rq_status add_elementwise(rq_trainer *trainer, int root, tr_value **raw, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    const chain c = follow_chain(trainer, root);
    const rq_op core = graph->nodes[c.core].op;
    tr_unit *unit;
    if (rq_is_gate(graph, root) && !c.own)
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "%s is read by others than its fake_quant",
                       graph->nodes[c.core].name);
    RQ_TRY(new_unit(&unit, trainer, root, &trainer->values[root], err));
    unit->dst->quantized = c.act.quantize;
    unit->dst->is_u8 = c.act.quantize && !c.act.zero_point && core != RQ_OP_SIGMOID;
    if (c.own && core == RQ_OP_MUL)
        return add_product(trainer, &c, unit, err);
    if (c.own && core == RQ_OP_SIGMOID)
        return add_sigmoid(trainer, &c, unit, err);
    return add_eltwise(trainer, &c, unit, raw, err);
}

/* ---- convolutions ---- */

/* The raw sums of a convolution, before any bias. */
static rq_status add_convolution(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    tr_unit *unit;
    RQ_TRY(new_unit(&unit, trainer, node, raw, err));
    unit->conv = rq_arena_array(&trainer->arena, tr_conv, 1);
    if (!unit->conv)
        return rq_no_memory(err);
    RQ_TRY(add_scaled_source(unit, input_value(trainer, node, 0), err));
    return tr_conv_create(trainer, unit, node, err);
}

/* ---- one row per operator ---- */

typedef rq_status gradient_row(rq_trainer *trainer, int node, tr_value **raw, rq_error *err);

static rq_status row_input(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    (void)raw;
    const rq_graph *graph = &trainer->model->graph;
    bool quantized = false, real = false;
    for (int i = 0; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_inputs; k++)
            if (graph->nodes[i].input[k] == node)
                *(graph->nodes[i].slot[RQ_SLOT_WEIGHT_SCALE] >= 0 ? &quantized : &real) = true;
    if (quantized && real)
        return rq_fail(err, RQ_ERR_UNSUPPORTED,
                       "the image is read by a quantized and by a float operator");
    tr_input_init(trainer, quantized);
    RQ_TRY(tr_value_create(&trainer->values[node], trainer, node, err));
    trainer->values[node]->needs_gradient = false;
    return RQ_OK;
}

static rq_status row_convolution(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    if (!has_bias(&trainer->model->graph, node))
        return add_convolution(trainer, node, &trainer->values[node], err);
    RQ_TRY(add_convolution(trainer, node, &raw[node], err));
    return is_absorbed(trainer, node) ? RQ_OK : add_elementwise(trainer, node, raw, err);
}

static rq_status row_elementwise(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    return is_absorbed(trainer, node) ? RQ_OK : add_elementwise(trainer, node, raw, err);
}

/* A unit of one source and a value of its own. */
static rq_status add_unary(rq_trainer *trainer, int node, tr_unit **out, rq_error *err)
{
    RQ_TRY(new_unit(out, trainer, node, &trainer->values[node], err));
    return add_scaled_source(*out, input_value(trainer, node, 0), err);
}

static rq_status row_global_avg_pool(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    (void)raw;
    tr_unit *unit;
    RQ_TRY(add_unary(trainer, node, &unit, err));
    tr_pool_init(unit);
    return RQ_OK;
}

static rq_status row_plain(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    (void)raw;
    tr_unit *unit;
    RQ_TRY(add_unary(trainer, node, &unit, err));
    tr_plain_init(trainer, unit);
    return RQ_OK;
}

static rq_status row_none(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    (void)raw;
    return rq_fail(err, RQ_ERR_UNSUPPORTED, "%s has no gradient: an integer model is not trained",
                   rq_op_name(trainer->model->graph.nodes[node].op));
}

/* operators that share a row */
#define row_conv       row_convolution
#define row_linear     row_convolution
#define row_batch_norm row_elementwise
#define row_add        row_elementwise
#define row_relu       row_elementwise
#define row_fake_quant row_elementwise
#define row_scale      row_elementwise
#define row_sigmoid    row_elementwise
#define row_mul        row_elementwise

#define ROW_OWN(name)     row_##name
#define ROW_PLAIN(name)   row_plain
#define ROW_INTEGER(name) row_none
#define ROW_TWIN(name)    row_none

static gradient_row *const gradient_rows[RQ_N_OPS] = {
#define X(code, name, kind) [RQ_OP_##code] = ROW_##kind(name),
    RQ_OP_LIST(X)
#undef X
};

/* ---- the walk ---- */

/* A value without reader would have no gradient. Form train may have auxiliary outputs, [N,
 * classes], which the loss reads. */
static rq_status check_all_read(const rq_trainer *trainer, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    if (graph->n_nodes == 1)
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "%s: there is no operator to train",
                       graph->nodes[0].name);
    for (int i = 0; i < graph->n_nodes; i++) {
        const rq_shape *shape = &trainer->shapes[i];
        if (i < graph->n_nodes - 1 && rq_graph_is_output(graph, i) &&
            (trainer->model->form != RQ_FORM_TRAIN || shape->h != 1 || shape->w != 1 ||
             shape->c != trainer->model->n_classes))
            return rq_fail(
                err, RQ_ERR_UNSUPPORTED,
                "%s: nothing reads its value, and it is no auxiliary output (1x1x%d, form "
                "train)",
                graph->nodes[i].name, trainer->model->n_classes);
    }
    return RQ_OK;
}

/* What the loss reads; the model's output is the last. */
static void find_outputs(rq_trainer *trainer)
{
    const int n_nodes = trainer->model->graph.n_nodes;
    for (int i = 0; i < n_nodes; i++)
        if (rq_graph_is_output(&trainer->model->graph, i))
            trainer->outputs[trainer->n_outputs++] = trainer->values[i];
}

rq_status tr_build_units(rq_trainer *trainer, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    const rq_trainer_options *options = &trainer->options;
    RQ_TRY(rq_graph_shapes(graph, options->batch, options->height, options->width, trainer->shapes,
                           err));
    RQ_TRY(check_all_read(trainer, err));
    /* sums of convolutions with bias, by node */
    tr_value **raw = rq_arena_array(&trainer->arena, tr_value *, graph->n_nodes);
    if (!raw)
        return rq_no_memory(err);
    for (int i = 0; i < graph->n_nodes; i++) {
        const rq_status status = gradient_rows[graph->nodes[i].op](trainer, i, raw, err);
        if (status) {
            rq_error_prefix(err, "%s", graph->nodes[i].name);
            return status;
        }
    }
    find_outputs(trainer);
    return RQ_OK;
}
