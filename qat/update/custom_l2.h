/* RepVGG's own weight decay: on a block's merged convolution where its branches meet, instead of on
 * each branch's weights. For every sum that reads bn(conv3x3(x)) and bn(conv1x1(x)), with t = gamma
 * / sqrt(running_var + eps) of the two, which count as constants:
 *
 *   value = sum over the 8 other taps of K3^2
 *         + sum of (t3 K3[centre] + t1 K1)^2 / (t3^2 + t1^2)      0 where both t are 0
 *
 * and the loss grows by weight_decay / 2 times the sum of all values. Source: get_custom_L2 of
 * repvgg.py (QARepVGG, arXiv 2212.01593, section 3.2: good for FP32, bad for INT8). */
#ifndef RQ_QAT_UPDATE_CUSTOM_L2_H
#define RQ_QAT_UPDATE_CUSTOM_L2_H

#include "qat/step/trainer.h"

typedef struct rq_custom_l2 rq_custom_l2;

/* The trainer and its model must outlive it. Errors: RQ_ERR_USAGE (the model has no such block),
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_custom_l2_create(rq_custom_l2 **out, const rq_trainer *trainer,
                                           const rq_model *model, double weight_decay,
                                           rq_error *err);
void rq_custom_l2_destroy(rq_custom_l2 *l2); /* NULL is fine */

/* [n_params] The weights it is about, which then have no decay of their own. */
const bool *rq_custom_l2_weights(const rq_custom_l2 *l2);

/* Add its gradient to what a trainer's step left; returns its part of the loss. */
double rq_custom_l2_add(const rq_custom_l2 *l2);

#endif
