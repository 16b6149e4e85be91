/* The terms of an eltwise: batch norm, bias, scale per channel, or a value as it is. Each is z += a
 * u + offset, with a and offset per channel, found anew in each step. */
#ifndef RQ_QAT_STEP_ELTWISE_TERMS_H
#define RQ_QAT_STEP_ELTWISE_TERMS_H

#include "qat/step/values.h"

typedef enum tr_term_kind {
    TR_TERM_PLAIN,
    TR_TERM_BIAS,
    TR_TERM_SCALE,
    TR_TERM_BN,
} tr_term_kind;

typedef struct tr_term {
    tr_term_kind kind;
    const float *gamma, *beta; /* gamma: the weight of TR_TERM_SCALE; beta: the bias of _BIAS */
    float *mean, *var;         /* running */
    int64_t *tracked;
    float *dgamma, *dbeta;
    double eps;
    bool frozen; /* TR_TERM_BN: running statistics, always */
    /* this step */
    double *mu, *sigma;  /* [C] of u in real units: mean and sqrt(var + eps) */
    float *a;            /* [C] z = sum a u + c */
    float *pivot;        /* [C] near the mean of the numbers u; TR_TERM_SCALE: 0 */
    float *da, *db, *dc; /* [C] du = da dz + db (u - pivot) + dc */
} tr_term;

RQ_NODISCARD rq_status tr_term_allocate(rq_trainer *trainer, tr_term *term, size_t channels,
                                        rq_error *err);

/* Does the term normalise with the statistics of the batch, not with running ones? */
bool tr_term_is_live(const rq_trainer *trainer, const tr_term *term);

/* Does the term's parameter need the sums of dz * (u - pivot)? */
bool tr_term_has_weight(const tr_term *term);

/* Forward: find a, and add the offset to c [C]. A live batch norm takes its statistics, and running
 * ones follow; where extremes are wanted too, it returns those of u [2, C], in scratch memory.
 * NULL: not wanted, or not live. */
const float *tr_term_fold(rq_trainer *trainer, tr_term *term, const tr_value *src, float *c,
                          bool with_extremes);

/* Backward, from the sums per channel of dz and of dz * (u - pivot): this rank's share of the
 * gradients of the parameters from its own sums, and da, db and dc from those of all ranks. */
void tr_term_parameters(const rq_trainer *trainer, const tr_term *term, const tr_value *src,
                        const double *sum_dz, const double *sum_dzu);
void tr_term_coefficients(const rq_trainer *trainer, const tr_term *term, const tr_value *src,
                          const double *sum_dz, const double *sum_dzu);

#endif
