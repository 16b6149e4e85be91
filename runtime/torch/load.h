/* Models from checkpoints: by name, strictly.
 *
 * Every parameter of the model must be in the checkpoint, with the same dimensions and values that
 * are numbers of its kind, and every tensor of the checkpoint must be a parameter. Only
 * num_batches_tracked, which counts and computes nothing, may be absent. timm's names (names.h) are
 * recognised by themselves. Nothing is ignored in silence: all differences are logged one by one
 * (RQ_LOG_INFO), and the error has their numbers and the first. */
#ifndef RQ_RUNTIME_TORCH_LOAD_H
#define RQ_RUNTIME_TORCH_LOAD_H

#include "runtime/model/model.h"
#include "runtime/torch/checkpoint.h"

/* Fill the parameters of a model that was built (arch.h) with the checkpoint's values. keep_head: a
 * linear layer that differs in the number of its outputs alone keeps the values that it has, and a
 * warning says so. Errors: RQ_ERR_MODEL (differences, values that are not finite), and those of
 * rq_checkpoint_read; the message starts with the checkpoint's path. The parameters are then
 * undefined. */
RQ_NODISCARD rq_status rq_model_fill(rq_model *model, rq_checkpoint *checkpoint, bool keep_head,
                                     rq_error *err);

typedef struct rq_load_options {
    const char *arch; /* name or description (arch.h); NULL: not known, an error */
    int n_classes;    /* 0: as arch says. Otherwise a head of other classes gets initial values */
} rq_load_options;

/* Build the network and fill it from the checkpoint in file: the deploy form when the names say so
 * (rbr_reparam), else the training form. *out is initialised by the call and owned by the caller.
 * Its parameters are read-only: views of the file where it has them as f32, else copies; the model
 * holds the file too. Errors: RQ_ERR_USAGE (no or an unknown arch; the message names one that
 * fits, when there is), RQ_ERR_UNSUPPORTED (form withbn), RQ_ERR_MODEL, and those of
 * rq_checkpoint_of. */
RQ_NODISCARD rq_status rq_model_from_checkpoint(rq_model *out, rq_weight_file *file,
                                                const rq_load_options *options, rq_error *err);

#endif
