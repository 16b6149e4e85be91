/* Planning: one pass from the end to find the part's operators, one from the base with a row per
 * operator for their geometry, their fit and what they will take. */
#include "fuse/linear_part.h"

#include <assert.h>

/* ---- where a part begins ---- */

static bool is_affine(rq_op op)
{
    return op == RQ_OP_BATCH_NORM || op == RQ_OP_SCALE;
}

/* Mark the inputs of a node as open; how many were not. */
static int open_inputs(const rq_node *node, bool *open)
{
    int n = 0;
    for (int i = 0; i < node->n_inputs; i++) {
        n += !open[node->input[i]];
        open[node->input[i]] = true;
    }
    return n;
}

/* Open values are replaced by their inputs, the latest first, until one is left: all ways lead
 * through it, and through no later one. */
static rq_status find_common_value(const rq_graph *graph, int sum, int *out, rq_error *err)
{
    bool open[RQ_MAX_NODES] = {false};
    int n_open = open_inputs(&graph->nodes[sum], open);
    for (int at = sum - 1;; at--) {
        const rq_node *node = &graph->nodes[at];
        if (!open[at])
            continue;
        if (--n_open == 0) {
            *out = at;
            return RQ_OK;
        }
        if (!rq_is_linear(node->op)) {
            int other = at - 1;
            while (!open[other])
                other--;
            return rq_fail(err, RQ_ERR_MODEL,
                           "%s: %s is not linear; the sum %s cannot merge it with a branch of %s",
                           node->name, rq_op_name(node->op), graph->nodes[sum].name,
                           graph->nodes[other].name);
        }
        n_open += open_inputs(node, open);
    }
}

rq_status rq_linear_base(const rq_graph *graph, int node, int *base, rq_error *err)
{
    const rq_node *at = &graph->nodes[node];
    while (is_affine(at->op) && rq_is_linear(graph->nodes[at->input[0]].op))
        at = &graph->nodes[at->input[0]];
    if (at->op == RQ_OP_ADD)
        return find_common_value(graph, (int)(at - graph->nodes), base, err);
    *base = at->input[0];
    return RQ_OK;
}

/* ---- operators with parameters ---- */

rq_window rq_linear_window(const rq_graph *graph, int node, int64_t channels)
{
    const rq_tensor *weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT);
    const rq_tensor *bias = rq_graph_tensor(graph, node, RQ_SLOT_BIAS);
    rq_window window = {channels, graph->nodes[node].conv, NULL, NULL};
    for (int axis = 0; axis < 2; axis++)
        if (window.conv.kernel[axis] == 1)
            window.conv.dilation[axis] = 1;
    if (weight) {
        window.oc = weight->dim[0];
        window.weight = rq_tensor_f32(weight);
        window.bias = bias ? rq_tensor_f32(bias) : NULL;
    } else {
        window.conv.groups = (int)channels;
    }
    return window;
}

rq_scale_shift rq_linear_scale_shift(const rq_graph *graph, int node, int64_t c)
{
    const rq_tensor *weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT);
    if (graph->nodes[node].op == RQ_OP_SCALE)
        return (rq_scale_shift){(double)rq_tensor_f32(weight)[c], 0.0};
    const double var = (double)rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_VAR))[c];
    const double mean = (double)rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MEAN))[c];
    const double beta = (double)rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_BIAS))[c];
    const double factor =
        (double)rq_tensor_f32(weight)[c] / sqrt(var + (double)graph->nodes[node].eps);
    return (rq_scale_shift){factor, beta - mean * factor};
}

/* ---- the rows: geometry, fit, cost ---- */

typedef struct planning {
    rq_linear_part *part;
    const rq_shape *shapes;
    rq_error *err;
} planning;

static const rq_node *node_at(const planning *p, int i)
{
    return &p->part->graph->nodes[i];
}

