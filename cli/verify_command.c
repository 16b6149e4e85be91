/* The verify command: two models over random images, or over a folder's. */
#include "cli/commands.h"

#include "cli/report.h"
#include "runtime/eval/data_options.h"
#include "runtime/eval/open_model.h"

typedef struct verify_options {
    const char *a, *b;
    rq_open_options open;
    int64_t images, seed;
    double tolerance;
    bool json;
    rq_data_options data;
} verify_options;

static const rq_option table[] = {
    RQ_POSITIONAL("A", verify_options, a, "model file or checkpoint, any form"),
    RQ_POSITIONAL("B", verify_options, b, "model file or checkpoint, any form"),
    RQ_OPTION_STRING("data", 0, verify_options, data.dir, "DIR",
                     "compare over DIR's validation images"),
    RQ_OPTION_INT("images", 'n', verify_options, images, "N", 1, 100000,
                  "random images, without --data"),
    RQ_OPTION_INT("seed", 0, verify_options, seed, "N", 0, INT64_MAX, "of the random images"),
    RQ_OPTION_FLOAT("tolerance", 0, verify_options, tolerance, "X", 0, 1,
                    "largest difference, relative to the largest logit"),
    RQ_OPTION_BATCH(verify_options, data.batch),
    RQ_OPTION_RESOLUTION(verify_options, data.resolution),
    RQ_OPTION_THREADS(verify_options, data.threads),
    RQ_OPTION_FLAG("json", 0, verify_options, json, "print one JSON object"),
};

static rq_status open_and_compare(rq_difference *out, const rq_model *a, const rq_model *b,
                                  const verify_options *options, rq_eval_data *data,
                                  rq_session *sessions[2], rq_error *err)
{
    const int batch = (int)options->data.batch;
    RQ_TRY(rq_eval_data_open(data, &options->data, &a->preprocess, err));
    RQ_TRY(rq_open_session(&sessions[0], a, options->a, batch, data->size, RQ_STREAMS_AUTO, err));
    RQ_TRY(rq_open_session(&sessions[1], b, options->b, batch, data->size, RQ_STREAMS_AUTO, err));
    return rq_difference_loader(out, sessions[0], sessions[1], data->loader, SIZE_MAX, err);
}

static rq_status compare_over_images(rq_difference *out, const rq_model *a, const rq_model *b,
                                     const verify_options *options, rq_error *err)
{
    rq_eval_data data = RQ_EVAL_DATA_INIT;
    rq_session *sessions[2] = {NULL, NULL};
    const rq_status status = open_and_compare(out, a, b, options, &data, sessions, err);
    rq_session_destroy(sessions[0]);
    rq_session_destroy(sessions[1]);
    rq_eval_data_close(&data);
    return status;
}

static rq_status compare(rq_difference *out, const rq_model *a, const rq_model *b,
                         const verify_options *options, rq_error *err)
{
    const int64_t resolution = options->data.resolution;
    if (!resolution && a->preprocess.crop != b->preprocess.crop)
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s takes images of %d pixels, %s of %d; choose one with --resolution",
                       options->a, a->preprocess.crop, options->b, b->preprocess.crop);
    if (options->data.dir)
        return compare_over_images(out, a, b, options, err);
    return rq_difference_random(out, a, b, resolution ? (int)resolution : a->preprocess.crop,
                                (int)options->images, (uint64_t)options->seed, err);
}

static rq_status verify(rq_model *a, rq_model *b, const verify_options *options, rq_error *err)
{
    rq_difference difference;
    RQ_TRY(rq_open_model(a, options->a, &options->open, RQ_ANY_FORM, err));
    RQ_TRY(rq_open_model(b, options->b, &options->open, RQ_ANY_FORM, err));
    RQ_TRY(compare(&difference, a, b, options, err));
    RQ_TRY(rq_difference_print(&difference, options->tolerance,
                               options->data.dir ? "images" : "random images", options->json, err));
    return rq_difference_judge(&difference, options->tolerance, err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    verify_options options = {
        .images = 4, .tolerance = RQ_DEFAULT_TOLERANCE, .data = RQ_DATA_OPTIONS_INIT};
    rq_model a = RQ_MODEL_INIT, b = RQ_MODEL_INIT;
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &options},
        rq_open_option_set(&options.open),
    };
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    if (done)
        return RQ_OK;
    rq_set_threads(options.data.threads);
    const rq_status status = verify(&a, &b, &options, err);
    rq_model_deinit(&a);
    rq_model_deinit(&b);
    return status;
}

const rq_command rq_command_verify = {"verify", "do two models compute the same function?", run};
