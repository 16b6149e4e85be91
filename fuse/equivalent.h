/* The one convolution that equals a linear part of a graph, in float64.
 *
 * Between two values, convolutions, batch norms with fixed statistics and sums compute
 * y = K * x + b. Written as a recursion over operators:
 *   the value x itself   a 1x1 depthwise kernel of ones
 *   conv of x            its weights and bias
 *   batch_norm           K_c <- t_c K_c, b_c <- beta_c + (b_c - mean_c) t_c,
 *                        t_c = gamma_c / sqrt(var_c + eps)
 *   add                  kernels are laid over one another, biases add
 * Zero padding stands before the convolutions in every branch, so this is exact at the borders too.
 *
 * Source: RepVGG (arXiv 2101.03697), section 3.3. */
#ifndef RQ_FUSE_EQUIVALENT_H
#define RQ_FUSE_EQUIVALENT_H

#include "runtime/model/graph.h"

enum { RQ_MAX_LINEAR_PART = 256 }; /* operators in one part */

typedef struct rq_equivalent {
    int64_t oc, ic; /* ic: all input channels; a group sees ic / conv.groups */
    rq_conv_attr conv;
    double *weight; /* [OC, IC/G, KH, KW] */
    double *bias;   /* [OC] */
} rq_equivalent;

#define RQ_EQUIVALENT_INIT                                                                         \
    {                                                                                              \
        .weight = NULL, .bias = NULL                                                               \
    }
void rq_equivalent_deinit(rq_equivalent *equivalent);

/* Is op among conv, batch_norm and add? */
bool rq_is_linear(rq_op op);

/* The value that a linear node is taken as a function of: where the first of its branches begins.
 */
int rq_linear_base(const rq_graph *graph, int node);

/* node as a convolution of the value base; shapes: of the graph at some input size. *out is owned
 * by the caller. Errors: RQ_ERR_MODEL with the name of the node that is not linear, reads another
 * value, or does not fit to the other branches of its sum (stride, padding, dilation); a variance
 * that is negative; more than RQ_MAX_LINEAR_PART operators. RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_equivalent_find(rq_equivalent *out, const rq_graph *graph,
                                          const rq_shape *shapes, int node, int base,
                                          rq_error *err);

#endif
