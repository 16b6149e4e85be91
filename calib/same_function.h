/* Did a pass leave a model's function as it was? */
#ifndef RQ_CALIB_SAME_FUNCTION_H
#define RQ_CALIB_SAME_FUNCTION_H

#include "runtime/eval/difference.h"

/* Two FP32 models that sum in another order differ by some 1e-6 of the largest logit. */
#define RQ_SAME_FUNCTION_TOLERANCE 1e-3

/* Run both sessions, made for the loader's batches, over its first max_batches batches. Errors:
 * RQ_ERR_RANGE (the difference is not within RQ_SAME_FUNCTION_TOLERANCE of the largest logit, a
 * logit is not finite; *out is then filled, too), RQ_ERR_IMAGE (no image could be read),
 * RQ_ERR_NOMEM, those of sessions and loader. */
RQ_NODISCARD rq_status rq_require_same_function(rq_difference *out, rq_session *a, rq_session *b,
                                                rq_loader *loader, size_t max_batches,
                                                rq_error *err);

#endif
