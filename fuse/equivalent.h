/* The one convolution that equals a linear part of a graph: y = K * x + b, found in float64 by
 * recursion over the part's operators (linear_part.h) and rounded once.
 *
 *   the value x itself    a 1x1 depthwise convolution with weights of one
 *   conv, avg_pool        composed with what it reads
 *   batch_norm, scale     K_c <- t_c K_c, b_c <- t_c b_c + o_c
 *   add                   weights of one tap add, and so do biases */
#ifndef RQ_FUSE_EQUIVALENT_H
#define RQ_FUSE_EQUIVALENT_H

#include "fuse/linear_part.h"

/* Find rows of the value of one node of the part, with the parameters as they are now. out has the
 * geometry of that value (rq_linear_value.equivalent), says which rows, and has memory for them;
 * workspace: rq_linear_find_elems numbers. */
void rq_equivalent_find(const rq_linear_part *part, int node, rq_conv_f64 *out, double *workspace);

/* How many numbers of workspace rq_equivalent_evaluate takes: for a RepVGG block a sixteenth of its
 * weights or half a megabyte. */
size_t rq_equivalent_workspace(const rq_linear_part *part);

/* The whole part in PyTorch's layout: weight [OC, IC/G, KH, KW], bias [OC], sizes and geometry:
 * rq_linear_value_of(part, part->node)->equivalent. Works through some output channels at a time.
 * Allocates nothing. */
void rq_equivalent_evaluate(const rq_linear_part *part, double *workspace, float *weight,
                            float *bias);

#endif
