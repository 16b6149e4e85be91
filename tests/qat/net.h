/* Small networks with random parameters, built operator by operator, and random images for them. */
#ifndef RQ_TESTS_QAT_NET_H
#define RQ_TESTS_QAT_NET_H

#include "runtime/base/random.h"
#include "runtime/image/loader.h" /* RQ_LABEL_IGNORE */
#include "runtime/model/model.h"

enum { NET_NODES = 96 };

typedef struct net {
    rq_model model;
    rq_random random;
    int64_t channels[NET_NODES]; /* of each node's value */
} net;

#define NET_K1    ((rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1})
#define NET_K3    ((rq_conv_attr){{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1})
#define NET_K3_S2 ((rq_conv_attr){{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1})

int net_node(net *n, rq_op op, const char *name, int n_inputs, const int *inputs, int64_t channels);

/* A model of square images with its input node, 0. */
void net_begin(net *n, rq_form form, int side, int classes, uint64_t seed);

float *net_param(net *n, int node, rq_slot slot, int rank, const int64_t *dims);
void net_uniform(net *n, int node, rq_slot slot, double low, double high);
int net_conv(net *n, const char *name, int input, int64_t oc, rq_conv_attr conv, bool bias);

/* The first channel's gamma is negative. */
int net_bn(net *n, const char *name, int input);

int net_unary(net *n, rq_op op, const char *name, int input);
int net_scale(net *n, const char *name, int input);
int net_relu(net *n, const char *name, int input);
int net_add2(net *n, const char *name, int a, int b);
int net_add3(net *n, const char *name, int a, int b, int c);

/* conv "NAME.conv", batch norm "NAME.bn", relu "NAME.nonlinearity": as insert_bn leaves them. */
int net_block(net *n, const char *name, int input, int64_t oc, rq_conv_attr conv);

/* value times a gate of it, squeeze-and-excitation with hidden channels: "NAME.gap", "NAME.down",
 * "NAME.relu", "NAME.up", "NAME.sigmoid", and the product "NAME". */
int net_gate(net *n, const char *name, int value, int64_t hidden);

/* A block with its gate before the relu ("NAME.se") or after it ("NAME.post_se"). */
int net_gated_block(net *n, const char *name, int input, int64_t oc, rq_conv_attr conv,
                    bool before_relu, int64_t hidden);

/* global_avg_pool "gap", linear "linear" with the model's classes. */
int net_head(net *n, int input);

int net_find(const rq_model *model, const char *name);
float *net_values(const rq_model *model, const char *name, rq_slot slot);

/* A batch of noise and labels; the second label is RQ_LABEL_IGNORE when asked for. */
typedef struct net_batch {
    int n;
    uint8_t *pixels;
    int32_t labels[64];
} net_batch;
net_batch net_random_batch(const rq_model *model, int n, bool ignore, uint64_t seed);

#endif
