/* Convolutions in float64 and the arithmetic that merging is made of: sums of convolutions of one
 * value, and sequences of two; each forward, and backward for the gradient.
 *
 * On one axis, tap i of a convolution with stride s, padding p, dilation d reads input position
 * o * s - p + i * d for output o. So:
 *   sum        tap i of a branch is tap (p - p_b + i * d_b) / d of the sum
 *   sequence   v of the outer and u of the inner read o * s1 * s2 - (p1 + p2 * s1)
 *              + v * d2 * s1 + u * d1, one convolution again
 * Whether zero padding of the outer may replace the inner's values outside its range is the
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
    double *weight;        /* [n_rows, KH, KW, IC/G]: the channels of one tap are together */
    double *bias;          /* [n_rows] */
} rq_conv_f64;

/* Weights of one output channel: a row. */
static inline size_t rq_conv_f64_row(const rq_conv_f64 *conv)
{
    return (size_t)conv->conv.kernel[0] * (size_t)conv->conv.kernel[1] *
           (size_t)(conv->ic / conv->conv.groups);
}

/* How many numbers weight and bias are; false beyond size_t. */
bool rq_conv_f64_elems(const rq_conv_f64 *conv, size_t *out);

/* The same geometry with weight and bias in memory (that many numbers, owned by the caller). */
rq_conv_f64 rq_conv_f64_at(const rq_conv_f64 *geometry, double *memory);

/* The geometry with some of the rows. */
rq_conv_f64 rq_conv_f64_slice(const rq_conv_f64 *geometry, int64_t first, int64_t n_rows);

/* y = x: a 1x1 depthwise convolution with weights of one. */
void rq_conv_f64_set_identity(rq_conv_f64 *conv);

/* Write the rows that are held, rounded once, to where PyTorch's layout has them: weight
 * [OC, IC/G, KH, KW], bias [OC]. */
void rq_conv_f64_round(const rq_conv_f64 *conv, float *weight, float *bias);

/* Read them from there; bias NULL: zeros. */
void rq_conv_f64_assign(rq_conv_f64 *conv, const float *weight, const float *bias);

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

/* The operator that comes second: a convolution, or an average pool as a convolution of each
 * channel with itself. */
typedef struct rq_window {
    int64_t oc;
    rq_conv_attr conv;   /* average pool: groups = channels */
    const float *weight; /* [OC, IC/G, KH, KW]; NULL: each is 1 / (KH * KW) */
    const float *bias;   /* [OC]; NULL: zeros */
} rq_window;

/* The geometry of outer after inner; false when it is beyond RQ_MAX_SIDE. */
bool rq_conv_f64_sequence(rq_conv_f64 *out, const rq_window *outer, const rq_conv_f64 *inner);

/* Multiply-adds of the three functions below. */
double rq_conv_f64_sequence_work(const rq_window *outer, const rq_conv_f64 *inner);

/* out = outer after inner; all of inner's rows are held, also when out's are not. Backward, from
 * all of dout: dweight [OC, IC/G, KH, KW] += the gradient of outer's weight, and dinner = the
 * gradient of inner. */
void rq_conv_f64_compose(rq_conv_f64 *out, const rq_window *outer, const rq_conv_f64 *inner);
void rq_conv_f64_compose_dweight(float *dweight, const rq_conv_f64 *dout, const rq_window *outer,
                                 const rq_conv_f64 *inner);
void rq_conv_f64_compose_dinner(rq_conv_f64 *dinner, const rq_conv_f64 *dout,
                                const rq_window *outer);

#endif
