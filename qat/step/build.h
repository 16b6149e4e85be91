/* From the trainer's graph to its values, units and outputs. */
#ifndef RQ_QAT_STEP_BUILD_H
#define RQ_QAT_STEP_BUILD_H

#include "qat/step/units.h"

/* After tr_gradients_allocate. Errors: as rq_trainer_create. */
RQ_NODISCARD rq_status tr_build_units(rq_trainer *trainer, rq_error *err);

#endif
