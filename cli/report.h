/* What convert and verify say about a difference, and when they refuse it. */
#ifndef RQ_CLI_REPORT_H
#define RQ_CLI_REPORT_H

#include "runtime/eval/difference.h"

/* Relative to the largest logit. FP32 sums in another order differ by some 1e-6; a wrong weight by
 * far more. */
#define RQ_DEFAULT_TOLERANCE 1e-4

/* One line, or the JSON object (keys max_abs_diff, max_abs_logit, tolerance, images), on stdout.
 * images: what kind ("random images"). Errors: RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_difference_print(const rq_difference *difference, double tolerance,
                                           const char *images, bool json, rq_error *err);

/* RQ_ERR_GATE with both numbers when the difference is over tolerance times the largest logit. */
RQ_NODISCARD rq_status rq_difference_judge(const rq_difference *difference, double tolerance,
                                           rq_error *err);

#endif
