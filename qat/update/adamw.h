/* Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2),
 * PyTorch's form (torch.optim.AdamW, no AMSGrad), in f32 and in one pass; k counts steps from 1:
 *   g = gradient * multiplier
 *   m = beta1 * m + (1 - beta1) * g;   v = beta2 * v + (1 - beta2) * g^2
 *   p = p * (1 - lr * decay)
 *       - lr / (1 - beta1^k) * m * multiplier / (sqrt(v) / sqrt(1 - beta2^k) + eps)
 * The multiplier counts twice: Adam divides it out of m once (RepOptimizer, arXiv 2205.15242,
 * section 3). state[0] is m, state[1] is v, 0 at first. */
#ifndef RQ_QAT_UPDATE_ADAMW_H
#define RQ_QAT_UPDATE_ADAMW_H

#include "qat/update/update.h"

typedef struct rq_adamw_options {
    double beta1, beta2, eps;
} rq_adamw_options;

void rq_adamw_update(const rq_update *u, const rq_adamw_options *options);

#endif
