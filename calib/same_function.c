/* The difference of two sessions, held to a bound. */
#include "calib/same_function.h"

rq_status rq_require_same_function(rq_difference *out, rq_session *a, rq_session *b,
                                   rq_loader *loader, size_t max_batches, rq_error *err)
{
    RQ_TRY(rq_difference_loader(out, a, b, loader, max_batches, err));
    if (!(rq_difference_relative(out) <= RQ_SAME_FUNCTION_TOLERANCE))
        return rq_fail(err, RQ_ERR_RANGE,
                       "the function would change: logits differ by up to %.3g, their largest is "
                       "%.3g (allowed is %g of it)",
                       out->max_abs_diff, out->max_abs_logit, RQ_SAME_FUNCTION_TOLERANCE);
    return RQ_OK;
}
