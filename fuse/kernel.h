/* Convolutions in float64 and the arithmetic that merging is made of: sums of convolutions of one
 * value, and sequences of two; each forward, and backward for the gradient.
 *
 * On one axis, tap i of a convolution with stride s, padding p, dilation d reads input position
 * o * s - p + i * d for output o. Two conclusions:
 *   sum        tap i of a branch is tap (p - p_b + i * d_b) / d of the sum
 *   sequence   v of the outer and u of the inner read o * s1 * s2 - (p1 + p2 * s1)
 *              + v * d2 * s1 + u * d1, one convolution again
 * Whether zero padding of the outer may stand for the inner's values outside its range is the
 * caller's question (linear_part.h); no function here can fail.
 *
 * Source: Diverse Branch Block (arXiv 2103.13425), transforms II to VI. */
#ifndef RQ_FUSE_KERNEL_H
#define RQ_FUSE_KERNEL_H

#include "runtime/model/graph.h"

typedef struct rq_kernel {
    int64_t oc, ic;    /* ic: all input channels; a group sees ic / conv.groups */
    rq_conv_attr conv; /* dilation is 1 on an axis with one tap */
    double *weight;    /* [OC, KH, KW, IC/G]: the channels of one tap stand together */
    double *bias;      /* [OC] */
} rq_kernel;

/* Weights of one output channel. */
static inline size_t rq_kernel_row(const rq_kernel *kernel)
{
    return (size_t)kernel->conv.kernel[0] * (size_t)kernel->conv.kernel[1] *
           (size_t)(kernel->ic / kernel->conv.groups);
}

/* How many numbers weight and bias are; false beyond size_t. */
bool rq_kernel_elems(const rq_kernel *kernel, size_t *out);

/* The same geometry with weight and bias in memory (that many numbers, owned by the caller). */
rq_kernel rq_kernel_at(const rq_kernel *geometry, double *memory);

/* y = x, weight and bias in place: a 1x1 depthwise kernel of ones. */
void rq_kernel_set_identity(rq_kernel *kernel);

/* To PyTorch's layout, rounded once: weight [OC, IC/G, KH, KW], bias [OC]. */
void rq_kernel_round(const rq_kernel *kernel, float *weight, float *bias);

/* From PyTorch's layout; bias NULL: zeros. */
void rq_kernel_assign(rq_kernel *kernel, const float *weight, const float *bias);

/* ---- sums ---- */

/* The geometry of a sum: on each axis that of the branch that reaches furthest (of equal ones, the
 * densest), with the finest groups that divide those of every branch. Gives the first branch of
 * which a tap does not lie on a tap of this, -1 when all fit. */
int rq_kernel_cover(rq_kernel *sum, const rq_kernel *const *branches, int n);

bool rq_kernel_same_geometry(const rq_kernel *a, const rq_kernel *b);

/* sum += branch. Backward: dbranch = what dsum holds at the branch's taps. */
void rq_kernel_add(rq_kernel *sum, const rq_kernel *branch);
void rq_kernel_add_backward(rq_kernel *dbranch, const rq_kernel *dsum);

/* ---- sequences ---- */

/* The operator behind: a convolution, or an average pool as a convolution of channels with
 * themselves. */
typedef struct rq_window {
    int64_t oc;
    rq_conv_attr conv;   /* average pool: groups = channels */
    const float *weight; /* [OC, IC/G, KH, KW]; NULL: each is 1 / (KH * KW) */
    const float *bias;   /* [OC]; NULL: zeros */
} rq_window;

/* The geometry of outer behind inner; false when it is beyond RQ_MAX_SIDE. */
bool rq_kernel_sequence(rq_kernel *out, const rq_window *outer, const rq_kernel *inner);

/* Multiply-adds of the three functions below. */
double rq_kernel_sequence_work(const rq_window *outer, const rq_kernel *inner);

/* out = outer behind inner. Backward, from dout: dweight [OC, IC/G, KH, KW] += the gradient of
 * outer's weight, and dinner = the gradient of inner. */
void rq_kernel_compose(rq_kernel *out, const rq_window *outer, const rq_kernel *inner);
void rq_kernel_compose_dweight(float *dweight, const rq_kernel *dout, const rq_window *outer,
                               const rq_kernel *inner);
void rq_kernel_compose_dinner(rq_kernel *dinner, const rq_kernel *dout, const rq_window *outer);

#endif
