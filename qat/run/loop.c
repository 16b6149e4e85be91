/* Creation, the walk over epochs and steps, and their ends. */
#include "qat/run/loop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "qat/run/run.h"
#include "runtime/base/clock.h"
#include "runtime/base/file.h"
#include "runtime/base/interrupt.h"
#include "runtime/base/log.h"
#include "runtime/base/ranks.h"

const char *const rq_precision_names[] = {"f32", "bf16", NULL};

/* ---- place ---- */

int64_t run_planned_steps(const rq_run *run)
{
    return run->progress.total_steps ? run->progress.total_steps
                                     : run->options->epochs * run->n_batches;
}

int64_t run_planned_epochs(const rq_run *run)
{
    return (run_planned_steps(run) + run->n_batches - 1) / run->n_batches;
}

int64_t run_steps_of_epoch(const rq_run *run)
{
    const int64_t left = run_planned_steps(run) - run->progress.epoch * run->n_batches;
    return left < 0 ? 0 : left < run->n_batches ? left : run->n_batches;
}

static int64_t steps_done(const rq_run *run)
{
    return run->progress.epoch * run->n_batches + run->progress.step;
}

static double learning_rate(const rq_run *run)
{
    const rq_loop_options *o = run->options;
    const rq_schedule schedule = {
        .kind = o->schedule,
        .lr = o->lr,
        .min_lr = o->min_lr,
        .warmup_steps = llround(o->warmup_epochs * (double)run->n_batches),
        .total_steps = run_planned_steps(run),
    };
    return rq_schedule_lr(&schedule, steps_done(run));
}

/* The original freezes after an epoch e (0-based) with e > eighths * epochs // 8: the first frozen
 * one is the epoch after that. */
static bool is_frozen(const rq_run *run, int eighths)
{
    return eighths && run->progress.epoch >= eighths * run_planned_epochs(run) / 8 + 2;
}

/* ---- one epoch ---- */

static rq_status fail_at_step(const rq_run *run, rq_status status, rq_error *err)
{
    if (status == RQ_ERR_RANGE) {
        const char *layer = rq_trainer_first_not_finite(run->trainer);
        char text[sizeof err->text];
        (void)snprintf(text, sizeof text, "%s", err ? err->text : "");
        (void)rq_fail(err, status, "%.200s%s%.80s%s%.160s%s", text,
                      layer ? "; the first layer that is not: " : "", layer ? layer : "",
                      run->has_state ? "; " : "", run->has_state ? run->checkpoint : "",
                      run->has_state ? " holds the state before" : "");
    }
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
        .batch = run->options->data.batch,
        .epochs = (double)run_planned_epochs(run),
        .warmup_epochs = run->options->warmup_epochs,
    };
    const double a = rq_ema_share(&options, run->progress.epoch, run->progress.step);
    if (run->ema && a > 0.0)
        rq_ema_update(run->ema, a);
}

