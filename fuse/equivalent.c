/* Finding equivalents: one function per operator. Each fills memory that it is given; workspace
 * serves as a stack. */
#include "fuse/equivalent.h"

#include <string.h>

typedef void find_function(const rq_linear_part *part, int node, rq_conv_f64 *out,
                           double *workspace);

static const rq_node *node_at(const rq_linear_part *part, int node)
{
    return &part->graph->nodes[node];
}

static void find_affine(const rq_linear_part *part, int node, rq_conv_f64 *out, double *workspace)
{
    rq_equivalent_find(part, node_at(part, node)->input[0], out, workspace);
    const size_t n = rq_conv_f64_row(out);
    for (int64_t c = 0; c < out->n_rows; c++) {
        const rq_scale_shift affine = rq_linear_scale_shift(part->graph, node, out->first + c);
        for (size_t i = 0; i < n; i++)
            out->weight[(size_t)c * n + i] *= affine.factor;
        out->bias[c] = affine.factor * out->bias[c] + affine.offset;
    }
}

/* The branch of the sum's own geometry goes straight into out, the others are added. */
static void find_add(const rq_linear_part *part, int node, rq_conv_f64 *out, double *workspace)
{
    const rq_linear_value *value = rq_linear_value_of(part, node);
    const rq_node *add = node_at(part, node);
    if (value->direct >= 0)
        rq_equivalent_find(part, add->input[value->direct], out, workspace);
    else
        memset(out->weight, 0, (size_t)out->n_rows * (rq_conv_f64_row(out) + 1) * sizeof(double));
    for (int k = 0; k < add->n_inputs; k++) {
        if (k == value->direct)
            continue;
        const rq_linear_value *in = rq_linear_value_of(part, add->input[k]);
        const rq_conv_f64 rows = rq_conv_f64_slice(&in->equivalent, out->first, out->n_rows);
        rq_conv_f64 branch = rq_conv_f64_at(&rows, workspace);
        rq_equivalent_find(part, add->input[k], &branch,
                           workspace + (size_t)rows.n_rows * (rq_conv_f64_row(&rows) + 1));
        rq_conv_f64_add(out, &branch);
    }
}

static void find_window(const rq_linear_part *part, int node, rq_conv_f64 *out, double *workspace)
{
    const int input = node_at(part, node)->input[0];
    const rq_linear_value *in = rq_linear_value_of(part, input);
    const rq_window window = rq_linear_window(part->graph, node, in->equivalent.oc);
    if (input == part->base && window.weight) { /* composing gives the same, more slowly */
        rq_conv_f64_assign(out, window.weight, window.bias);
        return;
    }
    rq_conv_f64 inner = rq_conv_f64_at(&in->equivalent, workspace);
    rq_equivalent_find(part, input, &inner, workspace + in->n_elems);
    rq_conv_f64_compose(out, &window, &inner);
}

static find_function *const functions[RQ_N_OPS] = {
    [RQ_OP_CONV] = find_window,       [RQ_OP_AVG_POOL] = find_window, [RQ_OP_ADD] = find_add,
    [RQ_OP_BATCH_NORM] = find_affine, [RQ_OP_SCALE] = find_affine,
};

void rq_equivalent_find(const rq_linear_part *part, int node, rq_conv_f64 *out, double *workspace)
{
    if (node == part->base)
        rq_conv_f64_set_identity(out);
    else
        functions[node_at(part, node)->op](part, node, out, workspace);
}

/* Rows at a time: what stays in a cache, but no more than 16 slices, since the first operators of
 * sequences are found again for each. */
static int64_t rows_per_slice(const rq_conv_f64 *whole)
{
    enum { CACHED = 1 << 16, MAX_SLICES = 16 };
    const int64_t cached = CACHED / (int64_t)rq_conv_f64_row(whole) + 1;
    const int64_t fewest = (whole->oc + MAX_SLICES - 1) / MAX_SLICES;
    const int64_t n = cached > fewest ? cached : fewest;
    return n < whole->oc ? n : whole->oc;
}

size_t rq_equivalent_workspace(const rq_linear_part *part)
{
    const rq_linear_value *value = rq_linear_value_of(part, part->node);
    const int64_t n_rows = rows_per_slice(&value->equivalent);
    return (size_t)n_rows * (rq_conv_f64_row(&value->equivalent) + 1) +
           rq_linear_find_elems(value, n_rows);
}

void rq_equivalent_evaluate(const rq_linear_part *part, double *workspace, float *weight,
                            float *bias)
{
    const rq_conv_f64 *whole = &rq_linear_value_of(part, part->node)->equivalent;
    const int64_t step = rows_per_slice(whole);
    for (int64_t first = 0; first < whole->oc; first += step) {
        const int64_t left = whole->oc - first;
        const rq_conv_f64 rows = rq_conv_f64_slice(whole, first, left < step ? left : step);
        rq_conv_f64 slice = rq_conv_f64_at(&rows, workspace);
        rq_equivalent_find(part, part->node, &slice,
                           workspace + (size_t)step * (rq_conv_f64_row(whole) + 1));
        rq_conv_f64_round(&slice, weight, bias);
    }
}
