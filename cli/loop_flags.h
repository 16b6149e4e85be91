/* The options that `train` and `qat_train` share: one table for both, each with its own defaults.
 */
#ifndef RQ_CLI_LOOP_FLAGS_H
#define RQ_CLI_LOOP_FLAGS_H

#include "qat/run/loop.h"

typedef struct rq_loop_flags {
    const char *dir, *output, *resume, *log_dir, *budget, *freeze, *lr_scales;
    int64_t batch, val_batch, workers, epochs, start_epoch, print_every, threads, seed;
    int64_t resolution, val_resolution, val_resize;
    double lr, min_lr, warmup_epochs, weight_decay, bias_lr, clip_grad;
    double momentum, beta1, beta2, adam_eps;
    double label_smoothing, mixup, ema, save_minutes;
    rq_augment_options augment;
    /* rq_optimizer_kind, rq_schedule_kind, rq_ema_rule, rq_bad_images, rq_precision */
    int optimizer, schedule, ema_rule, bad_images, precision;
    bool alternate_flips, scale_lr, nesterov, decay_identity, custom_l2, evaluate, profile, json;
} rq_loop_flags;

extern const rq_option rq_loop_flags_table[];
extern const size_t rq_loop_flags_count;

/* Names of the options, of these commands and of the tables besides, on which the course of
 * training does not depend: those that may differ when a run is resumed. NULL at the end. */
extern const char *const rq_loop_free_names[];

/* Defaults of what both commands agree on; the rest is zero. */
rq_loop_flags rq_loop_flags_init(void);

/* The preprocessing of validation that the flags ask for. Without --val-resize, crops larger than
 * 64 pixels have the usual margin around them and small images are taken whole. follows: without
 * --val-resolution the crop follows --resolution, where that is given. */
void rq_loop_set_sizes(rq_model *model, const rq_loop_flags *flags, bool follows);

/* Apply --threads and fill the loop's options from the flags. sets: all of the command's tables,
 * for the logs; they must outlive the options. Errors: RQ_ERR_USAGE (a
 * value that cannot be read, options that exclude each other). */
RQ_NODISCARD rq_status rq_loop_flags_apply(const rq_loop_flags *flags, const rq_option_set *sets,
                                           size_t n_sets, rq_loop_options *out, rq_error *err);

/* The result on stdout: one line, or an object with --json. */
void rq_loop_print_result(const rq_loop_flags *flags, const rq_loop_options *options,
                          const rq_loop_result *result);

#endif
