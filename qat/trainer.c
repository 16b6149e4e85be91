/* From a graph to units: which elementwise operators merge into which mix, where gradients live,
 * and the walk forward and back. */
#include "qat/trainer.h"

#include <omp.h>
#include <string.h>

#include "qat/units.h"
#include "runtime/base/clock.h"

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

static gradient_row *const gradient_rows[RQ_N_OPS] = {
#define X(code, name) [RQ_OP_##code] = row_##name,
    RQ_OP_LIST(X)
#undef X
};

/* ---- gradient buffers: taken and given back in the order of the backward walk ---- */

typedef struct pool_buffer {
    float *data;
    size_t elems;
    bool taken;
} pool_buffer;

typedef struct buffer_pool {
    pool_buffer *buffers;
    int n_buffers;
} buffer_pool;

static rq_status take(rq_trainer *trainer, buffer_pool *pool, size_t elems, float **out,
                      rq_error *err)
{
    pool_buffer *best = NULL;
    for (int i = 0; i < pool->n_buffers; i++) {
        pool_buffer *b = &pool->buffers[i];
        if (!b->taken && b->elems >= elems && (!best || b->elems < best->elems))
            best = b;
    }
    if (!best) {
        void *data = NULL;
        const rq_status status = rq_arena_array(&trainer->arena, &data, elems, sizeof(float), err);
        if (status != RQ_OK)
            return status;
        best = &pool->buffers[pool->n_buffers++];
        *best = (pool_buffer){data, elems, false};
    }
    best->taken = true;
    *out = best->data;
    return RQ_OK;
}

static void give_back(buffer_pool *pool, const float *data)
{
    for (int i = 0; i < pool->n_buffers; i++)
        if (pool->buffers[i].data == data)
            pool->buffers[i].taken = false;
}

/* Each reader's gradient gets a buffer when the reader runs (backward), and loses it when the
 * producer has run. A mix's first source inherits the buffer that dz stands in. */
static rq_status plan_gradients(rq_trainer *trainer, rq_error *err)
{
    buffer_pool pool = {NULL, 0};
    void *buffers = NULL;
    rq_status status = rq_alloc_array(&buffers, (size_t)trainer->n_units * RQ_MAX_INPUTS + 1,
                                      sizeof(pool_buffer), err);
    if (status != RQ_OK)
        return status;
    pool.buffers = buffers;
    tr_value *output = trainer->units[trainer->n_units - 1].dst;
    int filled = output->n_readers; /* the loss */
    output->n_readers = filled + 1;
    status = take(trainer, &pool, rq_shape_elems(&output->shape), &output->gradient[filled], err);
    for (int i = 0; i < trainer->n_units; i++)
        if (trainer->units[i].dst != output)
            trainer->units[i].dst->n_readers = 0; /* counted again, in backward order */
    for (int i = trainer->n_units - 1; i >= 0 && status == RQ_OK; i--) {
        tr_unit *unit = &trainer->units[i];
        const bool inherits = unit->mix->n_terms && unit->src[0]->needs_gradient;
        for (int k = unit->n_src - 1; k >= 0 && status == RQ_OK; k--) {
            tr_value *src = unit->src[k];
            if (!src->needs_gradient)
                continue;
            if (k == 0 && inherits)
                unit->dsrc[k] = unit->dst->gradient[0];
            else
                status = take(trainer, &pool, rq_shape_elems(&src->shape), &unit->dsrc[k], err);
            src->gradient[src->n_readers++] = unit->dsrc[k];
        }
        for (int k = inherits; k < unit->dst->n_readers; k++)
            give_back(&pool, unit->dst->gradient[k]);
    }
    rq_free(buffers);
    return status;
}

/* ---- creation ---- */

static rq_status allocate_gradients(rq_trainer *trainer, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        const rq_op op = graph->nodes[i].op;
        if (op != RQ_OP_CONV && op != RQ_OP_LINEAR && op != RQ_OP_BATCH_NORM)
            continue;
        for (int k = 0; k < 2; k++) {
            const int param = graph->nodes[i].slot[k ? RQ_SLOT_BIAS : RQ_SLOT_WEIGHT];
            if (param < 0 || trainer->gradients[param])
                continue;
            void *gradient = NULL;
            const rq_status status =
                rq_arena_array(&trainer->arena, &gradient,
                               rq_tensor_elems(&graph->params[param].tensor), sizeof(float), err);
            if (status != RQ_OK)
                return status;
            trainer->gradients[param] = gradient;
        }
    }
    return RQ_OK;
}

static rq_status allocate(rq_trainer *trainer, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    const size_t n = (size_t)graph->n_nodes, batch = (size_t)trainer->options.batch;
    const struct {
        void **array;
        size_t n, size;
    } arrays[] = {
        {(void **)&trainer->shapes, n, sizeof *trainer->shapes},
        {(void **)&trainer->users, n, sizeof *trainer->users},
        {(void **)&trainer->values, n, sizeof(tr_value *)},
        {(void **)&trainer->units, 2 * n, sizeof *trainer->units},
        {(void **)&trainer->gradients, (size_t)graph->n_params, sizeof *trainer->gradients},
        {(void **)&trainer->row_loss, batch, sizeof *trainer->row_loss},
        {(void **)&trainer->row_rank, batch, sizeof *trainer->row_rank},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        const rq_status status =
            rq_arena_array(&trainer->arena, arrays[i].array, arrays[i].n, arrays[i].size, err);
        if (status != RQ_OK)
            return status;
    }
    return allocate_gradients(trainer, err);
}

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

