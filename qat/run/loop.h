/* The training loop that `train` and `qat_train` share: epochs over a folder of images, validation,
 * the best models kept, and a state to continue from at any time.
 *
 * Files, all replaced atomically:
 *
 *   OUTPUT                the best model so far by validation Acc@1 (the latest when there is no
 *                         validation split)
 *   OUTPUT.ckpt           the run file: the state to continue from
 *   OUTPUT with .best_ema the best average, where there is one; the word is put before the ending
 *
 * A run that was stopped or killed anywhere and resumed ends with the same bytes as one that was
 * not (same thread count, no time budget). Progress goes to the log in the lines that users of the
 * original scripts know. */
#ifndef RQ_QAT_RUN_LOOP_H
#define RQ_QAT_RUN_LOOP_H

#include "qat/run/train_options.h"

typedef struct rq_loop_result {
    double best_top1, last_top1, last_top5; /* percent; NaN without validation */
    double best_ema_top1;                   /* the same; NaN without average too */
    double seconds, images_per_second;      /* training only, of this process */
    int epochs;                             /* finished */
} rq_loop_result;

/* Train model in place (it ends as the last epoch left it; the best is in OUTPUT). Sets the number
 * of threads that compute, where the options name one. Errors: those of its parts; RQ_ERR_USAGE (a
 * budget that cannot be read, options that exclude each other); RQ_ERR_INTERRUPTED (interrupt.h)
 * once the state has been saved; RQ_ERR_RANGE (a loss that is not finite: names epoch, step and
 * layer; the last run file stays). */
RQ_NODISCARD rq_status rq_train_loop(rq_model *model, const rq_train_options *options,
                                     rq_loop_result *result, rq_error *err);

#endif
