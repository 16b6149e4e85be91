/* The pass: find where linear parts end, put one convolution in the place of each.
 *
 * Which nodes the new graph needs is found from the output backwards. A needed node that is not
 * linear needs its inputs; a needed node that is linear ends a linear part and needs only the value
 * that the part begins with. What lies between is never needed, unless something else reads it. */
#include "fuse/fold.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fuse/equivalent.h"

typedef struct pass {
    const rq_graph *in;
    rq_graph *out;
    rq_shape *shapes; /* of in's values */
    int *map;         /* node of in -> node of out */
    int *base;        /* of linear nodes that are needed */
    bool *needed;
    double work; /* multiply-adds so far */
} pass;

/* An operator without anything to merge. */
static bool is_one_conv(const rq_graph *graph, int node)
{
    return graph->nodes[node].op == RQ_OP_CONV || graph->nodes[node].op == RQ_OP_AVG_POOL;
}

static rq_status find_needed(pass *p, rq_error *err)
{
    p->needed[0] = p->needed[p->in->n_nodes - 1] = true;
    for (int i = p->in->n_nodes - 1; i >= 0; i--) {
        const rq_node *node = &p->in->nodes[i];
        if (!p->needed[i])
            continue;
        if (rq_is_linear(node->op)) {
            RQ_TRY(rq_linear_base(p->in, i, &p->base[i], err));
            p->needed[p->base[i]] = true;
        } else {
            for (int k = 0; k < node->n_inputs; k++)
                p->needed[node->input[k]] = true;
        }
    }
    return RQ_OK;
}

/* "stage1.0.add", "stage1.0.rbr_reparam.bn" -> "stage1.0.rbr_reparam"; where another layer of the
 * module has that name, "stage1.0.add.rbr_reparam". NULL without memory. */
static const char *merged_name(rq_graph *graph, const char *name)
{
    static const char suffix[] = "rbr_reparam";
    const char *dot = strrchr(name, '.');
    const int n = dot ? (int)(dot - name) : 0;
    const size_t size = strlen(suffix);
    const bool has_suffix = (size_t)n >= size && memcmp(name + n - size, suffix, size) == 0 &&
                            ((size_t)n == size || name[(size_t)n - size - 1] == '.');
    const char *merged =
        has_suffix ? rq_arena_printf(&graph->arena, "%.*s", n, name)
                   : rq_arena_printf(&graph->arena, "%.*s%s%s", n, name, n ? "." : "", suffix);
    return merged && rq_graph_find_node(graph, merged) >= 0
               ? rq_arena_printf(&graph->arena, "%s.%s", name, suffix)
               : merged;
}

static rq_status check_finite(const rq_tensor *tensor, const char *name, rq_error *err)
{
    const size_t n = rq_tensor_elems(tensor);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(rq_tensor_f32(tensor)[i]))
            return rq_fail(err, RQ_ERR_MODEL, "%s: merged value %zu is %g, not finite as f32", name,
                           i, (double)rq_tensor_f32(tensor)[i]);
    return RQ_OK;
}

/* A convolution of the part's geometry, its parameters zero. */
static rq_status add_conv(pass *p, const char *name, const rq_linear_part *part, int *out,
                          rq_error *err)
{
    const rq_conv_f64 *whole = &rq_linear_value_of(part, part->node)->equivalent;
    const int64_t dims[4] = {whole->oc, whole->ic / whole->conv.groups, whole->conv.kernel[0],
                             whole->conv.kernel[1]};
    RQ_TRY(rq_graph_add_node(p->out, RQ_OP_CONV, name, 1, &p->map[part->base], out, err));
    RQ_TRY(rq_graph_add_param(p->out, *out, RQ_SLOT_WEIGHT, RQ_F32, 4, dims, err));
    RQ_TRY(rq_graph_add_param(p->out, *out, RQ_SLOT_BIAS, RQ_F32, 1, dims, err));
    p->out->nodes[*out].conv = whole->conv;
    return RQ_OK;
}

