/* repqat bench model.bin: speed and memory of a session. repqat bench --loader DIR: speed of the
 * image loader. */
#include "cli/commands.h"

#include "cli/bench_report.h"

enum { MODEL_BATCH = 1, LOADER_BATCH = 32 };

typedef struct options {
    const char *model; /* "": not given */
    rq_open_options open;
    rq_data_options data; /* dir is --loader's; batch 0: not given */
    int augment;          /* rq_augment; -1: not given */
    int64_t repeat, streams;
    bool layers, json;
} options;

static const rq_option table[] = {
    RQ_POSITIONAL("MODEL", options, model, "model file or checkpoint, any form"),
    RQ_OPTION_STRING("loader", 0, options, data.dir, "DIR",
                     "instead of a model: speed of the image loader alone, on the training and the "
                     "validation images of this folder"),
    RQ_OPTION_INT("batch", 'b', options, data.batch, "N", 1, RQ_MAX_BATCH,
                  "images per batch; 1 when not given, for --loader 32"),
    RQ_OPTION_INT("resolution", 'r', options, data.resolution, "PIXELS", 1, RQ_MAX_SIDE,
                  "side of the network's input; the model's when not given, for --loader 224"),
    RQ_OPTION_THREADS(options, data.threads),
    RQ_OPTION_INT("repeat", 0, options, repeat, "N", 1, 1000000,
                  "timed runs, or epochs of --loader; as many as fit into two seconds (runs: 5 to "
                  "200) when not given"),
    RQ_OPTION_INT(
        "streams", 0, options, streams, "N", 0, 1024,
        "for throughput: divide a batch among so many sessions of one thread each; 0: one "
        "per thread, as evaluate and compare do; all threads work on one layer at a time "
        "when not given"),
    RQ_OPTION_FLAG("layers", 0, options, layers,
                   "time of each layer too (mean of the runs), and its share of the peak of the "
                   "CPU's multiply-add instructions, which is measured"),
    RQ_OPTION_INT("workers", 'j', options, data.workers, "N", 1, RQ_LOADER_MAX_WORKERS,
                  "of --loader: threads that decode images; one per CPU when not given"),
    RQ_OPTION_CHOICE("augment", 0, options, augment, rq_augment_names,
                     "of --loader: as in train, auto when not given"),
    RQ_OPTION_CHOICE("bad-images", 0, options, data.bad_images, rq_bad_images_names,
                     "of --loader: what to do about images that cannot be read"),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

/* A model or a folder, and only options that belong to it. */
static rq_status check_usage(const options *given, rq_error *err)
{
    const bool has_model = given->model[0] != '\0', has_loader = given->data.dir != NULL;
    if (!has_model && !has_loader)
        return rq_fail(err, RQ_ERR_USAGE, "MODEL or --loader is missing");
    if (has_model && has_loader)
        return rq_fail(err, RQ_ERR_USAGE, "MODEL and --loader exclude each other");
    if (has_loader && (given->layers || given->streams != 1 || given->data.threads ||
                       given->open.arch || given->open.classes))
        return rq_fail(err, RQ_ERR_USAGE,
                       "--layers, --streams, --threads, --arch and --classes are for a MODEL, not "
                       "for --loader");
    if (given->layers && given->streams != 1)
        return rq_fail(err, RQ_ERR_USAGE, "--layers and --streams exclude each other");
    if (has_model &&
        (given->data.workers || given->augment >= 0 || given->data.bad_images != RQ_BAD_FAIL))
        return rq_fail(err, RQ_ERR_USAGE,
                       "--workers, --augment and --bad-images are for --loader, not for a MODEL");
    return RQ_OK;
}

static rq_status bench_model(const options *given, rq_error *err)
{
    const rq_session_bench bench = {
        .path = given->model,
        .open = given->open,
        .batch = given->data.batch ? (int)given->data.batch : MODEL_BATCH,
        .resolution = (int)given->data.resolution,
        .repeat = (int)given->repeat,
        .n_streams = given->streams ? (int)given->streams : RQ_STREAMS_AUTO,
        .layers = given->layers,
    };
    rq_session_report report;
    rq_set_threads(given->data.threads);
    RQ_TRY(rq_bench_session(&report, &bench, err));
    const rq_status status = rq_print_session_report(&report, given->json, err);
    rq_session_report_deinit(&report);
    return status;
}

static rq_status bench_loader(const options *given, rq_error *err)
{
    rq_loader_bench bench = {
        .data = given->data,
        .augment = RQ_AUGMENT_OPTIONS_INIT,
        .n_epochs = given->repeat,
    };
    rq_loader_report reports[2];
    if (!bench.data.batch)
        bench.data.batch = LOADER_BATCH;
    if (given->augment >= 0)
        bench.augment.kind = given->augment;
    RQ_TRY(rq_bench_loader(&reports[0], &reports[1], &bench, err));
    return rq_print_loader_reports(reports, &bench, given->json, err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {.model = "", .data = {.bad_images = RQ_BAD_FAIL}, .augment = -1, .streams = 1};
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.open),
    };
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    if (done)
        return RQ_OK;
    RQ_TRY(check_usage(&given, err));
    return given.data.dir ? bench_loader(&given, err) : bench_model(&given, err);
}

const rq_command rq_command_bench = {
    "bench", "speed of a model, or of the image loader, on this machine", run};
