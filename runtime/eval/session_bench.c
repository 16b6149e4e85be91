/* One model opened, timed and described. */
#include "runtime/eval/session_bench.h"

#include <omp.h>
#include <sys/resource.h>

#include "runtime/base/clock.h"
#include "runtime/base/json_line.h"
#include "runtime/dnn/peak.h"
#include "runtime/eval/timing.h"

typedef struct report {
    rq_form form;
    int size;
    double ready_s; /* from the opening of the file to a session that can run */
    rq_session_info info;
    size_t rss_bytes; /* the most that the process ever held */
    rq_timing timing;
    rq_peak peaks[RQ_N_PEAK_TYPES]; /* of the types that the layers compute in; else zero */
} report;

/* ---- shares of the peak ---- */

static const rq_peak *step_peak(const report *self, const rq_step_time *step)
{
    return &self->peaks[step->is_int8 ? RQ_PEAK_INT8 : RQ_PEAK_F32];
}

static double step_gops(const report *self, const rq_step_time *step)
{
    return step->macs > 0.0 ? 2e-9 * step->macs * self->timing.batch / step->seconds : 0.0;
}

static double step_peak_share(const report *self, const rq_step_time *step)
{
    return step->macs > 0.0 ? step_gops(self, step) / step_peak(self, step)->gops : 0.0;
}

/* What all layers together could reach: their operations over the time that these take at the peak
 * of each layer's type. */
static double total_peak_gops(const report *self)
{
    double seconds = 0.0; /* per 10^9 images */
    for (int i = 0; i < self->timing.n_steps; i++) {
        const rq_step_time *step = &self->timing.steps[i];
        if (step->macs > 0.0)
            seconds += 2.0 * step->macs / step_peak(self, step)->gops;
    }
    return seconds > 0.0 ? 2.0 * self->timing.macs / seconds : 0.0;
}

static double total_peak_share(const report *self)
{
    const double peak = total_peak_gops(self);
    return peak > 0.0 ? rq_timing_gops(&self->timing) / peak : 0.0;
}

static void measure_peaks(report *self)
{
    bool is_used[RQ_N_PEAK_TYPES] = {false};
    for (int i = 0; i < self->timing.n_steps; i++)
        if (self->timing.steps[i].macs > 0.0)
            is_used[self->timing.steps[i].is_int8 ? RQ_PEAK_INT8 : RQ_PEAK_F32] = true;
    for (int type = 0; type < RQ_N_PEAK_TYPES; type++)
        if (is_used[type])
            self->peaks[type] = rq_measure_peak((rq_peak_type)type);
}

static double total_seconds(const rq_timing *timing)
{
    double total = 0.0;
    for (int i = 0; i < timing->n_steps; i++)
        total += timing->steps[i].seconds;
    return total;
}

/* ---- text ---- */

static void print_summary(const report *self)
{
    const rq_timing *timing = &self->timing;
    const rq_session_info *info = &self->info;
    (void)printf("batch %d, %d x %d pixels, %d threads, %d runs\n", timing->batch, self->size,
                 self->size, omp_get_max_threads(), timing->n_runs);
    if (info->n_streams > 1)
        (void)printf("%d streams, %d images at once in each\n", info->n_streams,
                     info->stream_batch);
    (void)printf("median %.3f ms (min %.3f, max %.3f), %.1f images/s, %.1f GOP/s\n",
                 1e3 * timing->median_s, 1e3 * timing->min_s, 1e3 * timing->max_s,
                 rq_timing_images_per_s(timing), rq_timing_gops(timing));
    (void)printf("ready in %.1f ms\n", 1e3 * self->ready_s);
    (void)printf("memory: weights %.3f MB, activations %.3f MB (the largest %.3f MB), process at "
                 "most %.1f MB\n",
                 1e-6 * (double)info->weight_bytes, 1e-6 * (double)info->activation_bytes,
                 1e-6 * (double)info->largest_bytes, 1e-6 * (double)self->rss_bytes);
}

static void print_peaks(const report *self)
{
    static const char *const names[RQ_N_PEAK_TYPES] = {
        [RQ_PEAK_F32] = "f32", [RQ_PEAK_INT8] = "INT8"};
    for (int type = 0; type < RQ_N_PEAK_TYPES; type++)
        if (self->peaks[type].instruction)
            (void)printf("peak %s %.1f GOP/s (%s)\n", names[type], self->peaks[type].gops,
                         self->peaks[type].instruction);
}

static void print_layers(const report *self)
{
    const rq_timing *timing = &self->timing;
    const double total = total_seconds(timing);
    print_peaks(self);
    (void)printf("\n%10s %7s %9s %8s  %-16s %s\n", "ms", "share", "GOP/s", "of peak", "kernel",
                 "layer");
    for (int i = 0; i < timing->n_steps; i++) {
        const rq_step_time *step = &timing->steps[i];
        (void)printf("%10.4f %6.1f%% %9.1f %7.1f%%  %-16s %s\n", 1e3 * step->seconds,
                     100.0 * step->seconds / total, step_gops(self, step),
                     100.0 * step_peak_share(self, step), step->kind, step->name);
    }
    (void)printf("%10.4f %6.1f%% %9.1f %7.1f%%  %-16s %s\n", 1e3 * timing->median_s, 100.0,
                 rq_timing_gops(timing), 100.0 * total_peak_share(self), "", "(median run)");
}

