/* A graph's float operators by plain loops in double: what merging is compared with. Shares nothing
 * with the session or the pass, but reads a merged convolution (conv_f64.h) too. */
#ifndef RQ_TESTS_FUSE_REFERENCE_H
#define RQ_TESTS_FUSE_REFERENCE_H

#include <math.h>
#include <string.h>

#include "fuse/conv_f64.h"
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

/* dst[y, x, oc] = bias + the sum over taps (ic, u, v) inside the image of weight * src. */
typedef double reference_weight(const void *weights, int64_t oc, int64_t ic, int64_t u, int64_t v);

static inline void reference_window(const rq_conv_attr *conv, const rq_shape *in,
                                    const rq_shape *out, const double *src, double *dst,
                                    reference_weight *weight, const void *weights, bool magnitudes)
{
    const int64_t icg = in->c / conv->groups, ocg = out->c / conv->groups;
    for (int64_t y = 0; y < out->h; y++)
        for (int64_t x = 0; x < out->w; x++)
            for (int64_t oc = 0; oc < out->c; oc++) {
                double acc = weight(weights, oc, -1, 0, 0); /* the bias */
                acc = magnitudes ? fabs(acc) : acc;
                for (int64_t ic = 0; ic < icg; ic++)
                    for (int64_t u = 0; u < conv->kernel[0]; u++)
                        for (int64_t v = 0; v < conv->kernel[1]; v++) {
                            const int64_t iy =
                                y * conv->stride[0] - conv->pad[0] + u * conv->dilation[0];
                            const int64_t ix =
                                x * conv->stride[1] - conv->pad[1] + v * conv->dilation[1];
                            if (iy < 0 || ix < 0 || iy >= in->h || ix >= in->w)
                                continue;
                            const double w = weight(weights, oc, ic, u, v);
                            acc += (magnitudes ? fabs(w) : w) *
                                   src[(iy * in->w + ix) * in->c + oc / ocg * icg + ic];
                        }
                dst[(y * out->w + x) * out->c + oc] = acc;
            }
}

typedef struct reference_params {
    const rq_tensor *weight, *bias;
    double mean; /* average pool */
} reference_params;

static inline double reference_f32_weight(const void *weights, int64_t oc, int64_t ic, int64_t u,
                                          int64_t v)
{
    const reference_params *p = weights;
    if (ic < 0)
        return p->bias ? (double)rq_tensor_f32(p->bias)[oc] : 0.0;
    if (!p->weight)
        return p->mean;
    const int64_t *dim = p->weight->dim;
    return (double)rq_tensor_f32(p->weight)[((oc * dim[1] + ic) * dim[2] + u) * dim[3] + v];
}

static inline double reference_merged_weight(const void *weights, int64_t oc, int64_t ic, int64_t u,
                                             int64_t v)
{
    const rq_conv_f64 *k = weights;
    if (ic < 0)
        return k->bias[oc];
    const int64_t row = (oc * k->conv.kernel[0] + u) * k->conv.kernel[1] + v;
    return k->weight[row * (k->ic / k->conv.groups) + ic];
}

static inline void reference_conv(const reference *r, int node)
{
    const rq_node *n = &r->graph->nodes[node];
    const rq_shape *in = &r->shapes[n->input[0]];
    const reference_params params = {rq_graph_tensor(r->graph, node, RQ_SLOT_WEIGHT),
                                     rq_graph_tensor(r->graph, node, RQ_SLOT_BIAS),
                                     1.0 / ((double)n->conv.kernel[0] * n->conv.kernel[1])};
    rq_conv_attr conv = n->conv;
    if (!params.weight)
        conv.groups = (int)in->c;
    reference_window(&conv, in, &r->shapes[node], r->values[n->input[0]], r->values[node],
                     reference_f32_weight, &params, r->magnitudes);
}

static inline void reference_scale(const reference *r, int node)
{
    const float *weight = rq_tensor_f32(rq_graph_tensor(r->graph, node, RQ_SLOT_WEIGHT));
    const double *src = r->values[r->graph->nodes[node].input[0]];
    for (size_t i = 0; i < rq_shape_elems(&r->shapes[node]); i++)
        r->values[node][i] =
            reference_abs(r, (double)weight[(int64_t)i % r->shapes[node].c]) * src[i];
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
        case RQ_OP_AVG_POOL:
            reference_conv(&r, i);
            break;
        case RQ_OP_SCALE:
            reference_scale(&r, i);
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
