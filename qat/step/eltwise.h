/* The eltwise unit: y = act(sum over k of term_k(u_k)), in as few passes over the activations as
 * the mathematics allows: forward one for batch statistics and one to apply, backward one to reduce
 * and one to write the gradients. */
#ifndef RQ_QAT_STEP_ELTWISE_H
#define RQ_QAT_STEP_ELTWISE_H

#include "qat/step/act.h"
#include "qat/step/eltwise_terms.h"

typedef struct tr_eltwise {
    tr_term terms[TR_MAX_TERMS];
    int n_terms;
    tr_act act;
    float *c;                           /* [C] */
    float *one;                         /* [C] of ones: acc = 1 * u */
    float *rule_bias, *rule_multiplier; /* [C] output rule */
    bool by_rule;                       /* this step computes z by the output rule */
    const float *extremes; /* [2, C] smallest and largest u of this step; NULL: not known */
    size_t pixels, channels;
} tr_eltwise;

/* Complete a unit whose src, dst, terms and act are set. */
RQ_NODISCARD rq_status tr_eltwise_create(rq_trainer *trainer, tr_unit *unit, rq_error *err);

#endif
