/* An exponential moving average of a model's parameters and buffers: x <- (1 - a) x + a new.
 * Integer tensors are copied.
 *
 * Two rules for a:
 *   repvgg  RepVGG's training script: in every 8th iteration of an epoch, from its first on, a =
 *           min(1, alpha * batch / epochs * 8), and 1 (a copy) in the warm-up's epochs
 *   plain   in every iteration, a = alpha */
#ifndef RQ_QAT_UPDATE_EMA_H
#define RQ_QAT_UPDATE_EMA_H

#include "runtime/model/model.h"

typedef enum rq_ema_rule { RQ_EMA_REPVGG, RQ_EMA_PLAIN } rq_ema_rule;
extern const char *const rq_ema_rule_names[]; /* repvgg plain, NULL at the end */

typedef struct rq_ema_options {
    double alpha; /* 0: no average */
    rq_ema_rule rule;
    int batch;
    double epochs, warmup_epochs;
} rq_ema_options;

/* a after iteration i (from 0) of an epoch (from 0); 0 where nothing is to be done. */
double rq_ema_share(const rq_ema_options *options, int64_t epoch, int64_t i);

typedef struct rq_ema rq_ema;

/* Starts as a copy of the model, which must outlive it. Errors: RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_ema_create(rq_ema **out, rq_model *model, rq_error *err);
void rq_ema_destroy(rq_ema *ema); /* NULL is fine */

/* Take in the model's values with share a; the same result at any number of threads. */
void rq_ema_update(rq_ema *ema, double a);

/* Exchange the values of the average and of the model, to evaluate and save the average as the
 * model that it is; a second call changes back. */
void rq_ema_swap(rq_ema *ema);

/* The average of a parameter, of its type and shape, for run files. */
void *rq_ema_values(const rq_ema *ema, int param);

#endif