static rq_status evaluate(const pass *p, int conv, const rq_linear_part *part, rq_error *err)
{
    const rq_tensor *weight = rq_graph_tensor(p->out, conv, RQ_SLOT_WEIGHT);
    const rq_tensor *bias = rq_graph_tensor(p->out, conv, RQ_SLOT_BIAS);
    const char *name = p->out->nodes[conv].name;
    double *workspace = rq_alloc_array(double, rq_equivalent_workspace(part));
    if (!workspace)
        return rq_no_memory(err);
    rq_equivalent_evaluate(part, workspace, rq_tensor_f32(weight), rq_tensor_f32(bias));
    rq_free(workspace);
    for (int i = part->base + 1; i <= part->node; i++)
        if (rq_linear_value_of(part, i)->is_member)
            rq_graph_release_node(p->in, i);
    RQ_TRY(check_finite(weight, name, err));
    return check_finite(bias, name, err);
}

static rq_status merge_part(pass *p, const rq_linear_part *part, rq_error *err)
{
    const char *name = p->in->nodes[part->node].name;
    const char *merged = merged_name(p->out, name);
    int *conv = &p->map[part->node];
    if (!merged)
        return rq_no_memory(err);
    p->work += rq_linear_value_of(part, part->node)->work;
    if (p->work > RQ_MAX_LINEAR_WORK)
        return rq_fail(err, RQ_ERR_MODEL, "%s: merging takes more than %g multiply-adds", name,
                       RQ_MAX_LINEAR_WORK);
    RQ_TRY(add_conv(p, merged, part, conv, err));
    return evaluate(p, *conv, part, err);
}

static rq_status merge(pass *p, int i, rq_error *err)
{
    rq_linear_part part;
    RQ_TRY(rq_linear_part_init(&part, p->in, p->shapes, i, p->base[i], err));
    const rq_status status = merge_part(p, &part, err);
    rq_linear_part_deinit(&part);
    return status;
}

static rq_status copy(pass *p, int i, rq_error *err)
{
    int inputs[RQ_MAX_INPUTS];
    for (int k = 0; k < p->in->nodes[i].n_inputs; k++)
        inputs[k] = p->map[p->in->nodes[i].input[k]];
    const rq_status status = rq_graph_copy_node(p->out, p->in, i, inputs, &p->map[i], err);
    rq_graph_release_node(p->in, i);
    return status;
}

static rq_status run(pass *p, int crop, rq_error *err)
{
    RQ_TRY(rq_graph_shapes(p->in, 1, crop, crop, p->shapes, err));
    RQ_TRY(find_needed(p, err));
    for (int i = 0; i < p->in->n_nodes; i++)
        if (p->needed[i])
            RQ_TRY(rq_is_linear(p->in->nodes[i].op) && !is_one_conv(p->in, i) ? merge(p, i, err)
                                                                              : copy(p, i, err));
    return RQ_OK;
}

static rq_status fuse_graph(rq_graph *out, const rq_graph *in, int crop, rq_error *err)
{
    rq_arena scratch = RQ_ARENA_INIT;
    pass p = {
        .in = in,
        .out = out,
        .shapes = rq_arena_array(&scratch, rq_shape, in->n_nodes),
        .map = rq_arena_array(&scratch, int, in->n_nodes),
        .base = rq_arena_array(&scratch, int, in->n_nodes),
        .needed = rq_arena_array(&scratch, bool, in->n_nodes),
    };
    const bool has_memory = p.shapes && p.map && p.base && p.needed;
    const rq_status status = has_memory ? run(&p, crop, err) : rq_no_memory(err);
    rq_arena_deinit(&scratch);
    return status;
}

static rq_status fuse(rq_model *out, const rq_model *in, rq_error *err)
{
    const unsigned allowed = 1u << RQ_FORM_TRAIN | 1u << RQ_FORM_DEPLOY | 1u << RQ_FORM_WITHBN;
    RQ_TRY(rq_model_require_form(in, "merging branches", allowed, err));
    RQ_TRY(rq_model_copy_info(out, in, err));
    out->form = RQ_FORM_DEPLOY;
    return fuse_graph(&out->graph, &in->graph, in->preprocess.crop, err);
}

rq_status rq_fuse(rq_model *out, const rq_model *in, rq_error *err)
{
    *out = (rq_model)RQ_MODEL_INIT;
    const rq_status status = fuse(out, in, err);
    if (status)
        rq_model_deinit(out);
    return status;
}
