/* From a graph to units: which elementwise operators merge into which mix. */
#include "qat/units.h"

/* ---- merging: an elementwise node goes into its only reader when that can take it ---- */

static bool has_bias(const rq_graph *graph, int node)
{
    const rq_op op = graph->nodes[node].op;
    return (op == RQ_OP_CONV || op == RQ_OP_LINEAR) && graph->nodes[node].slot[RQ_SLOT_BIAS] >= 0;
}

/* fake_quant( relu( sum of batch norms, biases, values ) ), each part optional. */
static bool absorbs(const rq_graph *graph, int reader, int node)
{
    const rq_op op = graph->nodes[node].op;
    const bool term = op == RQ_OP_BATCH_NORM || has_bias(graph, node);
    switch (graph->nodes[reader].op) {
    case RQ_OP_FAKE_QUANT:
        return op == RQ_OP_RELU || op == RQ_OP_ADD || term;
    case RQ_OP_RELU:
        return op == RQ_OP_ADD || term;
    case RQ_OP_ADD:
        return term;
    default:
        return false;
    }
}

static int only_reader(const rq_trainer *trainer, int node)
{
    const rq_graph *graph = &trainer->model->graph;
    if (trainer->users[node] != 1)
        return -1;
    for (int i = node + 1; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_inputs; k++)
            if (graph->nodes[i].input[k] == node)
                return i;
    return -1;
}

static bool is_absorbed(const rq_trainer *trainer, int node)
{
    const int reader = only_reader(trainer, node);
    return reader >= 0 && absorbs(&trainer->model->graph, reader, node);
}

/* ---- values and units ---- */

static rq_status new_value(rq_trainer *trainer, int node, tr_value **out, rq_error *err)
{
    void *value = NULL, *data = NULL;
    const rq_shape *shape = &trainer->shapes[node];
    rq_status status = rq_arena_array(&trainer->arena, &value, 1, sizeof(tr_value), err);
    if (status == RQ_OK)
        status = rq_arena_array(&trainer->arena, &data, rq_shape_elems(shape), sizeof(float), err);
    if (status != RQ_OK)
        return status;
    *out = value;
    **out = (tr_value){.shape = *shape, .data = data, .scale = 1.0f, .needs_gradient = true};
    return RQ_OK;
}

static rq_status new_unit(rq_trainer *trainer, int node, tr_value *dst, tr_unit **out,
                          rq_error *err)
{
    *out = &trainer->units[trainer->n_units];
    **out = (tr_unit){.node = node, .dst = dst};
    void *conv = NULL, *mix = NULL;
    rq_status status = rq_arena_array(&trainer->arena, &conv, 1, sizeof(conv_unit), err);
    if (status == RQ_OK)
        status = rq_arena_array(&trainer->arena, &mix, 1, sizeof(mix_unit), err);
    (*out)->conv = conv;
    (*out)->mix = mix;
    trainer->n_units += status == RQ_OK;
    return status;
}

static rq_status add_source(tr_unit *unit, tr_value *value, rq_error *err)
{
    if (value->n_readers == RQ_MAX_READERS)
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "a value is read by more than %d operators",
                       RQ_MAX_READERS);
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

/* The raw sums of a convolution, before any bias. */
static rq_status add_convolution(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    tr_value *src = trainer->values[trainer->model->graph.nodes[node].input[0]];
    tr_unit *unit;
    rq_status status = new_value(trainer, node, raw, err);
    if (status == RQ_OK)
        status = new_unit(trainer, node, *raw, &unit, err);
    if (status == RQ_OK)
        status = add_scaled_source(unit, src, err);
    return status == RQ_OK ? tr_conv_create(trainer, unit, node, err) : status;
}

static float *f32_slot(const rq_graph *graph, int node, rq_slot slot)
{
    const rq_tensor *tensor = rq_graph_tensor(graph, node, slot);
    return tensor ? rq_tensor_f32(tensor) : NULL;
}

