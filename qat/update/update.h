/* What an update rule (sgd.h, adamw.h) reads and writes of one parameter in one step: a run of
 * elements, so that threads can share a tensor. */
#ifndef RQ_QAT_UPDATE_UPDATE_H
#define RQ_QAT_UPDATE_UPDATE_H

#include <stddef.h>
#include <stdint.h>

enum { RQ_MAX_STATES = 2 };

typedef struct rq_update {
    size_t n; /* elements of each array below */
    float *p;
    const float *gradient;
    const float *multiplier; /* of the gradient, element by element; NULL: 1 */
    float *state[RQ_MAX_STATES];
    double lr, decay;
    double clip;  /* factor of the gradient; 1 where there is a multiplier */
    int64_t step; /* 1 for the first */
} rq_update;

#endif
