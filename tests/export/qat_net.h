/* Small networks of form qat for the tests of lowering, built from a list of layers with random
 * parameters and the scales that those call for. */
#ifndef RQ_TESTS_EXPORT_QAT_NET_H
#define RQ_TESTS_EXPORT_QAT_NET_H

#include <math.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/model/model.h"
#include "runtime/model/quant.h"
#include "tests/support/test.h"

typedef struct net_layer {
    const char *block; /* "stage1.0": the conv is stage1.0.rbr_reparam.conv */
    int oc, kernel, stride, groups, dilation;
    bool bn, quantized;
} net_layer;

typedef struct net_spec {
    net_layer layers[6]; /* up to the first without a name */
    int classes;
    bool linear_quantized;
    bool pool_quantized;
} net_spec;

enum { NET_SIDE = 12 };

static int net_add(rq_graph *graph, rq_op op, const char *name, int input)
{
    rq_error err = RQ_ERROR_INIT;
    int node = -1;
    assert_ok(rq_graph_add_node(graph, op, name, op == RQ_OP_INPUT ? 0 : 1, &input, &node, &err),
              &err);
    return node;
}

static float *net_param(rq_graph *graph, int node, rq_slot slot, int rank, const int64_t *dims)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_graph_add_param(graph, node, slot, RQ_F32, rank, dims, &err), &err);
    return rq_tensor_f32(rq_graph_tensor(graph, node, slot));
}

static void net_uniform(float *values, int64_t n, double low, double high, rq_random *random)
{
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)(low + (high - low) * rq_random_unit(random));
}

static int net_fake_quant(rq_graph *graph, const char *name, int input, float scale)
{
    const int64_t one[1] = {1};
    const int node = net_add(graph, RQ_OP_FAKE_QUANT, name, input);
    net_param(graph, node, RQ_SLOT_SCALE, 1, one)[0] = scale;
    net_param(graph, node, RQ_SLOT_MIN, 1, one)[0] = 0.0f;
    net_param(graph, node, RQ_SLOT_MAX, 1, one)[0] = 255.0f * scale;
    return node;
}

/* WEIGHT_SCALE of a layer as training would set it; call when its batch norm is complete. */
static void net_set_weight_scale(rq_model *model, int node, float s_x)
{
    rq_error err = RQ_ERROR_INIT;
    rq_layer_view view;
    float *scale = rq_tensor_f32(rq_graph_tensor(&model->graph, node, RQ_SLOT_WEIGHT_SCALE));
    assert_ok(rq_layer_view_init(&view, model, node, &err), &err);
    rq_layer_weight_scales(&view, s_x, scale);
}

static int net_conv(rq_model *model, const net_layer *layer, int input, int64_t ic, float s_x,
                    rq_random *random)
{
    rq_graph *graph = &model->graph;
    const int64_t oc = layer->oc, k = layer->kernel;
    const int64_t wei[4] = {oc, ic / layer->groups, k, k};
    const int pad = layer->dilation * (layer->kernel / 2);
    int node = net_add(graph, RQ_OP_CONV, rq_test_path("%s.rbr_reparam.conv", layer->block), input);
    const int conv = node;
    graph->nodes[conv].conv = (rq_conv_attr){{layer->kernel, layer->kernel},
                                             {layer->stride, layer->stride},
                                             {pad, pad},
                                             {layer->dilation, layer->dilation},
                                             layer->groups};
    const double spread = 2.0 / sqrt((double)(wei[1] * k * k));
    net_uniform(net_param(graph, conv, RQ_SLOT_WEIGHT, 4, wei), oc * wei[1] * k * k, -spread,
                spread, random);
    if (!layer->bn)
        net_uniform(net_param(graph, conv, RQ_SLOT_BIAS, 1, &oc), oc, -0.5, 0.5, random);
    if (layer->quantized)
        (void)net_param(graph, conv, RQ_SLOT_WEIGHT_SCALE, 1, &oc);
    if (layer->bn) {
        node =
            net_add(graph, RQ_OP_BATCH_NORM, rq_test_path("%s.rbr_reparam.bn", layer->block), conv);
        graph->nodes[node].eps = 1e-5f;
        net_uniform(net_param(graph, node, RQ_SLOT_WEIGHT, 1, &oc), oc, -1.5, 1.5, random);
        net_uniform(net_param(graph, node, RQ_SLOT_BIAS, 1, &oc), oc, -0.5, 1.0, random);
        net_uniform(net_param(graph, node, RQ_SLOT_MEAN, 1, &oc), oc, -0.5, 0.5, random);
        net_uniform(net_param(graph, node, RQ_SLOT_VAR, 1, &oc), oc, 0.3, 2.0, random);
    }
    if (layer->quantized)
        net_set_weight_scale(model, conv, s_x);
    return net_add(graph, RQ_OP_RELU, rq_test_path("%s.nonlinearity", layer->block), node);
}