static float *gradient_slot(const rq_trainer *trainer, int node, rq_slot slot)
{
    return trainer->gradients[trainer->model->graph.nodes[node].slot[slot]];
}

/* A term for a node: absorbed batch norm, absorbed (or own) bias, or the node's value as it is. */
static rq_status add_term(rq_trainer *trainer, tr_unit *unit, int node, bool own, tr_value **raw,
                          rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    mix_term *term = &unit->mix->terms[unit->mix->n_terms++];
    const bool merged = own || is_absorbed(trainer, node);
    if (merged && graph->nodes[node].op == RQ_OP_BATCH_NORM) {
        tr_value *src = trainer->values[graph->nodes[node].input[0]];
        term->kind = TERM_BN;
        term->gamma = f32_slot(graph, node, RQ_SLOT_WEIGHT);
        term->beta = f32_slot(graph, node, RQ_SLOT_BIAS);
        term->mean = f32_slot(graph, node, RQ_SLOT_MEAN);
        term->var = f32_slot(graph, node, RQ_SLOT_VAR);
        term->dgamma = gradient_slot(trainer, node, RQ_SLOT_WEIGHT);
        term->dbeta = gradient_slot(trainer, node, RQ_SLOT_BIAS);
        term->eps = (double)graph->nodes[node].eps;
        term->frozen = trainer->options.frozen_nodes && trainer->options.frozen_nodes[node];
        const rq_tensor *tracked = rq_graph_tensor(graph, node, RQ_SLOT_TRACKED);
        term->tracked = tracked ? tracked->data : NULL;
        if (src->quantized_conv)
            src->quantized_conv->dgamma = term->dgamma;
        return add_source(unit, src, err);
    }
    if (merged && has_bias(graph, node)) {
        term->kind = TERM_BIAS;
        term->beta = f32_slot(graph, node, RQ_SLOT_BIAS);
        term->dbeta = gradient_slot(trainer, node, RQ_SLOT_BIAS);
        return add_source(unit, raw[node], err);
    }
    term->kind = TERM_PLAIN;
    return add_source(unit, trainer->values[node], err);
}

static rq_status add_mix(rq_trainer *trainer, int root, tr_value **raw, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    tr_unit *unit;
    rq_status status = new_value(trainer, root, &trainer->values[root], err);
    if (status == RQ_OK)
        status = new_unit(trainer, root, trainer->values[root], &unit, err);
    if (status != RQ_OK)
        return status;
    mix_unit *mix = unit->mix;
    int node = root;
    bool own = true; /* node is part of this mix */
    if (graph->nodes[node].op == RQ_OP_FAKE_QUANT) {
        mix->quantize = unit->dst->quantized = true;
        mix->range = f32_slot(graph, node, RQ_SLOT_MAX);
        mix->range_scale = f32_slot(graph, node, RQ_SLOT_SCALE);
        node = graph->nodes[node].input[0];
        own = is_absorbed(trainer, node);
    }
    if (own && graph->nodes[node].op == RQ_OP_RELU) {
        mix->relu = true;
        node = graph->nodes[node].input[0];
        own = is_absorbed(trainer, node);
    }
    if (own && graph->nodes[node].op == RQ_OP_ADD) {
        if (graph->nodes[node].n_inputs > RQ_MAX_TERMS)
            return rq_fail(err, RQ_ERR_UNSUPPORTED, "a sum of more than %d values", RQ_MAX_TERMS);
        for (int k = 0; k < graph->nodes[node].n_inputs && status == RQ_OK; k++)
            status = add_term(trainer, unit, graph->nodes[node].input[k], false, raw, err);
    } else {
        status = add_term(trainer, unit, node, own, raw, err);
    }
    return status == RQ_OK ? tr_mix_create(trainer, unit, err) : status;
}

