/* Lines for people and lines for programs. */
#include "qat/run/train_log.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "qat/run/budget.h"
#include "qat/run/settings.h"
#include "runtime/base/clock.h"
#include "runtime/base/json_line.h"
#include "runtime/base/log.h"

rq_status rq_train_log_open(rq_train_log *log, const char *dir, rq_error *err)
{
    if (!dir)
        return RQ_OK;
    log->dir = dir;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return rq_fail_errno(err, dir, "make this folder");
    const size_t size_bytes = strlen(dir) + sizeof "/train.jsonl";
    log->path = rq_alloc(size_bytes);
    if (!log->path)
        return rq_no_memory(err);
    (void)snprintf(log->path, size_bytes, "%s/train.jsonl", dir);
    log->file = fopen(log->path, "ae");
    return log->file ? RQ_OK : rq_fail_errno(err, log->path, "append to");
}

static void close_file(rq_train_log *log)
{
    if (log->file && fclose(log->file) != 0)
        rq_log(RQ_LOG_WARN, "%s: cannot write: %s", log->path, strerror(errno));
    log->file = NULL;
}

void rq_train_log_close(rq_train_log *log)
{
    close_file(log);
    rq_event_file_close(log->events);
    log->events = NULL;
    rq_free(log->path);
    log->path = NULL;
}

/* ---- lines ---- */

static json_t *begin(const char *event, int64_t epoch, int64_t step)
{
    json_t *json = json_object();
    rq_json_set(&json, "event", json_string(event));
    rq_json_set(&json, "epoch", json_integer(epoch));
    rq_json_set(&json, "step", json_integer(step));
    return json;
}

/* Takes json over. */
static void end(rq_train_log *log, json_t *json)
{
    rq_error err = RQ_ERROR_INIT;
    if (rq_json_print(json, log->file, &err))
        rq_log(RQ_LOG_WARN, "%s: %s; this run is logged no further", log->path, err.text);
    else if (fflush(log->file) == 0 && !ferror(log->file))
        return;
    else
        rq_log(RQ_LOG_WARN, "%s: cannot write: %s; this run is logged no further", log->path,
               strerror(errno));
    (void)fclose(log->file);
    log->file = NULL;
}

/* NaN is written as null. */
static double or_nan(double value)
{
    return value >= 0.0 ? value : (double)NAN;
}

static double percent(int64_t part, int64_t all)
{
    return all ? 100.0 * (double)part / (double)all : 0.0;
}

static double mean_loss(const rq_meters *meters)
{
    return meters->counted ? meters->loss / (double)meters->counted : 0.0;
}

/* ---- scalars ---- */

static void start_events(rq_train_log *log, int64_t step)
{
    rq_error err = RQ_ERROR_INIT;
    if (log->dir && rq_event_file_create(&log->events, log->dir, step, &err))
        rq_log(RQ_LOG_WARN, "%s; this run has no events", err.text);
}

static void add_events(rq_train_log *log, int64_t step, const rq_scalar *scalars, size_t n)
{
    rq_error err = RQ_ERROR_INIT;
    if (!log->events || !rq_event_file_add(log->events, step, scalars, n, &err))
        return;
    rq_log(RQ_LOG_WARN, "%s; this run has no further events", err.text);
    rq_event_file_close(log->events);
    log->events = NULL;
}

/* ---- what happens ---- */

void rq_train_log_start(rq_train_log *log, const rq_progress *progress, int64_t steps_done,
                        bool resumed, const rq_option_set *sets, size_t n_sets)
{
    start_events(log, steps_done);
    if (!log->file)
        return;
    json_t *json = begin("start", progress->epoch, progress->step);
    rq_json_set(&json, "resumed", json_boolean(resumed));
    rq_json_set(&json, "options", rq_settings_json(sets, n_sets));
    end(log, json);
}

void rq_train_log_step(rq_train_log *log, const rq_step_report *r)
{
    const rq_step_result *result = r->result;
    const rq_meters *m = r->meters;
    const double loss = result->loss, top1 = percent(result->top1, result->n_counted),
                 top5 = percent(result->top5, result->n_counted);
    rq_log(RQ_LOG_INFO,
           "Epoch: [%lld][%5lld/%lld]\tTime %6.3f (%6.3f)\tLoss %.4e (%.4e)\tAcc@1 %6.2f "
           "(%6.2f)\tAcc@5 %6.2f (%6.2f)\tlr %.6f",
           (long long)r->epoch, (long long)r->step, (long long)r->n_steps, r->seconds,
           r->mean_seconds, loss, mean_loss(m), top1, percent(m->top1, m->counted), top5,
           percent(m->top5, m->counted), r->lr);
    const rq_scalar scalars[] = {{"train/loss", loss},
                                 {"train/top1", top1},
                                 {"train/lr", r->lr},
                                 {"train/images_per_second", r->batch / r->mean_seconds}};
    add_events(log, r->steps_done, scalars, sizeof scalars / sizeof scalars[0]);
    if (!log->file)
        return;
    json_t *json = begin("step", r->epoch, r->step + 1);
    rq_json_set(&json, "lr", rq_json_number(r->lr));
    rq_json_set(&json, "loss", rq_json_number(loss));
    rq_json_set(&json, "top1", rq_json_number(top1));
    rq_json_set(&json, "top5", rq_json_number(top5));
    rq_json_set(&json, "img_per_s", rq_json_number(r->batch / r->mean_seconds));
    end(log, json);
}

