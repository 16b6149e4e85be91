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

static rq_status random_pixels(timer *self, size_t n, rq_error *err)
{
    void *memory = NULL;
    const rq_status status = rq_arena_array_old(&self->arena, &memory, n, 1, err);
    if (status != RQ_OK)
        return status;
    self->pixels = memory;
    rq_random random = rq_random_stream(PIXEL_SEED, 0, 0);
    for (size_t i = 0; i < n; i++)
        self->pixels[i] = (uint8_t)(rq_random_u64(&random) >> 56);
    return RQ_OK;
}

static rq_status allocate(timer *self, const rq_session *session, int batch, int size, int max_runs,
                          rq_error *err)
{
    const int64_t dims[] = {batch, size, size, 3};
    const size_t n_classes = (size_t)rq_session_get_info(session).n_classes;
    size_t n_pixels;
    void *memory = NULL;
    if (!rq_dims_elems(dims, 4, &n_pixels))
        return rq_fail(err, RQ_ERR_ARG, "%d images of %d x %d pixels are too large", batch, size,
                       size);
    rq_status status = random_pixels(self, n_pixels, err);
    if (status == RQ_OK)
        status = rq_arena_array_old(&self->arena, &memory, (size_t)batch, n_classes * sizeof(float),
                                    err);
    self->logits = memory;
    if (status == RQ_OK)
        status = rq_arena_array_old(&self->arena, &memory, (size_t)rq_session_n_steps(session),
                                    sizeof *self->steps, err);
    self->steps = memory;
    if (status == RQ_OK)
        status = rq_arena_array_old(&self->arena, &memory, (size_t)max_runs, sizeof(double), err);
    self->seconds = memory;
    return status;
}

static int compare_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Two runs, the first of which touches all memory; the second's time tells how many runs fit. */
static rq_status warm_up(timer *self, rq_timing *out, rq_session *session, double *seconds,
                         rq_error *err)
{
    rq_status status = rq_session_run(session, self->pixels, out->batch, self->logits, err);
    if (status != RQ_OK)
        return status;
    out->macs = rq_session_get_info(session).macs;
    const double start = rq_clock();
    status = rq_session_run(session, self->pixels, out->batch, self->logits, err);
    *seconds = rq_clock() - start;
    return status;
}

static int runs_in(double seconds_per_run)
{
    const double n = AUTO_SECONDS / seconds_per_run;
    return n > MAX_RUNS ? MAX_RUNS : n > MIN_RUNS ? (int)n : MIN_RUNS;
}

static rq_status measure(timer *self, rq_timing *out, rq_session *session, rq_error *err)
{
    rq_status status = RQ_OK;
    for (int run = 0; run < out->n_runs && status == RQ_OK; run++) {
        const double start = rq_clock();
        status = out->steps ? rq_session_run_timed(session, self->pixels, out->batch, self->logits,
                                                   self->steps, err)
                            : rq_session_run(session, self->pixels, out->batch, self->logits, err);
        self->seconds[run] = rq_clock() - start;
        for (int i = 0; i < out->n_steps; i++) {
            const double before = out->steps[i].seconds;
            out->steps[i] = self->steps[i];
            out->steps[i].seconds = before + self->steps[i].seconds / out->n_runs;
        }
    }
    return status;
}

rq_status rq_time_session(rq_timing *out, rq_session *session, int batch, int size, int repeat,
                          bool with_steps, rq_error *err)
{
    timer self = {.arena = RQ_ARENA_INIT};
    rq_timing timing = {.batch = batch, .arena = RQ_ARENA_INIT};
    double seconds = 0.0;
    void *steps = NULL;
    rq_status status = allocate(&self, session, batch, size, repeat ? repeat : MAX_RUNS, err);
    if (status == RQ_OK && with_steps) {
        timing.n_steps = rq_session_n_steps(session);
        status = rq_arena_array_old(&timing.arena, &steps, (size_t)timing.n_steps,
                                    sizeof *timing.steps, err);
        timing.steps = steps;
    }
    if (status == RQ_OK)
        status = warm_up(&self, &timing, session, &seconds, err);
    if (status != RQ_OK)
        goto out;
    timing.n_runs = repeat ? repeat : runs_in(seconds);
    status = measure(&self, &timing, session, err);
    if (status != RQ_OK)
        goto out;
    const size_t n = (size_t)timing.n_runs;
    qsort(self.seconds, n, sizeof *self.seconds, compare_seconds);
    timing.min_s = self.seconds[0];
    timing.max_s = self.seconds[n - 1];
    timing.median_s = 0.5 * (self.seconds[(n - 1) / 2] + self.seconds[n / 2]);
out:
    rq_arena_deinit(&self.arena);
    if (status == RQ_OK)
        *out = timing;
    else
        rq_timing_deinit(&timing);
    return status;
}

void rq_timing_deinit(rq_timing *timing)
{
    rq_arena_deinit(&timing->arena);
    *timing = (rq_timing){.arena = RQ_ARENA_INIT};
}
