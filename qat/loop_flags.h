/* The options that `train` and `qat_train` share: one table for both, each with its own defaults.
 */
#ifndef RQ_QAT_LOOP_FLAGS_H
#define RQ_QAT_LOOP_FLAGS_H

#include "qat/loop.h"
#include "runtime/base/options.h"

typedef struct rq_loop_flags {
    const char *dir, *output, *resume;
    int64_t batch, val_batch, workers, epochs, start_epoch, print_every, resolution, threads, seed;
    double lr, momentum, weight_decay, warmup_epochs, label_smoothing;
    int augment, bad_images, precision; /* rq_augment, rq_bad_images, rq_precision */
    bool nesterov, evaluate, profile, json;
} rq_loop_flags;

extern const rq_option rq_loop_flags_table[];
extern const size_t rq_loop_flags_count;

/* Defaults of what both commands agree on; the rest is zero. */
rq_loop_flags rq_loop_flags_init(void);

/* Apply --threads and fill the loop's options from the flags. */
rq_loop_options rq_loop_flags_apply(const rq_loop_flags *flags);

/* The result on stdout: one line, or an object with --json. */
void rq_loop_print_result(const rq_loop_flags *flags, const rq_loop_result *result);

#endif
