/* One walk over the graph: copy each node, and put quantizers where the layers' choice wants them.
 */
#include "qat/prepare.h"

#include <stdio.h>
#include <string.h>

#include "runtime/model/quant.h"

const char *const rq_quant_layers_names[] = {"all", "exclud_first_and_linear",
                                             "exclud_first_and_last", NULL};

typedef struct prepare {
    rq_graph *out;
    const rq_graph *in;
    rq_quant_layers layers;
    int first_conv, last_conv; /* nodes of in */
    int *map;                  /* [in nodes]: the value in out that stands for it */
} prepare;

static bool quantizes(const prepare *p, int node)
{
    switch (p->layers) {
    case RQ_QUANT_ALL:
        return true;
    case RQ_QUANT_BUT_FIRST_AND_LINEAR:
        return node != p->first_conv && p->in->nodes[node].op != RQ_OP_LINEAR;
    case RQ_QUANT_BUT_FIRST_AND_LAST:
        return node != p->first_conv && node != p->last_conv &&
               p->in->nodes[node].op != RQ_OP_LINEAR;
    }
    return true;
}

static rq_status copy_node(const prepare *p, int node, rq_error *err)
{
    const rq_node *from = &p->in->nodes[node];
    int inputs[RQ_MAX_INPUTS], copy;
    for (int k = 0; k < from->n_inputs; k++)
        inputs[k] = p->map[from->input[k]];
    rq_status status =
        rq_graph_add_node(p->out, from->op, from->name, from->n_inputs, inputs, &copy, err);
    if (status != RQ_OK)
        return status;
    p->map[node] = copy;
    p->out->nodes[copy].conv = from->conv;
    p->out->nodes[copy].eps = from->eps;
    for (int slot = 0; slot < RQ_N_SLOTS && status == RQ_OK; slot++)
        if (from->slot[slot] >= 0) {
            const rq_param *param = &p->in->params[from->slot[slot]];
            status =
                rq_graph_copy_param(p->out, copy, (rq_slot)slot, param->name, &param->tensor, err);
        }
    return status;
}

static rq_status add_quantizer(const prepare *p, int node, rq_error *err)
{
    static const rq_slot slots[] = {RQ_SLOT_SCALE, RQ_SLOT_MIN, RQ_SLOT_MAX};
    const int64_t one = 1;
    char name[256];
    size_t length = strlen(p->in->nodes[node].name);
    static const char relu[] = ".nonlinearity"; /* "stage0.nonlinearity" becomes "stage0.quant" */
    const size_t tail = sizeof relu - 1;
    if (length > tail && strcmp(p->in->nodes[node].name + length - tail, relu) == 0)
        length -= tail;
    (void)snprintf(name, sizeof name, "%.*s.quant", (int)length, p->in->nodes[node].name);
    int quant;
    rq_status status =
        rq_graph_add_node(p->out, RQ_OP_FAKE_QUANT, name, 1, &p->map[node], &quant, err);
    for (size_t i = 0; i < sizeof slots / sizeof slots[0] && status == RQ_OK; i++)
        status = rq_graph_add_param(p->out, quant, slots[i], RQ_F32, 1, &one, err);
    p->map[node] = quant;
    return status;
}

/* Does a layer that is to be quantized read this value (through pooling, perhaps)? */
static bool feeds_quantized(const prepare *p, int node)
{
    for (int i = node + 1; i < p->in->n_nodes; i++)
        for (int k = 0; k < p->in->nodes[i].n_inputs; k++) {
            if (p->in->nodes[i].input[k] != node)
                continue;
            const rq_op op = p->in->nodes[i].op;
            if ((op == RQ_OP_CONV || op == RQ_OP_LINEAR) && quantizes(p, i))
                return true;
            if (op == RQ_OP_GLOBAL_AVG_POOL && feeds_quantized(p, i))
                return true;
        }
    return false;
}

/* The convolution whose batch norm and relu end in this node; -1 when it is not such a chain. */
static int conv_behind(const rq_graph *graph, int node)
{
    while (graph->nodes[node].op == RQ_OP_RELU || graph->nodes[node].op == RQ_OP_BATCH_NORM)
        node = graph->nodes[node].input[0];
    return graph->nodes[node].op == RQ_OP_CONV ? node : -1;
}

/* The only reader of a node when it is of this kind, else -1. */
static int only_reader(const rq_graph *graph, int node, rq_op op)
{
    int reader = -1, n_readers = 0;
    for (int i = node + 1; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_inputs; k++)
            if (graph->nodes[i].input[k] == node) {
                reader = i;
                n_readers++;
            }
    return n_readers == 1 && graph->nodes[reader].op == op ? reader : -1;
}

