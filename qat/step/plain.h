/* The unit of a plain operator (dnn/plain_ops.h): numbers keep their scale, and where there is an
 * integer twin whatever else they mean, too. */
#ifndef RQ_QAT_STEP_PLAIN_H
#define RQ_QAT_STEP_PLAIN_H

#include "qat/step/units.h"

/* Complete a unit whose node, src and dst are set. */
void tr_plain_init(const rq_trainer *trainer, tr_unit *unit);

#endif
