/* Equivalent convolutions by recursion over the linear operators. */
#include "fuse/equivalent.h"

#include <math.h>

#include "runtime/base/size.h"

void rq_equivalent_deinit(rq_equivalent *equivalent)
{
    rq_free(equivalent->weight);
    rq_free(equivalent->bias);
    *equivalent = (rq_equivalent)RQ_EQUIVALENT_INIT;
}

bool rq_is_linear(rq_op op)
{
    return op == RQ_OP_CONV || op == RQ_OP_BATCH_NORM || op == RQ_OP_ADD;
}

int rq_linear_base(const rq_graph *graph, int node)
{
    const int input = graph->nodes[node].input[0];
    if (graph->nodes[node].op == RQ_OP_CONV || !rq_is_linear(graph->nodes[input].op))
        return input;
    return rq_linear_base(graph, input);
}

static size_t taps(const rq_equivalent *e)
{
    return (size_t)e->conv.kernel[0] * (size_t)e->conv.kernel[1];
}

static size_t weights_per_channel(const rq_equivalent *e)
{
    return (size_t)(e->ic / e->conv.groups) * taps(e);
}

/* Zeroed weight and bias for out's sizes. */
static rq_status allocate(rq_equivalent *out, rq_error *err)
{
    const int64_t dims[4] = {out->oc, out->ic / out->conv.groups, out->conv.kernel[0],
                             out->conv.kernel[1]};
    size_t n_weights = 0;
    void *weight, *bias;
    if (!rq_dims_elems(dims, 4, &n_weights))
        return rq_fail(err, RQ_ERR_NOMEM, "the merged kernel is too large");
    rq_status status = rq_alloc_array(&weight, n_weights, sizeof(double), err);
    if (status)
        return status;
    out->weight = weight;
    status = rq_alloc_array(&bias, (size_t)out->oc, sizeof(double), err);
    if (!status)
        out->bias = bias;
    return status;
}

/* ---- the cases ---- */

static rq_status find_identity(rq_equivalent *out, int64_t channels, rq_error *err)
{
    out->oc = out->ic = channels;
    out->conv = (rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, (int)channels};
    const rq_status status = allocate(out, err);
    for (int64_t c = 0; c < channels && !status; c++)
        out->weight[c] = 1.0;
    return status;
}

static rq_status find_conv(rq_equivalent *out, const rq_graph *graph, int index, int base,
                           rq_error *err)
{
    const rq_node *node = &graph->nodes[index];
    if (node->input[0] != base)
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: it reads %s, not %s; only branches of one value are merged", node->name,
                       graph->nodes[node->input[0]].name, graph->nodes[base].name);
    if (node->slot[RQ_SLOT_WEIGHT_SCALE] >= 0)
        return rq_fail(err, RQ_ERR_MODEL, "%s: fake-quantized weights are not merged", node->name);
    const rq_tensor *weight = rq_graph_tensor(graph, index, RQ_SLOT_WEIGHT);
    const rq_tensor *bias = rq_graph_tensor(graph, index, RQ_SLOT_BIAS);
    out->oc = weight->dim[0];
    out->ic = weight->dim[1] * node->conv.groups;
    out->conv = node->conv;
    const rq_status status = allocate(out, err);
    if (status)
        return status;
    for (size_t i = 0; i < rq_tensor_elems(weight); i++)
        out->weight[i] = (double)rq_tensor_f32(weight)[i];
    for (int64_t c = 0; c < out->oc && bias; c++)
        out->bias[c] = (double)rq_tensor_f32(bias)[c];
    return RQ_OK;
}

