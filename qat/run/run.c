/* Creation, and where a run is. */
#include "qat/run/run.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

#include "qat/run/budget.h"
#include "runtime/base/clock.h"
#include "runtime/base/file.h"
#include "runtime/base/ranks.h"

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
    const rq_train_options *o = run->options;
    run->run_file = rq_arena_printf(&run->arena, "%s.ckpt", o->output);
    run->best_ema = best_ema_path(&run->arena, o->output);
    if (!run->run_file || !run->best_ema)
        return rq_no_memory(err);
    if (o->evaluate)
        return RQ_OK;
    if (o->start_epoch >= o->epochs)
        return rq_fail(err, RQ_ERR_USAGE, "start-epoch %lld: there are only %lld epochs, from 0",
                       (long long)o->start_epoch, (long long)o->epochs);
    RQ_TRY(rq_writer_probe(o->output, err));
    RQ_TRY(rq_writer_probe(run->run_file, err));
    if (o->ema > 0.0)
        RQ_TRY(rq_writer_probe(run->best_ema, err));
    return rq_train_log_open(&run->log, rq_rank() == 0 ? o->log_dir : NULL, err);
}

static rq_status create_trainer(rq_run *run, rq_error *err)
{
    const rq_train_options *o = run->options;
    bool *frozen = rq_arena_array(&run->arena, bool, run->model->graph.n_nodes);
    if (!frozen)
        return rq_no_memory(err);
    RQ_TRY(rq_frozen_nodes(frozen, &run->model->graph, o->optimizer.rules.freeze, err));
    const rq_trainer_options options = {
        .batch = (int)rq_rank_rows(o->batch),
        .height = (int)o->resolution,
        .width = (int)o->resolution,
        .label_smoothing = o->label_smoothing,
        .precision = o->precision,
        .frozen_nodes = frozen,
    };
    return rq_trainer_create(&run->trainer, run->model, &options, err);
}

static rq_status create_update(rq_run *run, rq_error *err)
{
    const rq_train_options *o = run->options;
    rq_optimizer_options optimizer = o->optimizer;
    if (o->custom_l2) {
        RQ_TRY(rq_custom_l2_create(&run->custom_l2, run->trainer, run->model,
                                   optimizer.weight_decay, err));
        optimizer.rules.custom_l2 = rq_custom_l2_weights(run->custom_l2);
    }
    RQ_TRY(rq_optimizer_create(&run->optimizer, run->trainer, run->model, &optimizer, err));
    return o->ema > 0.0 ? rq_ema_create(&run->ema, run->model, err) : RQ_OK;
}

rq_status run_create(rq_run *run, rq_model *model, const rq_train_options *options, rq_error *err)
{
    *run = (rq_run){.options = options,
                    .model = model,
                    .progress = RQ_PROGRESS_INIT,
                    .log = RQ_TRAIN_LOG_INIT,
                    .started = rq_clock()};
    assert(options->output && options->batch > 0 && options->epochs > 0);
    run->saved = run->started;
    run->progress.epoch = options->start_epoch;
    if (options->budget && !rq_parse_duration(options->budget, &run->budget_seconds))
        return rq_fail(err, RQ_ERR_USAGE, "--budget: '%s' is no time like 2h, 90m, 1h30m or 45s",
                       options->budget);
    if (options->threads)
        omp_set_num_threads((int)options->threads);
    RQ_TRY(check_outputs(run, err));
    RQ_TRY(rq_train_data_open(&run->data, model, options, err));
    RQ_TRY(create_trainer(run, err));
    RQ_TRY(create_update(run, err));
    RQ_TRY(run_describe(run, err));
    run->n_batches = (int64_t)rq_loader_n_batches(run->data.train);
    if (!(run->budget_seconds > 0.0))
        run->progress.total_steps = options->epochs * run->n_batches;
    return RQ_OK;
}

void run_destroy(rq_run *run)
{
    rq_ema_destroy(run->ema);
    rq_custom_l2_destroy(run->custom_l2);
    rq_optimizer_destroy(run->optimizer);
    rq_trainer_destroy(run->trainer);
    rq_train_data_close(&run->data);
    rq_train_log_close(&run->log);
    rq_arena_deinit(&run->arena);
}

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

int64_t run_steps_done(const rq_run *run)
{
    return run->progress.epoch * run->n_batches + run->progress.step;
}