/* One batch; the run's place is then behind it. */
static rq_status train_step(rq_run *run, rq_step_result *result, rq_error *err)
{
    rq_batch batch;
    rq_status status = rq_loader_next(run->data.train, &batch, err);
    if (status != RQ_OK)
        return status;
    run->lr = learning_rate(run);
    status =
        rq_trainer_step_mixed(run->trainer, batch.pixels, batch.labels, batch.mix, result, err);
    if (status == RQ_OK && run->custom_l2)
        result->loss += rq_custom_l2_add(run->custom_l2);
    if (status == RQ_OK)
        status = rq_optimizer_step(run->optimizer, run->lr, err);
    if (status != RQ_OK)
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
        .steps_done = steps_done(run),
        .lr = run->lr,
        .seconds = seconds,
        .mean_seconds = run->epoch_seconds / (double)run->epoch_steps,
        .batch = run->options->data.batch,
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
    rq_trainer_freeze_bn(run->trainer, is_frozen(run, run->options->bn_freeze_eighths));
    rq_trainer_observe(run->trainer, !is_frozen(run, run->options->observer_freeze_eighths));
    rq_loader_start(run->data.train, (uint64_t)run->progress.epoch, (size_t)run->progress.step);
    while (run->progress.step < run_steps_of_epoch(run)) {
        rq_step_result result;
        if (agreed_signal(run))
            return rq_fail(err, RQ_ERR_INTERRUPTED, "interrupted");
        rq_status status = train_step(run, &result, err);
        if (status != RQ_OK)
            return status;
        const double now = rq_clock();
        take_time(run, now - start);
        report_step(run, now - start, &result);
        start = now;
        run_watch_budget(run);
        status = run_save_sometimes(run, err);
        if (status != RQ_OK)
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
        .steps_done = steps_done(run),
        .lr = run->epoch_steps ? run->lr : (double)NAN, /* resumed in front of the validation */
        .img_per_s =
            run->epoch_seconds > 0.0
                ? (double)(run->epoch_steps * run->options->data.batch) / run->epoch_seconds
                : 0.0,
        .meters = &p->meters,
    };
    const rq_status status = run_keep_best(run, &report, err);
    if (status == RQ_ERR_MODEL) /* a parameter that is not finite */
        rq_error_prefix(err, "epoch %lld", (long long)p->epoch);
    if (status != RQ_OK)
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

/* An interrupted run: save where it stands. */
static rq_status stop(rq_run *run, rq_error *err)
{
    const rq_status status = run_save(run, err);
    if (status != RQ_OK)
        return status;
    const int number = run->signal ? run->signal : rq_interrupt_signal();
    const char *signal = sigabbrev_np(number);
    rq_train_log_stop(&run->log, &run->progress, signal ? signal : "signal");
    return rq_fail(err, RQ_ERR_INTERRUPTED,
                   "stopped by SIG%s in epoch %lld after %lld of %lld steps; %s holds the state "
                   "(--resume auto continues)",
                   signal ? signal : "?", (long long)run->progress.epoch,
                   (long long)run->progress.step, (long long)run_steps_of_epoch(run),
                   run->checkpoint);
}

static rq_status train(rq_run *run, rq_error *err)
{
    const rq_loop_options *o = run->options;
    rq_status status = RQ_OK;
    rq_log(RQ_LOG_INFO, "options: %s; learning rate in effect: %.9g", run->settings, o->lr);
    rq_train_log_start(&run->log, &run->progress, steps_done(run), run->resumed, o->sets,
                       o->n_sets);
    rq_interrupt_catch();
    while (status == RQ_OK && run_steps_of_epoch(run) > 0) {
        status = train_epoch(run, err);
        if (status == RQ_OK)
            status = finish_epoch(run, err);
    }
    if (status == RQ_ERR_INTERRUPTED)
        status = stop(run, err);
    else if (status != RQ_OK)
        rq_train_log_stop(&run->log, &run->progress, err ? err->text : "");
    rq_interrupt_release();
    return status;
}

static rq_status evaluate_only(rq_run *run, rq_error *err)
{
    if (!run->data.val)
        return rq_fail(err, RQ_ERR_FILE, "%s: no validation images", run->options->data.dir);
    const rq_status status = rq_trainer_settle(run->trainer, err);
    return status == RQ_OK
               ? run_validate(run, "", &run->progress.last_top1, &run->progress.last_top5, err)
               : status;
}

/* ---- creation ---- */

/* OUTPUT with .best_ema in front of its ending. */
static const char *best_ema_path(rq_arena *arena, const char *output)
{
    const char *slash = strrchr(output, '/'), *dot = strrchr(output, '.');
    const bool has_ending = dot && dot != output && (!slash || dot > slash + 1);
    const int n = has_ending ? (int)(dot - output) : (int)strlen(output);
    return rq_arena_printf(arena, "%.*s.best_ema%s", n, output, output + n);
}

/* What can be wrong about the options alone: found before any work. */
static rq_status check_outputs(rq_run *run, rq_error *err)
{
    const rq_loop_options *o = run->options;
    run->checkpoint = rq_arena_printf(&run->arena, "%s.ckpt", o->output);
    run->best_ema = best_ema_path(&run->arena, o->output);
    if (!run->checkpoint || !run->best_ema)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    if (o->evaluate_only)
        return RQ_OK;
    if (o->start_epoch >= o->epochs)
        return rq_fail(err, RQ_ERR_USAGE, "start-epoch %d: there are only %d epochs, from 0",
                       o->start_epoch, o->epochs);
    rq_status status = rq_writer_probe(o->output, err);
    if (status == RQ_OK)
        status = rq_writer_probe(run->checkpoint, err);
    if (status == RQ_OK && o->ema > 0.0)
        status = rq_writer_probe(run->best_ema, err);
    const char *log_dir = rq_rank() == 0 ? o->log_dir : NULL;
    return status == RQ_OK ? rq_train_log_open(&run->log, log_dir, err) : status;
}

static rq_status create_trainer(rq_run *run, rq_error *err)
{
    const rq_loop_options *o = run->options;
    void *frozen = NULL;
    rq_status status = rq_arena_array_old(&run->arena, &frozen, (size_t)run->model->graph.n_nodes,
                                          sizeof(bool), err);
    if (status == RQ_OK)
        status = rq_frozen_nodes(frozen, &run->model->graph, o->optimizer.rules.freeze, err);
    const rq_trainer_options options = {
        .batch = (int)rq_rank_rows(o->data.batch),
        .height = o->data.resolution,
        .width = o->data.resolution,
        .label_smoothing = o->label_smoothing,
        .precision = o->precision,
        .frozen_nodes = frozen,
    };
    if (status == RQ_OK)
        status = rq_trainer_create(&run->trainer, run->model, &options, err);
    rq_optimizer_options optimizer = o->optimizer;
    if (status == RQ_OK && o->custom_l2)
        status = rq_custom_l2_create(&run->custom_l2, run->trainer, run->model,
                                     optimizer.weight_decay, err);
    if (run->custom_l2)
        optimizer.rules.custom_l2 = rq_custom_l2_weights(run->custom_l2);
    if (status == RQ_OK)
        status = rq_optimizer_create(&run->optimizer, run->trainer, run->model, &optimizer, err);
    if (status == RQ_OK && o->ema > 0.0)
        status = rq_ema_create(&run->ema, run->model, err);
    return status;
}

static rq_status create(rq_run *run, rq_error *err)
{
    const rq_loop_options *o = run->options;
    rq_status status = check_outputs(run, err);
    if (status == RQ_OK)
        status = rq_train_data_open(&run->data, run->model, &o->data, err);
    if (status == RQ_OK)
        status = create_trainer(run, err);
    if (status == RQ_OK)
        status = run_describe(run, err);
    if (status != RQ_OK)
        return status;
    run->n_batches = (int64_t)rq_loader_n_batches(run->data.train);
    if (!(o->budget_seconds > 0.0))
        run->progress.total_steps = o->epochs * run->n_batches;
    return RQ_OK;
}

static void destroy(rq_run *run)
{
    rq_ema_destroy(run->ema);
    rq_custom_l2_destroy(run->custom_l2);
    rq_optimizer_destroy(run->optimizer);
    rq_trainer_destroy(run->trainer);
    rq_train_data_close(&run->data);
    rq_train_log_close(&run->log);
    rq_arena_deinit(&run->arena);
}

static void log_unit(const rq_unit_profile *unit, double steps, double images)
{
    const double forward = unit->forward_s / steps, backward = unit->backward_s / steps;
    rq_log(RQ_LOG_INFO, "%8.4f %8.4f  %7.3f %7.3f  %6.1f %6.1f  %-14s %s", 1e3 * forward / images,
           1e3 * backward / images, 1e-6 * unit->forward_bytes / images,
           1e-6 * unit->backward_bytes / images, 1e-9 * unit->forward_bytes / forward,
           1e-9 * unit->backward_bytes / backward, unit->kind, unit->layer);
}

static void log_profile(const rq_run *run)
{
    const rq_trainer_profile p = rq_trainer_get_profile(run->trainer);
    const double steps = (double)run->steps,
                 images = (double)rq_rank_rows(run->options->data.batch);
    const double n = steps * images;
    if (!run->steps)
        return;
    rq_log(RQ_LOG_INFO,
           "ms/image: conv forward %.3f, passes forward %.3f, conv backward %.3f, passes backward "
           "%.3f, weights %.3f, loss %.3f",
           1e3 * p.forward_conv / n, 1e3 * p.forward_pass / n, 1e3 * p.backward_conv / n,
           1e3 * p.backward_pass / n, 1e3 * p.weights / n, 1e3 * p.loss / n);
    rq_log(RQ_LOG_INFO, "%17s  %15s  %13s  forward and backward", "ms/image", "MB/image", "GB/s");
    for (int i = 0; i < rq_trainer_n_units(run->trainer); i++) {
        const rq_unit_profile unit = rq_trainer_unit(run->trainer, i);
        log_unit(&unit, steps, images);
    }
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
        .images_per_second =
            run->train_seconds > 0.0
                ? (double)(run->steps * run->options->data.batch) / run->train_seconds
                : 0.0,
        .epochs = (int)run->progress.epoch,
    };
}

rq_status rq_train_loop(rq_model *model, const rq_loop_options *options, rq_loop_result *result,
                        rq_error *err)
{
    rq_run run = {.options = options,
                  .model = model,
                  .progress = RQ_PROGRESS_INIT,
                  .log = RQ_TRAIN_LOG_INIT,
                  .started = rq_clock()};
    run.progress.epoch = options->start_epoch;
    run.saved = run.started;
    rq_status status = create(&run, err);
    if (status == RQ_OK)
        status = run_resume(&run, err);
    if (status == RQ_OK)
        status = options->evaluate_only ? evaluate_only(&run, err) : train(&run, err);
    if (status == RQ_OK) {
        if (options->profile)
            log_profile(&run);
        *result = result_of(&run);
    }
    destroy(&run);
    return status;
}
