/* What bench prints, as text or as one JSON object. */
#include "cli/bench_report.h"

#include <omp.h>

#include "runtime/base/json_line.h"

/* ---- a model ---- */

static double total_seconds(const rq_timing *timing)
{
    double total = 0.0;
    for (int i = 0; i < timing->n_steps; i++)
        total += timing->steps[i].seconds;
    return total;
}

static void print_summary(const rq_session_report *self)
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

static void print_peaks(const rq_session_report *self)
{
    static const char *const names[RQ_N_PEAK_TYPES] = {
        [RQ_PEAK_F32] = "f32", [RQ_PEAK_INT8] = "INT8"};
    for (int type = 0; type < RQ_N_PEAK_TYPES; type++)
        if (self->peaks[type].instruction)
            (void)printf("peak %s %.1f GOP/s (%s)\n", names[type], self->peaks[type].gops,
                         self->peaks[type].instruction);
}

static void print_layers(const rq_session_report *self)
{
    const rq_timing *timing = &self->timing;
    const double total = total_seconds(timing);
    print_peaks(self);
    (void)printf("\n%10s %7s %9s %8s  %-16s %s\n", "ms", "share", "GOP/s", "of peak", "kernel",
                 "layer");
    for (int i = 0; i < timing->n_steps; i++) {
        const rq_step_time *step = &timing->steps[i];
        (void)printf("%10.4f %6.1f%% %9.1f %7.1f%%  %-16s %s\n", 1e3 * step->seconds,
                     100.0 * step->seconds / total, rq_step_gops(self, step),
                     100.0 * rq_step_peak_share(self, step), step->kind, step->name);
    }
    (void)printf("%10.4f %6.1f%% %9.1f %7.1f%%  %-16s %s\n", 1e3 * timing->median_s, 100.0,
                 rq_timing_gops(timing), 100.0 * rq_total_peak_share(self), "", "(median run)");
}