static rq_status apply_batch_norm(rq_equivalent *e, const rq_graph *graph, int index, rq_error *err)
{
    const rq_node *node = &graph->nodes[index];
    const float *gamma = rq_tensor_f32(rq_graph_tensor(graph, index, RQ_SLOT_WEIGHT));
    const float *beta = rq_tensor_f32(rq_graph_tensor(graph, index, RQ_SLOT_BIAS));
    const float *mean = rq_tensor_f32(rq_graph_tensor(graph, index, RQ_SLOT_MEAN));
    const float *var = rq_tensor_f32(rq_graph_tensor(graph, index, RQ_SLOT_VAR));
    const size_t n = weights_per_channel(e);
    for (int64_t c = 0; c < e->oc; c++) {
        const double variance = (double)var[c] + (double)node->eps;
        if (!(var[c] >= 0.0f) || !isfinite(variance))
            return rq_fail(err, RQ_ERR_MODEL,
                           "%s: running_var[%lld] is %g, it must be finite and "
                           "not negative",
                           node->name, (long long)c, (double)var[c]);
        const double scale = (double)gamma[c] / sqrt(variance);
        for (size_t i = 0; i < n; i++)
            e->weight[(size_t)c * n + i] *= scale;
        e->bias[c] = (double)beta[c] + (e->bias[c] - (double)mean[c]) * scale;
    }
    return RQ_OK;
}

/* ---- sums ---- */

