/* One walk over the graph: copy each node, put quantizers where the choice of layers wants them. */
#include "qat/prepare.h"

#include <string.h>

#include "runtime/model/gate.h"
#include "runtime/model/quant.h"

const char *const rq_quant_layers_names[] = {"all", "exclud_first_and_linear",
                                             "exclud_first_and_last", NULL};

typedef struct prepare {
    rq_graph *out;
    const rq_graph *in;
    rq_quant_layers layers;
    int first_conv, last_conv; /* nodes of in: of blocks, not of their gates */
    int *map;                  /* [in nodes]: its value in out */
} prepare;

/* ---- what is where ---- */

/* The convolution that a value comes from, through its batch norm, relu, gates and max_pools; -1
 * when it comes from something else. */
static int source_conv(const rq_graph *graph, int node)
{
    while (graph->nodes[node].op == RQ_OP_RELU || graph->nodes[node].op == RQ_OP_BATCH_NORM ||
           graph->nodes[node].op == RQ_OP_MUL || graph->nodes[node].op == RQ_OP_MAX_POOL)
        node = graph->nodes[node].input[0];
    return graph->nodes[node].op == RQ_OP_CONV ? node : -1;
}

/* The layers of a gate are treated as the convolution whose value they gate. */
static int block_of(const rq_graph *graph, int layer)
{
    const int source = rq_gate_source(graph, layer);
    const int conv = source < 0 ? -1 : source_conv(graph, source);
    return conv < 0 ? layer : conv;
}

static bool quantizes(const prepare *p, int layer)
{
    const int block = block_of(p->in, layer);
    if (p->layers == RQ_QUANT_ALL)
        return true;
    if (block == p->first_conv || p->in->nodes[layer].op == RQ_OP_LINEAR)
        return false;
    return p->layers == RQ_QUANT_BUT_FIRST_AND_LINEAR || block != p->last_conv;
}

/* Is a product with a gate computed with integers? As the convolution whose value it gates. */
static bool quantizes_product(const prepare *p, int mul)
{
    const int conv = source_conv(p->in, mul);
    return conv >= 0 && quantizes(p, conv);
}

/* Does an operator that computes with integers read this value (through pooling, perhaps)? */
static bool feeds_quantized(const prepare *p, int node)
{
    for (int i = node + 1; i < p->in->n_nodes; i++)
        for (int k = 0; k < p->in->nodes[i].n_inputs; k++) {
            if (p->in->nodes[i].input[k] != node)
                continue;
            const rq_op op = p->in->nodes[i].op;
            if ((op == RQ_OP_CONV || op == RQ_OP_LINEAR) && quantizes(p, i))
                return true;
            if (op == RQ_OP_MUL && quantizes_product(p, i))
                return true;
            if ((op == RQ_OP_GLOBAL_AVG_POOL || op == RQ_OP_MAX_POOL) && feeds_quantized(p, i))
                return true;
        }
    return false;
}

/* Can the value be negative? */
static bool is_signed(const rq_graph *graph, int node)
{
    switch (graph->nodes[node].op) {
    case RQ_OP_RELU:
    case RQ_OP_SIGMOID:
        return false;
    case RQ_OP_MUL: /* a gate is not negative */
    case RQ_OP_GLOBAL_AVG_POOL:
    case RQ_OP_MAX_POOL:
        return is_signed(graph, graph->nodes[node].input[0]);
    default:
        return true;
    }
}

/* Does a node's value end a chain that one integer operator computes: is neither batch norm nor
 * relu merged into it? */
static bool ends_chain(const rq_graph *graph, int node)
{
    return rq_graph_next(graph, node, RQ_OP_BATCH_NORM) < 0 &&
           rq_graph_next(graph, node, RQ_OP_RELU) < 0;
}

/* Is the value to be quantized? Where an integer layer or product gives it, or one reads it. What
 * goes into a sigmoid stays real. */
static bool takes_quantizer(const prepare *p, int node)
{
    const int conv = source_conv(p->in, node);
    switch (p->in->nodes[node].op) {
    case RQ_OP_CONV:
    case RQ_OP_BATCH_NORM:
    case RQ_OP_RELU:
    case RQ_OP_MUL:
        return ends_chain(p->in, node) && rq_graph_next(p->in, node, RQ_OP_SIGMOID) < 0 &&
               ((conv >= 0 && quantizes(p, conv)) || feeds_quantized(p, node));
    case RQ_OP_GLOBAL_AVG_POOL:
    case RQ_OP_SIGMOID:
        return feeds_quantized(p, node);
    default:
        return false;
    }
}

