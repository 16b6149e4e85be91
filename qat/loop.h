/* The training loop that `train` and `qat_train` share: epochs over a folder of images, validation,
 * the best model kept, a checkpoint after each epoch.
 *
 * Files: OUTPUT is the best model so far by validation Acc@1 (the latest when there is no
 * validation split); OUTPUT.ckpt is the state to resume from. Progress goes to the log in the lines
 * that users of the original scripts know. */
#ifndef RQ_QAT_LOOP_H
#define RQ_QAT_LOOP_H

#include "qat/optimizer.h"
#include "qat/schedule.h"
#include "runtime/image/loader.h"

typedef enum rq_augment {
    RQ_AUGMENT_AUTO,
    RQ_AUGMENT_CROP,
    RQ_AUGMENT_WEAK, /* the recipes' name of CROP */
    RQ_AUGMENT_RAUG15,
    RQ_AUGMENT_PAD_CROP,
    RQ_AUGMENT_CUTOUT,
    RQ_AUGMENT_FLIP,
    RQ_AUGMENT_NONE
} rq_augment;
extern const char *const rq_precision_names[]; /* f32 bf16, NULL at the end */
extern const char *const rq_augment_names[];   /* by the above, NULL at the end */

typedef struct rq_loop_options {
    const char *dir;    /* ImageFolder with a train split */
    const char *output; /* model file to write */
    const char *resume; /* checkpoint, "auto" for OUTPUT.ckpt when there is one, or NULL */
    int batch, val_batch, workers, epochs, print_every;
    int start_epoch;    /* count epochs from here, when nothing is resumed */
    bool evaluate_only; /* validate the model (or the resumed state) and stop; writes nothing */
    int resolution;     /* side of training images; 0 = the model's crop */
    double lr, warmup_epochs, label_smoothing;
    rq_optimizer_options optimizer;
    rq_augment augment;
    rq_precision precision;
    rq_bad_images bad_images;
    uint64_t seed;
    /* first epoch (0-based) in which batch norm / ranges are frozen; epochs or more = never. Form
     * qat. */
    int bn_freeze_epoch, observer_freeze_epoch;
    const char *run; /* what else the course of training depends on, for the checkpoint */
    bool profile;    /* log where a step's time went, at the end */
} rq_loop_options;

typedef struct rq_loop_result {
    double best_top1, last_top1, last_top5; /* percent; -1 without validation */
    double seconds, images_per_second;      /* training only */
    int epochs;
} rq_loop_result;

/* Train model in place (it ends as the last epoch left it; the best is in OUTPUT).
 * Errors: those of its parts; a loss that is not finite names epoch and step, and the last
 * checkpoint stays. */
RQ_NODISCARD rq_status rq_train_loop(rq_model *model, const rq_loop_options *options,
                                     rq_loop_result *result, rq_error *err);

#endif
