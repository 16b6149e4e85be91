/* repqat compare DIR fp32.bin int8.bin: what quantization cost and what it gained. All models see
 * the same decoded images in one pass; their speed is measured afterwards, each alone. */
#include "cli/commands.h"

#include <omp.h>
#include <sys/stat.h>

#include "runtime/base/json_line.h"
#include "runtime/eval/data_options.h"
#include "runtime/eval/evaluate.h"
#include "runtime/eval/open_model.h"
#include "runtime/eval/timing.h"

enum { MAX_MODELS = 3 };

typedef struct options {
    rq_data_options data;
    rq_open_options open;
    const char *fp32, *int8, *qat;
    double max_drop; /* points; negative: no gate */
    bool json;
} options;

static const rq_option table[] = {
    RQ_DATA_OPTIONS(options, data),
    RQ_POSITIONAL("FP32", options, fp32, "model or checkpoint in form train, deploy or withbn"),
    RQ_POSITIONAL("INT8", options, int8, "model in form int8"),
    RQ_OPTION_STRING("qat", 0, options, qat, "FILE",
                     "the fake-quantized model (form qat) that INT8 was exported from"),
    RQ_OPTION_FLOAT("max-drop", 0, options, max_drop, "POINTS", 0, 100,
                    "exit with 3 when Acc@1 of INT8 is lower than that of FP32 by more"),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

/* One column of the table. */
typedef struct candidate {
    const char *key, *title, *path;
    unsigned forms;
    rq_model model;
    rq_session *session;
    double size_mb; /* 10^6 bytes on disk */
    rq_evaluation accuracy;
    size_t n_as_first; /* predictions that equal the first column's */
    double ms;         /* per image, batch 1 */
    double images_per_s;
} candidate;

/* fp32, then qat where given, then int8. */
typedef struct comparison {
    candidate columns[MAX_MODELS];
    int n;
    size_t n_qat_differs; /* predictions in which qat and int8 differ */
} comparison;

static const candidate *last_column(const comparison *self)
{
    return &self->columns[self->n - 1];
}

static double agreement(const candidate *column)
{
    return 100.0 * (double)column->n_as_first / (double)column->accuracy.n_images;
}

static double top1_drop(const comparison *self)
{
    return self->columns[0].accuracy.top1 - last_column(self)->accuracy.top1;
}

static rq_status open_column(comparison *self, const char *key, const char *title, const char *path,
                             const options *given, unsigned forms, rq_error *err)
{
    candidate *column = &self->columns[self->n];
    struct stat info;
    if (!path)
        return RQ_OK;
    column->key = key;
    column->title = title;
    column->path = path;
    RQ_TRY(rq_open_model(&column->model, path, &given->open, forms, err));
    self->n++;
    if (stat(path, &info) != 0)
        return rq_fail_errno(err, path, "get the size");
    column->size_mb = 1e-6 * (double)info.st_size;
    return RQ_OK;
}

static rq_status open_models(comparison *self, const options *given, rq_error *err)
{
    const unsigned fp32 = 1u << RQ_FORM_TRAIN | 1u << RQ_FORM_DEPLOY | 1u << RQ_FORM_WITHBN;
    RQ_TRY(open_column(self, "fp32", "FP32", given->fp32, given, fp32, err));
    RQ_TRY(open_column(self, "qat", "fake-quant", given->qat, given, 1u << RQ_FORM_QAT, err));
    return open_column(self, "int8", "INT8", given->int8, given, 1u << RQ_FORM_INT8, err);
}

/* The models must see the same pixels. */
static rq_status require_same_images(const comparison *self, int64_t resolution, rq_error *err)
{
    const rq_transform a = rq_eval_transform(&self->columns[0].model.preprocess, resolution);
    for (int k = 1; k < self->n; k++) {
        const candidate *other = &self->columns[k];
        const rq_transform b = rq_eval_transform(&other->model.preprocess, resolution);
        if (a.resize != b.resize || a.size != b.size)
            return rq_fail(err, RQ_ERR_MODEL,
                           "%s resizes images to %d and crops %d, but %s resizes to %d and crops "
                           "%d; -r gives both one resolution",
                           self->columns[0].path, a.resize, a.size, other->path, b.resize, b.size);
    }
    return RQ_OK;
}

static int prediction(const comparison *self, int k, const float *const *logits, int i)
{
    const int n_classes = self->columns[k].model.n_classes;
    return rq_top_class(logits[k] + (size_t)i * (size_t)n_classes, n_classes);
}

/* A sink of logits. */
static rq_status count_agreement(void *context, const rq_batch *batch, const float *const *logits,
                                 rq_error *err)
{
    comparison *self = context;
    (void)err;
    for (int i = 0; i < batch->n; i++) {
        if (batch->labels[i] == RQ_LABEL_IGNORE)
            continue;
        const int first = prediction(self, 0, logits, i);
        for (int k = 0; k < self->n; k++)
            self->columns[k].n_as_first += prediction(self, k, logits, i) == first;
        self->n_qat_differs +=
            prediction(self, self->n - 2, logits, i) != prediction(self, self->n - 1, logits, i);
    }
    return RQ_OK;
}

static rq_status evaluate(comparison *self, const options *given, rq_eval_data *data, rq_error *err)
{
    rq_session *sessions[MAX_MODELS] = {NULL};
    rq_evaluation results[MAX_MODELS];
    RQ_TRY(rq_eval_data_open(data, &given->data, &self->columns[0].model.preprocess, err));
    for (int k = 0; k < self->n; k++) {
        candidate *column = &self->columns[k];
        RQ_TRY(rq_require_classes(&column->model, column->path, &data->dataset, err));
        RQ_TRY(rq_open_session(&column->session, &column->model, column->path,
                               (int)given->data.batch, data->size, RQ_STREAMS_AUTO, err));
        sessions[k] = column->session;
    }
    RQ_TRY(rq_evaluate(sessions, self->n, data->loader, count_agreement, self, results, err));
    for (int k = 0; k < self->n; k++)
        self->columns[k].accuracy = results[k];
    return RQ_OK;
}

static rq_status measure_accuracy(comparison *self, const options *given, rq_error *err)
{
    rq_eval_data data = RQ_EVAL_DATA_INIT;
    const rq_status status = evaluate(self, given, &data, err);
    rq_eval_data_close(&data); /* its threads are gone when speed is measured */
    return status;
}

static rq_status measure_batch(candidate *column, int batch, int size, rq_error *err)
{
    rq_timing timing;
    RQ_TRY(rq_time_session(&timing, column->session, batch, size, 0, false, err));
    column->images_per_s = rq_timing_images_per_s(&timing);
    rq_timing_deinit(&timing);
    return RQ_OK;
}

static rq_status measure_single(candidate *column, int size, rq_error *err)
{
    rq_timing timing;
    rq_session *session = NULL;
    RQ_TRY(rq_open_session(&session, &column->model, column->path, 1, size, 1, err));
    const rq_status status = rq_time_session(&timing, session, 1, size, 0, false, err);
    if (!status) {
        column->ms = 1e3 * timing.median_s;
        rq_timing_deinit(&timing);
    }
    rq_session_destroy(session);
    return status;
}

static void print_row(const comparison *self, const char *title, int decimals, const char *unit,
                      const double values[MAX_MODELS])
{
    (void)printf("%-24s", title);
    for (int k = 0; k < self->n; k++) {
        char text[32];
        (void)snprintf(text, sizeof text, "%.*f%s", decimals, values[k], unit);
        (void)printf("%12s", text);
    }
    (void)printf("\n");
}

/* A row whose values are an expression of column c. */
#define PRINT_ROW(title, decimals, unit, expression)                                               \
    do {                                                                                           \
        double values_[MAX_MODELS] = {0};                                                          \
        for (int k_ = 0; k_ < self->n; k_++) {                                                     \
            const candidate *c = &self->columns[k_];                                               \
            values_[k_] = (expression);                                                            \
        }                                                                                          \
        print_row(self, (title), (decimals), (unit), values_);                                     \
    } while (0)

static void print_text(const comparison *self, const options *given)
{
    const candidate *fp32 = &self->columns[0];
    char speed[64];
    (void)printf("%-24s", "");
    for (int k = 0; k < self->n; k++)
        (void)printf("%12s", self->columns[k].title);
    (void)printf("\n");
    (void)snprintf(speed, sizeof speed, "images/s at batch %lld", (long long)given->data.batch);
    PRINT_ROW("Acc@1", 3, "", c->accuracy.top1);
    PRINT_ROW("Acc@5", 3, "", c->accuracy.top5);
    PRINT_ROW("loss", 4, "", c->accuracy.loss);
    PRINT_ROW("agrees with FP32", 3, " %", agreement(c));
    PRINT_ROW("size, MB", 3, "", c->size_mb);
    PRINT_ROW("ms/image at batch 1", 3, "", c->ms);
    PRINT_ROW("speed-up at batch 1", 2, "x", fp32->ms / c->ms);
    PRINT_ROW(speed, 1, "", c->images_per_s);
    PRINT_ROW("speed-up", 2, "x", c->images_per_s / fp32->images_per_s);
    (void)printf("INT8 loses %.3f points of Acc@1 on %zu images\n", top1_drop(self),
                 fp32->accuracy.n_images);
    if (self->n == MAX_MODELS)
        (void)printf("fake-quant and INT8 differ in %zu predictions\n", self->n_qat_differs);
}

static json_t *column_json(const candidate *c)
{
    json_t *json = json_object();
    rq_json_set(&json, "top1", rq_json_number(c->accuracy.top1));
    rq_json_set(&json, "top5", rq_json_number(c->accuracy.top5));
    rq_json_set(&json, "loss", rq_json_number(c->accuracy.loss));
    rq_json_set(&json, "agreement", rq_json_number(agreement(c)));
    rq_json_set(&json, "size_mb", rq_json_number(c->size_mb));
    rq_json_set(&json, "batch1_ms", rq_json_number(c->ms));
    rq_json_set(&json, "img_per_s", rq_json_number(c->images_per_s));
    return json;
}

static rq_status print_json(const comparison *self, const options *given, rq_error *err)
{
    const candidate *fp32 = &self->columns[0], *int8 = last_column(self);
    json_t *json = json_object();
    rq_json_set(&json, "images", json_integer(fp32->accuracy.n_images));
    rq_json_set(&json, "skipped", json_integer(fp32->accuracy.n_skipped));
    for (int k = 0; k < self->n; k++)
        rq_json_set(&json, self->columns[k].key, column_json(&self->columns[k]));
    rq_json_set(&json, "top1_drop", rq_json_number(top1_drop(self)));
    rq_json_set(&json, "agreement", rq_json_number(agreement(int8)));
    if (self->n == MAX_MODELS)
        rq_json_set(&json, "qat_int8_differ", json_integer(self->n_qat_differs));
    rq_json_set(&json, "speedup", rq_json_number(int8->images_per_s / fp32->images_per_s));
    rq_json_set(&json, "speedup_batch1", rq_json_number(fp32->ms / int8->ms));
    rq_json_set(&json, "batch", json_integer(given->data.batch));
    rq_json_set(&json, "threads", json_integer(omp_get_max_threads()));
    return rq_json_print(json, stdout, err);
}

static rq_status check_gate(const comparison *self, double max_drop, rq_error *err)
{
    if (max_drop < 0.0 || top1_drop(self) <= max_drop)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_GATE,
                   "Acc@1 drops by %.3f points (%.3f to %.3f), --max-drop allows %.3f",
                   top1_drop(self), self->columns[0].accuracy.top1,
                   last_column(self)->accuracy.top1, max_drop);
}

