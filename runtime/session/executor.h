/* One model at one batch and input size, as steps over one block of memory: what lies under a
 * session, and under each stream of one. Used by one thread at a time; computes with OpenMP's
 * threads. */
#ifndef RQ_RUNTIME_SESSION_EXECUTOR_H
#define RQ_RUNTIME_SESSION_EXECUTOR_H

#include "runtime/session/session_options.h"

typedef struct rq_executor rq_executor;

/* options: with height and width; n_streams does not count. weights_of: an executor of the same
 * model and input size, whose packed weights are used where both pack them alike; it must outlive
 * *out. NULL: packs its own. The model may be freed afterwards. Errors: as rq_session_create. */
RQ_NODISCARD rq_status rq_executor_create(rq_executor **out, const rq_model *model,
                                          const rq_session_options *options,
                                          const rq_executor *weights_of, rq_error *err);
void rq_executor_destroy(rq_executor *executor); /* NULL is fine */

/* As rq_session_run. times: rq_executor_n_steps entries, or NULL for no clock around each step. */
RQ_NODISCARD rq_status rq_executor_run(rq_executor *executor, const uint8_t *pixels, int n,
                                       float *logits, rq_step_time *times, rq_error *err);

int rq_executor_n_steps(const rq_executor *executor);
rq_session_info rq_executor_get_info(const rq_executor *executor);

#endif
