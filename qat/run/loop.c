/* The walk over epochs and steps, and their ends. */
#include "qat/run/loop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "qat/run/run.h"
#include "runtime/base/clock.h"
#include "runtime/base/interrupt.h"
#include "runtime/base/log.h"
#include "runtime/base/ranks.h"

static double learning_rate(const rq_run *run)
{
    const rq_train_options *o = run->options;
    const double factor = rq_train_lr_factor(o);
    const rq_schedule schedule = {
        .kind = o->schedule,
        .lr = o->lr * factor,
        .min_lr = o->min_lr * factor,
        .warmup_steps = llround(o->warmup_epochs * (double)run->n_batches),
        .total_steps = run_planned_steps(run),
    };
    return rq_schedule_lr(&schedule, run_steps_done(run));
}

/* The original freezes batch norm (2) and ranges (3) after an epoch e (0-based) with
 * e > eighths * epochs // 8: the first frozen one is the epoch after that. */
enum { BN_EIGHTHS = 2, OBSERVER_EIGHTHS = 3 };

static bool is_frozen(const rq_run *run, int eighths)
{
    return run->progress.epoch >= eighths * run_planned_epochs(run) / 8 + 2;
}

/* ---- one epoch ---- */

/* A loss or a parameter that is not finite: where that began, and what is left of the run. */
static void explain_range(const rq_run *run, rq_error *err)
{
    const char *layer = rq_trainer_first_not_finite(run->trainer);
    char text[sizeof err->text];
    (void)snprintf(text, sizeof text, "%s", err ? err->text : "");
    (void)rq_fail(err, RQ_ERR_RANGE, "%.200s%s%.80s%s%.160s%s", text,
                  layer ? "; the first layer that is not: " : "", layer ? layer : "",
                  run->has_state ? "; " : "", run->has_state ? run->run_file : "",
                  run->has_state ? " holds the state before" : "");
}

static rq_status fail_at_step(const rq_run *run, rq_status status, rq_error *err)
{
    if (status == RQ_ERR_RANGE)
        explain_range(run, err);
    rq_error_prefix(err, "epoch %lld, step %lld", (long long)run->progress.epoch,
                    (long long)run->progress.step);
    return status;
}

static void count(rq_meters *meters, const rq_step_result *result)
{
    meters->loss += result->loss * result->n_counted;
    meters->counted += result->n_counted;
    meters->top1 += result->top1;
    meters->top5 += result->top5;
}

static void average(rq_run *run)
{
    const rq_ema_options options = {
        .alpha = run->options->ema,
        .rule = run->options->ema_rule,
        .batch = (int)run->options->batch,
        .epochs = (double)run_planned_epochs(run),
        .warmup_epochs = run->options->warmup_epochs,
    };
    const double a = rq_ema_share(&options, run->progress.epoch, run->progress.step);
    if (run->ema && a > 0.0)
        rq_ema_update(run->ema, a);
}

/* Update the parameters by one batch. */
static rq_status update(rq_run *run, const rq_batch *batch, rq_step_result *result, rq_error *err)
{
    run->lr = learning_rate(run);
    RQ_TRY(
        rq_trainer_step_mixed(run->trainer, batch->pixels, batch->labels, batch->mix, result, err));
    if (run->custom_l2)
        result->loss += rq_custom_l2_add(run->custom_l2);
    return rq_optimizer_step(run->optimizer, run->lr, err);
}

/* One batch; the run's place is then after it. */
static rq_status train_step(rq_run *run, rq_step_result *result, rq_error *err)
{
    rq_batch batch;
    RQ_TRY(rq_loader_next(run->data.train, &batch, err));
    const rq_status status = update(run, &batch, result, err);
    if (status)
        return fail_at_step(run, status, err);
    average(run);
    count(&run->progress.meters, result);
    run->progress.step++;
    return RQ_OK;
}

static void take_time(rq_run *run, double seconds)
{
    if (run->steps++ == 0)
        run->first_seconds = seconds;
    run->epoch_steps++;
    run->train_seconds += seconds;
    run->epoch_seconds += seconds;
}

static void report_step(rq_run *run, double seconds, const rq_step_result *result)
{
    const int64_t step = run->progress.step - 1;
    const rq_step_report report = {
        .epoch = run->progress.epoch,
        .step = step,
        .n_steps = run_steps_of_epoch(run),
        .steps_done = run_steps_done(run),
        .lr = run->lr,
        .seconds = seconds,
        .mean_seconds = run->epoch_seconds / (double)run->epoch_steps,
        .batch = (int)run->options->batch,
        .result = result,
        .meters = &run->progress.meters,
    };
    if (run->options->print_every && step % run->options->print_every == 0)
        rq_train_log_step(&run->log, &report);
    rq_train_log_bar(&run->log, &report);
}

/* The signal that any of the processes has had. */
static int agreed_signal(rq_run *run)
{
    double signal = rq_interrupt_signal();
    rq_ranks_max(&signal, 1);
    run->signal = (int)signal;
    return run->signal;
}

