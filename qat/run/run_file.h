/* The state of a training run between two steps: parameters, buffers, the optimizer's state, the
 * moving average and the progress, in one guarded tensor file (modelfile/tensorfile.h) that is
 * replaced atomically. Training resumed from it continues bit for bit (same options, same thread
 * count).
 *
 * Tensors: every parameter of the model by its name; "STATE/NAME" for the optimizer's state
 * ("velocity", "exp_avg", …) of those that it moves; "ema/NAME" for the average, where there is
 * one. Metadata: format "repqat-checkpoint", version "2", run (what must be the same to resume),
 * optimizer_steps, and the fields of rq_progress by name (run_file.c). */
#ifndef RQ_QAT_RUN_RUN_FILE_H
#define RQ_QAT_RUN_RUN_FILE_H

#include "qat/run/progress.h"
#include "qat/update/ema.h"
#include "qat/update/optimizer.h"

/* What is saved and restored; nothing is owned. */
typedef struct rq_training {
    rq_model *model;
    rq_optimizer *optimizer;
    rq_ema *ema; /* NULL: none */
} rq_training;

/* run: a text that describes the model and the options on which the course of training depends.
 * Errors: RQ_ERR_IO, RQ_ERR_NOMEM; the previous file is then untouched. */
RQ_NODISCARD rq_status rq_run_file_save(const char *path, const rq_training *training,
                                        const rq_progress *progress, const char *run,
                                        rq_error *err);

/* Into an equal model, optimizer and average, which are not changed on error. Errors: RQ_ERR_FILE
 * (not a run file, damaged, another run: shows both descriptions from where they differ; a tensor
 * missing or misshapen), RQ_ERR_IO, RQ_ERR_NOMEM. The message starts with the path. */
RQ_NODISCARD rq_status rq_run_file_load(const char *path, const rq_training *training,
                                        rq_progress *progress, const char *run, rq_error *err);

/* How far the run of a run file is, whatever run that is. Errors: as above. */
RQ_NODISCARD rq_status rq_run_file_peek(const char *path, rq_progress *progress, rq_error *err);

#endif