static rq_status compare(comparison *self, const options *given, rq_error *err)
{
    RQ_TRY(open_models(self, given, err));
    RQ_TRY(require_same_images(self, given->data.resolution, err));
    RQ_TRY(measure_accuracy(self, given, err));
    for (int k = 0; k < self->n; k++) {
        candidate *column = &self->columns[k];
        const int size = rq_eval_transform(&column->model.preprocess, given->data.resolution).size;
        RQ_TRY(measure_batch(column, (int)given->data.batch, size, err));
        RQ_TRY(measure_single(column, size, err));
    }
    if (given->json)
        RQ_TRY(print_json(self, given, err));
    else
        print_text(self, given);
    return check_gate(self, given->max_drop, err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {.data = RQ_DATA_OPTIONS_INIT, .max_drop = -1.0};
    comparison all = {.n = 0};
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.open),
    };
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    if (done)
        return RQ_OK;
    rq_set_threads(given.data.threads);
    const rq_status status = compare(&all, &given, err);
    for (int k = 0; k < all.n; k++) {
        rq_session_destroy(all.columns[k].session);
        rq_model_deinit(&all.columns[k].model);
    }
    return status;
}

const rq_command rq_command_compare = {"compare",
                                       "accuracy, agreement, size and speed of FP32 and INT8", run};
