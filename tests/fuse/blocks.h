/* The blocks of the literature that merge into one convolution, as they are trained: each builder
 * appends one to a net and gives the node that ends it.
 *
 * Sources: RepVGG, QARepVGG, YOLOv6, RepOptimizer, ACNet, DiverseBranchBlock, RepLKNet. */
#ifndef RQ_TESTS_FUSE_BLOCKS_H
#define RQ_TESTS_FUSE_BLOCKS_H

#include "tests/fuse/net.h"

typedef struct block {
    const char *name;
    int (*build)(net *n, int x, const struct block *block);
    int ic, oc, kernel, stride, groups;
} block;

static inline bool has_identity(const block *b)
{
    return b->ic == b->oc && b->stride == 1;
}

/* convolution "NAME.conv" and batch norm "NAME.bn" */
static inline int conv_bn(net *n, const char *name, int x, int ic, int oc, rq_conv_attr conv)
{
    char full[64];
    (void)snprintf(full, sizeof full, "%s.conv", name);
    const int node = net_conv(n, full, x, ic, oc, conv);
    (void)snprintf(full, sizeof full, "%s.bn", name);
    return net_batch_norm(n, full, node, oc);
}

static inline int build_repvgg(net *n, int x, const block *b)
{
    int branches[3], k = 0;
    branches[k++] =
        conv_bn(n, "b.rbr_dense", x, b->ic, b->oc, square(b->kernel, b->stride, b->groups));
    branches[k++] = conv_bn(n, "b.rbr_1x1", x, b->ic, b->oc, square(1, b->stride, b->groups));
    if (has_identity(b))
        branches[k++] = net_batch_norm(n, "b.rbr_identity", x, b->oc);
    return net_add(n, RQ_OP_ADD, "b.add", k, branches);
}

/* batch norm after the sum; the 1x1 branch and the identity have none */
static inline int build_qarepvgg(net *n, int x, const block *b)
{
    int branches[3], k = 0;
    branches[k++] = conv_bn(n, "b.rbr_dense", x, b->ic, b->oc, square(3, b->stride, b->groups));
    branches[k++] = net_conv(n, "b.rbr_1x1", x, b->ic, b->oc, square(1, b->stride, b->groups));
    if (has_identity(b))
        branches[k++] = x;
    return net_batch_norm(n, "b.bn", net_add(n, RQ_OP_ADD, "b.add", k, branches), b->oc);
}

/* YOLOv6's: a 3x3 average pool besides */
static inline int build_qarepvgg_pool(net *n, int x, const block *b)
{
    const int branches[4] = {conv_bn(n, "b.rbr_dense", x, b->ic, b->oc, square(3, 1, b->groups)),
                             net_conv(n, "b.rbr_1x1", x, b->ic, b->oc, square(1, 1, b->groups)), x,
                             net_avg_pool(n, "b.rbr_avg", x, square(3, 1, 1))};
    return net_batch_norm(n, "b.bn", net_add(n, RQ_OP_ADD, "b.add", 4, branches), b->oc);
}

/* RepOptimizer's search and constant-scale blocks */
static inline int build_repopt_scales(net *n, int x, const block *b)
{
    int branches[3], k = 0;
    const int wide = net_conv(n, "b.conv", x, b->ic, b->oc, square(3, b->stride, b->groups));
    const int point = net_conv(n, "b.conv_1x1", x, b->ic, b->oc, square(1, b->stride, b->groups));
    branches[k++] = net_scale(n, "b.scale_conv", wide, b->oc);
    branches[k++] = net_scale(n, "b.scale_1x1", point, b->oc);
    if (has_identity(b))
        branches[k++] = net_scale(n, "b.scale_identity", x, b->oc);
    return net_batch_norm(n, "b.bn", net_add(n, RQ_OP_ADD, "b.add", k, branches), b->oc);
}

static inline int build_repopt_target(net *n, int x, const block *b)
{
    return conv_bn(n, "b", x, b->ic, b->oc, square(3, b->stride, b->groups));
}

static inline int build_biased(net *n, int x, const block *b)
{
    int branches[3], k = 0;
    const int wide = net_biased_conv(n, "b.wide", x, b->ic, b->oc, square(3, b->stride, b->groups));
    branches[k++] = net_batch_norm(n, "b.bn", wide, b->oc);
    branches[k++] = net_biased_conv(n, "b.point", x, b->ic, b->oc, square(1, b->stride, b->groups));
    if (has_identity(b))
        branches[k++] = x;
    return net_add(n, RQ_OP_ADD, "b.add", k, branches);
}

static inline int build_acb(net *n, int x, const block *b)
{
    const int k = b->kernel;
    rq_conv_attr tall = square(k, b->stride, b->groups), flat = tall;
    tall.kernel[1] = flat.kernel[0] = 1;
    tall.pad[1] = flat.pad[0] = 0;
    const int branches[3] = {
        conv_bn(n, "b.square", x, b->ic, b->oc, square(k, b->stride, b->groups)),
        conv_bn(n, "b.ver", x, b->ic, b->oc, tall), conv_bn(n, "b.hor", x, b->ic, b->oc, flat)};
    return net_add(n, RQ_OP_ADD, "b.add", 3, branches);
}

