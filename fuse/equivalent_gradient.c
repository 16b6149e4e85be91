/* Pulling gradients back: one function per operator. Each is given the gradient of its value, which
 * it may overwrite; workspace serves as a stack. */
#include "fuse/equivalent_gradient.h"

#include "fuse/equivalent.h"

typedef struct backward {
    const rq_linear_part *part;
    float *const *gradients;
} backward;

typedef void pull_function(const backward *b, int node, rq_conv_f64 *gradient, double *workspace);

static void pull(const backward *b, int node, rq_conv_f64 *gradient, double *workspace);

static const rq_node *node_at(const backward *b, int node)
{
    return &b->part->graph->nodes[node];
}

/* Where the gradient of a slot's parameter goes, NULL: nowhere. */
static float *wanted(const backward *b, int node, rq_slot slot)
{
    const int param = node_at(b, node)->slot[slot];
    return param < 0 ? NULL : b->gradients[param];
}

/* The input's value, found in workspace. */
static rq_conv_f64 find_input(const backward *b, int input, double *workspace)
{
    const rq_linear_value *in = rq_linear_value_of(b->part, input);
    rq_conv_f64 value = rq_conv_f64_at(&in->equivalent, workspace);
    rq_equivalent_find(b->part, input, &value, workspace + in->n_elems);
    return value;
}

static double dot(const double *x, const double *y, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* Gradients of gamma and beta, or of a scale's weight; in: the operator's input. */
static void affine_parameters(const backward *b, int node, const rq_conv_f64 *in,
                              const rq_conv_f64 *gradient)
{
    const rq_graph *graph = b->part->graph;
    const size_t n_rows = (size_t)in->oc, n = rq_conv_f64_row(in);
    const rq_tensor *mean = rq_graph_tensor(graph, node, RQ_SLOT_MEAN);
    const rq_tensor *var = rq_graph_tensor(graph, node, RQ_SLOT_VAR);
    float *dweight = wanted(b, node, RQ_SLOT_WEIGHT), *dbias = wanted(b, node, RQ_SLOT_BIAS);
    for (size_t c = 0; c < n_rows && dweight; c++) {
        double dfactor =
            dot(gradient->weight + c * n, in->weight + c * n, n) + gradient->bias[c] * in->bias[c];
        if (var)
            dfactor = (dfactor - (double)rq_tensor_f32(mean)[c] * gradient->bias[c]) /
                      sqrt((double)rq_tensor_f32(var)[c] + (double)graph->nodes[node].eps);
        dweight[c] += (float)dfactor;
    }
    for (size_t c = 0; c < n_rows && dbias; c++)
        dbias[c] += (float)gradient->bias[c];
}

static void pull_affine(const backward *b, int node, rq_conv_f64 *gradient, double *workspace)
{
    const int input = node_at(b, node)->input[0];
    const size_t n_rows = (size_t)gradient->oc, n = rq_conv_f64_row(gradient);
    const rq_conv_f64 in = find_input(b, input, workspace);
    affine_parameters(b, node, &in, gradient);
    for (size_t c = 0; c < n_rows; c++) {
        const double factor = rq_linear_scale_shift(b->part->graph, node, (int64_t)c).factor;
        for (size_t i = 0; i < n; i++)
            gradient->weight[c * n + i] *= factor;
        gradient->bias[c] *= factor;
    }
    pull(b, input, gradient, workspace);
}

/* The branch of the sum's own geometry comes last and takes the gradient itself. */
static void pull_add(const backward *b, int node, rq_conv_f64 *gradient, double *workspace)
{
    const int direct = rq_linear_value_of(b->part, node)->direct;
    const rq_node *add = node_at(b, node);
    for (int k = 0; k < add->n_inputs; k++) {
        if (k == direct)
            continue;
        const rq_linear_value *in = rq_linear_value_of(b->part, add->input[k]);
        rq_conv_f64 branch = rq_conv_f64_at(&in->equivalent, workspace);
        rq_conv_f64_add_backward(&branch, gradient);
        pull(b, add->input[k], &branch, workspace + in->n_elems);
    }
    if (direct >= 0)
        pull(b, add->input[direct], gradient, workspace);
}

static void pull_window(const backward *b, int node, rq_conv_f64 *gradient, double *workspace)
{
    const int input = node_at(b, node)->input[0];
    const rq_linear_value *in = rq_linear_value_of(b->part, input);
    const rq_window window = rq_linear_window(b->part->graph, node, in->equivalent.oc);
    float *dweight = wanted(b, node, RQ_SLOT_WEIGHT), *dbias = wanted(b, node, RQ_SLOT_BIAS);
    for (int64_t c = 0; c < gradient->oc && dbias; c++)
        dbias[c] += (float)gradient->bias[c];
    if (dweight) {
        const rq_conv_f64 inner = find_input(b, input, workspace);
        rq_conv_f64_compose_dweight(dweight, gradient, &window, &inner);
    }
    if (input == b->part->base)
        return;
    rq_conv_f64 dinner = rq_conv_f64_at(&in->equivalent, workspace);
    rq_conv_f64_compose_dinner(&dinner, gradient, &window);
    pull(b, input, &dinner, workspace + in->n_elems);
}

static pull_function *const rows[RQ_N_OPS] = {
    [RQ_OP_CONV] = pull_window,       [RQ_OP_AVG_POOL] = pull_window, [RQ_OP_ADD] = pull_add,
    [RQ_OP_BATCH_NORM] = pull_affine, [RQ_OP_SCALE] = pull_affine,
};

static void pull(const backward *b, int node, rq_conv_f64 *gradient, double *workspace)
{
    if (node != b->part->base)
        rows[node_at(b, node)->op](b, node, gradient, workspace);
}

size_t rq_equivalent_backward_workspace(const rq_linear_part *part)
{
    const rq_linear_value *value = rq_linear_value_of(part, part->node);
    return value->n_elems + value->pull_elems;
}

void rq_equivalent_backward(const rq_linear_part *part, double *workspace, const float *dweight,
                            const float *dbias, float *const *gradients)
{
    const backward b = {part, gradients};
    const rq_linear_value *value = rq_linear_value_of(part, part->node);
    rq_conv_f64 gradient = rq_conv_f64_at(&value->equivalent, workspace);
    rq_conv_f64_assign(&gradient, dweight, dbias);
    pull(&b, part->node, &gradient, workspace + value->n_elems);
}
