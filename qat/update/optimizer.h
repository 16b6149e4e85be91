/* The optimizer of a training run: one update rule over all parameters that a trainer has gradients
 * for and that are trained (param_rules.h). */
#ifndef RQ_QAT_UPDATE_OPTIMIZER_H
#define RQ_QAT_UPDATE_OPTIMIZER_H

#include "qat/step/trainer.h"
#include "qat/update/adamw.h"
#include "qat/update/param_rules.h"
#include "qat/update/sgd.h"

typedef enum rq_optimizer_kind { RQ_OPTIMIZER_SGD, RQ_OPTIMIZER_ADAMW } rq_optimizer_kind;
extern const char *const rq_optimizer_names[]; /* sgd adamw, NULL at the end */

typedef struct rq_optimizer_options {
    rq_optimizer_kind kind;
    rq_sgd_options sgd;
    rq_adamw_options adamw;
    double weight_decay;
    double clip_grad; /* largest norm of all gradients taken as one vector; larger ones are scaled
                         down to it (torch.nn.utils.clip_grad_norm_); 0: no limit */
    rq_rule_options rules;
    /* Gradient multipliers [n_params], each of its parameter's shape or NULL for 1; NULL: none at
     * all. They must outlive the optimizer. Not together with clip_grad, which would undo what
     * RepOptimizer's multipliers are for. */
    const float *const *multipliers;
} rq_optimizer_options;

#define RQ_OPTIMIZER_OPTIONS_INIT                                                                  \
    {                                                                                              \
        .sgd = {.momentum = 0.9}, .adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},            \
        .weight_decay = 1e-4, .rules = {                                                           \
            .bias_lr = 1.0                                                                         \
        }                                                                                          \
    }

typedef struct rq_optimizer rq_optimizer;

/* The trainer and its model must outlive it. All state starts at 0. Errors: RQ_ERR_USAGE (clip_grad
 * with multipliers; rules that do not fit, see param_rules.h), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_optimizer_create(rq_optimizer **out, const rq_trainer *trainer,
                                           rq_model *model, const rq_optimizer_options *options,
                                           rq_error *err);
void rq_optimizer_destroy(rq_optimizer *optimizer); /* NULL is fine */

/* One update of every trained parameter. The result does not depend on the number of threads.
 * Errors: RQ_ERR_RANGE (with clip_grad: the norm is not finite; names the first parameter whose
 * gradient is to blame); nothing is changed then. */
RQ_NODISCARD rq_status rq_optimizer_step(rq_optimizer *optimizer, double lr, rq_error *err);

/* For run files: the state is n tensors per trained parameter, each of its shape, named "velocity",
 * or as PyTorch does "exp_avg" and "exp_avg_sq", and the number of steps done. Tensor k of
 * parameter param, NULL where there is none. */
int rq_optimizer_n_states(const rq_optimizer *optimizer);
const char *rq_optimizer_state_name(const rq_optimizer *optimizer, int k);
float *rq_optimizer_state(const rq_optimizer *optimizer, int param, int k);
int64_t rq_optimizer_steps(const rq_optimizer *optimizer);
void rq_optimizer_set_steps(rq_optimizer *optimizer, int64_t steps);

#endif
