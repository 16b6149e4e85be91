/* A graph's float operators by plain loops in double: what merging is compared with. Shares nothing
 * with the session or the pass. */
#ifndef RQ_TESTS_FUSE_REFERENCE_H
#define RQ_TESTS_FUSE_REFERENCE_H

#include <math.h>
#include <string.h>

#include "runtime/model/graph.h"
#include "tests/support/test.h"

typedef struct reference {
    const rq_graph *graph;
    rq_shape *shapes;
    double **values; /* one array per node, [N, H, W, C] */
    bool magnitudes; /* sums of |terms| instead: what rounding errors are measured in */
} reference;

static inline double reference_abs(const reference *r, double x)
{
    return r->magnitudes ? fabs(x) : x;
}

static inline void reference_conv(const reference *r, int node)
{
    const rq_conv_attr *conv = &r->graph->nodes[node].conv;
    const rq_shape *in = &r->shapes[r->graph->nodes[node].input[0]], *out = &r->shapes[node];
    const double *src = r->values[r->graph->nodes[node].input[0]];
    const rq_tensor *weight = rq_graph_tensor(r->graph, node, RQ_SLOT_WEIGHT);
    const rq_tensor *bias = rq_graph_tensor(r->graph, node, RQ_SLOT_BIAS);
    const int64_t icg = weight->dim[1], ocg = out->c / conv->groups;
    for (int64_t y = 0; y < out->h; y++)
        for (int64_t x = 0; x < out->w; x++)
            for (int64_t oc = 0; oc < out->c; oc++) {
                double acc = bias ? reference_abs(r, (double)rq_tensor_f32(bias)[oc]) : 0.0;
                for (int64_t ic = 0; ic < icg; ic++)
                    for (int64_t u = 0; u < conv->kernel[0]; u++)
                        for (int64_t v = 0; v < conv->kernel[1]; v++) {
                            const int64_t iy =
                                y * conv->stride[0] - conv->pad[0] + u * conv->dilation[0];
                            const int64_t ix =
                                x * conv->stride[1] - conv->pad[1] + v * conv->dilation[1];
                            if (iy < 0 || ix < 0 || iy >= in->h || ix >= in->w)
                                continue;
                            const int64_t channel = oc / ocg * icg + ic;
                            const int64_t tap =
                                ((oc * icg + ic) * conv->kernel[0] + u) * conv->kernel[1] + v;
                            acc += reference_abs(r, (double)rq_tensor_f32(weight)[tap]) *
                                   src[(iy * in->w + ix) * in->c + channel];
                        }
                r->values[node][(y * out->w + x) * out->c + oc] = acc;
            }
}

static inline void reference_batch_norm(const reference *r, int node)
{
    const float *slots[4];
    for (int i = 0; i < 4; i++)
        slots[i] = rq_tensor_f32(rq_graph_tensor(r->graph, node, (rq_slot)(RQ_SLOT_WEIGHT + i)));
    const double *src = r->values[r->graph->nodes[node].input[0]];
    const int64_t channels = r->shapes[node].c;
    for (size_t i = 0; i < rq_shape_elems(&r->shapes[node]); i++) {
        const int64_t c = (int64_t)i % channels;
        const double scale =
            (double)slots[0][c] / sqrt((double)slots[3][c] + (double)r->graph->nodes[node].eps);
        r->values[node][i] =
            reference_abs(r, scale) * src[i] + reference_abs(r, (double)slots[1][c]) +
            (r->magnitudes ? fabs((double)slots[2][c] * scale) : -(double)slots[2][c] * scale);
    }
}

/* Values of all nodes for one image x [H, W, 3]; |x| when magnitudes are wanted. */
static inline reference reference_run(const rq_graph *graph, int64_t h, int64_t w, const double *x,
                                      bool magnitudes)
{
    rq_error err;
    const size_t n = (size_t)graph->n_nodes;
    reference r = {graph, rq_alloc(n * sizeof(rq_shape)), rq_alloc(n * sizeof(double *)),
                   magnitudes};
    assert_ok(rq_graph_shapes(graph, 1, h, w, r.shapes, &err), &err);
    for (int i = 0; i < graph->n_nodes; i++) {
        const rq_node *node = &graph->nodes[i];
        const size_t elems = rq_shape_elems(&r.shapes[i]);
        double *out = r.values[i] = rq_alloc(elems * sizeof(double));
        assert_non_null(out);
        switch (node->op) {
        case RQ_OP_INPUT:
            for (size_t k = 0; k < elems; k++)
                out[k] = reference_abs(&r, x[k]);
            break;
        case RQ_OP_CONV:
            reference_conv(&r, i);
            break;
        case RQ_OP_BATCH_NORM:
            reference_batch_norm(&r, i);
            break;
        case RQ_OP_ADD:
            for (size_t k = 0; k < elems; k++)
                for (int j = 0; j < node->n_inputs; j++)
                    out[k] += r.values[node->input[j]][k];
            break;
        case RQ_OP_RELU:
            for (size_t k = 0; k < elems; k++)
                out[k] = fmax(r.values[node->input[0]][k], 0.0);
            break;
        default:
            fail_msg("the reference has no %s", rq_op_name(node->op));
        }
    }
    return r;
}

static inline void reference_deinit(reference *r)
{
    for (int i = 0; i < r->graph->n_nodes; i++)
        rq_free(r->values[i]);
    rq_free(r->values);
    rq_free(r->shapes);
}

#endif
