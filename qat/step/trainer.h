/* The training step: forward, loss and backward of a model in form train, deploy, withbn or qat, in
 * f32 or with bf16 operands (dnn/train_conv.h). Everything is planned at creation; a step allocates
 * nothing and creates no primitive.
 *
 * The model's parameters are trained in place: the trainer writes gradients, an optimizer
 * (qat/update/optimizer.h) changes parameters, and the model can be saved between any two steps.
 * Batch norm follows PyTorch: batch statistics, running statistics with momentum 0.1 and the
 * unbiased variance. Auxiliary outputs of form train (graph.h) enter the loss with a weight of 0.1
 * each (RepVGGplus). csla's constant scales (arch.h) have no gradient.
 *
 * Of several processes (ranks.h) each has a trainer for its rows of the batch, and a step is that
 * of the whole batch: statistics, ranges, loss and gradients are taken over all ranks.
 *
 * Form qat, for a conv + batch_norm + relu + fake_quant chain (PyTorch's ConvBnReLU2d):
 *
 *   t   = gamma / sqrt(running_var + eps)
 *   q_w = quantize(W * t)      per output channel, with the scale s_w of the current weights
 *   u   = conv(x, s_w * q_w) / t
 *   y   = relu(BN(u))
 *   q   = quantize(y)          with the observed range
 *
 * Quantized values and weights are kept as integer-valued f32, scales outside. With frozen batch
 * norm the value is computed by the integer contract's output rule (model/quant.h), so training
 * then sees the deployed integers. Layers without batch norm, pooling, products with gates and
 * quantized sigmoids are computed by it always. A fake_quant with ZERO_POINT observes the smallest
 * value too, and its scale and zero point follow from both. */
#ifndef RQ_QAT_STEP_TRAINER_H
#define RQ_QAT_STEP_TRAINER_H

#include "qat/step/trainer_types.h"
#include "runtime/image/mixup.h"
#include "runtime/model/model.h"

/* The model must outlive the trainer. Errors: RQ_ERR_UNSUPPORTED (an operator without gradient, a
 * value that more than 4 operators read, or that nothing reads and that is no auxiliary output, a
 * quantized layer that the rule above does not cover), RQ_ERR_MODEL, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_trainer_create(rq_trainer **out, rq_model *model,
                                         const rq_trainer_options *options, rq_error *err);
void rq_trainer_destroy(rq_trainer *trainer); /* NULL is fine */

/* Use running statistics in every batch_norm and leave them as they are (default: off). */
void rq_trainer_freeze_bn(rq_trainer *trainer, bool frozen);

/* Let the ranges of fake_quant nodes follow the data (default: on). */
void rq_trainer_observe(rq_trainer *trainer, bool observing);

/* One batch: pixels u8 [batch, height, width, 3], labels [batch]. Gradients of the mean loss are
 * then in place. Errors: RQ_ERR_RANGE (the loss is not finite; a label is not a class; a range that
 * was never observed). */
RQ_NODISCARD rq_status rq_trainer_step(rq_trainer *trainer, const uint8_t *pixels,
                                       const int32_t *labels, rq_step_result *result,
                                       rq_error *err);

/* The same with mixup: images and labels are mixed as mix [batch] says (NULL: not at all). Errors:
 * also RQ_ERR_UNSUPPORTED (the first layer is quantized: it reads whole pixels). */
RQ_NODISCARD rq_status rq_trainer_step_mixed(rq_trainer *trainer, const uint8_t *pixels,
                                             const int32_t *labels, const rq_mix *mix,
                                             rq_step_result *result, rq_error *err);

/* Gradient of a parameter of the model's graph after a step, same shape; NULL for buffers. What is
 * added to it before the optimizer's step (custom_l2.h) counts. */
float *rq_trainer_gradient(const rq_trainer *trainer, int param);

/* The logits of the last step, f32 [batch, classes]. */
const float *rq_trainer_logits(const rq_trainer *trainer);

/* Form qat: write each layer's WEIGHT_SCALE for the current weights, statistics and ranges, as
 * lowering and sessions read them. Call before the model is evaluated or saved; does nothing in
 * other forms. */
RQ_NODISCARD rq_status rq_trainer_settle(rq_trainer *trainer, rq_error *err);

/* ---- for reports and tests ---- */

/* A value of the graph after a step, in the numbers that are stored (where quantized q - zero
 * point, integer-valued), and the scale that makes them real; NULL where the node was merged into
 * another, or where bytes are stored and there is no memory for them as f32. */
const float *rq_trainer_value(rq_trainer *trainer, int node, float *scale);

/* The name of the first node of the graph whose value in the last step is not finite, among those
 * that the trainer keeps; NULL when all are. */
const char *rq_trainer_first_not_finite(rq_trainer *trainer);

rq_trainer_profile rq_trainer_get_profile(const rq_trainer *trainer);

/* The profile of one unit of work: a convolution, or the batch norms, sum and activation that were
 * merged into one. */
typedef struct rq_unit_profile {
    const char *layer; /* node; the model's */
    const char *kind;
    double forward_s, backward_s; /* since creation */
    /* Values, gradients and weights that one step's passes over them read and write, if no cache
     * keeps any from one pass to the next; roundings and packing are not counted. */
    double forward_bytes, backward_bytes;
} rq_unit_profile;
int rq_trainer_n_units(const rq_trainer *trainer);
rq_unit_profile rq_trainer_unit(const rq_trainer *trainer, int i);

#endif