static rq_status build(rq_trainer *trainer, rq_error *err)
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
    if (status != RQ_OK)
        return status;
    size_t channels = 1;
    for (int i = 0; i < trainer->n_units; i++)
        if (trainer->units[i].mix->channels > channels)
            channels = trainer->units[i].mix->channels;
    trainer->scratch_bytes = tr_mix_scratch_bytes(channels, trainer->n_threads);
    status = rq_arena_array(&trainer->arena, &trainer->scratch, trainer->scratch_bytes, 1, err);
    return status == RQ_OK ? plan_gradients(trainer, err) : status;
}

rq_status rq_trainer_create(rq_trainer **out, rq_model *model, const rq_trainer_options *options,
                            rq_error *err)
{
    if (options->batch < 1)
        return rq_fail(err, RQ_ERR_ARG, "batch %d: at least 1 image", options->batch);
    rq_trainer *trainer = rq_alloc(sizeof *trainer);
    if (!trainer)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    trainer->model = model;
    trainer->options = *options;
    trainer->observing = true;
    trainer->n_threads = omp_get_max_threads();
    if (!trainer->options.height)
        trainer->options.height = model->preprocess.crop;
    if (!trainer->options.width)
        trainer->options.width = model->preprocess.crop;
    rq_status status = rq_dnn_create(&trainer->dnn, err);
    if (status == RQ_OK)
        status = allocate(trainer, err);
    if (status == RQ_OK)
        status = build(trainer, err);
    trainer->options.frozen_nodes = NULL;
    if (status != RQ_OK) {
        rq_trainer_destroy(trainer);
        return status;
    }
    *out = trainer;
    return RQ_OK;
}

void rq_trainer_destroy(rq_trainer *trainer)
{
    if (!trainer)
        return;
    for (int i = 0; i < trainer->n_units; i++)
        if (trainer->units[i].destroy)
            trainer->units[i].destroy(&trainer->units[i]);
    rq_dnn_destroy(trainer->dnn);
    rq_arena_deinit(&trainer->arena);
    rq_free(trainer);
}

void rq_trainer_freeze_bn(rq_trainer *trainer, bool frozen)
{
    trainer->bn_frozen = frozen;
}

void rq_trainer_observe(rq_trainer *trainer, bool observing)
{
    trainer->observing = observing;
}

/* ---- a step ---- */

static rq_status named(const rq_trainer *trainer, const tr_unit *unit, rq_status status,
                       rq_error *err)
{
    if (status != RQ_OK)
        rq_error_prefix(err, "%s", trainer->model->graph.nodes[unit->node].name);
    return status;
}

rq_status tr_run_forward(rq_trainer *trainer, int first, rq_error *err)
{
    rq_status status = RQ_OK;
    for (int i = first; i < trainer->n_units && status == RQ_OK; i++) {
        tr_unit *unit = &trainer->units[i];
        status = named(trainer, unit, unit->forward(trainer, unit, err), err);
    }
    return status;
}

rq_status tr_run_backward(rq_trainer *trainer, int first, rq_error *err)
{
    rq_status status = RQ_OK;
    for (int i = trainer->n_units - 1; i >= first && status == RQ_OK; i--) {
        tr_unit *unit = &trainer->units[i];
        status = named(trainer, unit, unit->backward(trainer, unit, err), err);
    }
    return status;
}

rq_status rq_trainer_step(rq_trainer *trainer, const uint8_t *pixels, const int32_t *labels,
                          rq_step_result *result, rq_error *err)
{
    if (omp_get_max_threads() > trainer->n_threads)
        return rq_fail(err, RQ_ERR_ARG, "%d threads in a trainer that was made for %d",
                       omp_get_max_threads(), trainer->n_threads);
    tr_input_forward(trainer, pixels, trainer->values[0]);
    rq_status status = tr_run_forward(trainer, 0, err);
    if (status != RQ_OK)
        return status;
    const double start = rq_clock();
    const tr_value *output = trainer->units[trainer->n_units - 1].dst;
    status = tr_loss(output->data, labels, (size_t)trainer->options.batch, (size_t)output->shape.c,
                     trainer->options.label_smoothing, output->gradient[0], trainer->row_loss,
                     trainer->row_rank, result, err);
    trainer->profile.loss += rq_clock() - start;
    return status == RQ_OK ? tr_run_backward(trainer, 0, err) : status;
}

const float *rq_trainer_gradient(const rq_trainer *trainer, int param)
{
    return trainer->gradients[param];
}

const float *rq_trainer_logits(const rq_trainer *trainer)
{
    return trainer->units[trainer->n_units - 1].dst->data;
}

const float *rq_trainer_value(const rq_trainer *trainer, int node, float *scale)
{
    const tr_value *value = trainer->values[node];
    if (value)
        *scale = value->scale;
    return value ? value->data : NULL;
}

rq_status rq_trainer_settle(rq_trainer *trainer, rq_error *err)
{
    (void)err;
    for (int i = 0; i < trainer->n_units; i++) {
        tr_unit *unit = &trainer->units[i];
        conv_unit *conv = unit->conv;
        if (unit->mix->quantize)
            unit->dst->scale = *unit->mix->range_scale;
        if (!conv->quantized)
            continue;
        conv->s_x = conv->layer.std ? 1.0f : unit->src[0]->scale;
        rq_layer_weight_scales(&conv->layer, conv->s_x, conv->s_w);
        memcpy(conv->stored_scale, conv->s_w, (size_t)conv->shape.oc * sizeof *conv->s_w);
    }
    return RQ_OK;
}

rq_trainer_profile rq_trainer_get_profile(const rq_trainer *trainer)
{
    return trainer->profile;
}
