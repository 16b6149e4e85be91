/* Linear parts of a graph: which operators between two values compute y = K * x + b, and what the
 * geometry of K is. The plan that finding K (equivalent.h) and its gradient (equivalent_gradient.h)
 * walk; everything that can be wrong with a part is found out here.
 *
 *   conv, avg_pool        a sequence of two convolutions (conv_f64.h)
 *   batch_norm            its statistics are constants: y_c = t_c x_c + o_c,
 *                         t = gamma / sqrt(var + eps), o = beta - mean t
 *   scale                 the same with t = weight, o = 0
 *   add                   a sum of convolutions (conv_f64.h)
 *
 * At the borders: padding comes before the first convolution of each branch, so sums and affine
 * operators are exact there. In a sequence of two, outer's zero padding is in place of values that
 * inner does not give, while one merged convolution computes what inner would give there: its
 * bias, and its weights times the pixels that its taps still reach. On each axis a sequence is
 * exact if outer's padding is 0, or if inner has neither a bias (nor batch norm) nor taps that
 * reach into the image from outside its range, p1 >= (k1 - 1) d1. So a 1x1 convolution with padding
 * p and batch norm, then a kxk convolution or average pool without padding, is what a diverse
 * branch block computes when it pads with the batch norm's value for zero, beta - mean t: no
 * padding operator is needed.
 *
 * Sources: RepVGG (arXiv 2101.03697) section 3.3; Diverse Branch Block (arXiv 2103.13425). */
#ifndef RQ_FUSE_LINEAR_PART_H
#define RQ_FUSE_LINEAR_PART_H

#include <math.h>

#include "fuse/conv_f64.h"

enum {
    RQ_MAX_LINEAR_PART = 256,      /* operators of one part, counted once for each way through */
    RQ_MAX_LINEAR_ELEMS = 1 << 28, /* numbers (float64) that one part needs at a time */
};
#define RQ_MAX_LINEAR_WORK 0x1p37 /* multiply-adds that one part takes */

/* Is op one of the five? */
bool rq_is_linear(rq_op op);

/* The value that a linear node is taken as a function of. A conv or avg_pool: its input. A
 * batch_norm or scale: its input, or what that is a function of when it is linear. A sum: the
 * nearest value through which all ways lead. Errors: RQ_ERR_MODEL with the operator that is not
 * linear between a sum and such a value. */
RQ_NODISCARD rq_status rq_linear_base(const rq_graph *graph, int node, int *base, rq_error *err);

/* What the plan knows of one value as a function of the base. */
typedef struct rq_linear_value {
    bool is_member;         /* of the part; else nothing else is set */
    bool has_bias;          /* K * 0 + b need not be 0 */
    rq_conv_f64 equivalent; /* geometry; no memory */
    size_t n_elems;         /* numbers in it */
    int direct;             /* add: the input of the sum's own geometry, -1 = none */
    /* numbers of workspace, besides the value's own, that finding rows of it and pulling a gradient
     * through it take */
    size_t find_fixed, find_per_row, pull_elems;
    double n_operators, work; /* of all ways to the base */
} rq_linear_value;

typedef struct rq_linear_part {
    const rq_graph *graph; /* borrowed; its parameters may change, its structure not */
    int base, node;
    rq_linear_value *values; /* [node - base + 1] */
} rq_linear_part;

/* Plan node as a function of base; shapes: of the graph, which rq_graph_shapes has checked. *part
 * is owned by the caller; the graph must outlive it. Errors: RQ_ERR_MODEL with the name of the node
 * that is not linear, reads another value, does not fit to the other branches of its sum (stride,
 * padding, dilation) or pads what must not be padded; a variance that is negative; the limits
 * above. RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_linear_part_init(rq_linear_part *part, const rq_graph *graph,
                                           const rq_shape *shapes, int node, int base,
                                           rq_error *err);
void rq_linear_part_deinit(rq_linear_part *part); /* a zeroed one is fine */

static inline const rq_linear_value *rq_linear_value_of(const rq_linear_part *part, int node)
{
    return &part->values[node - part->base];
}

/* Workspace for finding n_rows output channels. */
static inline size_t rq_linear_find_elems(const rq_linear_value *value, int64_t n_rows)
{
    return value->find_fixed + (size_t)n_rows * value->find_per_row;
}

/* conv or avg_pool, whose input has these channels. */
rq_window rq_linear_window(const rq_graph *graph, int node, int64_t channels);

/* batch_norm or scale of channel c: y = factor * x + offset. */
typedef struct rq_scale_shift {
    double factor, offset;
} rq_scale_shift;
rq_scale_shift rq_linear_scale_shift(const rq_graph *graph, int node, int64_t c);

#endif
