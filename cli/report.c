/* Text and JSON for differences. */
#include "cli/report.h"

#include <stdio.h>

#include "runtime/base/json_writer.h"

void rq_difference_print(const rq_difference *difference, double tolerance, const char *images,
                         bool json)
{
    if (json) {
        rq_json_writer writer = rq_json_begin(stdout);
        rq_json_add_number(&writer, "max_abs_diff", difference->max_abs_diff);
        rq_json_add_number(&writer, "max_abs_logit", difference->max_abs_logit);
        rq_json_add_number(&writer, "tolerance", tolerance);
        rq_json_add_int(&writer, "images", (int64_t)difference->n_images);
        rq_json_end(&writer);
    } else {
        (void)printf("max |Δ| %.3g over %zu %s; the largest |logit| is %.3g\n",
                     difference->max_abs_diff, difference->n_images, images,
                     difference->max_abs_logit);
    }
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