static rq_linear_value *value_at(const planning *p, int i)
{
    return &p->part->values[i - p->part->base];
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t find_all(const rq_linear_value *value)
{
    return rq_linear_find_elems(value, value->equivalent.oc);
}

static rq_status plan_base(const planning *p)
{
    const int64_t channels = p->shapes[p->part->base].c;
    value_at(p, p->part->base)->equivalent =
        (rq_conv_f64){.oc = channels,
                      .ic = channels,
                      .n_rows = channels,
                      .conv = {{1, 1}, {1, 1}, {0, 0}, {1, 1}, (int)channels}};
    return RQ_OK;
}

static rq_status plan_affine(const planning *p, int i)
{
    const rq_linear_value *in = value_at(p, node_at(p, i)->input[0]);
    rq_linear_value *out = value_at(p, i);
    out->equivalent = in->equivalent;
    out->has_bias = in->has_bias;
    out->find_fixed = in->find_fixed;
    out->find_per_row = in->find_per_row;
    out->pull_elems = larger(in->n_elems + find_all(in), in->pull_elems);
    out->work = (double)in->n_elems;
    return RQ_OK;
}

static rq_status plan_batch_norm(const planning *p, int i)
{
    const rq_node *node = node_at(p, i);
    const rq_tensor *var = rq_graph_tensor(p->part->graph, i, RQ_SLOT_VAR);
    for (int64_t c = 0; c < var->dim[0]; c++) {
        const float value = rq_tensor_f32(var)[c];
        if (!(value >= 0.0f) || !isfinite((double)value + (double)node->eps))
            return rq_fail(p->err, RQ_ERR_MODEL,
                           "%s: running_var[%lld] is %g, it must be finite and not negative",
                           node->name, (long long)c, (double)value);
    }
    RQ_TRY(plan_affine(p, i));
    value_at(p, i)->has_bias = true;
    return RQ_OK;
}

static rq_status fail_branch(const planning *p, int i, const rq_conv_attr *all, int branch)
{
    const int input = node_at(p, i)->input[branch];
    const rq_conv_attr *conv = &value_at(p, input)->equivalent.conv;
    return rq_fail(p->err, RQ_ERR_MODEL,
                   "%s: the branch %s (kernel %dx%d, stride %d,%d, padding %d,%d, dilation %d,%d) "
                   "does not lie in a %dx%d kernel of stride %d,%d, padding %d,%d, dilation %d,%d",
                   node_at(p, i)->name, node_at(p, input)->name, conv->kernel[0], conv->kernel[1],
                   conv->stride[0], conv->stride[1], conv->pad[0], conv->pad[1], conv->dilation[0],
                   conv->dilation[1], all->kernel[0], all->kernel[1], all->stride[0],
                   all->stride[1], all->pad[0], all->pad[1], all->dilation[0], all->dilation[1]);
}

static rq_status plan_add(const planning *p, int i)
{
    const rq_node *node = node_at(p, i);
    rq_linear_value *out = value_at(p, i);
    const rq_linear_value *branches[RQ_MAX_INPUTS];
    const rq_conv_f64 *terms[RQ_MAX_INPUTS];
    for (int k = 0; k < node->n_inputs; k++) {
        branches[k] = value_at(p, node->input[k]);
        terms[k] = &branches[k]->equivalent;
    }
    const int misfit = rq_conv_f64_cover(&out->equivalent, terms, node->n_inputs);
    if (misfit >= 0)
        return fail_branch(p, i, &out->equivalent.conv, misfit);
    out->direct = -1;
    for (int k = 0; k < node->n_inputs; k++) {
        const bool is_direct =
            out->direct < 0 && rq_conv_f64_same_geometry(terms[k], &out->equivalent);
        const size_t own = is_direct ? 0 : branches[k]->n_elems;
        const size_t own_row = is_direct ? 0 : rq_conv_f64_row(terms[k]) + 1;
        if (is_direct)
            out->direct = k;
        out->has_bias |= branches[k]->has_bias;
        out->find_fixed = larger(out->find_fixed, branches[k]->find_fixed);
        out->find_per_row = larger(out->find_per_row, own_row + branches[k]->find_per_row);
        out->pull_elems = larger(out->pull_elems, own + branches[k]->pull_elems);
        out->work += (double)branches[k]->n_elems;
    }
    return RQ_OK;
}

/* May outer's zero padding replace the values of inner outside its range? */
static rq_status check_border(const planning *p, int i, const rq_window *outer)
{
    const int input = node_at(p, i)->input[0];
    const rq_linear_value *in = value_at(p, input);
    const rq_conv_attr *inner = &in->equivalent.conv;
    for (int axis = 0; axis < 2; axis++) {
        if (outer->conv.pad[axis] == 0)
            continue;
        if (in->has_bias)
            return rq_fail(p->err, RQ_ERR_MODEL,
                           "%s: it pads %s with zeros, but that value's bias is there too; "
                           "padding in front of the bias can be merged",
                           node_at(p, i)->name, node_at(p, input)->name);
        if (inner->pad[axis] < (int64_t)(inner->kernel[axis] - 1) * inner->dilation[axis])
            return rq_fail(p->err, RQ_ERR_MODEL,
                           "%s: it pads %s with zeros, but that value's kernel (%dx%d, padding "
                           "%d,%d) reaches into the image from there",
                           node_at(p, i)->name, node_at(p, input)->name, inner->kernel[0],
                           inner->kernel[1], inner->pad[0], inner->pad[1]);
    }
    return RQ_OK;
}

static rq_status plan_window(const planning *p, int i)
{
    const rq_node *node = node_at(p, i);
    const rq_linear_value *in = value_at(p, node->input[0]);
    rq_linear_value *out = value_at(p, i);
    if (node->slot[RQ_SLOT_WEIGHT_SCALE] >= 0)
        return rq_fail(p->err, RQ_ERR_MODEL, "%s: fake-quantized weights are not merged",
                       node->name);
    const rq_window window = rq_linear_window(p->part->graph, i, in->equivalent.oc);
    RQ_TRY(check_border(p, i, &window));
    if (!rq_conv_f64_sequence(&out->equivalent, &window, &in->equivalent))
        return rq_fail(p->err, RQ_ERR_MODEL,
                       "%s: merged with %s, its kernel, stride or padding is over %d", node->name,
                       node_at(p, node->input[0])->name, RQ_MAX_SIDE);
    out->has_bias = in->has_bias || window.bias;
    out->find_fixed = in->n_elems + find_all(in);
    out->pull_elems = in->n_elems + larger(find_all(in), in->pull_elems);
    out->work = rq_conv_f64_sequence_work(&window, &in->equivalent);
    return RQ_OK;
}

typedef rq_status plan_function(const planning *p, int i);

static plan_function *const rows[RQ_N_OPS] = {
    [RQ_OP_CONV] = plan_window,           [RQ_OP_AVG_POOL] = plan_window, [RQ_OP_ADD] = plan_add,
    [RQ_OP_BATCH_NORM] = plan_batch_norm, [RQ_OP_SCALE] = plan_affine,
};

bool rq_is_linear(rq_op op)
{
    return rows[op] != NULL;
}

/* ---- the part ---- */

/* Mark the part's values, from its end. */
static rq_status find_members(const planning *p)
{
    const rq_linear_part *part = p->part;
    value_at(p, part->node)->is_member = true;
    for (int i = part->node; i > part->base; i--) {
        const rq_node *node = node_at(p, i);
        if (!value_at(p, i)->is_member)
            continue;
        if (!rq_is_linear(node->op))
            return rq_fail(p->err, RQ_ERR_MODEL,
                           "%s: %s is not linear; it cannot be merged with branches of %s",
                           node->name, rq_op_name(node->op), node_at(p, part->base)->name);
        for (int k = 0; k < node->n_inputs; k++) {
            if (node->input[k] < part->base)
                return rq_fail(p->err, RQ_ERR_MODEL,
                               "%s: it reads %s, not %s; only branches of one value are merged",
                               node->name, node_at(p, node->input[k])->name,
                               node_at(p, part->base)->name);
            value_at(p, node->input[k])->is_member = true;
        }
    }
    return RQ_OK;
}

/* What a value takes with all that lead to it, within the limits. */
static rq_status count(const planning *p, int i)
{
    const rq_node *node = node_at(p, i);
    rq_linear_value *value = value_at(p, i);
    value->n_operators = 1;
    for (int k = 0; k < node->n_inputs && i > p->part->base; k++) {
        value->n_operators += value_at(p, node->input[k])->n_operators;
        value->work += value_at(p, node->input[k])->work;
    }
    if (value->n_operators > RQ_MAX_LINEAR_PART)
        return rq_fail(p->err, RQ_ERR_MODEL, "%s: its linear part has over %d operators",
                       node->name, RQ_MAX_LINEAR_PART);
    if (!rq_conv_f64_elems(&value->equivalent, &value->n_elems) ||
        value->n_elems > RQ_MAX_LINEAR_ELEMS ||
        value->n_elems + find_all(value) > RQ_MAX_LINEAR_ELEMS)
        return rq_fail(p->err, RQ_ERR_MODEL, "%s: merging takes more than %d numbers", node->name,
                       RQ_MAX_LINEAR_ELEMS);
    if (value->work > RQ_MAX_LINEAR_WORK)
        return rq_fail(p->err, RQ_ERR_MODEL, "%s: merging takes more than %g multiply-adds",
                       node->name, RQ_MAX_LINEAR_WORK);
    return RQ_OK;
}

static rq_status plan(const planning *p)
{
    RQ_TRY(find_members(p));
    for (int i = p->part->base; i <= p->part->node; i++) {
        if (!value_at(p, i)->is_member)
            continue;
        RQ_TRY(i == p->part->base ? plan_base(p) : rows[node_at(p, i)->op](p, i));
        RQ_TRY(count(p, i));
    }
    return RQ_OK;
}

rq_status rq_linear_part_init(rq_linear_part *part, const rq_graph *graph, const rq_shape *shapes,
                              int node, int base, rq_error *err)
{
    assert(base >= 0 && base <= node && node < graph->n_nodes);
    *part = (rq_linear_part){graph, base, node, rq_alloc_array(rq_linear_value, node - base + 1)};
    if (!part->values)
        return rq_no_memory(err);
    const planning p = {part, shapes, err};
    const rq_status status = plan(&p);
    if (status)
        rq_linear_part_deinit(part);
    return status;
}

void rq_linear_part_deinit(rq_linear_part *part)
{
    rq_free(part->values);
    *part = (rq_linear_part){.values = NULL};
}
