/* Several executors of one model at the same time, for throughput: each has a thread and small
 * batches of its own, so that no layer ends at a barrier and activations stay in a core's cache. They
 * share the packed weights. A run hands its images out in small batches, to whichever executor is
 * free; every row of logits is that of an executor alone, bit for bit in the integer forms.
 *
 * Where there are as many streams as CPUs for this process, each thread stays on its CPU. */
#ifndef RQ_RUNTIME_SESSION_STREAMS_H
#define RQ_RUNTIME_SESSION_STREAMS_H

#include "runtime/session/session_options.h"

typedef struct rq_streams rq_streams;

/* How a batch is divided; n_streams 1: not at all. */
typedef struct rq_stream_plan {
    int n_streams;
    int batch; /* images at once in each */
} rq_stream_plan;

/* The plan for options->n_streams (height and width are given): with RQ_STREAMS_AUTO one stream per OpenMP thread. As many
 * images at once as keep what a layer reads and writes (median of the convolutions) within the
 * second-level cache of a core, 1 to 16, in a number that divides the batch well. Errors: those of
 * rq_graph_shapes. */
RQ_NODISCARD rq_status rq_streams_plan(rq_stream_plan *out, const rq_model *model,
                                       const rq_session_options *options, rq_error *err);

/* The model may be freed afterwards. Errors: those of rq_executor_create; RQ_ERR_NOMEM (a thread
 * could not be started). */
RQ_NODISCARD rq_status rq_streams_create(rq_streams **out, const rq_model *model,
                                         const rq_session_options *options, rq_stream_plan plan,
                                         rq_error *err);
void rq_streams_destroy(rq_streams *streams); /* NULL is fine */

/* As rq_executor_run, for any n. */
RQ_NODISCARD rq_status rq_streams_run(rq_streams *streams, const uint8_t *pixels, int n,
                                      float *logits, rq_error *err);

/* Of all streams together; weights count once. */
rq_session_info rq_streams_get_info(const rq_streams *streams);

#endif
