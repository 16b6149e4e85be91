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
static bool stands_alone(const rq_graph *graph, int node)
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
            const rq_status status = rq_linear_base(p->in, i, &p->base[i], err);
            if (status)
                return status;
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
    const rq_conv_f64 *kernel = &rq_linear_value_of(part, part->node)->kernel;
    const int64_t dims[4] = {kernel->oc, kernel->ic / kernel->conv.groups, kernel->conv.kernel[0],
                             kernel->conv.kernel[1]};
    rq_status status =
        rq_graph_add_node(p->out, RQ_OP_CONV, name, 1, &p->map[part->base], out, err);
    if (!status)
        status = rq_graph_add_param(p->out, *out, RQ_SLOT_WEIGHT, RQ_F32, 4, dims, err);
    if (!status)
        status = rq_graph_add_param(p->out, *out, RQ_SLOT_BIAS, RQ_F32, 1, dims, err);
    if (!status)
        p->out->nodes[*out].conv = kernel->conv;
    return status;
}

static rq_status evaluate(const pass *p, int conv, const rq_linear_part *part, rq_error *err)
{
    const rq_tensor *weight = rq_graph_tensor(p->out, conv, RQ_SLOT_WEIGHT);
    const rq_tensor *bias = rq_graph_tensor(p->out, conv, RQ_SLOT_BIAS);
    const char *name = p->out->nodes[conv].name;
    void *workspace;
    rq_status status =
        rq_alloc_array_old(&workspace, rq_equivalent_workspace(part), sizeof(double), err);
    if (status)
        return status;
    rq_equivalent_evaluate(part, workspace, rq_tensor_f32(weight), rq_tensor_f32(bias));
    rq_free(workspace);
    for (int i = part->base + 1; i <= part->node; i++)
        if (rq_linear_value_of(part, i)->is_member)
            rq_graph_release_node(p->in, i);
    status = check_finite(weight, name, err);
    return status ? status : check_finite(bias, name, err);
}

static rq_status merge(pass *p, int i, rq_error *err)
{
    const char *name = p->in->nodes[i].name;
    rq_linear_part part;
    rq_status status = rq_linear_part_init(&part, p->in, p->shapes, i, p->base[i], err);
    if (status)
        return status;
    p->work += rq_linear_value_of(&part, i)->work;
    const char *merged = merged_name(p->out, name);
    if (!merged)
        status = rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", name);
    else if (p->work > RQ_MAX_LINEAR_WORK)
        status = rq_fail(err, RQ_ERR_MODEL, "%s: merging takes more than %g multiply-adds", name,
                         RQ_MAX_LINEAR_WORK);
    else
        status = add_conv(p, merged, &part, &p->map[i], err);
    if (!status)
        status = evaluate(p, p->map[i], &part, err);
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

static rq_status run(pass *p, rq_error *err)
{
    rq_status status = find_needed(p, err);
    for (int i = 0; i < p->in->n_nodes && !status; i++) {
        if (!p->needed[i])
            continue;
        if (rq_is_linear(p->in->nodes[i].op) && !stands_alone(p->in, i))
            status = merge(p, i, err);
        else
            status = copy(p, i, err);
    }
    return status;
}

static rq_status fuse_graph(rq_graph *out, const rq_graph *in, int crop, rq_error *err)
{
    rq_arena scratch = RQ_ARENA_INIT;
    const size_t n = (size_t)in->n_nodes;
    void *shapes = NULL, *map = NULL, *base = NULL, *needed = NULL;
    rq_status status = rq_arena_array_old(&scratch, &shapes, n, sizeof(rq_shape), err);
    if (!status)
        status = rq_arena_array_old(&scratch, &map, n, sizeof(int), err);
    if (!status)
        status = rq_arena_array_old(&scratch, &base, n, sizeof(int), err);
    if (!status)
        status = rq_arena_array_old(&scratch, &needed, n, sizeof(bool), err);
    if (!status)
        status = rq_graph_shapes(in, 1, crop, crop, shapes, err);
    if (!status) {
        pass p = {in, out, shapes, map, base, needed, 0.0};
        status = run(&p, err);
    }
    rq_arena_deinit(&scratch);
    return status;
}

rq_status rq_fuse(rq_model *out, const rq_model *in, rq_error *err)
{
    const unsigned allowed = 1u << RQ_FORM_TRAIN | 1u << RQ_FORM_DEPLOY | 1u << RQ_FORM_WITHBN;
    *out = (rq_model)RQ_MODEL_INIT;
    rq_status status = rq_model_require_form(in, "merging branches", allowed, err);
    if (!status)
        status = rq_model_copy_info(out, in, err);
    if (!status)
        status = fuse_graph(&out->graph, &in->graph, in->preprocess.crop, err);
    if (status)
        rq_model_deinit(out);
    else
        out->form = RQ_FORM_DEPLOY;
    return status;
}
