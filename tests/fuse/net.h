/* Small graphs with random parameters, built node by node. */
#ifndef RQ_TESTS_FUSE_NET_H
#define RQ_TESTS_FUSE_NET_H

#include <stdio.h>

#include "runtime/base/random.h"
#include "runtime/model/model.h"
#include "tests/support/test.h"

typedef struct net {
    rq_model model;
    rq_random random;
} net;

/* Form train, crop 32, with its input. */
static inline void net_init(net *n, uint64_t seed)
{
    rq_error err;
    n->model = (rq_model)RQ_MODEL_INIT;
    n->model.form = RQ_FORM_TRAIN;
    n->model.preprocess.crop = 32;
    n->model.arch = "test";
    n->random = rq_random_stream(seed, 0, 0);
    assert_ok(rq_graph_add_node(&n->model.graph, RQ_OP_INPUT, "input", 0, NULL, NULL, &err), &err);
}

static inline int net_add(net *n, rq_op op, const char *name, int n_inputs, const int *inputs)
{
    rq_error err;
    int node;
    assert_ok(rq_graph_add_node(&n->model.graph, op, name, n_inputs, inputs, &node, &err), &err);
    return node;
}

static inline int net_relu(net *n, const char *name, int input)
{
    return net_add(n, RQ_OP_RELU, name, 1, &input);
}

/* Standard normal values. */
static inline float *net_param(net *n, int node, rq_slot slot, int rank, const int64_t *dims)
{
    rq_error err;
    rq_graph *graph = &n->model.graph;
    assert_ok(rq_graph_add_param(graph, node, slot, RQ_F32, rank, dims, &err), &err);
    rq_tensor *tensor = rq_graph_tensor(graph, node, slot);
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
        rq_tensor_f32(tensor)[i] = (float)rq_random_normal(&n->random);
    return rq_tensor_f32(tensor);
}

/* Square, padded so that sizes stay where the kernel is odd. */
static inline rq_conv_attr square(int kernel, int stride, int groups)
{
    return (rq_conv_attr){
        {kernel, kernel}, {stride, stride}, {kernel / 2, kernel / 2}, {1, 1}, groups};
}

static inline int net_conv(net *n, const char *name, int input, int ic, int oc, rq_conv_attr conv)
{
    const int64_t dims[4] = {oc, ic / conv.groups, conv.kernel[0], conv.kernel[1]};
    const int node = net_add(n, RQ_OP_CONV, name, 1, &input);
    (void)net_param(n, node, RQ_SLOT_WEIGHT, 4, dims);
    n->model.graph.nodes[node].conv = conv;
    return node;
}

static inline int net_biased_conv(net *n, const char *name, int input, int ic, int oc,
                                  rq_conv_attr conv)
{
    const int64_t dims[1] = {oc};
    const int node = net_conv(n, name, input, ic, oc, conv);
    (void)net_param(n, node, RQ_SLOT_BIAS, 1, dims);
    return node;
}

/* Variances in 0 .. 0.1, small ones often: factors up to 316. */
static inline int net_batch_norm(net *n, const char *name, int input, int channels)
{
    const int64_t dims[1] = {channels};
    const int node = net_add(n, RQ_OP_BATCH_NORM, name, 1, &input);
    for (rq_slot slot = RQ_SLOT_WEIGHT; slot <= RQ_SLOT_MEAN; slot++)
        (void)net_param(n, node, slot, 1, dims);
    float *var = net_param(n, node, RQ_SLOT_VAR, 1, dims);
    for (int c = 0; c < channels; c++) {
        const double u = rq_random_unit(&n->random);
        var[c] = (float)(0.1 * u * u * u * u);
    }
    n->model.graph.nodes[node].eps = 1e-5f;
    return node;
}

static inline int net_scale(net *n, const char *name, int input, int channels)
{
    const int64_t dims[1] = {channels};
    const int node = net_add(n, RQ_OP_SCALE, name, 1, &input);
    (void)net_param(n, node, RQ_SLOT_WEIGHT, 1, dims);
    return node;
}

static inline int net_avg_pool(net *n, const char *name, int input, rq_conv_attr window)
{
    const int node = net_add(n, RQ_OP_AVG_POOL, name, 1, &input);
    window.groups = 1;
    n->model.graph.nodes[node].conv = window;
    return node;
}

/* input -> 1x1 convolution (3 -> c channels) -> relu, so that branches read a value of c
 * channels */
static inline int net_stem(net *n, int c)
{
    return net_relu(n, "stem.relu", net_conv(n, "stem", 0, 3, c, square(1, 1, 1)));
}

static inline int net_find(const net *n, const char *node)
{
    const int i = rq_graph_find_node(&n->model.graph, node);
    if (i < 0)
        fail_msg("no node %s", node);
    return i;
}

static inline float *net_values(const net *n, const char *node, rq_slot slot)
{
    return rq_tensor_f32(rq_graph_tensor(&n->model.graph, net_find(n, node), slot));
}

static inline rq_conv_attr *net_geometry(net *n, const char *node)
{
    return &n->model.graph.nodes[net_find(n, node)].conv;
}

#endif