/* A column less on each side, for axis 1 (axis 0: a row): the depthwise kernel 0 1 0. */
static inline int crop(net *n, const char *name, int x, int channels, int axis)
{
    rq_conv_attr conv = {{1, 1}, {1, 1}, {0, 0}, {1, 1}, channels};
    conv.kernel[axis] = 3;
    const int node = net_conv(n, name, x, channels, channels, conv);
    float *weight = net_values(n, name, RQ_SLOT_WEIGHT);
    for (int i = 0; i < 3 * channels; i++)
        weight[i] = i % 3 == 1 ? 1.0f : 0.0f;
    return node;
}

/* 3x3 without padding: the other branches read a cropped input */
static inline int build_acb_cropped(net *n, int x, const block *b)
{
    rq_conv_attr wide = square(3, b->stride, b->groups);
    wide.pad[0] = wide.pad[1] = 0;
    rq_conv_attr tall = wide, flat = wide;
    tall.kernel[1] = flat.kernel[0] = 1;
    const int narrow = crop(n, "b.crop_w", x, b->ic, 1), low = crop(n, "b.crop_h", x, b->ic, 0);
    const int branches[3] = {conv_bn(n, "b.square", x, b->ic, b->oc, wide),
                             conv_bn(n, "b.ver", narrow, b->ic, b->oc, tall),
                             conv_bn(n, "b.hor", low, b->ic, b->oc, flat)};
    return net_add(n, RQ_OP_ADD, "b.add", 3, branches);
}

/* 1x1 + batch norm, padded in front of both, and the second convolution without padding */
static inline int build_dbb(net *n, int x, const block *b)
{
    const int k = b->kernel;
    const bool depthwise = b->groups == b->oc;
    const int inner = depthwise ? 2 * b->ic : b->ic;
    rq_conv_attr first = square(1, 1, b->groups), second = square(k, b->stride, b->groups);
    rq_conv_attr window = square(k, b->stride, 1);
    int branches[4], n_branches = 0;
    branches[n_branches++] = conv_bn(n, "b.dbb_origin", x, b->ic, b->oc, second);
    if (!depthwise)
        branches[n_branches++] =
            conv_bn(n, "b.dbb_1x1", x, b->ic, b->oc, square(1, b->stride, b->groups));
    first.pad[0] = first.pad[1] = k / 2;
    second.pad[0] = second.pad[1] = 0;
    const int middle = conv_bn(n, "b.dbb_1x1_kxk.1", x, b->ic, inner, first);
    branches[n_branches++] = conv_bn(n, "b.dbb_1x1_kxk.2", middle, inner, b->oc, second);
    int pooled = x;
    if (!depthwise) {
        pooled = conv_bn(n, "b.dbb_avg", x, b->ic, b->oc, first);
        window.pad[0] = window.pad[1] = 0;
    }
    pooled = net_avg_pool(n, "b.dbb_avg.avg", pooled, window);
    branches[n_branches++] = net_batch_norm(n, "b.dbb_avg.avgbn", pooled, b->oc);
    return net_add(n, RQ_OP_ADD, "b.add", n_branches, branches);
}

/* a large depthwise kernel and a small one */
static inline int build_replk(net *n, int x, const block *b)
{
    const int branches[2] = {
        conv_bn(n, "b.lkb_origin", x, b->ic, b->oc, square(b->kernel, b->stride, b->groups)),
        conv_bn(n, "b.small_conv", x, b->ic, b->oc, square(5, b->stride, b->groups))};
    return net_add(n, RQ_OP_ADD, "b.add", 2, branches);
}

/* dilation 2 next to an undilated 1x1 */
static inline int build_dilated(net *n, int x, const block *b)
{
    rq_conv_attr wide = square(3, b->stride, b->groups);
    wide.dilation[0] = wide.dilation[1] = wide.pad[0] = wide.pad[1] = 2;
    const int branches[3] = {conv_bn(n, "b.rbr_dense", x, b->ic, b->oc, wide),
                             conv_bn(n, "b.rbr_1x1", x, b->ic, b->oc, square(1, 1, b->groups)),
                             net_batch_norm(n, "b.rbr_identity", x, b->oc)};
    return net_add(n, RQ_OP_ADD, "b.add", 3, branches);
}

/* a dense 5x5 that holds a 3x3 of dilation 2 */
static inline int build_dilated_inside(net *n, int x, const block *b)
{
    rq_conv_attr sparse = square(3, b->stride, b->groups);
    sparse.dilation[0] = sparse.dilation[1] = sparse.pad[0] = sparse.pad[1] = 2;
    const int branches[2] = {
        conv_bn(n, "b.sparse", x, b->ic, b->oc, sparse),
        conv_bn(n, "b.dense", x, b->ic, b->oc, square(5, b->stride, b->groups))};
    return net_add(n, RQ_OP_ADD, "b.add", 2, branches);
}

