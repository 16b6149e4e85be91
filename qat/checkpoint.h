/* Training state between epochs: parameters, buffers, velocities and progress, in one guarded
 * tensor file (model/tensorfile.h) that is replaced atomically. Training resumed from it continues
 * bit for bit (same options, same thread count).
 *
 * Tensors: every parameter of the model by its name; "velocity/NAME" for those that the optimizer
 * moves. Metadata: format "repqat-checkpoint", epoch (finished epochs), best_top1 (%.17g), run
 * (what must be the same to resume). */
#ifndef RQ_QAT_CHECKPOINT_H
#define RQ_QAT_CHECKPOINT_H

#include "qat/optimizer.h"

typedef struct rq_progress {
    int epoch;        /* epochs finished */
    double best_top1; /* percent on validation; -1 before the first */
} rq_progress;

/* run: a text that describes the model and the options on which the course of training depends.
 * Errors: RQ_ERR_IO, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_checkpoint_save(const char *path, const rq_model *model,
                                          const rq_optimizer *optimizer,
                                          const rq_progress *progress, const char *run,
                                          rq_error *err);

/* Into an equal model and optimizer, which are not changed on error. Errors: RQ_ERR_FILE (not a
 * checkpoint, damaged, another run: shows both descriptions from where they differ; a tensor
 * missing or misshapen), RQ_ERR_IO, RQ_ERR_NOMEM. The message starts with the path. */
RQ_NODISCARD rq_status rq_checkpoint_load(const char *path, rq_model *model,
                                          const rq_optimizer *optimizer, rq_progress *progress,
                                          const char *run, rq_error *err);

#endif
