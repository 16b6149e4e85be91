/* What bench says about a model: speed of a session alone, on random pixels, its memory, and how
 * near its layers come to what the CPU can do.
 *
 * Shares of the peak count the model's multiply-adds, each against the peak of its layer's type
 * (rq_step_time.is_int8). What a kernel does beyond them (weights split so as not to saturate,
 * zeros between groups; integer_conv.h) is not counted, and lowers its share. The peak is the best
 * of several tries and a layer's time the mean of the runs, so that on a busy machine shares show
 * the time that others took too. */
#ifndef RQ_RUNTIME_EVAL_SESSION_BENCH_H
#define RQ_RUNTIME_EVAL_SESSION_BENCH_H

#include <stdbool.h>

#include "runtime/eval/open_model.h"

typedef struct rq_session_bench {
    const char *path;
    rq_open_options open;
    int batch;
    int resolution; /* 0: the model's */
    int repeat;     /* timed runs; 0: as many as fit into two seconds */
    int n_streams;  /* as in rq_session_options */
    bool layers;    /* time of each layer, and its share of the peak (peak.h) */
    bool json;
} rq_session_bench;

/* Measure and print to stdout. Errors: as rq_open_model, rq_open_session and rq_time_session. */
RQ_NODISCARD rq_status rq_bench_session(const rq_session_bench *self, rq_error *err);

#endif