/* 4x4 and 2x2: taps align though no centre does */
static inline int build_even(net *n, int x, const block *b)
{
    rq_conv_attr wide = square(4, b->stride, b->groups), narrow = square(2, b->stride, b->groups);
    wide.pad[0] = wide.pad[1] = 1;
    narrow.pad[0] = narrow.pad[1] = 0;
    const int branches[2] = {conv_bn(n, "b.wide", x, b->ic, b->oc, wide),
                             conv_bn(n, "b.narrow", x, b->ic, b->oc, narrow)};
    return net_add(n, RQ_OP_ADD, "b.add", 2, branches);
}

/* branches of 4 and of 6 groups, and the value itself, of as many as it has channels */
static inline int build_mixed_groups(net *n, int x, const block *b)
{
    const int branches[3] = {conv_bn(n, "b.a", x, b->ic, b->oc, square(3, 1, 4)),
                             conv_bn(n, "b.b", x, b->ic, b->oc, square(1, 1, 6)), x};
    return net_add(n, RQ_OP_ADD, "b.add", 3, branches);
}

/* sums of sums, scales and batch norms before and after, a sequence of a sum */
static inline int build_nested(net *n, int x, const block *b)
{
    const int c = b->ic;
    rq_conv_attr padded = square(1, 1, 1), valid = square(3, b->stride, b->groups);
    padded.pad[0] = padded.pad[1] = 1;
    valid.pad[0] = valid.pad[1] = 0;
    const int scaled = net_scale(n, "b.pre", x, c);
    const int inner[2] = {net_conv(n, "b.u", x, c, c, padded),
                          net_conv(n, "b.v", scaled, c, c, padded)};
    const int normal = net_batch_norm(n, "b.mid", net_add(n, RQ_OP_ADD, "b.inner", 2, inner), c);
    const int outer[3] = {net_biased_conv(n, "b.w", normal, c, b->oc, valid),
                          net_scale(n, "b.half", x, c),
                          conv_bn(n, "b.one", scaled, c, b->oc, square(1, b->stride, 1))};
    return net_batch_norm(n, "b.post", net_add(n, RQ_OP_ADD, "b.add", 3, outer), b->oc);
}

static const block blocks[] = {
    {"RepVGG", build_repvgg, 6, 6, 3, 1, 1},
    {"RepVGG, stride 2", build_repvgg, 4, 10, 3, 2, 1},
    {"RepVGG, groups", build_repvgg, 6, 6, 3, 1, 3},
    {"RepVGG, groups, stride 2", build_repvgg, 4, 10, 3, 2, 2},
    {"RepVGG, depthwise", build_repvgg, 6, 6, 3, 1, 6},
    {"RepVGG, 5x5", build_repvgg, 4, 4, 5, 1, 1},
    {"QARepVGG", build_qarepvgg, 6, 6, 3, 1, 1},
    {"QARepVGG, stride 2", build_qarepvgg, 4, 6, 3, 2, 2},
    {"QARepVGG with a pool", build_qarepvgg_pool, 6, 6, 3, 1, 1},
    {"QARepVGG with a pool, groups", build_qarepvgg_pool, 6, 6, 3, 1, 2},
    {"RepOpt scales", build_repopt_scales, 6, 6, 3, 1, 1},
    {"RepOpt scales, stride 2", build_repopt_scales, 4, 6, 3, 2, 1},
    {"RepOpt target", build_repopt_target, 4, 6, 3, 2, 1},
    {"biases", build_biased, 5, 5, 3, 1, 1},
    {"ACB", build_acb, 4, 6, 3, 1, 1},
    {"ACB, 5x5, stride 2", build_acb, 4, 6, 5, 2, 2},
    {"ACB, cropped", build_acb_cropped, 4, 6, 3, 1, 1},
    {"ACB, cropped, stride 2", build_acb_cropped, 4, 4, 3, 2, 2},
    {"DBB", build_dbb, 6, 4, 3, 1, 1},
    {"DBB, stride 2", build_dbb, 6, 6, 3, 2, 1},
    {"DBB, 5x5", build_dbb, 4, 4, 5, 1, 1},
    {"DBB, groups", build_dbb, 6, 9, 3, 1, 3},
    {"DBB, groups, stride 2", build_dbb, 6, 6, 3, 2, 2},
    {"DBB, depthwise", build_dbb, 6, 6, 3, 1, 6},
    {"DBB, depthwise, stride 2", build_dbb, 6, 6, 3, 2, 6},
    {"RepLKNet", build_replk, 4, 4, 13, 1, 4},
    {"RepLKNet, stride 2", build_replk, 4, 4, 13, 2, 4},
    {"dilated", build_dilated, 6, 6, 3, 1, 2},
    {"dilated inside", build_dilated_inside, 4, 4, 5, 1, 1},
    {"even kernels", build_even, 4, 6, 4, 2, 1},
    {"mixed groups", build_mixed_groups, 12, 12, 3, 1, 2},
    {"nested", build_nested, 4, 4, 3, 1, 2},
};

enum { N_BLOCKS = sizeof blocks / sizeof blocks[0] };

#endif