/* *model is for the caller to deinit. Every relu is followed by fake_quant "BLOCK.quant" unless the
 * next layer and this one are float. */
static inline void net_build(rq_model *model, const net_spec *spec)
{
    *model = (rq_model)RQ_MODEL_INIT;
    model->form = RQ_FORM_QAT;
    model->arch = "test";
    model->n_classes = spec->classes;
    model->preprocess.crop = NET_SIDE;
    for (int c = 0; c < 3; c++)
        model->preprocess.mean[c] = rq_pixel_mean((uint8_t)(100 + 20 * c));
    rq_random random = {77};
    rq_graph *graph = &model->graph;
    int node = net_add(graph, RQ_OP_INPUT, "input", 0);
    int64_t channels = 3;
    float s_x = RQ_PIXEL_SCALE;
    for (const net_layer *layer = spec->layers; layer->block; layer++) {
        node = net_conv(model, layer, node, channels, s_x, &random);
        channels = layer->oc;
        if (layer->quantized || (layer[1].block && layer[1].quantized)) {
            s_x = (float)(0.01 + 0.01 * rq_random_unit(&random));
            node = net_fake_quant(graph, rq_test_path("%s.quant", layer->block), node, s_x);
        }
    }
    node = net_add(graph, RQ_OP_GLOBAL_AVG_POOL, "gap", node);
    if (spec->pool_quantized) {
        s_x *= 0.6f;
        node = net_fake_quant(graph, "gap.quant", node, s_x);
    }
    const int64_t wei[2] = {spec->classes, channels};
    node = net_add(graph, RQ_OP_LINEAR, "linear", node);
    net_uniform(net_param(graph, node, RQ_SLOT_WEIGHT, 2, wei), wei[0] * wei[1], -1.0, 1.0,
                &random);
    net_uniform(net_param(graph, node, RQ_SLOT_BIAS, 1, wei), wei[0], -1.0, 1.0, &random);
    if (spec->linear_quantized) {
        (void)net_param(graph, node, RQ_SLOT_WEIGHT_SCALE, 1, wei);
        net_set_weight_scale(model, node, s_x);
    }
}

/* The parameter in a slot of the node of this name. */
static inline float *net_values(const rq_model *model, const char *node, rq_slot slot)
{
    const int index = rq_graph_find_node(&model->graph, node);
    assert_true(index >= 0);
    const rq_tensor *tensor = rq_graph_tensor(&model->graph, index, slot);
    return tensor ? tensor->data : NULL;
}

/* Four convolutions, pooling and linear layer, nothing left in float. */
static const net_spec net_all_quantized = {
    .layers = {{"stage0", 5, 3, 2, 1, 1, true, true},
               {"stage1.0", 6, 3, 1, 1, 1, true, true},
               {"stage1.1", 8, 3, 1, 2, 1, true, true},
               {"stage2.0", 7, 1, 2, 1, 1, false, true}},
    .classes = 5,
    .linear_quantized = true,
    .pool_quantized = true,
};

#endif
