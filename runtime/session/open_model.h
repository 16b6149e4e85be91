/* Models and sessions as commands open them: everything that a file can be wrong about is checked,
 * and every message starts with the path. */
#ifndef RQ_RUNTIME_SESSION_OPEN_MODEL_H
#define RQ_RUNTIME_SESSION_OPEN_MODEL_H

#include "runtime/image/dataset.h"
#include "runtime/session/session.h"

#define RQ_ANY_FORM ((1u << RQ_N_FORMS) - 1)

/* Load a model of one of the forms (bit set of 1u << rq_form) whose parameters are finite, and
 * whose integers and scales keep the integer contract. *out is owned by the caller; its parameters
 * are read-only views of the file (rq_model_map). Errors: as rq_model_map, rq_model_require_form,
 * rq_model_check_finite and rq_integer_check. */
RQ_NODISCARD rq_status rq_open_model(rq_model *out, const char *path, unsigned forms,
                                     rq_error *err);

/* A session for batches of batch images, size x size pixels. Warns when this CPU needs the slower
 * kernels (rq_session_info.saturation_safe). Errors: as rq_session_create. */
RQ_NODISCARD rq_status rq_open_session(rq_session **out, const rq_model *model, const char *path,
                                       int batch, int size, rq_error *err);

/* Is the model of the architecture that was asked for (-a)? The number of classes may differ.
 * asked NULL: yes. Errors: RQ_ERR_USAGE (not an architecture), RQ_ERR_MODEL. */
RQ_NODISCARD rq_status rq_require_arch(const rq_model *model, const char *path, const char *asked,
                                       rq_error *err);

/* Do the folder's classes fit to the model's? Their number must, and their names where the model
 * has any. Errors: RQ_ERR_MODEL with both numbers, or the first name that differs. */
RQ_NODISCARD rq_status rq_require_classes(const rq_model *model, const char *path,
                                          const rq_dataset *dataset, rq_error *err);

#endif
