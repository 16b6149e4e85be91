/* What a step is made of, in order: pixels in, units forward, loss, units backward. */
#ifndef RQ_QAT_STEP_STEP_H
#define RQ_QAT_STEP_STEP_H

#include "qat/step/units.h"
#include "runtime/image/mixup.h"

/* Pixels to the numbers of the image's value: normalised, and mixed where mix is not NULL; or p - z
 * where a quantized layer reads them, which cannot be mixed. */
void tr_input_init(rq_trainer *trainer, bool quantized);
void tr_input_forward(const rq_trainer *trainer, const uint8_t *pixels, const rq_mix *mix);

/* Run units first, first + 1, … forward, or the last … first backward (the output's first gradient
 * buffer is then filled). Tests start in the middle. */
RQ_NODISCARD rq_status tr_run_forward(rq_trainer *trainer, int first, rq_error *err);
RQ_NODISCARD rq_status tr_run_backward(rq_trainer *trainer, int first, rq_error *err);

/* Softmax cross-entropy with label smoothing (Szegedy et al. 2016; torch.nn.CrossEntropyLoss) over
 * logits [n, classes]: dlogits = gradient of the mean over counted rows. mix [n]: labels are mixed
 * with those of the partners (image/mixup.h), which must be counted ones; NULL: they are not.
 * row_loss and row_rank [n]: loss of each row, and how many classes score above the true (own) one.
 * Errors: RQ_ERR_RANGE (a label is not a class; the loss is not finite). */
RQ_NODISCARD rq_status tr_loss(const float *logits, const int32_t *labels, const rq_mix *mix,
                               size_t n, size_t classes, double smoothing, float *dlogits,
                               double *row_loss, int *row_rank, rq_step_result *result,
                               rq_error *err);

/* The loss of the model's output and a tenth of each auxiliary one's (RepVGGplus), with the
 * gradients of all. */
RQ_NODISCARD rq_status tr_outputs_loss(rq_trainer *trainer, const int32_t *labels,
                                       const rq_mix *mix, rq_step_result *result, rq_error *err);

#endif
