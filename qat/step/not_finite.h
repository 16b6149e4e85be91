/* Where a step's numbers stopped being numbers. */
#ifndef RQ_QAT_STEP_NOT_FINITE_H
#define RQ_QAT_STEP_NOT_FINITE_H

#include "qat/step/trainer.h"

/* The name of the first node of the graph whose value in the last step is not finite, among those
 * that the trainer keeps; NULL when all are. model: the trainer's; batch, height, width: as the
 * trainer was made with (0: the model's crop). */
const char *rq_first_not_finite(rq_trainer *trainer, const rq_model *model, int batch, int height,
                                int width);

#endif
