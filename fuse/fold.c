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
    bool *needed;
} pass;

/* A convolution without anything to merge. */
static bool stands_alone(const rq_graph *graph, int node)
{
    return graph->nodes[node].op == RQ_OP_CONV;
}

static void find_needed(pass *p)
{
    p->needed[p->in->n_nodes - 1] = true;
    for (int i = p->in->n_nodes - 1; i >= 0; i--) {
        const rq_node *node = &p->in->nodes[i];
        if (!p->needed[i])
            continue;
        if (rq_is_linear(node->op))
            p->needed[rq_linear_base(p->in, i)] = true;
        else
            for (int k = 0; k < node->n_inputs; k++)
                p->needed[node->input[k]] = true;
    }
    p->needed[0] = true;
}

/* "stage1.0.add", "stage1.0.rbr_reparam.bn" -> "stage1.0.rbr_reparam" */
static char *merged_name(rq_arena *arena, const char *name)
{
    static const char suffix[] = "rbr_reparam";
    const char *dot = strrchr(name, '.');
    const int n = dot ? (int)(dot - name) : 0;
    const size_t size = strlen(suffix);
    const bool has_suffix = (size_t)n >= size && memcmp(name + n - size, suffix, size) == 0 &&
                            ((size_t)n == size || name[(size_t)n - size - 1] == '.');
    return has_suffix ? rq_arena_printf(arena, "%.*s", n, name)
                      : rq_arena_printf(arena, "%.*s%s%s", n, name, n ? "." : "", suffix);
}

/* One rounding; what f32 cannot hold is an error. */
static rq_status round_values(const rq_tensor *out, const double *values, const char *name,
                              rq_error *err)
{
    const size_t n = rq_tensor_elems(out);
    for (size_t i = 0; i < n; i++) {
        rq_tensor_f32(out)[i] = (float)values[i];
        if (!isfinite(rq_tensor_f32(out)[i]))
            return rq_fail(err, RQ_ERR_MODEL, "%s: merged value %zu is %g, not finite as f32", name,
                           i, values[i]);
    }
    return RQ_OK;
}

static rq_status add_conv(pass *p, const char *name, int input, const rq_equivalent *equivalent,
                          int *out, rq_error *err)
{
    const rq_conv_attr *conv = &equivalent->conv;
    const int64_t dims[4] = {equivalent->oc, equivalent->ic / conv->groups, conv->kernel[0],
                             conv->kernel[1]};
    rq_status status = rq_graph_add_node(p->out, RQ_OP_CONV, name, 1, &input, out, err);
    if (!status)
        status = rq_graph_add_param(p->out, *out, RQ_SLOT_WEIGHT, RQ_F32, 4, dims, err);
    if (!status)
        status = rq_graph_add_param(p->out, *out, RQ_SLOT_BIAS, RQ_F32, 1, dims, err);
    if (status)
        return status;
    p->out->nodes[*out].conv = *conv;
    status =
        round_values(rq_graph_tensor(p->out, *out, RQ_SLOT_WEIGHT), equivalent->weight, name, err);
    if (!status)
        status =
            round_values(rq_graph_tensor(p->out, *out, RQ_SLOT_BIAS), equivalent->bias, name, err);
    return status;
}

static rq_status merge(pass *p, int i, rq_error *err)
{
    const char *name = p->in->nodes[i].name;
    const int base = rq_linear_base(p->in, i);
    rq_equivalent equivalent = RQ_EQUIVALENT_INIT;
    rq_status status = rq_equivalent_find(&equivalent, p->in, p->shapes, i, base, err);
    if (!status) {
        const char *merged = merged_name(&p->out->arena, name);
        status = merged ? add_conv(p, merged, p->map[base], &equivalent, &p->map[i], err)
                        : rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", name);
    }
    rq_equivalent_deinit(&equivalent);
    return status;
}

static rq_status copy(pass *p, int i, rq_error *err)
{
    int inputs[RQ_MAX_INPUTS];
    for (int k = 0; k < p->in->nodes[i].n_inputs; k++)
        inputs[k] = p->map[p->in->nodes[i].input[k]];
    return rq_graph_copy_node(p->out, p->in, i, inputs, &p->map[i], err);
}

static rq_status run(pass *p, rq_error *err)
{
    rq_status status = RQ_OK;
    find_needed(p);
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
    void *shapes = NULL, *map = NULL, *needed = NULL;
    rq_status status = rq_arena_array(&scratch, &shapes, n, sizeof(rq_shape), err);
    if (!status)
        status = rq_arena_array(&scratch, &map, n, sizeof(int), err);
    if (!status)
        status = rq_arena_array(&scratch, &needed, n, sizeof(bool), err);
    if (!status)
        status = rq_graph_shapes(in, 1, crop, crop, shapes, err);
    if (!status) {
        pass p = {in, out, shapes, map, needed};
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