/* ---- the new graph ---- */

/* "stage0.nonlinearity" is quantized by "stage0.quant", other values by "NAME.quant". */
static const char *quantizer_name(const prepare *p, int node)
{
    static const char relu[] = ".nonlinearity";
    const char *name = p->in->nodes[node].name;
    size_t length = strlen(name);
    const size_t tail = sizeof relu - 1;
    if (length > tail && strcmp(name + length - tail, relu) == 0)
        length -= tail;
    return rq_arena_printf(&p->out->arena, "%.*s.quant", (int)length, name);
}

static rq_status add_quantizer(const prepare *p, int node, rq_error *err)
{
    static const rq_slot slots[] = {RQ_SLOT_SCALE, RQ_SLOT_MIN, RQ_SLOT_MAX};
    const int64_t one = 1;
    const char *name = quantizer_name(p, node);
    int quantizer;
    if (!name)
        return rq_no_memory(err);
    RQ_TRY(rq_graph_add_node(p->out, RQ_OP_FAKE_QUANT, name, 1, &p->map[node], &quantizer, err));
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++)
        RQ_TRY(rq_graph_add_param(p->out, quantizer, slots[i], RQ_F32, 1, &one, err));
    if (is_signed(p->in, node))
        RQ_TRY(rq_graph_add_param(p->out, quantizer, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &one, err));
    if (p->in->nodes[node].op == RQ_OP_SIGMOID) { /* fixed; other ranges are still to be observed */
        *rq_tensor_f32(rq_graph_tensor(p->out, quantizer, RQ_SLOT_SCALE)) = RQ_GATE_SCALE;
        *rq_tensor_f32(rq_graph_tensor(p->out, quantizer, RQ_SLOT_MAX)) = 1.0f;
    }
    p->map[node] = quantizer;
    return RQ_OK;
}

/* A quantized layer reads quantized values, or the image; where it pads, these are zeros. */
static rq_status check_input(const prepare *p, int node, rq_error *err)
{
    const rq_node *layer = &p->in->nodes[node];
    const int source = p->map[layer->input[0]], quantizer = rq_quantizer_of(p->out, source);
    const bool pads = layer->op == RQ_OP_CONV && (layer->conv.pad[0] > 0 || layer->conv.pad[1] > 0);
    if (p->out->nodes[source].op == RQ_OP_INPUT && layer->op == RQ_OP_CONV)
        return RQ_OK;
    if (quantizer < 0)
        return rq_fail(err, RQ_ERR_MODEL, "%s: reads %s, which is not quantized", layer->name,
                       p->in->nodes[layer->input[0]].name);
    if (pads && p->out->nodes[quantizer].slot[RQ_SLOT_ZERO_POINT] >= 0)
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: pads %s, which can be negative and has a zero point: the border would "
                       "not be 0",
                       layer->name, p->in->nodes[layer->input[0]].name);
    return RQ_OK;
}

/* May everything that reads this value read it quantized? */
static bool readers_take_integers(const rq_graph *graph, int node)
{
    bool all = true;
    for (int i = node + 1; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_inputs; k++) {
            const rq_op op = graph->nodes[i].op;
            if (graph->nodes[i].input[k] == node)
                all &= op == RQ_OP_RELU || op == RQ_OP_GLOBAL_AVG_POOL || op == RQ_OP_MAX_POOL ||
                       op == RQ_OP_MUL || op == RQ_OP_CONV || op == RQ_OP_LINEAR;
        }
    return all;
}

/* A block's convolution ends in a batch norm; those of gates have a bias instead. */
static rq_status check_chain(const prepare *p, int node, rq_error *err)
{
    const rq_node *layer = &p->in->nodes[node];
    const int bn = rq_graph_next(p->in, node, RQ_OP_BATCH_NORM);
    if (layer->op == RQ_OP_LINEAR || rq_gate_source(p->in, node) >= 0)
        return RQ_OK;
    if (bn < 0 || !readers_take_integers(p->in, bn))
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: no batch_norm after it, or read by other than relu, layers, pooling "
                       "and gates (insert_bn makes batch norms)",
                       layer->name);
    return RQ_OK;
}

