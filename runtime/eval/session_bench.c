/* One model opened, timed and described. */
#include "runtime/eval/session_bench.h"

#include <sys/resource.h>

#include "runtime/base/clock.h"

/* ---- shares of the peak ---- */

static const rq_peak *step_peak(const rq_session_report *self, const rq_step_time *step)
{
    return &self->peaks[step->is_int8 ? RQ_PEAK_INT8 : RQ_PEAK_F32];
}

double rq_step_gops(const rq_session_report *self, const rq_step_time *step)
{
    return step->macs > 0.0 ? 2e-9 * step->macs * self->timing.batch / step->seconds : 0.0;
}

double rq_step_peak_share(const rq_session_report *self, const rq_step_time *step)
{
    return step->macs > 0.0 ? rq_step_gops(self, step) / step_peak(self, step)->gops : 0.0;
}

/* What all layers together could reach: their operations over the time that these take at the peak
 * of each layer's type. */
double rq_total_peak_gops(const rq_session_report *self)
{
    double seconds = 0.0; /* per 10^9 images */
    for (int i = 0; i < self->timing.n_steps; i++) {
        const rq_step_time *step = &self->timing.steps[i];
        if (step->macs > 0.0)
            seconds += 2.0 * step->macs / step_peak(self, step)->gops;
    }
    return seconds > 0.0 ? 2.0 * self->timing.macs / seconds : 0.0;
}

double rq_total_peak_share(const rq_session_report *self)
{
    const double peak = rq_total_peak_gops(self);
    return peak > 0.0 ? rq_timing_gops(&self->timing) / peak : 0.0;
}

static void measure_peaks(rq_session_report *self)
{
    bool is_used[RQ_N_PEAK_TYPES] = {false};
    for (int i = 0; i < self->timing.n_steps; i++)
        if (self->timing.steps[i].macs > 0.0)
            is_used[self->timing.steps[i].is_int8 ? RQ_PEAK_INT8 : RQ_PEAK_F32] = true;
    for (int type = 0; type < RQ_N_PEAK_TYPES; type++)
        if (is_used[type])
            self->peaks[type] = rq_measure_peak((rq_peak_type)type);
}

/* ---- measuring ---- */

static size_t process_peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (size_t)usage.ru_maxrss * 1024;
}

static rq_status measure(rq_session_report *self, const rq_session_bench *given,
                         const rq_model *model, double start, rq_error *err)
{
    self->form = model->form;
    self->size = given->resolution ? given->resolution : model->preprocess.crop;
    RQ_TRY(rq_open_session(&self->session, model, given->path, given->batch, self->size,
                           given->n_streams, err));
    self->ready_s = rq_clock() - start;
    RQ_TRY(rq_time_session(&self->timing, self->session, given->batch, self->size, given->repeat,
                           given->layers, err));
    self->info = rq_session_get_info(self->session);
    self->rss_bytes = process_peak_bytes();
    measure_peaks(self);
    return RQ_OK;
}

rq_status rq_bench_session(rq_session_report *out, const rq_session_bench *given, rq_error *err)
{
    const double start = rq_clock();
    rq_model model;
    *out = (rq_session_report){0};
    RQ_TRY(rq_open_model(&model, given->path, &given->open, RQ_ANY_FORM, err));
    const rq_status status = measure(out, given, &model, start, err);
    rq_model_deinit(&model);
    if (status)
        rq_session_report_deinit(out);
    return status;
}

void rq_session_report_deinit(rq_session_report *report)
{
    rq_timing_deinit(&report->timing);
    rq_session_destroy(report->session);
    *report = (rq_session_report){0};
}
