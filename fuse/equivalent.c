/* Finding equivalents: one function per operator. Each fills memory that it is given; workspace
 * serves as a stack. */
#include "fuse/equivalent.h"

#include <string.h>

typedef void find_function(const rq_linear_part *part, int node, rq_kernel *out, double *workspace);

static const rq_node *node_at(const rq_linear_part *part, int node)
{
    return &part->graph->nodes[node];
}

static void find_affine(const rq_linear_part *part, int node, rq_kernel *out, double *workspace)
{
    rq_equivalent_find(part, node_at(part, node)->input[0], out, workspace);
    const size_t n = rq_kernel_row(out);
    for (int64_t c = 0; c < out->oc; c++) {
        const rq_affine affine = rq_linear_affine(part->graph, node, c);
        for (size_t i = 0; i < n; i++)
            out->weight[(size_t)c * n + i] *= affine.factor;
        out->bias[c] = affine.factor * out->bias[c] + affine.offset;
    }
}

/* The branch of the sum's own geometry goes straight into out, the others are added. */
static void find_add(const rq_linear_part *part, int node, rq_kernel *out, double *workspace)
{
    const rq_linear_value *value = rq_linear_value_of(part, node);
    const rq_node *add = node_at(part, node);
    if (value->direct >= 0)
        rq_equivalent_find(part, add->input[value->direct], out, workspace);
    else
        memset(out->weight, 0, value->n_elems * sizeof(double));
    for (int k = 0; k < add->n_inputs; k++) {
        if (k == value->direct)
            continue;
        const rq_linear_value *in = rq_linear_value_of(part, add->input[k]);
        rq_kernel branch = rq_kernel_at(&in->kernel, workspace);
        rq_equivalent_find(part, add->input[k], &branch, workspace + in->n_elems);
        rq_kernel_add(out, &branch);
    }
}

static void find_window(const rq_linear_part *part, int node, rq_kernel *out, double *workspace)
{
    const int input = node_at(part, node)->input[0];
    const rq_linear_value *in = rq_linear_value_of(part, input);
    const rq_window window = rq_linear_window(part->graph, node, in->kernel.oc);
    if (input == part->base && window.weight) { /* composing gives the same, more slowly */
        rq_kernel_assign(out, window.weight, window.bias);
        return;
    }
    rq_kernel inner = rq_kernel_at(&in->kernel, workspace);
    rq_equivalent_find(part, input, &inner, workspace + in->n_elems);
    rq_kernel_compose(out, &window, &inner);
}

static find_function *const rows[RQ_N_OPS] = {
    [RQ_OP_CONV] = find_window,       [RQ_OP_AVG_POOL] = find_window, [RQ_OP_ADD] = find_add,
    [RQ_OP_BATCH_NORM] = find_affine, [RQ_OP_SCALE] = find_affine,
};

void rq_equivalent_find(const rq_linear_part *part, int node, rq_kernel *out, double *workspace)
{
    if (node == part->base)
        rq_kernel_set_identity(out);
    else
        rows[node_at(part, node)->op](part, node, out, workspace);
}

size_t rq_equivalent_workspace(const rq_linear_part *part)
{
    const rq_linear_value *value = rq_linear_value_of(part, part->node);
    return value->n_elems + value->find_elems;
}

void rq_equivalent_evaluate(const rq_linear_part *part, double *workspace, float *weight,
                            float *bias)
{
    const rq_linear_value *value = rq_linear_value_of(part, part->node);
    rq_kernel kernel = rq_kernel_at(&value->kernel, workspace);
    rq_equivalent_find(part, part->node, &kernel, workspace + value->n_elems);
    rq_kernel_round(&kernel, weight, bias);
}
