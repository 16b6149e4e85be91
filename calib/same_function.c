/* Two sessions side by side. */
#include "calib/same_function.h"

#include <math.h>

static void add_row(rq_logit_difference *out, const float *a, const float *b, size_t n_classes)
{
    for (size_t k = 0; k < n_classes; k++) {
        const double diff = fabs((double)a[k] - (double)b[k]), logit = fabs((double)a[k]);
        out->max_diff = diff > out->max_diff || isnan(diff) ? diff : out->max_diff;
        out->max_logit = logit > out->max_logit ? logit : out->max_logit;
    }
    out->n_images++;
}

static rq_status run_batches(rq_logit_difference *out, rq_session *const pair[2], rq_loader *loader,
                             size_t max_batches, float **logits, rq_error *err)
{
    const size_t n_classes = (size_t)rq_session_get_info(pair[0]).n_classes;
    rq_batch batch;
    rq_loader_start(loader, 0, 0);
    for (size_t done = 0; done < max_batches; done++) {
        rq_status status = rq_loader_next(loader, &batch, err);
        if (status != RQ_OK || batch.n == 0)
            return status;
        for (int k = 0; k < 2; k++) {
            void *memory = logits[k];
            if (!memory) /* no later batch is larger */
                status = rq_alloc_array(&memory, (size_t)batch.n, n_classes * sizeof(float), err);
            logits[k] = memory;
            if (status == RQ_OK)
                status = rq_session_run(pair[k], batch.pixels, batch.n, logits[k], err);
            if (status != RQ_OK)
                return status;
        }
        for (int i = 0; i < batch.n; i++)
            if (batch.labels[i] != RQ_LABEL_IGNORE)
                add_row(out, logits[0] + (size_t)i * n_classes, logits[1] + (size_t)i * n_classes,
                        n_classes);
    }
    return RQ_OK;
}

rq_status rq_require_same_function(rq_logit_difference *out, rq_session *a, rq_session *b,
                                   rq_loader *loader, size_t max_batches, rq_error *err)
{
    rq_session *const pair[2] = {a, b};
    float *logits[2] = {NULL, NULL};
    *out = (rq_logit_difference){0};
    const rq_status status = run_batches(out, pair, loader, max_batches, logits, err);
    rq_free(logits[0]);
    rq_free(logits[1]);
    if (status != RQ_OK)
        return status;
    if (out->n_images == 0)
        return rq_fail(err, RQ_ERR_IMAGE, "no image could be read to check the result with");
    if (!(out->max_diff <= RQ_SAME_FUNCTION_TOLERANCE * out->max_logit))
        return rq_fail(err, RQ_ERR_RANGE,
                       "the function would change: logits differ by up to %.3g, their largest is "
                       "%.3g (allowed is %g of it)",
                       out->max_diff, out->max_logit, RQ_SAME_FUNCTION_TOLERANCE);
    return RQ_OK;
}
