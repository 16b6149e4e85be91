/* A session executes a model of any form at one input size.
 *
 *   train, deploy, withbn   float, every operator as the graph says (batch norm with its running
 *                           statistics)
 *   qat                     fake-quantized, by the integer contract: integer-valued f32
 *                           convolutions, exact in every accumulator, and the output rule; gives
 *                           the logits of the exported int8 model
 *   int8                    u8 x s8 convolutions of oneDNN, ReLU and requantization inside
 *
 * Everything is planned at creation: primitives, packed weights, one block for all activations,
 * laid out by their lifetimes. Running allocates nothing. The model may be freed once the session
 * exists. A session is used by one thread at a time; it computes with OpenMP's threads, or with
 * streams of its own.
 *
 * session.c chooses between one executor (executor.h: steps over one block of memory) and several at
 * once (streams.h). A plan (plan.h) makes the steps of an executor from a graph, by one row per
 * operator (rows.h). */
#ifndef RQ_RUNTIME_SESSION_SESSION_H
#define RQ_RUNTIME_SESSION_SESSION_H

#include "runtime/session/session_options.h"

typedef struct rq_session rq_session;

/* Errors: RQ_ERR_MODEL, RQ_ERR_UNSUPPORTED, RQ_ERR_NOMEM, RQ_ERR_ARG. */
RQ_NODISCARD rq_status rq_session_create(rq_session **out, const rq_model *model,
                                         const rq_session_options *options, rq_error *err);
void rq_session_destroy(rq_session *session); /* NULL is fine */

/* pixels u8 RGB [n, height, width, 3], 1 <= n <= batch; logits f32 [n, classes]. */
RQ_NODISCARD rq_status rq_session_run(rq_session *session, const uint8_t *pixels, int n,
                                      float *logits, rq_error *err);

rq_session_info rq_session_get_info(const rq_session *session);

/* Run once with a clock around each step. times: rq_session_n_steps entries; a session of several
 * streams has none, and RQ_ERR_ARG is its answer. */
int rq_session_n_steps(const rq_session *session);
RQ_NODISCARD rq_status rq_session_run_timed(rq_session *session, const uint8_t *pixels, int n,
                                            float *logits, rq_step_time *times, rq_error *err);

#endif
