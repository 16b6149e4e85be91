/* Saving and resuming. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "qat/run/run.h"
#include "qat/run/settings.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

static rq_training training_of(const rq_run *run)
{
    return (rq_training){run->model, run->optimizer, run->ema};
}

rq_status run_save(rq_run *run, rq_error *err)
{
    const rq_training training = training_of(run);
    RQ_TRY(rq_model_check_finite(run->model, err));
    run->progress.seconds = run->budget_seconds > 0.0 ? run_seconds_used(run) : 0.0;
    run->saved = rq_clock();
    RQ_TRY(rq_run_file_save(run->run_file, &training, &run->progress, run->identity, err));
    run->has_state = true;
    return RQ_OK;
}

rq_status run_save_sometimes(rq_run *run, rq_error *err)
{
    const double minutes = run->options->save_minutes;
    if (!(minutes > 0.0) || rq_clock() - run->saved < 60.0 * minutes)
        return RQ_OK;
    rq_error failure = RQ_ERROR_INIT;
    const rq_status status = run_save(run, &failure);
    if (status == RQ_ERR_MODEL)
        return rq_fail(err, RQ_ERR_RANGE, "%s", failure.text);
    if (status)
        rq_log(RQ_LOG_WARN, "the state was not saved: %s", failure.text);
    return RQ_OK;
}

rq_status run_describe(rq_run *run, rq_error *err)
{
    const rq_train_options *o = run->options;
    run->settings = rq_settings_text(&run->arena, o->sets, o->n_sets, rq_train_free_names);
    if (run->settings)
        run->identity = rq_arena_printf(&run->arena, "%s form=%s base=%s images=%zu %s",
                                        run->model->arch, rq_form_name(run->model->form),
                                        run->model->parent ? run->model->parent : "none",
                                        run->data.train_set.n_images, run->settings);
    return run->identity ? RQ_OK : rq_no_memory(err);
}

/* A state that is about to be replaced by one of another run. */
static void tell_about_old_state(const rq_run *run)
{
    rq_progress old;
    if (!run->options->evaluate && access(run->run_file, F_OK) == 0 &&
        !rq_run_file_peek(run->run_file, &old, NULL))
        rq_log(RQ_LOG_INFO,
               "%s is the state of an earlier run (%lld epochs); this run replaces it "
               "(--resume auto would continue it)",
               run->run_file, (long long)old.epoch);
}

rq_status run_resume(rq_run *run, rq_error *err)
{
    const char *path = run->options->resume;
    if (!path || (strcmp(path, "auto") == 0 && access(run->run_file, F_OK) != 0)) {
        tell_about_old_state(run);
        return RQ_OK;
    }
    if (strcmp(path, "auto") == 0)
        path = run->run_file;
    const rq_training training = training_of(run);
    rq_progress saved = RQ_PROGRESS_INIT;
    RQ_TRY(rq_run_file_load(path, &training, &saved, run->identity, err));
    const int64_t limit = run->options->epochs * run->n_batches;
    if (saved.epoch > run->options->epochs || saved.step > run->n_batches ||
        saved.total_steps > limit)
        return rq_fail(err, RQ_ERR_FILE, "%s: epoch %lld, step %lld of %lld: not in this run", path,
                       (long long)saved.epoch, (long long)saved.step, (long long)limit);
    run->progress = saved;
    run->resumed = true;
    run->used_before = saved.seconds;
    run->has_state = strcmp(path, run->run_file) == 0;
    char place[64] = "";
    if (saved.step)
        (void)snprintf(place, sizeof place, " and %lld of %lld steps", (long long)saved.step,
                       (long long)run_steps_of_epoch(run));
    rq_log(RQ_LOG_INFO, "resumed from %s after %lld of %lld epochs%s", path, (long long)saved.epoch,
           (long long)run_planned_epochs(run), place);
    return RQ_OK;
}