/* A quantized layer reads quantized values, or the image; a convolution ends in batch norm and
 * relu.
 */
static rq_status check_layer(const prepare *p, int node, rq_error *err)
{
    const rq_node *layer = &p->in->nodes[node];
    const rq_op source = p->out->nodes[p->map[layer->input[0]]].op;
    const bool is_image = source == RQ_OP_INPUT && layer->op == RQ_OP_CONV;
    if (!is_image && source != RQ_OP_FAKE_QUANT)
        return rq_fail(err, RQ_ERR_MODEL, "%s: reads %s, which is not quantized", layer->name,
                       p->in->nodes[layer->input[0]].name);
    if (layer->op == RQ_OP_LINEAR)
        return RQ_OK;
    const int bn = only_reader(p->in, node, RQ_OP_BATCH_NORM);
    if (bn < 0 || only_reader(p->in, bn, RQ_OP_RELU) < 0)
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: no batch_norm and relu, and only these, behind it (insert_bn makes "
                       "batch norms)",
                       layer->name);
    return RQ_OK;
}

static rq_status add_weight_scale(const prepare *p, int node, rq_error *err)
{
    const int64_t oc = rq_graph_tensor(p->in, node, RQ_SLOT_WEIGHT)->dim[0];
    const rq_status status = check_layer(p, node, err);
    return status == RQ_OK
               ? rq_graph_add_param(p->out, p->map[node], RQ_SLOT_WEIGHT_SCALE, RQ_F32, 1, &oc, err)
               : status;
}

static rq_status prepare_node(const prepare *p, int node, rq_error *err)
{
    const rq_node *from = &p->in->nodes[node];
    rq_status status = copy_node(p, node, err);
    const bool layer = from->op == RQ_OP_CONV || from->op == RQ_OP_LINEAR;
    if (status == RQ_OK && layer && quantizes(p, node))
        status = add_weight_scale(p, node, err);
    if (status != RQ_OK)
        return status;
    if (from->op == RQ_OP_RELU) {
        const int conv = conv_behind(p->in, node);
        if (conv < 0)
            return rq_fail(err, RQ_ERR_MODEL, "%s: no convolution with batch_norm before this relu",
                           from->name);
        if (quantizes(p, conv) || feeds_quantized(p, node))
            return add_quantizer(p, node, err);
    }
    if (from->op == RQ_OP_GLOBAL_AVG_POOL && feeds_quantized(p, node))
        return add_quantizer(p, node, err);
    return RQ_OK;
}

/* x = (p / 255 - mean) / std becomes x' = (p - z) / (255 std), z = rne(255 mean): x = x' + (z / 255
 * - mean) / std. Away from the border a convolution of x is that of x' plus a constant per channel,
 * which the running mean takes up. */
static void shift_running_mean(const rq_model *model, int conv)
{
    const rq_graph *graph = &model->graph;
    const rq_preprocess *pre = &model->preprocess;
    const rq_tensor *weight = rq_graph_tensor(graph, conv, RQ_SLOT_WEIGHT);
    const int bn = only_reader(graph, conv, RQ_OP_BATCH_NORM);
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

rq_status rq_prepare_qat(rq_model *out, const rq_model *withbn, rq_quant_layers layers,
                         rq_error *err)
{
    rq_model model = RQ_MODEL_INIT;
    rq_arena scratch = RQ_ARENA_INIT;
    const rq_graph *in = &withbn->graph;
    prepare p = {.out = &model.graph, .in = in, .layers = layers, .first_conv = -1};
    for (int i = 0; i < in->n_nodes; i++)
        if (in->nodes[i].op == RQ_OP_CONV) {
            p.first_conv = p.first_conv < 0 ? i : p.first_conv;
            p.last_conv = i;
        }
    p.map = rq_arena_alloc(&scratch, (size_t)in->n_nodes * sizeof *p.map);
    rq_status status = p.map ? rq_model_copy_info(&model, withbn, err)
                             : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    for (int i = 0; i < in->n_nodes && status == RQ_OK; i++)
        status = prepare_node(&p, i, err);
    rq_arena_deinit(&scratch);
    if (status != RQ_OK) {
        rq_model_deinit(&model);
        return status;
    }
    round_mean(&model);
    model.form = RQ_FORM_QAT;
    *out = model;
    return RQ_OK;
}
