/* repqat evaluate DIR model.bin: accuracy of a model of any form. */
#include "cli/commands.h"

#include <math.h>

#include "runtime/base/json_writer.h"
#include "runtime/base/log.h"
#include "runtime/base/ranks.h"
#include "runtime/eval/data_options.h"
#include "runtime/eval/evaluate.h"
#include "runtime/eval/npy.h"
#include "runtime/eval/open_model.h"

typedef struct options {
    rq_data_options data;
    rq_open_options open;
    const char *model, *logits;
    bool json;
} options;

static const rq_option table[] = {
    RQ_DATA_OPTIONS(options, data),
    RQ_POSITIONAL("MODEL", options, model, "model file or checkpoint, any form"),
    RQ_OPTION_STRING("logits", 0, options, logits, "FILE.npy",
                     "write the logits, f32 [images, classes] in the folder's order; NaN for "
                     "skipped images"),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

/* A sink of logits: rows of skipped images become NaN. */
typedef struct logits_file {
    rq_npy npy;
    float *missing; /* [classes] NaN */
} logits_file;

static rq_status write_logits(void *context, const rq_batch *batch, const float *const *logits,
                              rq_error *err)
{
    logits_file *file = context;
    const size_t n_classes = file->npy.n_columns;
    rq_status status = RQ_OK;
    for (int i = 0; i < batch->n && status == RQ_OK; i++) {
        const bool is_missing = batch->labels[i] == RQ_LABEL_IGNORE;
        const float *row = is_missing ? file->missing : logits[0] + (size_t)i * n_classes;
        status = rq_npy_write(&file->npy, row, 1, err);
    }
    return status;
}

static rq_status open_logits(logits_file *file, const char *path, size_t n_images, int n_classes,
                             rq_error *err)
{
    void *missing = NULL;
    const rq_status status = rq_alloc_array_old(&missing, (size_t)n_classes, sizeof(float), err);
    if (status != RQ_OK)
        return status;
    file->missing = missing;
    for (int k = 0; k < n_classes; k++)
        file->missing[k] = NAN;
    return rq_npy_open(&file->npy, path, n_images, (size_t)n_classes, err);
}

static void print_json(const rq_model *model, int size, const rq_evaluation *result)
{
    rq_json_writer json = rq_json_begin(stdout);
    rq_json_add_int(&json, "images", (int64_t)result->n_images);
    rq_json_add_number(&json, "top1", result->top1);
    rq_json_add_number(&json, "top5", result->top5);
    rq_json_add_number(&json, "loss", result->loss);
    rq_json_add_number(&json, "img_per_s", result->images_per_s);
    rq_json_add_int(&json, "skipped", (int64_t)result->n_skipped);
    rq_json_add_string(&json, "form", rq_form_name(model->form));
    rq_json_add_int(&json, "resolution", size);
    rq_json_end(&json);
}

static rq_status evaluate(const options *given, const rq_model *model, rq_evaluation *result,
                          int *size, rq_error *err)
{
    rq_eval_data data = RQ_EVAL_DATA_INIT;
    rq_session *session = NULL;
    logits_file file = {.missing = NULL};
    if (given->logits && rq_n_ranks() > 1)
        return rq_fail(err, RQ_ERR_USAGE, "--logits: each of the %d processes has a part only",
                       rq_n_ranks());
    rq_status status = rq_eval_data_open(&data, &given->data, &model->preprocess, err);
    if (status == RQ_OK)
        status = rq_require_classes(model, given->model, &data.dataset, err);
    if (status == RQ_OK)
        status =
            rq_open_session(&session, model, given->model, (int)rq_rank_rows(given->data.batch),
                            data.size, RQ_STREAMS_AUTO, err);
    if (status == RQ_OK && given->logits)
        status = open_logits(&file, given->logits, data.dataset.n_images, model->n_classes, err);
    if (status == RQ_OK)
        status = rq_evaluate(&session, 1, data.loader, given->logits ? write_logits : NULL, &file,
                             result, err);
    if (status == RQ_ERR_RANGE)
        rq_error_prefix(err, "%s", given->model);
    if (status == RQ_OK && given->logits)
        status = rq_npy_commit(&file.npy, err);
    *size = data.size;
    rq_npy_abort(&file.npy);
    rq_free(file.missing);
    rq_session_destroy(session);
    rq_eval_data_close(&data);
    return status;
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {.data = RQ_DATA_OPTIONS_INIT};
    rq_model model = RQ_MODEL_INIT;
    rq_evaluation result;
    int size;
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.open),
    };
    rq_status status = rq_command_option_sets(self, sets, 2, argc, argv, &done, err);
    if (status != RQ_OK || done)
        return status;
    rq_set_threads(given.data.threads);
    status = rq_open_model(&model, given.model, &given.open, RQ_ANY_FORM, err);
    if (status == RQ_OK)
        status = evaluate(&given, &model, &result, &size, err);
    if (status == RQ_OK) {
        rq_log(RQ_LOG_INFO,
               "%s (%s) at %d pixels: %zu images, %zu skipped, loss %.4f, %.1f images/s",
               given.model, rq_form_name(model.form), size, result.n_images, result.n_skipped,
               result.loss, result.images_per_s);
        if (given.json)
            print_json(&model, size, &result);
        else
            (void)printf(" * Acc@1 %.3f Acc@5 %.3f\n", result.top1, result.top5);
    }
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_evaluate = {
    "evaluate", "accuracy of a model, fake-quantized and integer ones too", run};