static rq_status train_epoch(rq_run *run, rq_error *err)
{
    double start = rq_clock();
    run->epoch_steps = 0;
    run->epoch_seconds = 0.0;
    rq_trainer_freeze_bn(run->trainer, run->options->fix_bn && is_frozen(run, BN_EIGHTHS));
    rq_trainer_observe(run->trainer,
                       !(run->options->fix_observer && is_frozen(run, OBSERVER_EIGHTHS)));
    rq_loader_start(run->data.train, (uint64_t)run->progress.epoch, (size_t)run->progress.step);
    while (run->progress.step < run_steps_of_epoch(run)) {
        rq_step_result result;
        if (agreed_signal(run))
            return rq_fail(err, RQ_ERR_INTERRUPTED, "interrupted");
        RQ_TRY(train_step(run, &result, err));
        const double now = rq_clock();
        take_time(run, now - start);
        report_step(run, now - start, &result);
        start = now;
        run_watch_budget(run);
        const rq_status status = run_save_sometimes(run, err);
        if (status)
            return fail_at_step(run, status, err);
    }
    return RQ_OK;
}

static rq_status finish_epoch(rq_run *run, rq_error *err)
{
    rq_progress *p = &run->progress;
    const double start = rq_clock();
    rq_epoch_report report = {
        .epoch = p->epoch,
        .steps = p->step,
        .steps_done = run_steps_done(run),
        .lr = run->epoch_steps ? run->lr : (double)NAN, /* resumed before the validation */
        .img_per_s = run->epoch_seconds > 0.0
                         ? (double)(run->epoch_steps * run->options->batch) / run->epoch_seconds
                         : 0.0,
        .meters = &p->meters,
    };
    const rq_status status = run_keep_best(run, &report, err);
    if (status == RQ_ERR_MODEL) /* a parameter that is not finite */
        rq_error_prefix(err, "epoch %lld", (long long)p->epoch);
    if (status)
        return status;
    rq_train_log_epoch(&run->log, &report);
    p->last_top1 = report.val_top1;
    p->last_top5 = report.val_top5;
    p->epoch++;
    p->step = 0;
    p->meters = (rq_meters){0};
    run->epochs++;
    run->finish_seconds = rq_clock() - start;
    run_revise_plan(run);
    return run_save(run, err);
}

/* ---- the run ---- */

/* An interrupted run: save where it is. */
static rq_status stop(rq_run *run, rq_error *err)
{
    RQ_TRY(run_save(run, err));
    const int number = run->signal ? run->signal : rq_interrupt_signal();
    const char *signal = sigabbrev_np(number);
    rq_train_log_stop(&run->log, &run->progress, signal ? signal : "signal");
    return rq_fail(err, RQ_ERR_INTERRUPTED,
                   "stopped by SIG%s in epoch %lld after %lld of %lld steps; %s holds the state "
                   "(--resume auto continues)",
                   signal ? signal : "?", (long long)run->progress.epoch,
                   (long long)run->progress.step, (long long)run_steps_of_epoch(run),
                   run->run_file);
}

static rq_status train_epochs(rq_run *run, rq_error *err)
{
    while (run_steps_of_epoch(run) > 0) {
        RQ_TRY(train_epoch(run, err));
        RQ_TRY(finish_epoch(run, err));
    }
    return RQ_OK;
}

static rq_status train(rq_run *run, rq_error *err)
{
    const rq_train_options *o = run->options;
    rq_log(RQ_LOG_INFO, "options: %s; learning rate in effect: %.9g", run->settings,
           o->lr * rq_train_lr_factor(o));
    rq_train_log_start(&run->log, &run->progress, run_steps_done(run), run->resumed, o->sets,
                       o->n_sets);
    rq_interrupt_catch();
    rq_status status = train_epochs(run, err);
    if (status == RQ_ERR_INTERRUPTED)
        status = stop(run, err);
    else if (status)
        rq_train_log_stop(&run->log, &run->progress, err ? err->text : "");
    rq_interrupt_release();
    return status;
}

static rq_status evaluate_only(rq_run *run, rq_error *err)
{
    if (!run->data.val)
        return rq_fail(err, RQ_ERR_FILE, "%s: no validation images", run->options->dir);
    RQ_TRY(rq_trainer_settle(run->trainer, err));
    return run_validate(run, "", &run->progress.last_top1, &run->progress.last_top5, err);
}

static double known_accuracy(double percent)
{
    return percent < 0.0 ? (double)NAN : percent;
}

static rq_loop_result result_of(const rq_run *run)
{
    return (rq_loop_result){
        .best_top1 = known_accuracy(run->progress.best_top1),
        .best_ema_top1 = known_accuracy(run->progress.best_ema_top1),
        .last_top1 = known_accuracy(run->progress.last_top1),
        .last_top5 = known_accuracy(run->progress.last_top5),
        .seconds = run->train_seconds,
        .images_per_second = run->train_seconds > 0.0
                                 ? (double)(run->steps * run->options->batch) / run->train_seconds
                                 : 0.0,
        .epochs = (int)run->progress.epoch,
    };
}

static rq_status run_all(rq_run *run, rq_model *model, const rq_train_options *options,
                         rq_error *err)
{
    RQ_TRY(run_create(run, model, options, err));
    RQ_TRY(run_resume(run, err));
    return options->evaluate ? evaluate_only(run, err) : train(run, err);
}

rq_status rq_train_loop(rq_model *model, const rq_train_options *options, rq_loop_result *result,
                        rq_error *err)
{
    rq_run run;
    const rq_status status = run_all(&run, model, options, err);
    if (!status) {
        if (options->profile)
            rq_train_log_profile(run.trainer, run.steps, rq_rank_rows(options->batch));
        *result = result_of(&run);
    }
    run_destroy(&run);
    return status;
}
