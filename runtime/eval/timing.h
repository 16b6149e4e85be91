/* How long a session takes, alone: no images are loaded. */
#ifndef RQ_RUNTIME_EVAL_TIMING_H
#define RQ_RUNTIME_EVAL_TIMING_H

#include "runtime/session/session.h"

typedef struct rq_timing {
    int batch, n_runs;
    double median_s, min_s, max_s; /* per run */
    double macs;                   /* multiply-adds per image */
    int n_steps;
    rq_step_time *steps; /* [n_steps] mean of the runs; names belong to the session */
    rq_arena arena;      /* owns steps */
} rq_timing;

static inline double rq_timing_images_per_s(const rq_timing *timing)
{
    return (double)timing->batch / timing->median_s;
}

/* 10^9 operations per second; a multiply-add is two. */
static inline double rq_timing_gops(const rq_timing *timing)
{
    return 2e-9 * timing->macs * rq_timing_images_per_s(timing);
}

/* Run a session made for batches of batch images, size x size pixels, on random pixels: a warm-up,
 * then repeat runs, or with repeat 0 as many as fit into about two seconds (5 to 200).
 * with_steps: a clock around each step; without it steps is NULL. Errors: RQ_ERR_NOMEM and those of
 * the session. */
RQ_NODISCARD rq_status rq_time_session(rq_timing *out, rq_session *session, int batch, int size,
                                       int repeat, bool with_steps, rq_error *err);
void rq_timing_deinit(rq_timing *timing); /* a zeroed struct is fine */

#endif
