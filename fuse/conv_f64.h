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
#ifndef RQ_FUSE_CONV_F64_H
#define RQ_FUSE_CONV_F64_H

#include "runtime/model/graph.h"

typedef struct rq_conv_f64 {
    int64_t oc, ic;        /* ic: all input channels; a group sees ic / conv.groups */
    rq_conv_attr conv;     /* dilation is 1 on an axis with one tap */
    int64_t first, n_rows; /* the output channels that are held: all of them, or some */
    double *weight;        /* [n_rows, KH, KW, IC/G]: the channels of one tap stand together */
    double *bias;          /* [n_rows] */
} rq_conv_f64;

/* Weights of one output channel: a row. */
static inline size_t rq_conv_f64_row(const rq_conv_f64 *kernel)
{
    return (size_t)kernel->conv.kernel[0] * (size_t)kernel->conv.kernel[1] *
           (size_t)(kernel->ic / kernel->conv.groups);
}

/* How many numbers weight and bias are; false beyond size_t. */
bool rq_conv_f64_elems(const rq_conv_f64 *kernel, size_t *out);

/* The same geometry with weight and bias in memory (that many numbers, owned by the caller). */
rq_conv_f64 rq_conv_f64_at(const rq_conv_f64 *geometry, double *memory);

/* The geometry with some of the rows. */
rq_conv_f64 rq_conv_f64_slice(const rq_conv_f64 *geometry, int64_t first, int64_t n_rows);

/* y = x: a 1x1 depthwise kernel of ones. */
void rq_conv_f64_set_identity(rq_conv_f64 *kernel);

/* The rows that are held to PyTorch's layout, rounded once: weight [OC, IC/G, KH, KW], bias [OC].
 */
void rq_conv_f64_round(const rq_conv_f64 *kernel, float *weight, float *bias);

/* The same from PyTorch's layout; bias NULL: zeros. */
void rq_conv_f64_assign(rq_conv_f64 *kernel, const float *weight, const float *bias);

/* ---- sums ---- */

/* The geometry of a sum: on each axis that of the branch that reaches furthest (of equal ones, the
 * densest), with the finest groups that divide those of every branch. Gives the first branch of
 * which a tap does not lie on a tap of this, -1 when all fit. */
int rq_conv_f64_cover(rq_conv_f64 *sum, const rq_conv_f64 *const *branches, int n);

bool rq_conv_f64_same_geometry(const rq_conv_f64 *a, const rq_conv_f64 *b);

/* sum += branch, which holds the same rows. Backward: dbranch = what dsum holds at the branch's
 * taps. */
void rq_conv_f64_add(rq_conv_f64 *sum, const rq_conv_f64 *branch);
void rq_conv_f64_add_backward(rq_conv_f64 *dbranch, const rq_conv_f64 *dsum);

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
bool rq_conv_f64_sequence(rq_conv_f64 *out, const rq_window *outer, const rq_conv_f64 *inner);

/* Multiply-adds of the three functions below. */
double rq_conv_f64_sequence_work(const rq_window *outer, const rq_conv_f64 *inner);

/* out = outer behind inner; all of inner's rows are held, also when out's are not. Backward, from
 * all of dout: dweight [OC, IC/G, KH, KW] += the gradient of
 * outer's weight, and dinner = the gradient of inner. */
void rq_conv_f64_compose(rq_conv_f64 *out, const rq_window *outer, const rq_conv_f64 *inner);
void rq_conv_f64_compose_dweight(float *dweight, const rq_conv_f64 *dout, const rq_window *outer,
                                 const rq_conv_f64 *inner);
void rq_conv_f64_compose_dinner(rq_conv_f64 *dinner, const rq_conv_f64 *dout,
                                const rq_window *outer);

#endif
