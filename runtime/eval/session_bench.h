/* What bench measures of a model: speed of a session alone, on random pixels, its memory, and how
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

#include "runtime/dnn/peak.h"
#include "runtime/eval/open_model.h"
#include "runtime/eval/timing.h"

typedef struct rq_session_bench {
    const char *path;
    rq_open_options open;
    int batch;
    int resolution; /* 0: the model's */
    int repeat;     /* timed runs; 0: as many as fit into two seconds */
    int n_streams;  /* as in rq_session_options */
    bool layers;    /* time of each layer, and its share of the peak (peak.h) */
} rq_session_bench;

typedef struct rq_session_report {
    rq_form form;
    int size;
    double ready_s; /* from the opening of the file to a session that can run */
    rq_session_info info;
    size_t rss_bytes; /* the most that the process ever held */
    rq_timing timing;
    rq_session *session;            /* has the names of timing's steps */
    rq_peak peaks[RQ_N_PEAK_TYPES]; /* of the types that the layers compute in; else zero */
} rq_session_report;

/* Errors: as rq_open_model, rq_open_session and rq_time_session; *out is then empty. */
RQ_NODISCARD rq_status rq_bench_session(rq_session_report *out, const rq_session_bench *given,
                                        rq_error *err);
void rq_session_report_deinit(rq_session_report *report); /* a zeroed struct is fine */

/* Of a layer (0 for what has no multiply-adds), and of all together: 10^9 operations per second that
 * the layers could reach, at the peak of each one's type. */
double rq_step_gops(const rq_session_report *report, const rq_step_time *step);
double rq_step_peak_share(const rq_session_report *report, const rq_step_time *step);
double rq_total_peak_gops(const rq_session_report *report);
double rq_total_peak_share(const rq_session_report *report);

#endif
