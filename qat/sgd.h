/* Stochastic gradient descent with momentum, PyTorch's form (Sutskever et al. 2013 in
 * torch.optim.SGD's convention): d = gradient + decay * p;   v = momentum * v + d;   p -= lr *
 * (nesterov ? d + momentum * v : v) in f32, one pass over the parameters. Rules decide per tensor
 * on weight decay and on a factor of the learning rate. */
#ifndef RQ_QAT_SGD_H
#define RQ_QAT_SGD_H

#include "qat/trainer.h"

typedef struct rq_sgd_options {
    double momentum, weight_decay;
    bool nesterov;
    bool decay_identity; /* decay "…identity.weight" too, as RepVGG's training script does; else
                            only tensors of >= 2 dimensions */
    double bias_lr;      /* factor for parameters named "…bias" (the QAT script: 2) */
} rq_sgd_options;

#define RQ_SGD_OPTIONS_INIT                                                                        \
    {                                                                                              \
        .momentum = 0.9, .weight_decay = 1e-4, .bias_lr = 1.0                                      \
    }

typedef struct rq_sgd rq_sgd;

/* The trainer and its model must outlive it. Velocities start at 0. Errors: RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_sgd_create(rq_sgd **out, const rq_trainer *trainer, rq_model *model,
                                     const rq_sgd_options *options, rq_error *err);
void rq_sgd_destroy(rq_sgd *sgd); /* NULL is fine */

/* One update of every parameter that has a gradient. */
void rq_sgd_step(rq_sgd *sgd, double lr);

/* The velocity of a parameter of the graph, its shape; NULL where there is none. For checkpoints.
 */
float *rq_sgd_velocity(const rq_sgd *sgd, int param);

#endif
