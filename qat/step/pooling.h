/* The pooling units: means over the whole image, means and maxima over windows. */
#ifndef RQ_QAT_STEP_POOLING_H
#define RQ_QAT_STEP_POOLING_H

#include "qat/step/units.h"

/* Complete a unit whose node, src and dst are set; op: global_avg_pool, avg_pool or max_pool. */
void tr_pool_init(tr_unit *unit, rq_op op);

#endif