static rq_status add_pool(rq_trainer *trainer, int node, rq_error *err)
{
    tr_unit *unit;
    rq_status status = new_value(trainer, node, &trainer->values[node], err);
    if (status == RQ_OK)
        status = new_unit(trainer, node, trainer->values[node], &unit, err);
    if (status == RQ_OK)
        status = add_scaled_source(
            unit, trainer->values[trainer->model->graph.nodes[node].input[0]], err);
    if (status == RQ_OK)
        tr_pool_init(unit);
    return status;
}

static rq_status add_input(rq_trainer *trainer, int node, rq_error *err)
{
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
    const rq_status status = new_value(trainer, node, &trainer->values[node], err);
    if (status == RQ_OK)
        trainer->values[node]->needs_gradient = false;
    return status;
}

/* ---- one row per operator ---- */

typedef rq_status gradient_row(rq_trainer *trainer, int node, tr_value **raw, rq_error *err);

static rq_status row_input(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    (void)raw;
    return add_input(trainer, node, err);
}

static rq_status row_convolution(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    if (!has_bias(&trainer->model->graph, node))
        return add_convolution(trainer, node, &trainer->values[node], err);
    const rq_status status = add_convolution(trainer, node, &raw[node], err);
    return status == RQ_OK && !is_absorbed(trainer, node) ? add_mix(trainer, node, raw, err)
                                                          : status;
}

static rq_status row_elementwise(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    return is_absorbed(trainer, node) ? RQ_OK : add_mix(trainer, node, raw, err);
}

static rq_status row_pool(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    (void)raw;
    return add_pool(trainer, node, err);
}

static rq_status row_none(rq_trainer *trainer, int node, tr_value **raw, rq_error *err)
{
    (void)raw;
    return rq_fail(err, RQ_ERR_UNSUPPORTED, "%s has no gradient: an integer model is not trained",
                   rq_op_name(trainer->model->graph.nodes[node].op));
}

/* operators that share a row */
#define row_conv             row_convolution
#define row_linear           row_convolution
#define row_batch_norm       row_elementwise
#define row_add              row_elementwise
#define row_relu             row_elementwise
#define row_fake_quant       row_elementwise
#define row_global_avg_pool  row_pool
#define row_scale            row_none
#define row_avg_pool         row_none
#define row_sigmoid          row_none
#define row_mul              row_none
#define row_quantize         row_none
#define row_dequantize       row_none
#define row_qconv            row_none
#define row_qglobal_avg_pool row_none
#define row_qlinear          row_none
#define row_qsigmoid         row_none
#define row_qmul             row_none

static gradient_row *const gradient_rows[RQ_N_OPS] = {
#define X(code, name) [RQ_OP_##code] = row_##name,
    RQ_OP_LIST(X)
#undef X
};

/* ---- the walk ---- */

/* A value without reader would have no gradient. */
static rq_status check_all_read(const rq_trainer *trainer, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    for (int i = 0; i < graph->n_nodes; i++)
        if (!trainer->users[i])
            return rq_fail(err, RQ_ERR_UNSUPPORTED, "%s: nothing reads its value",
                           graph->nodes[i].name);
    if (graph->n_nodes == 1)
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "%s: there is no operator to train",
                       graph->nodes[0].name);
    return RQ_OK;
}

rq_status tr_build_units(rq_trainer *trainer, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    const rq_trainer_options *options = &trainer->options;
    rq_status status = rq_graph_shapes(graph, options->batch, options->height, options->width,
                                       trainer->shapes, err);
    if (status != RQ_OK)
        return status;
    rq_graph_count_users(graph, trainer->users);
    status = check_all_read(trainer, err);
    void *raw = NULL; /* sums of convolutions with bias, by node */
    if (status == RQ_OK)
        status =
            rq_arena_array(&trainer->arena, &raw, (size_t)graph->n_nodes, sizeof(tr_value *), err);
    for (int i = 0; i < graph->n_nodes && status == RQ_OK; i++) {
        status = gradient_rows[graph->nodes[i].op](trainer, i, raw, err);
        if (status != RQ_OK)
            rq_error_prefix(err, "%s", graph->nodes[i].name);
    }
    return status;
}
