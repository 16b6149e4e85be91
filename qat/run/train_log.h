/* What a training run tells: progress lines in the form of the original scripts and a bar to the
 * log, and in a folder, scalars for TensorBoard (event_file.h) and DIR/train.jsonl, one JSON object
 * per line, appended to what is there:
 *
 *   event   "start" (options, resumed: whether from a run file), "step", "epoch", "stop"
 *   all     epoch (from 0), step (of the epoch, steps done)
 *   step    lr, loss, top1, top5 (of the step's batch), img_per_s (mean over the epoch so far)
 *   epoch   lr, loss, top1, top5 (means over the epoch, in training mode), img_per_s, val_top1,
 *           val_top5, val_ema_top1 (null: not measured), best (is it the best so far?)
 *   stop    reason
 *
 * The scalars are train/loss, train/top1, train/lr and train/images_per_second of a step, val/top1,
 * val/top5 and val/ema_top1 of an epoch, over the number of steps done since the run's beginning.
 *
 * A run that was killed and resumed repeats lines; the later ones count. Writing never ends a run:
 * if it fails, a warning says so once. */
#ifndef RQ_QAT_RUN_TRAIN_LOG_H
#define RQ_QAT_RUN_TRAIN_LOG_H

#include <stdio.h>

#include "qat/run/event_file.h"
#include "qat/run/progress.h"
#include "qat/step/trainer.h"
#include "runtime/base/options.h"

typedef struct rq_train_log {
    const char *dir; /* NULL: none */
    FILE *file;      /* NULL: none (any more) */
    char *path;
    rq_event_file *events; /* NULL: none (any more) */
    double last_bar;       /* when one was drawn */
} rq_train_log;

#define RQ_TRAIN_LOG_INIT                                                                          \
    {                                                                                              \
        NULL, NULL, NULL, NULL, -1.0                                                               \
    }

/* dir: made when it is missing, must outlive the log; NULL: no files. Errors: RQ_ERR_IO,
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_train_log_open(rq_train_log *log, const char *dir, rq_error *err);
void rq_train_log_close(rq_train_log *log);

/* One step; the means come from meters. */
typedef struct rq_step_report {
    int64_t epoch, step, n_steps; /* step counts from 0 in the epoch */
    int64_t steps_done;           /* since the run's beginning */
    double lr;
    double seconds, mean_seconds; /* of this step, and of this epoch's so far */
    int batch;
    const rq_step_result *result;
    const rq_meters *meters;
} rq_step_report;

void rq_train_log_start(rq_train_log *log, const rq_progress *progress, int64_t steps_done,
                        bool resumed, const rq_option_set *sets, size_t n_sets);
void rq_train_log_step(rq_train_log *log, const rq_step_report *report);
void rq_train_log_bar(rq_train_log *log, const rq_step_report *report); /* on a terminal only */

typedef struct rq_epoch_report {
    int64_t epoch, steps, steps_done;
    double lr, img_per_s;
    const rq_meters *meters;
    double val_top1, val_top5, val_ema_top1; /* percent; negative: not measured */
    bool best;
} rq_epoch_report;

void rq_train_log_epoch(rq_train_log *log, const rq_epoch_report *report);
void rq_train_log_stop(rq_train_log *log, const rq_progress *progress, const char *reason);

/* To the log only: where the time of n_steps steps of batch images each went. */
void rq_train_log_profile(const rq_trainer *trainer, int64_t n_steps, int64_t batch);

#endif
