/* The options of a training run: one struct, and the table of options that fills it, from a command
 * line or from a text. What each option means is in the table's help. */
#ifndef RQ_QAT_RUN_TRAIN_OPTIONS_H
#define RQ_QAT_RUN_TRAIN_OPTIONS_H

#include "qat/update/ema.h"
#include "qat/update/optimizer.h"
#include "qat/update/schedule.h"
#include "runtime/base/options.h"
#include "runtime/eval/augment.h"
#include "runtime/image/loader.h"

typedef struct rq_train_options {
    const char *dir;    /* ImageFolder with a train split */
    const char *output; /* model file to write */

    /* How long */
    int64_t epochs;
    const char *budget;  /* wall time of the whole run, earlier parts of it included, of which
                           epochs is then the upper limit; NULL: none */
    int64_t start_epoch; /* count epochs from here, when nothing is resumed */

    /* Images */
    int64_t batch, val_batch; /* of all processes together (ranks.h) */
    int64_t resolution;       /* side of training images; 0: the model's crop */
    int64_t val_resolution, val_resize;
    rq_augment_options augment;
    double mixup; /* alpha of image/mixup.h; 0: none */
    int64_t workers;
    rq_bad_images bad_images;
    bool alternate_flips; /* as in image/loader.h */

    /* Updates */
    rq_optimizer_options optimizer;
    double lr, min_lr; /* to be multiplied by rq_train_lr_factor */
    double warmup_epochs;
    double label_smoothing;
    double ema; /* alpha of ema.h; 0: no average */
    rq_schedule_kind schedule;
    rq_ema_rule ema_rule;
    rq_precision precision;
    bool scale_lr;
    bool custom_l2;            /* weight decay by custom_l2.h where it applies */
    bool fix_bn, fix_observer; /* form qat: freeze batch norm and the ranges from some epoch on */
    int64_t threads, seed;

    /* Files and logs */
    const char *resume;  /* run file, "auto" for OUTPUT.ckpt when there is one, or NULL */
    double save_minutes; /* between run files within an epoch; 0: at the ends of epochs only */
    const char *log_dir; /* for train_log.h, or NULL */
    int64_t print_every;
    bool evaluate; /* validate the model (or the resumed state) and stop; writes nothing */
    bool profile;  /* log where a step's time went, at the end */
    bool json;     /* for the command */

    /* No option: all tables of the command and their fields, for the logs and the run file. They
     * must outlive the run. */
    const rq_option_set *sets;
    size_t n_sets;
} rq_train_options;

/* The first row is the positional DIR. */
extern const rq_option rq_train_table[];
extern const size_t rq_train_table_size;

/* Names of the options, of this table and of the commands' own, on which the course of training
 * does not depend: those that may differ when a run is resumed. NULL at the end. */
extern const char *const rq_train_free_names[];

/* Defaults of what all commands agree on; the rest is zero. */
rq_train_options rq_train_options_init(void);

/* Take over the options of a text, "--epochs 120 -b 256". Strings point into the arena. Errors:
 * those of rq_options_parse, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_train_options_read(rq_train_options *options, const char *text,
                                             rq_arena *arena, rq_error *err);

/* What the learning rates are multiplied by. */
double rq_train_lr_factor(const rq_train_options *options);

/* The preprocessing of validation that the options ask for. Without val_resize, crops larger than
 * 64 pixels have the usual margin around them and small images are taken whole. follows: without
 * val_resolution the crop follows resolution, where that is given. */
void rq_train_set_sizes(rq_model *model, const rq_train_options *options, bool follows);

#endif