static rq_status add_weight_scale(const prepare *p, int node, rq_error *err)
{
    const int64_t oc = rq_graph_tensor(p->in, node, RQ_SLOT_WEIGHT)->dim[0];
    RQ_TRY(check_input(p, node, err));
    RQ_TRY(check_chain(p, node, err));
    return rq_graph_add_param(p->out, p->map[node], RQ_SLOT_WEIGHT_SCALE, RQ_F32, 1, &oc, err);
}

static rq_status prepare_node(const prepare *p, int node, rq_error *err)
{
    const rq_node *from = &p->in->nodes[node];
    const bool is_layer = from->op == RQ_OP_CONV || from->op == RQ_OP_LINEAR;
    int inputs[RQ_MAX_INPUTS];
    for (int k = 0; k < from->n_inputs; k++)
        inputs[k] = p->map[from->input[k]];
    RQ_TRY(rq_graph_copy_node(p->out, p->in, node, inputs, &p->map[node], err));
    if (is_layer && quantizes(p, node))
        RQ_TRY(add_weight_scale(p, node, err));
    if (from->op == RQ_OP_RELU && source_conv(p->in, node) < 0)
        return rq_fail(err, RQ_ERR_MODEL, "%s: no convolution with batch_norm before this relu",
                       from->name);
    return takes_quantizer(p, node) ? add_quantizer(p, node, err) : RQ_OK;
}

/* x = (p / 255 - mean) / std becomes x' = (p - z) / (255 std), z = rne(255 mean): x = x' + (z / 255
 * - mean) / std. Away from the border a convolution of x is that of x' plus a constant per channel,
 * which the running mean takes up. */
static void shift_running_mean(const rq_model *model, int conv)
{
    const rq_graph *graph = &model->graph;
    const rq_preprocess *pre = &model->preprocess;
    const rq_tensor *weight = rq_graph_tensor(graph, conv, RQ_SLOT_WEIGHT);
    const int bn = rq_graph_next(graph, conv, RQ_OP_BATCH_NORM);
    float *mean = rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_MEAN));
    const float *w = rq_tensor_f32(weight);
    const int64_t ic = weight->dim[1], taps = weight->dim[2] * weight->dim[3];
    const int64_t per_group = weight->dim[0] / graph->nodes[conv].conv.groups;
    for (int64_t oc = 0; oc < weight->dim[0]; oc++) {
        double shift = 0.0;
        for (int64_t k = 0; k < ic * taps; k++) {
            const int64_t c = oc / per_group * ic + k / taps;
            const double z = (double)rq_pixel_zero_point(pre->mean[c]);
            shift += (double)w[oc * ic * taps + k] * (z / 255.0 - (double)pre->mean[c]) /
                     (double)pre->std[c];
        }
        mean[oc] = (float)((double)mean[oc] - shift);
    }
}

/* Where quantized layers read the image, it is read as pixels. */
static void round_mean(rq_model *model)
{
    const rq_graph *graph = &model->graph;
    bool reads_pixels = false;
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i].slot[RQ_SLOT_WEIGHT_SCALE] >= 0 && graph->nodes[i].input[0] == 0) {
            shift_running_mean(model, i);
            reads_pixels = true;
        }
    for (int c = 0; reads_pixels && c < 3; c++)
        model->preprocess.mean[c] = rq_pixel_mean(rq_pixel_zero_point(model->preprocess.mean[c]));
}

static rq_status prepare_nodes(prepare *p, rq_error *err)
{
    for (int i = 0; i < p->in->n_nodes; i++)
        if (p->in->nodes[i].op == RQ_OP_CONV && block_of(p->in, i) == i) {
            p->first_conv = p->first_conv < 0 ? i : p->first_conv;
            p->last_conv = i;
        }
    for (int i = 0; i < p->in->n_nodes; i++)
        RQ_TRY(prepare_node(p, i, err));
    return RQ_OK;
}

rq_status rq_prepare_qat(rq_model *out, const rq_model *withbn, rq_quant_layers layers,
                         rq_error *err)
{
    rq_model model = RQ_MODEL_INIT;
    prepare p = {.out = &model.graph, .in = &withbn->graph, .layers = layers, .first_conv = -1};
    rq_status status = RQ_OK;
    p.map = rq_alloc_array(int, p.in->n_nodes);
    if (!p.map) {
        status = rq_no_memory(err);
        goto out;
    }
    if ((status = rq_model_copy_info(&model, withbn, err)) || (status = prepare_nodes(&p, err)))
        goto out;
    round_mean(&model);
    model.form = RQ_FORM_QAT;
    *out = model;
out:
    if (status)
        rq_model_deinit(&model);
    rq_free(p.map);
    return status;
}
