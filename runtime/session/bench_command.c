/* repqat bench model.bin: speed of a session alone, on random pixels. */
#include "runtime/session/bench_command.h"

#include <omp.h>

#include "runtime/base/json_writer.h"
#include "runtime/session/data_options.h"
#include "runtime/session/open_model.h"
#include "runtime/session/timing.h"

typedef struct options {
    const char *model;
    rq_open_options open;
    int64_t batch, resolution, threads, repeat;
    bool layers, json;
} options;

static const rq_option table[] = {
    RQ_POSITIONAL("MODEL", options, model, "model file or checkpoint, any form"),
    RQ_OPTION_BATCH(options, batch),
    RQ_OPTION_RESOLUTION(options, resolution),
    RQ_OPTION_THREADS(options, threads),
    RQ_OPTION_INT("repeat", 0, options, repeat, "N", 1, 1000000,
                  "timed runs; as many as fit into two seconds (5 to 200) when not given"),
    RQ_OPTION_FLAG("layers", 0, options, layers, "time of each layer too (mean of the runs)"),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

static double step_gops(const rq_timing *timing, const rq_step_time *step)
{
    return step->macs > 0.0 ? 2e-9 * step->macs * timing->batch / step->seconds : 0.0;
}

static double total_seconds(const rq_timing *timing)
{
    double total = 0.0;
    for (int i = 0; i < timing->n_steps; i++)
        total += timing->steps[i].seconds;
    return total;
}

static void print_text(const rq_timing *timing, int size)
{
    (void)printf("batch %d, %d x %d pixels, %d threads, %d runs\n", timing->batch, size, size,
                 omp_get_max_threads(), timing->n_runs);
    (void)printf("median %.3f ms (min %.3f, max %.3f), %.1f images/s, %.1f GOP/s\n",
                 1e3 * timing->median_s, 1e3 * timing->min_s, 1e3 * timing->max_s,
                 rq_timing_images_per_s(timing), rq_timing_gops(timing));
    if (!timing->n_steps)
        return;
    const double total = total_seconds(timing);
    (void)printf("\n%10s %7s %9s  %-16s %s\n", "ms", "share", "GOP/s", "kernel", "layer");
    for (int i = 0; i < timing->n_steps; i++) {
        const rq_step_time *step = &timing->steps[i];
        (void)printf("%10.4f %6.1f%% %9.1f  %-16s %s\n", 1e3 * step->seconds,
                     100.0 * step->seconds / total, step_gops(timing, step), step->kind,
                     step->name);
    }
}

static void print_json(const rq_model *model, const rq_timing *timing, int size)
{
    rq_json_writer json = rq_json_begin(stdout);
    rq_json_add_string(&json, "form", rq_form_name(model->form));
    rq_json_add_int(&json, "batch", timing->batch);
    rq_json_add_int(&json, "resolution", size);
    rq_json_add_int(&json, "threads", omp_get_max_threads());
    rq_json_add_int(&json, "runs", timing->n_runs);
    rq_json_add_number(&json, "median_ms", 1e3 * timing->median_s);
    rq_json_add_number(&json, "min_ms", 1e3 * timing->min_s);
    rq_json_add_number(&json, "max_ms", 1e3 * timing->max_s);
    rq_json_add_number(&json, "img_per_s", rq_timing_images_per_s(timing));
    rq_json_add_number(&json, "gops", rq_timing_gops(timing));
    if (timing->n_steps) {
        const double total = total_seconds(timing);
        rq_json_open_array(&json, "layers");
        for (int i = 0; i < timing->n_steps; i++) {
            const rq_step_time *step = &timing->steps[i];
            rq_json_open_object(&json, NULL);
            rq_json_add_string(&json, "name", step->name);
            rq_json_add_string(&json, "kernel", step->kind);
            rq_json_add_number(&json, "ms", 1e3 * step->seconds);
            rq_json_add_number(&json, "gops", step_gops(timing, step));
            rq_json_add_number(&json, "share", step->seconds / total);
            rq_json_close(&json);
        }
    }
    rq_json_end(&json);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {.batch = 1};
    rq_model model;
    rq_session *session = NULL;
    rq_timing timing = {.n_steps = 0};
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.open),
    };
    rq_status status = rq_command_option_sets(self, sets, 2, argc, argv, &done, err);
    if (status != RQ_OK || done)
        return status;
    rq_set_threads(given.threads);
    status = rq_open_model(&model, given.model, &given.open, RQ_ANY_FORM, err);
    if (status != RQ_OK)
        return status;
    const int size = given.resolution ? (int)given.resolution : model.preprocess.crop;
    status = rq_open_session(&session, &model, given.model, (int)given.batch, size, err);
    if (status == RQ_OK)
        status = rq_time_session(&timing, session, (int)given.batch, size, (int)given.repeat,
                                 given.layers, err);
    if (status == RQ_OK && given.json)
        print_json(&model, &timing, size);
    else if (status == RQ_OK)
        print_text(&timing, size);
    rq_timing_deinit(&timing);
    rq_session_destroy(session);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_bench = {"bench", "speed of a model on this machine", run};
