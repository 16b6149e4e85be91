/* Nodes with parameters drawn one after another from the network's seed. */
#include "tests/qat/net.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/test.h"

int net_node(net *n, rq_op op, const char *name, int n_inputs, const int *inputs, int64_t channels)
{
    rq_error err = RQ_ERROR_INIT;
    int node = -1;
    assert_ok(rq_graph_add_node(&n->model.graph, op, name, n_inputs, inputs, &node, &err), &err);
    assert_true(node < NET_NODES);
    n->channels[node] = channels;
    return node;
}

void net_begin(net *n, rq_form form, int side, int classes, uint64_t seed)
{
    memset(n, 0, sizeof *n);
    n->model = (rq_model)RQ_MODEL_INIT;
    n->model.form = form;
    n->model.arch = "test";
    n->model.n_classes = classes;
    n->model.preprocess.resize = n->model.preprocess.crop = side;
    n->random = (rq_random){seed};
    (void)net_node(n, RQ_OP_INPUT, "input", 0, NULL, 3);
}

float *net_param(net *n, int node, rq_slot slot, int rank, const int64_t *dims)
{
    rq_error err = RQ_ERROR_INIT;
    rq_graph *graph = &n->model.graph;
    const rq_dtype dtype = slot == RQ_SLOT_TRACKED ? RQ_S64 : RQ_F32;
    assert_ok(rq_graph_add_param(graph, node, slot, dtype, rank, dims, &err), &err);
    return rq_tensor_f32(rq_graph_tensor(graph, node, slot));
}

void net_uniform(net *n, int node, rq_slot slot, double low, double high)
{
    const int64_t channels = n->channels[node];
    float *values = net_param(n, node, slot, 1, &channels);
    for (int64_t i = 0; i < channels; i++)
        values[i] = (float)(low + (high - low) * rq_random_unit(&n->random));
}

int net_conv(net *n, const char *name, int input, int64_t oc, rq_conv_attr conv, bool bias)
{
    const int node = net_node(n, RQ_OP_CONV, name, 1, &input, oc);
    const int64_t dims[4] = {oc, n->channels[input] / conv.groups, conv.kernel[0], conv.kernel[1]};
    const int64_t taps = dims[1] * dims[2] * dims[3];
    n->model.graph.nodes[node].conv = conv;
    float *weight = net_param(n, node, RQ_SLOT_WEIGHT, 4, dims);
    for (int64_t i = 0; i < oc * taps; i++)
        weight[i] = (float)(rq_random_normal(&n->random) / sqrt((double)taps));
    if (bias)
        net_uniform(n, node, RQ_SLOT_BIAS, -0.5, 0.5);
    return node;
}

int net_bn(net *n, const char *name, int input)
{
    const int node = net_node(n, RQ_OP_BATCH_NORM, name, 1, &input, n->channels[input]);
    n->model.graph.nodes[node].eps = 1e-5f;
    net_uniform(n, node, RQ_SLOT_WEIGHT, 0.5, 1.5);
    net_uniform(n, node, RQ_SLOT_BIAS, -0.5, 0.5);
    net_uniform(n, node, RQ_SLOT_MEAN, -0.3, 0.3);
    net_uniform(n, node, RQ_SLOT_VAR, 0.4, 1.6);
    (void)net_param(n, node, RQ_SLOT_TRACKED, 0, NULL);
    float *gamma = rq_tensor_f32(rq_graph_tensor(&n->model.graph, node, RQ_SLOT_WEIGHT));
    gamma[0] = -gamma[0];
    return node;
}

int net_unary(net *n, rq_op op, const char *name, int input)
{
    return net_node(n, op, name, 1, &input, n->channels[input]);
}

int net_scale(net *n, const char *name, int input)
{
    const int node = net_unary(n, RQ_OP_SCALE, name, input);
    net_uniform(n, node, RQ_SLOT_WEIGHT, -1.5, 1.5);
    return node;
}

int net_relu(net *n, const char *name, int input)
{
    return net_unary(n, RQ_OP_RELU, name, input);
}

