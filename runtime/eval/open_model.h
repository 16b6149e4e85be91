/* Models and sessions as commands open them: everything that a file can be wrong about is checked,
 * and every message starts with the path. A model file (.bin) describes itself; a checkpoint of
 * PyTorch or a foreign safetensors file (torch/load.h) needs -a. */
#ifndef RQ_RUNTIME_EVAL_OPEN_MODEL_H
#define RQ_RUNTIME_EVAL_OPEN_MODEL_H

#include "runtime/base/options.h"
#include "runtime/image/dataset.h"
#include "runtime/modelfile/modelfile.h"
#include "runtime/session/session.h"
#include "runtime/torch/weight_file.h"

#define RQ_ANY_FORM ((1u << RQ_N_FORMS) - 1)

typedef struct rq_open_options {
    const char *arch; /* -a: of a checkpoint; a model file must be of it. NULL: not given */
    int64_t classes;  /* --classes: a checkpoint's head of other classes gets initial values; a
                         model file must have them. 0: not given */
} rq_open_options;

/* The options -a and --classes, which commands that open models have in common. */
rq_option_set rq_open_option_set(rq_open_options *fields);

/* Load a model of one of the forms (bit set of 1u << rq_form) whose parameters are finite, and
 * whose integers and scales keep the integer contract; or a checkpoint, in form train or deploy.
 * options may be NULL: none given. *out is owned by the caller; its parameters are read-only, views
 * of the file where they can be. Errors: as rq_model_map, rq_model_from_checkpoint,
 * rq_model_require_form, rq_model_check_finite and rq_integer_check; RQ_ERR_MODEL (options
 * contradict the file), RQ_ERR_USAGE (not an architecture). */
RQ_NODISCARD rq_status rq_open_model(rq_model *out, const char *path,
                                     const rq_open_options *options, unsigned forms, rq_error *err);

/* The same from an open file, which the model holds too. */
RQ_NODISCARD rq_status rq_open_model_from(rq_model *out, rq_weight_file *file,
                                          const rq_open_options *options, unsigned forms,
                                          rq_error *err);

/* A session for batches of batch images, size x size pixels; n_streams as in rq_session_options.
 * Warns when this CPU needs the slower kernels (rq_session_info.saturation_safe). Errors: as
 * rq_session_create. */
RQ_NODISCARD rq_status rq_open_session(rq_session **out, const rq_model *model, const char *path,
                                       int batch, int size, int n_streams, rq_error *err);

/* Do the folder's classes fit to the model's? Their number must, and their names where the model
 * has any. Errors: RQ_ERR_MODEL with both numbers, or the first name that differs. */
RQ_NODISCARD rq_status rq_require_classes(const rq_model *model, const char *path,
                                          const rq_dataset *dataset, rq_error *err);

#endif
