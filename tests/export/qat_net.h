/* Small networks of form qat for the tests of lowering, built from a list of layers with random
 * parameters and the scales that those call for. */
#ifndef RQ_TESTS_EXPORT_QAT_NET_H
#define RQ_TESTS_EXPORT_QAT_NET_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/model/gate.h"
#include "runtime/model/model.h"
#include "runtime/model/quant.h"
#include "tests/support/test.h"

/* Where a block has its squeeze-and-excitation: before its relu, or after it. */
enum { NET_NO_GATE, NET_GATE_BEFORE, NET_GATE_BEHIND };

typedef struct net_layer {
    const char *block; /* "stage1.0": the conv is stage1.0.rbr_reparam.conv */
    int oc, kernel, stride, groups, dilation;
    bool bn, quantized;
    int gate; /* of quantized layers */
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

/* The same with a zero point, of a value that can be negative. */
static int net_signed_quant(rq_graph *graph, const char *name, int input, float scale,
                            uint8_t zero_point)
{
    rq_error err = RQ_ERROR_INIT;
    const int64_t one[1] = {1};
    const int node = net_fake_quant(graph, name, input, scale);
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, one, &err), &err);
    *(uint8_t *)rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT)->data = zero_point;
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

/* conv [+ batch norm]; its weight scale is to be set when what follows is known. */
static int net_conv(rq_model *model, const net_layer *layer, int input, int64_t ic,
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
    return node;
}

/* A quantized 1x1 convolution with bias. */
static int net_point(rq_model *model, const char *name, int input, int64_t ic, int64_t oc,
                     rq_random *random)
{
    rq_graph *graph = &model->graph;
    const int64_t wei[4] = {oc, ic, 1, 1};
    const int node = net_add(graph, RQ_OP_CONV, name, input);
    graph->nodes[node].conv = (rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    net_uniform(net_param(graph, node, RQ_SLOT_WEIGHT, 4, wei), oc * ic, -1.5, 1.5, random);
    net_uniform(net_param(graph, node, RQ_SLOT_BIAS, 1, &oc), oc, -0.5, 0.5, random);
    (void)net_param(graph, node, RQ_SLOT_WEIGHT_SCALE, 1, &oc);
    return node;
}

/* value times a gate of it, "BLOCK.se.…"; value is quantized with a scale and, if signed, a zero
 * point. Returns the product. */
static int net_gate(rq_model *model, const net_layer *layer, int value, float scale, bool is_signed,
                    rq_random *random)
{
    rq_graph *graph = &model->graph;
    const int64_t channels = layer->oc, hidden = 1 + layer->oc / 2;
    const float s_pool = 0.5f * scale, s_down = 0.02f;
    char name[6][48];
    static const char *const tails[6] = {"gap", "down", "relu", "up", "sigmoid", "mul"};
    for (int i = 0; i < 6; i++)
        (void)snprintf(name[i], sizeof name[i], "%s.se.%s", layer->block, tails[i]);
    int node = net_add(graph, RQ_OP_GLOBAL_AVG_POOL, name[0], value);
    node = is_signed ? net_signed_quant(graph, rq_test_path("%s.quant", name[0]), node, s_pool, 90)
                     : net_fake_quant(graph, rq_test_path("%s.quant", name[0]), node, s_pool);
    const int down = net_point(model, name[1], node, channels, hidden, random);
    node = net_add(graph, RQ_OP_RELU, name[2], down);
    net_set_weight_scale(model, down, s_pool);
    node = net_fake_quant(graph, rq_test_path("%s.quant", name[2]), node, s_down);
    const int up = net_point(model, name[3], node, hidden, channels, random);
    net_set_weight_scale(model, up, s_down);
    node = net_add(graph, RQ_OP_SIGMOID, name[4], up);
    node = net_fake_quant(graph, rq_test_path("%s.quant", name[4]), node, RQ_GATE_SCALE);
    const int both[2] = {value, node};
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_graph_add_node(graph, RQ_OP_MUL, name[5], 2, both, &node, &err), &err);
    return node;
}

/* One block: conv, batch norm, relu, and its gate. *s_x is the scale of what it reads, and becomes
 * that of its value; is_read: a quantized layer reads it. */
static int net_block(rq_model *model, const net_layer *layer, int input, int64_t ic, float *s_x,
                     bool is_read, rq_random *random)
{
    rq_graph *graph = &model->graph;
    const int conv = graph->n_nodes;
    int node = net_conv(model, layer, input, ic, random);
    const float s_in = *s_x, s_y = (float)(0.01 + 0.01 * rq_random_unit(random));
    if (layer->gate == NET_GATE_BEFORE) {
        node = net_signed_quant(graph, rq_test_path("%s.bn.quant", layer->block), node, s_y, 77);
        node = net_gate(model, layer, node, s_y, true, random);
    }
    node = net_add(graph, RQ_OP_RELU, rq_test_path("%s.nonlinearity", layer->block), node);
    if (layer->quantized || is_read) {
        node = net_fake_quant(graph, rq_test_path("%s.quant", layer->block), node, s_y);
        *s_x = s_y;
    }
    if (layer->gate == NET_GATE_BEHIND) {
        node = net_gate(model, layer, node, s_y, false, random);
        *s_x = 0.8f * s_y;
        node = net_fake_quant(graph, rq_test_path("%s.se.quant", layer->block), node, *s_x);
    }
    if (layer->quantized)
        net_set_weight_scale(model, conv, s_in);
    return node;
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
        node = net_block(model, layer, node, channels, &s_x, layer[1].block && layer[1].quantized,
                         &random);
        channels = layer->oc;
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
