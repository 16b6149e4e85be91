/* repqat evaluate DIR model.bin: accuracy of a model of any form. */
#include "cli/commands.h"

#include <math.h>

#include "runtime/base/json_line.h"
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
    for (int i = 0; i < batch->n; i++) {
        const bool is_missing = batch->labels[i] == RQ_LABEL_IGNORE;
        const float *row = is_missing ? file->missing : logits[0] + (size_t)i * n_classes;
        RQ_TRY(rq_npy_write(&file->npy, row, 1, err));
    }
    return RQ_OK;
}

static rq_status open_logits(logits_file *file, const char *path, size_t n_images, int n_classes,
                             rq_error *err)
{
    file->missing = rq_alloc_array(float, n_classes);
    if (!file->missing)
        return rq_no_memory(err);
    for (int k = 0; k < n_classes; k++)
        file->missing[k] = NAN;
    return rq_npy_open(&file->npy, path, n_images, (size_t)n_classes, err);
}

static rq_status print_json(const rq_model *model, int size, const rq_evaluation *result,
                            rq_error *err)
{
    json_t *json = json_object();
    rq_json_set(&json, "images", json_integer(result->n_images));
    rq_json_set(&json, "top1", rq_json_number(result->top1));
    rq_json_set(&json, "top5", rq_json_number(result->top5));
    rq_json_set(&json, "loss", rq_json_number(result->loss));
    rq_json_set(&json, "img_per_s", rq_json_number(result->images_per_s));
    rq_json_set(&json, "skipped", json_integer(result->n_skipped));
    rq_json_set(&json, "form", rq_json_string(rq_form_name(model->form)));
    rq_json_set(&json, "resolution", json_integer(size));
    return rq_json_print(json, stdout, err);
}

/* What an evaluation holds. */
typedef struct evaluator {
    rq_eval_data data;
    rq_session *session;
    logits_file file;
} evaluator;

static rq_status evaluate_into(evaluator *self, const options *given, const rq_model *model,
                               rq_evaluation *result, rq_error *err)
{
    const bool wants_logits = given->logits != NULL;
    RQ_TRY(rq_eval_data_open(&self->data, &given->data, &model->preprocess, err));
    RQ_TRY(rq_require_classes(model, given->model, &self->data.dataset, err));
    RQ_TRY(rq_open_session(&self->session, model, given->model,
                           (int)rq_rank_rows(given->data.batch), self->data.size, RQ_STREAMS_AUTO,
                           err));
    if (wants_logits)
        RQ_TRY(open_logits(&self->file, given->logits, self->data.dataset.n_images,
                           model->n_classes, err));
    const rq_status status =
        rq_evaluate(&self->session, 1, self->data.loader, wants_logits ? write_logits : NULL,
                    &self->file, result, err);
    if (status == RQ_ERR_RANGE)
        rq_error_prefix(err, "%s", given->model);
    return !status && wants_logits ? rq_npy_commit(&self->file.npy, err) : status;
}

static rq_status evaluate(const options *given, const rq_model *model, rq_evaluation *result,
                          int *size, rq_error *err)
{
    evaluator self = {.data = RQ_EVAL_DATA_INIT};
    if (given->logits && rq_n_ranks() > 1)
        return rq_fail(err, RQ_ERR_USAGE, "--logits: each of the %d processes has a part only",
                       rq_n_ranks());
    const rq_status status = evaluate_into(&self, given, model, result, err);
    *size = self.data.size;
    rq_npy_abort(&self.file.npy);
    rq_free(self.file.missing);
    rq_session_destroy(self.session);
    rq_eval_data_close(&self.data);
    return status;
}

static rq_status report(const options *given, const rq_model *model, rq_error *err)
{
    rq_evaluation result;
    int size;
    RQ_TRY(evaluate(given, model, &result, &size, err));
    rq_log(RQ_LOG_INFO, "%s (%s) at %d pixels: %zu images, %zu skipped, loss %.4f, %.1f images/s",
           given->model, rq_form_name(model->form), size, result.n_images, result.n_skipped,
           result.loss, result.images_per_s);
    if (given->json)
        return print_json(model, size, &result, err);
    (void)printf(" * Acc@1 %.3f Acc@5 %.3f\n", result.top1, result.top5);
    return RQ_OK;
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {.data = RQ_DATA_OPTIONS_INIT};
    rq_model model;
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.open),
    };
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    if (done)
        return RQ_OK;
    rq_set_threads(given.data.threads);
    RQ_TRY(rq_open_model(&model, given.model, &given.open, RQ_ANY_FORM, err));
    const rq_status status = report(&given, &model, err);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_evaluate = {
    "evaluate", "accuracy of a model, fake-quantized and integer ones too", run};
