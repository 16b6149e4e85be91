/* Timed runs of a session on random pixels. */
#include "runtime/eval/timing.h"

#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/base/random.h"
#include "runtime/base/size.h"

enum { MIN_RUNS = 5, MAX_RUNS = 200, PIXEL_SEED = 1 };
#define AUTO_SECONDS 2.0

typedef struct timer {
    rq_arena arena; /* all below */
    uint8_t *pixels;
    float *logits;
    rq_step_time *steps; /* of one run */
    double *seconds;     /* [runs] */
} timer;

static rq_status allocate(timer *self, const rq_session *session, int batch, int size, int max_runs,
                          rq_error *err)
{
    const int64_t dims[] = {batch, size, size, 3};
    const size_t n_logits = (size_t)batch * (size_t)rq_session_get_info(session).n_classes;
    size_t n_pixels;
    if (!rq_dims_elems(dims, 4, &n_pixels))
        return rq_fail(err, RQ_ERR_ARG, "%d images of %d x %d pixels are too large", batch, size,
                       size);
    self->pixels = rq_arena_array(&self->arena, uint8_t, n_pixels);
    self->logits = rq_arena_array(&self->arena, float, n_logits);
    self->steps = rq_arena_array(&self->arena, rq_step_time, rq_session_n_steps(session));
    self->seconds = rq_arena_array(&self->arena, double, max_runs);
    if (!self->pixels || !self->logits || !self->steps || !self->seconds)
        return rq_no_memory(err);
    rq_random random = rq_random_stream(PIXEL_SEED, 0, 0);
    for (size_t i = 0; i < n_pixels; i++)
        self->pixels[i] = (uint8_t)(rq_random_u64(&random) >> 56);
    return RQ_OK;
}

static int compare_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Two runs, the first of which touches all memory; the second's time tells how many runs fit. */
static rq_status warm_up(timer *self, const rq_timing *out, rq_session *session, double *seconds,
                         rq_error *err)
{
    RQ_TRY(rq_session_run(session, self->pixels, out->batch, self->logits, err));
    const double start = rq_clock();
    RQ_TRY(rq_session_run(session, self->pixels, out->batch, self->logits, err));
    *seconds = rq_clock() - start;
    return RQ_OK;
}

static int runs_in(double seconds_per_run)
{
    const double n = AUTO_SECONDS / seconds_per_run;
    return n > MAX_RUNS ? MAX_RUNS : n > MIN_RUNS ? (int)n : MIN_RUNS;
}

static rq_status measure(timer *self, rq_timing *out, rq_session *session, rq_error *err)
{
    for (int run = 0; run < out->n_runs; run++) {
        const double start = rq_clock();
        if (out->steps)
            RQ_TRY(rq_session_run_timed(session, self->pixels, out->batch, self->logits,
                                        self->steps, err));
        else
            RQ_TRY(rq_session_run(session, self->pixels, out->batch, self->logits, err));
        self->seconds[run] = rq_clock() - start;
        for (int i = 0; i < out->n_steps; i++) {
            const double before = out->steps[i].seconds;
            out->steps[i] = self->steps[i];
            out->steps[i].seconds = before + self->steps[i].seconds / out->n_runs;
        }
    }
    return RQ_OK;
}

static rq_status time_runs(timer *self, rq_timing *out, rq_session *session, int size, int repeat,
                           bool with_steps, rq_error *err)
{
    double seconds;
    RQ_TRY(allocate(self, session, out->batch, size, repeat ? repeat : MAX_RUNS, err));
    if (with_steps) {
        out->n_steps = rq_session_n_steps(session);
        out->steps = rq_arena_array(&out->arena, rq_step_time, out->n_steps);
        if (!out->steps)
            return rq_no_memory(err);
    }
    RQ_TRY(warm_up(self, out, session, &seconds, err));
    out->macs = rq_session_get_info(session).macs;
    out->n_runs = repeat ? repeat : runs_in(seconds);
    RQ_TRY(measure(self, out, session, err));
    const size_t n = (size_t)out->n_runs;
    qsort(self->seconds, n, sizeof *self->seconds, compare_seconds);
    out->min_s = self->seconds[0];
    out->max_s = self->seconds[n - 1];
    out->median_s = 0.5 * (self->seconds[(n - 1) / 2] + self->seconds[n / 2]);
    return RQ_OK;
}

rq_status rq_time_session(rq_timing *out, rq_session *session, int batch, int size, int repeat,
                          bool with_steps, rq_error *err)
{
    timer self = {.arena = RQ_ARENA_INIT};
    rq_timing timing = {.batch = batch, .arena = RQ_ARENA_INIT};
    const rq_status status = time_runs(&self, &timing, session, size, repeat, with_steps, err);
    rq_arena_deinit(&self.arena);
    if (status)
        rq_timing_deinit(&timing);
    else
        *out = timing;
    return status;
}

void rq_timing_deinit(rq_timing *timing)
{
    rq_arena_deinit(&timing->arena);
    *timing = (rq_timing){.arena = RQ_ARENA_INIT};
}
