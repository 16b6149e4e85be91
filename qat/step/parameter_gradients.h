/* Memory for the gradients of parameters, and their sums over ranks while backward goes on. */
#ifndef RQ_QAT_STEP_PARAMETER_GRADIENTS_H
#define RQ_QAT_STEP_PARAMETER_GRADIENTS_H

#include "qat/step/units.h"

/* Before units are made: trainer->gradients and all_gradients. */
RQ_NODISCARD rq_status tr_gradients_allocate(rq_trainer *trainer, rq_error *err);

/* When all units are made: after which unit each part of the gradients is complete. */
void tr_gradients_plan_sums(rq_trainer *trainer);

/* In backward, after this unit: begin to sum over the ranks what is complete by then. */
void tr_gradients_sum(rq_trainer *trainer, int unit);

#endif
