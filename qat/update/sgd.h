/* Stochastic gradient descent with momentum, PyTorch's form (torch.optim.SGD, dampening 0;
 * Sutskever et al. 2013, section 2, with the rate outside of v), in f32 and in one pass:
 *   d = gradient * multiplier + decay * p
 *   v = momentum * v + d
 *   p -= lr * (nesterov ? d + momentum * v : v)
 * The decay is not multiplied (RepOptimizer, arXiv 2205.15242, section 3). state[0] is v, 0 at
 * first. */
#ifndef RQ_QAT_UPDATE_SGD_H
#define RQ_QAT_UPDATE_SGD_H

#include <stdbool.h>

#include "qat/update/update.h"

typedef struct rq_sgd_options {
    double momentum;
    bool nesterov;
} rq_sgd_options;

void rq_sgd_update(const rq_update *u, const rq_sgd_options *options);

#endif