static json_t *layers_json(const rq_session_report *self)
{
    const double total = total_seconds(&self->timing);
    json_t *layers = json_array();
    for (int i = 0; i < self->timing.n_steps; i++) {
        const rq_step_time *step = &self->timing.steps[i];
        json_t *json = json_object();
        rq_json_set(&json, "name", rq_json_string(step->name));
        rq_json_set(&json, "kernel", rq_json_string(step->kind));
        rq_json_set(&json, "ms", rq_json_number(1e3 * step->seconds));
        rq_json_set(&json, "gops", rq_json_number(rq_step_gops(self, step)));
        rq_json_set(&json, "share", rq_json_number(step->seconds / total));
        rq_json_set(&json, "peak_share", rq_json_number(rq_step_peak_share(self, step)));
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

static rq_status print_session_json(const rq_session_report *self, rq_error *err)
{
    const rq_timing *timing = &self->timing;
    const rq_session_info *info = &self->info;
    json_t *json = json_object();
    rq_json_set(&json, "form", rq_json_string(rq_form_name(self->form)));
    rq_json_set(&json, "batch", json_integer(timing->batch));
    rq_json_set(&json, "resolution", json_integer(self->size));
    rq_json_set(&json, "threads", json_integer(omp_get_max_threads()));
    rq_json_set(&json, "streams", json_integer(info->n_streams));
    rq_json_set(&json, "stream_batch", json_integer(info->stream_batch));
    rq_json_set(&json, "runs", json_integer(timing->n_runs));
    rq_json_set(&json, "median_ms", rq_json_number(1e3 * timing->median_s));
    rq_json_set(&json, "min_ms", rq_json_number(1e3 * timing->min_s));
    rq_json_set(&json, "max_ms", rq_json_number(1e3 * timing->max_s));
    rq_json_set(&json, "img_per_s", rq_json_number(rq_timing_images_per_s(timing)));
    rq_json_set(&json, "gops", rq_json_number(rq_timing_gops(timing)));
    rq_json_set(&json, "ready_ms", rq_json_number(1e3 * self->ready_s));
    rq_json_set(&json, "weight_bytes", json_integer((json_int_t)info->weight_bytes));
    rq_json_set(&json, "activation_bytes", json_integer((json_int_t)info->activation_bytes));
    rq_json_set(&json, "largest_activation_bytes", json_integer((json_int_t)info->largest_bytes));
    rq_json_set(&json, "peak_rss_bytes", json_integer((json_int_t)self->rss_bytes));
    if (timing->n_steps) {
        rq_json_set(&json, "peak_gops", rq_json_number(rq_total_peak_gops(self)));
        rq_json_set(&json, "peak_share", rq_json_number(rq_total_peak_share(self)));
        rq_json_set(&json, "peak_f32", peak_json(&self->peaks[RQ_PEAK_F32]));
        rq_json_set(&json, "peak_int8", peak_json(&self->peaks[RQ_PEAK_INT8]));
        rq_json_set(&json, "layers", layers_json(self));
    }
    return rq_json_print(json, stdout, err);
}

rq_status rq_print_session_report(const rq_session_report *report, bool json, rq_error *err)
{
    if (json)
        return print_session_json(report, err);
    print_summary(report);
    if (report->timing.n_steps)
        print_layers(report);
    return RQ_OK;
}

/* ---- the loader ---- */

enum { N_SPLITS = 2 };
static const char *const split_keys[N_SPLITS] = {"train", "val"};

static double images_per_s(const rq_loader_report *self)
{
    return (double)self->time.n_images / self->time.seconds;
}

static double mb_per_s(const rq_loader_report *self)
{
    return 1e-6 * self->time.bytes / self->time.seconds;
}

static void print_loader_text(const rq_loader_bench *given, const rq_loader_report *splits)
{
    (void)printf("batch %d, %d workers, augment %s\n", splits[0].options.batch,
                 splits[0].options.workers, rq_augment_names[given->augment.kind]);
    for (int i = 0; i < N_SPLITS; i++) {
        const rq_loader_report *s = &splits[i];
        (void)printf("%-5s  %8.1f images/s, %7.1f MB/s of JPEG (%d x %d pixels, %zu images in "
                     "%.2f s, %zu skipped)\n",
                     split_keys[i], images_per_s(s), mb_per_s(s), s->options.transform.size,
                     s->options.transform.size, s->time.n_images, s->time.seconds,
                     s->time.n_skipped);
    }
}

static rq_status print_loader_json(const rq_loader_bench *given, const rq_loader_report *splits,
                                   rq_error *err)
{
    json_t *json = json_object();
    rq_json_set(&json, "batch", json_integer(splits[0].options.batch));
    rq_json_set(&json, "workers", json_integer(splits[0].options.workers));
    rq_json_set(&json, "augment", rq_json_string(rq_augment_names[given->augment.kind]));
    for (int i = 0; i < N_SPLITS; i++) {
        const rq_loader_report *s = &splits[i];
        json_t *one = json_object();
        rq_json_set(&one, "resolution", json_integer(s->options.transform.size));
        rq_json_set(&one, "files", json_integer((json_int_t)s->n_files));
        rq_json_set(&one, "images", json_integer((json_int_t)s->time.n_images));
        rq_json_set(&one, "skipped", json_integer((json_int_t)s->time.n_skipped));
        rq_json_set(&one, "seconds", rq_json_number(s->time.seconds));
        rq_json_set(&one, "img_per_s", rq_json_number(images_per_s(s)));
        rq_json_set(&one, "mb_per_s", rq_json_number(mb_per_s(s)));
        rq_json_set(&json, split_keys[i], one);
    }
    return rq_json_print(json, stdout, err);
}

rq_status rq_print_loader_reports(const rq_loader_report reports[2], const rq_loader_bench *given,
                                  bool json, rq_error *err)
{
    if (json)
        return print_loader_json(given, reports, err);
    print_loader_text(given, reports);
    return RQ_OK;
}