/* ---- JSON ---- */

static json_t *layers_json(const report *self)
{
    const double total = total_seconds(&self->timing);
    json_t *layers = json_array();
    for (int i = 0; i < self->timing.n_steps; i++) {
        const rq_step_time *step = &self->timing.steps[i];
        json_t *json = json_object();
        rq_json_set(&json, "name", rq_json_string(step->name));
        rq_json_set(&json, "kernel", rq_json_string(step->kind));
        rq_json_set(&json, "ms", rq_json_number(1e3 * step->seconds));
        rq_json_set(&json, "gops", rq_json_number(step_gops(self, step)));
        rq_json_set(&json, "share", rq_json_number(step->seconds / total));
        rq_json_set(&json, "peak_share", rq_json_number(step_peak_share(self, step)));
        rq_json_append(&layers, json);
    }
    return layers;
}

/* Of a type that no layer computes in: null. */
static json_t *peak_json(const rq_peak *peak)
{
    if (!peak->instruction)
        return json_null();
    json_t *json = json_object();
    rq_json_set(&json, "instruction", rq_json_string(peak->instruction));
    rq_json_set(&json, "gops", rq_json_number(peak->gops));
    return json;
}

static rq_status print_json(const report *self, rq_error *err)
{
    const rq_timing *timing = &self->timing;
    json_t *json = json_object();
    rq_json_set(&json, "form", rq_json_string(rq_form_name(self->form)));
    rq_json_set(&json, "batch", json_integer(timing->batch));
    rq_json_set(&json, "resolution", json_integer(self->size));
    rq_json_set(&json, "threads", json_integer(omp_get_max_threads()));
    rq_json_set(&json, "streams", json_integer(self->info.n_streams));
    rq_json_set(&json, "stream_batch", json_integer(self->info.stream_batch));
    rq_json_set(&json, "runs", json_integer(timing->n_runs));
    rq_json_set(&json, "median_ms", rq_json_number(1e3 * timing->median_s));
    rq_json_set(&json, "min_ms", rq_json_number(1e3 * timing->min_s));
    rq_json_set(&json, "max_ms", rq_json_number(1e3 * timing->max_s));
    rq_json_set(&json, "img_per_s", rq_json_number(rq_timing_images_per_s(timing)));
    rq_json_set(&json, "gops", rq_json_number(rq_timing_gops(timing)));
    rq_json_set(&json, "ready_ms", rq_json_number(1e3 * self->ready_s));
    rq_json_set(&json, "weight_bytes", json_integer(self->info.weight_bytes));
    rq_json_set(&json, "activation_bytes", json_integer(self->info.activation_bytes));
    rq_json_set(&json, "largest_activation_bytes", json_integer(self->info.largest_bytes));
    rq_json_set(&json, "peak_rss_bytes", json_integer(self->rss_bytes));
    if (timing->n_steps) {
        rq_json_set(&json, "peak_gops", rq_json_number(total_peak_gops(self)));
        rq_json_set(&json, "peak_share", rq_json_number(total_peak_share(self)));
        rq_json_set(&json, "peak_f32", peak_json(&self->peaks[RQ_PEAK_F32]));
        rq_json_set(&json, "peak_int8", peak_json(&self->peaks[RQ_PEAK_INT8]));
        rq_json_set(&json, "layers", layers_json(self));
    }
    return rq_json_print(json, stdout, err);
}

/* ---- measuring ---- */

static size_t process_peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (size_t)usage.ru_maxrss * 1024;
}

static rq_status measure(report *self, const rq_session_bench *given, rq_session *session,
                         rq_error *err)
{
    const rq_status status = rq_time_session(&self->timing, session, given->batch, self->size,
                                             given->repeat, given->layers, err);
    if (status != RQ_OK)
        return status;
    self->info = rq_session_get_info(session);
    self->rss_bytes = process_peak_bytes();
    measure_peaks(self);
    return RQ_OK;
}

rq_status rq_bench_session(const rq_session_bench *given, rq_error *err)
{
    report self = {.size = given->resolution, .timing = {.arena = RQ_ARENA_INIT}};
    rq_model model;
    rq_session *session = NULL;
    const double start = rq_clock();
    rq_status status = rq_open_model(&model, given->path, &given->open, RQ_ANY_FORM, err);
    if (status != RQ_OK)
        return status;
    self.form = model.form;
    if (!self.size)
        self.size = model.preprocess.crop;
    status = rq_open_session(&session, &model, given->path, given->batch, self.size,
                             given->n_streams, err);
    self.ready_s = rq_clock() - start;
    if (status == RQ_OK)
        status = measure(&self, given, session, err);
    if (status == RQ_OK && given->json) {
        status = print_json(&self, err);
    } else if (status == RQ_OK) {
        print_summary(&self);
        if (self.timing.n_steps)
            print_layers(&self);
    }
    rq_timing_deinit(&self.timing);
    rq_session_destroy(session);
    rq_model_deinit(&model);
    return status;
}