static int greatest_common_divisor(int a, int b)
{
    while (b != 0) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The geometry that holds all branches: on each axis that of the longest kernel, with the finest
 * groups that divide those of every branch. */
static rq_conv_attr cover(const rq_equivalent *branches, int n)
{
    rq_conv_attr all = branches[0].conv;
    for (int i = 1; i < n; i++) {
        const rq_conv_attr *conv = &branches[i].conv;
        for (int axis = 0; axis < 2; axis++)
            if (conv->kernel[axis] > all.kernel[axis]) {
                all.kernel[axis] = conv->kernel[axis];
                all.pad[axis] = conv->pad[axis];
                all.dilation[axis] = conv->dilation[axis];
            }
        all.groups = greatest_common_divisor(all.groups, conv->groups);
    }
    return all;
}

/* Where a branch's first tap lies in the covering kernel, on one axis; -1 when it does not fit. */
static int tap_offset(const rq_conv_attr *all, const rq_conv_attr *branch, int axis)
{
    const int shift = all->pad[axis] - branch->pad[axis];
    if (branch->stride[axis] != all->stride[axis] ||
        (branch->kernel[axis] > 1 && branch->dilation[axis] != all->dilation[axis]) ||
        shift % all->dilation[axis] != 0)
        return -1;
    const int offset = shift / all->dilation[axis];
    return offset >= 0 && offset + branch->kernel[axis] <= all->kernel[axis] ? offset : -1;
}

/* out += branch, whose taps lie at offset in out's kernel. */
static void lay_over(rq_equivalent *out, const rq_equivalent *branch, const int offset[2])
{
    const int64_t branch_ic = branch->ic / branch->conv.groups, out_ic = out->ic / out->conv.groups;
    const int64_t branch_oc = branch->oc / branch->conv.groups, out_oc = out->oc / out->conv.groups;
    const int kh = branch->conv.kernel[0], kw = branch->conv.kernel[1];
    const double *source = branch->weight;
    for (int64_t oc = 0; oc < out->oc; oc++) {
        /* the branch's first input channel within out's group */
        const int64_t first = oc / branch_oc * branch_ic - oc / out_oc * out_ic;
        for (int64_t ic = 0; ic < branch_ic; ic++) {
            double *kernel = out->weight + (size_t)(oc * out_ic + first + ic) * taps(out);
            for (int y = 0; y < kh; y++)
                for (int x = 0; x < kw; x++)
                    kernel[(y + offset[0]) * out->conv.kernel[1] + x + offset[1]] += *source++;
        }
        out->bias[oc] += branch->bias[oc];
    }
}

static rq_status fail_branch(const rq_conv_attr *all, const rq_conv_attr *conv, const char *sum,
                             const char *branch, rq_error *err)
{
    return rq_fail(
        err, RQ_ERR_MODEL,
        "%s: the branch %s (kernel %dx%d, stride %d, padding %d) does not lie in a %dx%d "
        "kernel of stride %d, padding %d",
        sum, branch, conv->kernel[0], conv->kernel[1], conv->stride[0], conv->pad[0],
        all->kernel[0], all->kernel[1], all->stride[0], all->pad[0]);
}

/* The branch whose kernel has all the taps of the sum already; -1 when there is none. */
static int find_cover(const rq_equivalent *branches, int n, const rq_conv_attr *all)
{
    for (int i = 0; i < n; i++)
        if (branches[i].conv.kernel[0] == all->kernel[0] &&
            branches[i].conv.kernel[1] == all->kernel[1] && branches[i].conv.groups == all->groups)
            return i;
    return -1;
}

/* Lay the branches over one another: into the memory of one that covers the others, if there is. */
static rq_status sum(rq_equivalent *out, rq_equivalent *branches, const rq_graph *graph, int index,
                     rq_error *err)
{
    const rq_node *node = &graph->nodes[index];
    const rq_conv_attr all = cover(branches, node->n_inputs);
    int offset[RQ_MAX_INPUTS][2];
    for (int i = 0; i < node->n_inputs; i++)
        for (int axis = 0; axis < 2; axis++) {
            offset[i][axis] = tap_offset(&all, &branches[i].conv, axis);
            if (offset[i][axis] < 0)
                return fail_branch(&all, &branches[i].conv, node->name,
                                   graph->nodes[node->input[i]].name, err);
        }
    const int widest = find_cover(branches, node->n_inputs, &all);
    if (widest >= 0) {
        *out = branches[widest];
        branches[widest] = (rq_equivalent)RQ_EQUIVALENT_INIT;
    } else {
        *out = (rq_equivalent){.oc = branches[0].oc, .ic = branches[0].ic, .conv = all};
        const rq_status status = allocate(out, err);
        if (status)
            return status;
    }
    for (int i = 0; i < node->n_inputs; i++)
        if (i != widest)
            lay_over(out, &branches[i], offset[i]);
    return RQ_OK;
}

/* What the recursion carries. Sums that read each other's branches again and again would take
 * exponential time; the budget ends that. */
typedef struct search {
    const rq_graph *graph;
    const rq_shape *shapes;
    int base;
    int budget; /* operators still to be visited */
    rq_error *err;
} search;

static rq_status find(rq_equivalent *out, search *s, int node);

static rq_status find_sum(rq_equivalent *out, search *s, int index)
{
    const rq_node *node = &s->graph->nodes[index];
    rq_equivalent branches[RQ_MAX_INPUTS] = {RQ_EQUIVALENT_INIT};
    rq_status status = RQ_OK;
    for (int i = 0; i < node->n_inputs && !status; i++)
        status = find(&branches[i], s, node->input[i]);
    if (!status)
        status = sum(out, branches, s->graph, index, s->err);
    for (int i = 0; i < RQ_MAX_INPUTS; i++)
        rq_equivalent_deinit(&branches[i]);
    return status;
}

static rq_status find(rq_equivalent *out, search *s, int index)
{
    const rq_node *node = &s->graph->nodes[index];
    rq_status status;
    if (s->budget-- == 0)
        return rq_fail(s->err, RQ_ERR_MODEL, "%s: its linear part has over %d operators",
                       node->name, RQ_MAX_LINEAR_PART);
    if (index == s->base)
        return find_identity(out, s->shapes[index].c, s->err);
    switch (node->op) {
    case RQ_OP_CONV:
        return find_conv(out, s->graph, index, s->base, s->err);
    case RQ_OP_BATCH_NORM:
        status = find(out, s, node->input[0]);
        return status ? status : apply_batch_norm(out, s->graph, index, s->err);
    case RQ_OP_ADD:
        return find_sum(out, s, index);
    default:
        return rq_fail(s->err, RQ_ERR_MODEL,
                       "%s: %s is not linear; it cannot be merged with branches of %s", node->name,
                       rq_op_name(node->op), s->graph->nodes[s->base].name);
    }
}

rq_status rq_equivalent_find(rq_equivalent *out, const rq_graph *graph, const rq_shape *shapes,
                             int node, int base, rq_error *err)
{
    search s = {graph, shapes, base, RQ_MAX_LINEAR_PART, err};
    *out = (rq_equivalent)RQ_EQUIVALENT_INIT;
    const rq_status status = find(out, &s, node);
    if (status)
        rq_equivalent_deinit(out);
    return status;
}
