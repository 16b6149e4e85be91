/* Memory for what a step computes: numbers in the types that are read, and gradients in buffers
 * that units of backward use one after another. */
#ifndef RQ_QAT_STEP_MEMORY_PLAN_H
#define RQ_QAT_STEP_MEMORY_PLAN_H

#include "qat/step/units.h"

/* Once all units are made; numbers first. */
RQ_NODISCARD rq_status tr_plan_numbers(rq_trainer *trainer, rq_error *err);
RQ_NODISCARD rq_status tr_plan_gradients(rq_trainer *trainer, rq_error *err);

#endif
