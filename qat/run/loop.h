/* The training loop that `train` and `qat_train` share: epochs over a folder of images, validation,
 * the best models kept, and a state to continue from at any time.
 *
 * Files: OUTPUT is the best model so far by validation Acc@1 (the latest when there is no
 * validation split), OUTPUT.ckpt the state of the run, and with a moving average OUTPUT's name with
 * .best_ema in front of its ending the best average. All are replaced atomically. A run that was
 * stopped or killed anywhere and resumed ends with the same bytes as one that was not (same thread
 * count, no time budget). Progress goes to the log in the lines that users of the original scripts
 * know. */
#ifndef RQ_QAT_RUN_LOOP_H
#define RQ_QAT_RUN_LOOP_H

#include "qat/run/train_data.h"
#include "qat/update/ema.h"
#include "qat/update/optimizer.h"
#include "qat/update/schedule.h"
#include "runtime/base/options.h"

extern const char *const rq_precision_names[]; /* f32 bf16, NULL at the end */

typedef struct rq_loop_options {
    rq_train_data_options data;
    const char *output;  /* model file to write */
    const char *resume;  /* checkpoint, "auto" for OUTPUT.ckpt when there is one, or NULL */
    const char *log_dir; /* for train_log.h, or NULL */
    int epochs, print_every;
    int start_epoch;    /* count epochs from here, when nothing is resumed */
    bool evaluate_only; /* validate the model (or the resumed state) and stop; writes nothing */
    rq_schedule_kind schedule;
    double lr, min_lr, warmup_epochs;
    double label_smoothing;
    rq_optimizer_options optimizer;
    bool custom_l2; /* weight decay by custom_l2.h where it applies */
    double ema;     /* alpha of ema.h; 0: no average */
    rq_ema_rule ema_rule;
    rq_precision precision;
    /* Form qat: batch norm / ranges are frozen from epoch (0-based) n * epochs / 8 + 2 on, n
     * eighths; 0: never. */
    int bn_freeze_eighths, observer_freeze_eighths;
    double save_minutes;   /* between checkpoints within an epoch; 0: at the ends of epochs only */
    double budget_seconds; /* wall time for the whole run, earlier parts of it included, of which
                              epochs is then the upper limit; 0: none */
    bool profile;          /* log where a step's time went, at the end */
    /* The options that all this came from, for the logs; and those of them (names, NULL at the end)
     * that a resumed run may change, because the course of training does not depend on them. */
    const rq_option_set *sets;
    size_t n_sets;
    const char *const *free_names;
} rq_loop_options;

typedef struct rq_loop_result {
    double best_top1, last_top1, last_top5; /* percent; NaN without validation */
    double best_ema_top1;                   /* the same; NaN without average too */
    double seconds, images_per_second;      /* training only, of this process */
    int epochs;                             /* finished */
} rq_loop_result;

/* Train model in place (it ends as the last epoch left it; the best is in OUTPUT).
 * Errors: those of its parts; RQ_ERR_INTERRUPTED (interrupt.h) once the state has been saved;
 * RQ_ERR_RANGE (a loss that is not finite: names epoch, step and layer; the last checkpoint stays).
 */
RQ_NODISCARD rq_status rq_train_loop(rq_model *model, const rq_loop_options *options,
                                     rq_loop_result *result, rq_error *err);

#endif
