/* Text and JSON for differences. */
#include "cli/report.h"

#include <stdio.h>

#include "runtime/base/json_line.h"

rq_status rq_difference_print(const rq_difference *difference, double tolerance, const char *images,
                              bool json, rq_error *err)
{
    if (!json) {
        (void)printf("max |Δ| %.3g over %zu %s; the largest |logit| is %.3g\n",
                     difference->max_abs_diff, difference->n_images, images,
                     difference->max_abs_logit);
        return RQ_OK;
    }
    json_t *object = json_object();
    rq_json_set(&object, "max_abs_diff", rq_json_number(difference->max_abs_diff));
    rq_json_set(&object, "max_abs_logit", rq_json_number(difference->max_abs_logit));
    rq_json_set(&object, "tolerance", rq_json_number(tolerance));
    rq_json_set(&object, "images", json_integer(difference->n_images));
    return rq_json_print(object, stdout, err);
}

rq_status rq_difference_judge(const rq_difference *difference, double tolerance, rq_error *err)
{
    const double relative = rq_difference_relative(difference);
    if (relative <= tolerance)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_GATE,
                   "the logits differ by up to %.3g, %.3g of the largest; the tolerance is %.3g",
                   difference->max_abs_diff, relative, tolerance);
}
