/* A small network in form deploy, and random images for it. */
#ifndef RQ_TESTS_CALIB_SMALL_NET_H
#define RQ_TESTS_CALIB_SMALL_NET_H

#include "runtime/base/random.h"
#include "runtime/model/model.h"
#include "tests/support/test.h"

enum { NET_SIDE = 12, NET_CLASSES = 5, NET_CHANNELS = 6, NET_GROUPS = 2 };

static int net_add(rq_graph *graph, rq_op op, const char *name, int input)
{
    rq_error err = RQ_ERROR_INIT;
    int node;
    assert_ok(rq_graph_add_node(graph, op, name, op != RQ_OP_INPUT, &input, &node, &err), &err);
    return node;
}

static void net_param(rq_graph *graph, int node, rq_slot slot, int rank, const int64_t *dims,
                      double scale, rq_random *random)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_graph_add_param(graph, node, slot, RQ_F32, rank, dims, &err), &err);
    rq_tensor *tensor = rq_graph_tensor(graph, node, slot);
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
        rq_tensor_f32(tensor)[i] = (float)(scale * rq_random_normal(random));
}

static int net_conv(rq_graph *graph, const char *name, int input, int ic, int groups,
                    rq_random *random)
{
    const int64_t dims[4] = {NET_CHANNELS, ic / groups, 3, 3};
    const int node = net_add(graph, RQ_OP_CONV, name, input);
    net_param(graph, node, RQ_SLOT_WEIGHT, 4, dims, 0.4, random);
    net_param(graph, node, RQ_SLOT_BIAS, 1, dims, 0.5, random);
    graph->nodes[node].conv = (rq_conv_attr){{3, 3}, {2, 2}, {1, 1}, {1, 1}, groups};
    return node;
}

/* Two blocks as merging leaves them, the second grouped; pooling; linear. */
static inline void net_make(rq_model *model, uint64_t seed)
{
    rq_random random = rq_random_stream(seed, 0, 0);
    const int64_t dims[2] = {NET_CLASSES, NET_CHANNELS};
    *model = (rq_model)RQ_MODEL_INIT;
    model->form = RQ_FORM_DEPLOY;
    model->arch = "repvgg:depth=1,1;width=6,6;classes=5";
    model->n_classes = NET_CLASSES;
    model->preprocess.resize = model->preprocess.crop = NET_SIDE;
    rq_graph *graph = &model->graph;
    int value = net_add(graph, RQ_OP_INPUT, "input", 0);
    value = net_conv(graph, "stage0.rbr_reparam", value, 3, 1, &random);
    value = net_add(graph, RQ_OP_RELU, "stage0.nonlinearity", value);
    value = net_conv(graph, "stage1.0.rbr_reparam", value, NET_CHANNELS, NET_GROUPS, &random);
    value = net_add(graph, RQ_OP_RELU, "stage1.0.nonlinearity", value);
    value = net_add(graph, RQ_OP_GLOBAL_AVG_POOL, "gap", value);
    value = net_add(graph, RQ_OP_LINEAR, "linear", value);
    net_param(graph, value, RQ_SLOT_WEIGHT, 2, dims, 0.5, &random);
    net_param(graph, value, RQ_SLOT_BIAS, 1, dims, 0.5, &random);
}

static inline void net_pixels(uint8_t *pixels, size_t n, uint64_t seed)
{
    rq_random random = rq_random_stream(seed, 1, 0);
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)rq_random_below(&random, 256);
}

#endif