void rq_train_log_bar(rq_train_log *log, const rq_step_report *r)
{
    enum { WIDTH = 24 };
    static const char full[] = "========================", none[] = "                        ";
    const double now = rq_clock();
    assert(r->step < r->n_steps);
    if (now - log->last_bar < 0.1)
        return;
    log->last_bar = now;
    const int done = (int)(WIDTH * (r->step + 1) / r->n_steps);
    char left[32];
    rq_print_duration(r->mean_seconds * (double)(r->n_steps - r->step - 1), left, sizeof left);
    rq_log(RQ_LOG_PROGRESS, "epoch %lld [%.*s%.*s] %lld/%lld  loss %.3f  %.0f images/s  %s left",
           (long long)r->epoch, done, full, WIDTH - done, none, (long long)r->step + 1,
           (long long)r->n_steps, mean_loss(r->meters), r->batch / r->mean_seconds, left);
}

void rq_train_log_epoch(rq_train_log *log, const rq_epoch_report *r)
{
    rq_log(RQ_LOG_PROGRESS, "%s", "");
    const rq_scalar scalars[] = {{"val/top1", or_nan(r->val_top1)},
                                 {"val/top5", or_nan(r->val_top5)},
                                 {"val/ema_top1", or_nan(r->val_ema_top1)}};
    add_events(log, r->steps_done, scalars, sizeof scalars / sizeof scalars[0]);
    if (!log->file)
        return;
    const rq_meters *m = r->meters;
    json_t *json = begin("epoch", r->epoch, r->steps);
    rq_json_set(&json, "lr", rq_json_number(r->lr));
    rq_json_set(&json, "loss", rq_json_number(mean_loss(m)));
    rq_json_set(&json, "top1", rq_json_number(percent(m->top1, m->counted)));
    rq_json_set(&json, "top5", rq_json_number(percent(m->top5, m->counted)));
    rq_json_set(&json, "img_per_s", rq_json_number(r->img_per_s));
    rq_json_set(&json, "val_top1", rq_json_number(or_nan(r->val_top1)));
    rq_json_set(&json, "val_top5", rq_json_number(or_nan(r->val_top5)));
    rq_json_set(&json, "val_ema_top1", rq_json_number(or_nan(r->val_ema_top1)));
    rq_json_set(&json, "best", json_boolean(r->best));
    end(log, json);
}

void rq_train_log_stop(rq_train_log *log, const rq_progress *progress, const char *reason)
{
    if (!log->file)
        return;
    json_t *json = begin("stop", progress->epoch, progress->step);
    rq_json_set(&json, "reason", rq_json_string(reason));
    end(log, json);
}

/* ---- where the time went ---- */

static void log_unit(const rq_unit_profile *unit, double steps, double images)
{
    const double forward = unit->forward_s / steps, backward = unit->backward_s / steps;
    rq_log(RQ_LOG_INFO, "%8.4f %8.4f  %7.3f %7.3f  %6.1f %6.1f  %-14s %s", 1e3 * forward / images,
           1e3 * backward / images, 1e-6 * unit->forward_bytes / images,
           1e-6 * unit->backward_bytes / images, 1e-9 * unit->forward_bytes / forward,
           1e-9 * unit->backward_bytes / backward, unit->kind, unit->layer);
}

void rq_train_log_profile(const rq_trainer *trainer, int64_t n_steps, int64_t batch)
{
    const rq_trainer_profile p = rq_trainer_get_profile(trainer);
    const double steps = (double)n_steps, images = (double)batch;
    const double n = steps * images;
    if (!n_steps)
        return;
    rq_log(RQ_LOG_INFO,
           "ms/image: conv forward %.3f, passes forward %.3f, conv backward %.3f, passes backward "
           "%.3f, weights %.3f, loss %.3f",
           1e3 * p.forward_conv / n, 1e3 * p.forward_pass / n, 1e3 * p.backward_conv / n,
           1e3 * p.backward_pass / n, 1e3 * p.weights / n, 1e3 * p.loss / n);
    rq_log(RQ_LOG_INFO, "%17s  %15s  %13s  forward and backward", "ms/image", "MB/image", "GB/s");
    for (int i = 0; i < rq_trainer_n_units(trainer); i++) {
        const rq_unit_profile unit = rq_trainer_unit(trainer, i);
        log_unit(&unit, steps, images);
    }
}