int net_add2(net *n, const char *name, int a, int b)
{
    return net_node(n, RQ_OP_ADD, name, 2, (const int[]){a, b}, n->channels[a]);
}

int net_add3(net *n, const char *name, int a, int b, int c)
{
    return net_node(n, RQ_OP_ADD, name, 3, (const int[]){a, b, c}, n->channels[a]);
}

int net_block(net *n, const char *name, int input, int64_t oc, rq_conv_attr conv)
{
    const int node = net_conv(n, rq_test_path("%s.conv", name), input, oc, conv, false);
    return net_relu(n, rq_test_path("%s.nonlinearity", name),
                    net_bn(n, rq_test_path("%s.bn", name), node));
}

int net_gate(net *n, const char *name, int value, int64_t hidden)
{
    char names[6][64]; /* rq_test_path's texts are soon used again */
    static const char *const tails[6] = {".gap", ".down", ".relu", ".up", ".sigmoid", ""};
    for (int i = 0; i < 6; i++)
        (void)snprintf(names[i], sizeof names[i], "%s%s", name, tails[i]);
    const int64_t channels = n->channels[value];
    int node = net_unary(n, RQ_OP_GLOBAL_AVG_POOL, names[0], value);
    node = net_conv(n, names[1], node, hidden, NET_K1, true);
    node = net_relu(n, names[2], node);
    node = net_conv(n, names[3], node, channels, NET_K1, true);
    node = net_unary(n, RQ_OP_SIGMOID, names[4], node);
    return net_node(n, RQ_OP_MUL, names[5], 2, (const int[]){value, node}, channels);
}

int net_gated_block(net *n, const char *name, int input, int64_t oc, rq_conv_attr conv,
                    bool before_relu, int64_t hidden)
{
    char block[32];
    (void)snprintf(block, sizeof block, "%s", name);
    int node = net_conv(n, rq_test_path("%s.conv", block), input, oc, conv, false);
    node = net_bn(n, rq_test_path("%s.bn", block), node);
    if (before_relu)
        node = net_gate(n, rq_test_path("%s.se", block), node, hidden);
    node = net_relu(n, rq_test_path("%s.nonlinearity", block), node);
    return before_relu ? node : net_gate(n, rq_test_path("%s.post_se", block), node, hidden);
}

int net_head(net *n, int input)
{
    const int pool = net_unary(n, RQ_OP_GLOBAL_AVG_POOL, "gap", input);
    const int node = net_node(n, RQ_OP_LINEAR, "linear", 1, &pool, n->model.n_classes);
    const int64_t dims[2] = {n->model.n_classes, n->channels[pool]};
    float *weight = net_param(n, node, RQ_SLOT_WEIGHT, 2, dims);
    for (int64_t i = 0; i < dims[0] * dims[1]; i++)
        weight[i] = (float)rq_random_normal(&n->random);
    net_uniform(n, node, RQ_SLOT_BIAS, -0.5, 0.5);
    return node;
}

int net_find(const rq_model *model, const char *name)
{
    const int node = rq_graph_find_node(&model->graph, name);
    if (node < 0)
        fail_msg("no node %s", name);
    return node;
}

float *net_values(const rq_model *model, const char *name, rq_slot slot)
{
    const rq_tensor *tensor = rq_graph_tensor(&model->graph, net_find(model, name), slot);
    assert_non_null(tensor);
    return rq_tensor_f32(tensor);
}

net_batch net_random_batch(const rq_model *model, int n, bool ignore, uint64_t seed)
{
    const int side = model->preprocess.crop;
    const size_t bytes = (size_t)n * (size_t)side * (size_t)side * 3;
    net_batch batch = {.n = n, .pixels = rq_alloc(bytes)};
    assert_non_null(batch.pixels);
    rq_random random = {seed};
    for (size_t i = 0; i < bytes; i++)
        batch.pixels[i] = (uint8_t)rq_random_below(&random, 256);
    for (int i = 0; i < n; i++)
        batch.labels[i] = (int32_t)rq_random_below(&random, (uint64_t)model->n_classes);
    if (ignore)
        batch.labels[1] = RQ_LABEL_IGNORE;
    return batch;
}
