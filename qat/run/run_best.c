/* Validation by a session made for it, and the models that are saved after it. */
#include "qat/run/run.h"
#include "runtime/base/interrupt.h"
#include "runtime/base/log.h"
#include "runtime/base/ranks.h"
#include "runtime/eval/evaluate.h"
#include "runtime/modelfile/modelfile.h"

/* Called between the batches of a validation. */
static rq_status stop_if_interrupted(void *context, const rq_batch *batch,
                                     const float *const *logits, rq_error *err)
{
    (void)context;
    (void)batch;
    (void)logits;
    if (rq_n_ranks() > 1) /* they stop together, after it */
        return RQ_OK;
    return rq_interrupt_signal() ? rq_fail(err, RQ_ERR_INTERRUPTED, "interrupted") : RQ_OK;
}

rq_status run_validate(rq_run *run, const char *what, double *top1, double *top5, rq_error *err)
{
    *top1 = *top5 = -1.0;
    if (!run->data.val)
        return RQ_OK;
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    options.batch = (int)rq_rank_rows(run->options->val_batch);
    options.n_streams = RQ_STREAMS_AUTO;
    RQ_TRY(rq_session_create(&session, run->model, &options, err));
    rq_evaluation result;
    const rq_status status =
        rq_evaluate(&session, 1, run->data.val, stop_if_interrupted, NULL, &result, err);
    rq_session_destroy(session);
    if (status)
        return status;
    *top1 = result.top1;
    *top5 = result.top5;
    rq_log(RQ_LOG_INFO, " * %sAcc@1 %.3f Acc@5 %.3f", what, *top1, *top5);
    return RQ_OK;
}

/* Validate the model as it is and save it to path when it is the best so far. */
static rq_status keep_if_best(rq_run *run, const char *what, const char *path, double *top1,
                              double *top5, double *best, bool *is_best, rq_error *err)
{
    RQ_TRY(rq_trainer_settle(run->trainer, err));
    RQ_TRY(rq_model_check_finite(run->model, err));
    RQ_TRY(run_validate(run, what, top1, top5, err));
    *is_best = !run->data.val || *top1 > *best;
    if (!*is_best)
        return RQ_OK;
    *best = *top1;
    return rq_model_save(run->model, path, err);
}

static rq_status keep_average(rq_run *run, double *top1, rq_error *err)
{
    double top5;
    bool is_best;
    *top1 = -1.0;
    if (!run->ema)
        return RQ_OK;
    rq_ema_swap(run->ema);
    const rq_status status = keep_if_best(run, "average: ", run->best_ema, top1, &top5,
                                          &run->progress.best_ema_top1, &is_best, err);
    rq_ema_swap(run->ema);
    return status;
}

rq_status run_keep_best(rq_run *run, rq_epoch_report *report, rq_error *err)
{
    RQ_TRY(keep_if_best(run, "", run->options->output, &report->val_top1, &report->val_top5,
                        &run->progress.best_top1, &report->best, err));
    return keep_average(run, &report->val_ema_top1, err);
}
