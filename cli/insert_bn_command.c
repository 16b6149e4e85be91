/* repqat insert_bn DIR base.bin withbn.bin: batch norms whose statistics come from training images.
 */
#include "cli/commands.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "calib/bn_recorder.h"
#include "calib/insert_bn.h"
#include "calib/same_function.h"
#include "runtime/base/clock.h"
#include "runtime/base/file.h"
#include "runtime/base/json_line.h"
#include "runtime/base/log.h"
#include "runtime/base/ranks.h"
#include "runtime/eval/augment.h"
#include "runtime/eval/data_options.h"
#include "runtime/eval/evaluate.h"
#include "runtime/eval/open_model.h"
#include "runtime/modelfile/modelfile.h"

enum { CHECK_BATCHES = 4 };
#define PROGRESS_SECONDS 0.2

static const char *const stat_words[] = {[RQ_STAT_EXACT] = "exact", [RQ_STAT_EMA] = "ema", NULL};

typedef struct options {
    rq_data_options data;
    rq_open_options open;
    const char *base, *out;
    int64_t batches; /* 0: all */
    int64_t seed;
    rq_augment_options augment;
    int stat; /* rq_stat_kind */
    bool shuffle, json;
} options;

static const rq_option table[] = {
    RQ_DATA_OPTIONS(options, data),
    RQ_POSITIONAL("BASE", options, base, "model or checkpoint in form deploy"),
    RQ_POSITIONAL("OUT", options, out, "model file to write, form withbn"),
    RQ_OPTION_INT("batches", 'n', options, batches, "N", 1, INT64_MAX,
                  "batches of training images; all images once when not given"),
    RQ_OPTION_CHOICE("stat", 0, options, stat, stat_words,
                     "statistics over all images alike, or the original's moving average, in "
                     "which later batches weigh more"),
    RQ_AUGMENT_OPTIONS(options, augment),
    RQ_OPTION_FLAG("shuffle", 0, options, shuffle, "images in random order"),
    RQ_OPTION_INT("seed", 0, options, seed, "N", 0, INT64_MAX, "of order and augmentation"),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

typedef struct result {
    size_t n_images; /* recorded */
    rq_difference difference;
    bool has_accuracy;         /* the folder has labelled validation images of these classes */
    rq_evaluation accuracy[2]; /* base, withbn */
} result;

/* ---- recording ---- */

/* The batch's images without those that were skipped, in dst when there are any of these. Their
 * number. */
static int keep_readable(const rq_batch *batch, size_t image_bytes, uint8_t *dst,
                         const uint8_t **pixels)
{
    int n = 0;
    for (int i = 0; i < batch->n; i++)
        n += batch->labels[i] != RQ_LABEL_IGNORE;
    *pixels = n == batch->n ? batch->pixels : dst;
    for (int i = 0, k = 0; i < batch->n && n < batch->n; i++)
        if (batch->labels[i] != RQ_LABEL_IGNORE)
            memcpy(dst + (size_t)k++ * image_bytes, batch->pixels + (size_t)i * image_bytes,
                   image_bytes);
    return n;
}

typedef struct recording {
    rq_dataset dataset;
    rq_loader *loader;
    rq_session *session;
    rq_bn_recorder *recorder;
    size_t image_bytes;
    uint8_t *readable; /* [batch] images */
    float *logits;     /* [batch, classes] */
} recording;

static rq_status open_recording(recording *self, const options *given, const rq_model *base,
                                rq_error *err)
{
    const rq_preprocess *preprocess = &base->preprocess;
    rq_transform transform;
    rq_status status = rq_augment_transform(&transform, &given->augment,
                                            rq_eval_transform(preprocess, given->data.resolution),
                                            preprocess, err);
    if (status != RQ_OK)
        return status;
    const size_t batch = (size_t)rq_rank_rows(given->data.batch), size = (size_t)transform.size;
    rq_loader_options loader = rq_data_loader_options(&given->data, transform);
    loader.shuffle = given->shuffle;
    loader.seed = (uint64_t)given->seed;
    const rq_session_options session = {
        .batch = (int)batch,
        .height = transform.size,
        .width = transform.size,
        .observer = rq_bn_recorder_observe,
        .observer_context = self->recorder,
    };
    void *memory = NULL;
    self->image_bytes = size * size * 3;
    status = rq_dataset_open(&self->dataset, given->data.dir, RQ_SPLIT_TRAIN, err);
    if (status == RQ_OK)
        status = rq_loader_create(&self->loader, &self->dataset, &loader, err);
    if (status == RQ_OK)
        status = rq_session_create(&self->session, base, &session, err);
    if (status == RQ_OK)
        status = rq_alloc_array_old(&memory, batch, self->image_bytes, err);
    self->readable = memory;
    memory = NULL;
    if (status == RQ_OK)
        status = rq_alloc_array_old(&memory, batch, (size_t)base->n_classes * sizeof(float), err);
    self->logits = memory;
    return status;
}

static void close_recording(recording *self)
{
    rq_session_destroy(self->session);
    rq_loader_destroy(self->loader);
    rq_dataset_close(&self->dataset);
    rq_free(self->readable);
    rq_free(self->logits);
}

static rq_status record_batches(recording *self, size_t n_batches, size_t *n_images, rq_error *err)
{
    const double start = rq_clock();
    double last_progress = start;
    rq_batch batch;
    rq_loader_start(self->loader, 0, 0);
    for (size_t done = 0; done < n_batches; done++) {
        const uint8_t *pixels;
        rq_status status = rq_loader_next(self->loader, &batch, err);
        if (status != RQ_OK)
            return status;
        const int n = keep_readable(&batch, self->image_bytes, self->readable, &pixels);
        self->recorder->n_images = n;
        if (n > 0)
            status = rq_session_run(self->session, pixels, n, self->logits, err);
        if (status != RQ_OK)
            return status;
        *n_images += (size_t)n;
        const double now = rq_clock();
        if (now - last_progress < PROGRESS_SECONDS)
            continue;
        last_progress = now;
        rq_log(RQ_LOG_PROGRESS, "insert_bn: batch %zu/%zu, %.1f images/s", done + 1, n_batches,
               (double)*n_images / (now - start));
    }
    double n = (double)*n_images;
    if (rq_n_ranks() > 1)
        rq_bn_recorder_merge_ranks(self->recorder);
    rq_ranks_sum(&n, 1);
    *n_images = (size_t)n;
    rq_log(RQ_LOG_PROGRESS, "%s", "");
    rq_log(RQ_LOG_INFO, "statistics of %zu images in %zu batches, %.1f images/s", *n_images,
           n_batches, (double)*n_images / (rq_clock() - start));
    return RQ_OK;
}

static rq_status record(rq_bn_recorder *recorder, const options *given, const rq_model *base,
                        size_t *n_images, rq_error *err)
{
    recording self = {.recorder = recorder};
    rq_status status = open_recording(&self, given, base, err);
    if (status == RQ_OK) {
        const size_t all = rq_loader_n_batches(self.loader);
        const size_t wanted = (size_t)given->batches;
        status = record_batches(&self, wanted && wanted < all ? wanted : all, n_images, err);
    }
    if (status == RQ_OK && *n_images == 0)
        status = rq_fail(err, RQ_ERR_IMAGE, "%s: no image could be read", self.dataset.root);
    close_recording(&self);
    return status;
}

/* ---- proof ---- */

static bool is_folder(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat info;
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && n < (int)sizeof path && stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* A folder with training images may have no others (dataset.h). */
static bool has_validation(const char *dir)
{
    return !is_folder(dir, "train") || is_folder(dir, "val") || is_folder(dir, "validation") ||
           is_folder(dir, "test");
}

/* Compare the two models over validation images, or without such a split over training images that
 * are prepared in the same way; then their accuracy, where labels fit. */
static rq_status check(const options *given, const rq_model *base, const rq_model *withbn,
                       result *out, rq_error *err)
{
    const bool is_validation = has_validation(given->data.dir);
    const int batch = (int)rq_rank_rows(given->data.batch);
    rq_eval_data data = RQ_EVAL_DATA_INIT;
    rq_session *sessions[2] = {NULL, NULL};
    rq_error reason = RQ_ERROR_INIT;
    rq_status status = rq_eval_data_open_split(&data, &given->data, &base->preprocess,
                                               is_validation ? RQ_SPLIT_VAL : RQ_SPLIT_TRAIN, err);
    if (status == RQ_OK)
        status = rq_open_session(&sessions[0], base, given->base, batch, data.size, RQ_STREAMS_AUTO,
                                 err);
    if (status == RQ_OK)
        status = rq_open_session(&sessions[1], withbn, given->out, batch, data.size,
                                 RQ_STREAMS_AUTO, err);
    if (status == RQ_OK)
        status = rq_require_same_function(&out->difference, sessions[0], sessions[1], data.loader,
                                          CHECK_BATCHES, err);
    if (status == RQ_ERR_RANGE)
        rq_error_prefix(err, "%s: not written", given->out);
    if (status == RQ_OK && is_validation) {
        out->has_accuracy = rq_require_classes(base, given->base, &data.dataset, &reason) == RQ_OK;
        if (out->has_accuracy)
            status = rq_evaluate(sessions, 2, data.loader, NULL, NULL, out->accuracy, err);
        else
            rq_log(RQ_LOG_INFO, "no accuracy: %s", reason.text);
    }
    rq_session_destroy(sessions[0]);
    rq_session_destroy(sessions[1]);
    rq_eval_data_close(&data);
    return status;
}

/* ---- the command ---- */

static rq_status describe(rq_model *withbn, const options *given, int argc, char **argv,
                          rq_error *err)
{
    rq_mapping base;
    char id[RQ_FILE_ID_SIZE];
    const rq_status status = rq_mapping_open(&base, given->base, err);
    if (status != RQ_OK)
        return status;
    rq_file_id(&base, id);
    rq_mapping_close(&base);
    char *command = rq_command_line(argc, argv);
    withbn->command = command ? rq_arena_strdup(&withbn->graph.arena, command) : NULL;
    withbn->parent = rq_arena_strdup(&withbn->graph.arena, id);
    withbn->seed = (uint64_t)given->seed;
    rq_free(command);
    return withbn->command && withbn->parent ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
}

static void print_text(const options *given, const result *found)
{
    (void)printf("%s: statistics of %zu images\n", given->out, found->n_images);
    (void)printf("max |difference| of logits %.3g (largest |logit| %.4g, %zu images)\n",
                 found->difference.max_abs_diff, found->difference.max_abs_logit,
                 found->difference.n_images);
    if (found->has_accuracy)
        (void)printf(" * Acc@1 %.3f before, %.3f with batch norms\n", found->accuracy[0].top1,
                     found->accuracy[1].top1);
}

static rq_status print_json(const result *found, rq_error *err)
{
    json_t *json = json_object();
    rq_json_set(&json, "images", json_integer(found->n_images));
    rq_json_set(&json, "max_abs_diff", rq_json_number(found->difference.max_abs_diff));
    rq_json_set(&json, "max_abs_logit", rq_json_number(found->difference.max_abs_logit));
    if (found->has_accuracy) {
        rq_json_set(&json, "base_top1", rq_json_number(found->accuracy[0].top1));
        rq_json_set(&json, "top1", rq_json_number(found->accuracy[1].top1));
    }
    return rq_json_print(json, stdout, err);
}

/* The same batches whatever the number of processes. */
static rq_status check_ranks(const options *given, rq_error *err)
{
    if (given->stat == RQ_STAT_EMA && rq_n_ranks() > 1)
        return rq_fail(err, RQ_ERR_USAGE,
                       "--stat ema: an average over batches in their order is made by one process");
    return rq_ranks_must_divide(given->data.batch, "batch", err);
}

static rq_status insert_bn(const options *given, int argc, char **argv, result *out, rq_error *err)
{
    rq_model base, withbn = RQ_MODEL_INIT;
    rq_bn_recorder recorder = RQ_BN_RECORDER_INIT;
    rq_status status = check_ranks(given, err);
    if (status == RQ_OK)
        status = rq_writer_probe(given->out, err);
    if (status != RQ_OK)
        return status;
    status = rq_open_model(&base, given->base, &given->open, 1u << RQ_FORM_DEPLOY, err);
    if (status != RQ_OK)
        return status;
    status = rq_bn_recorder_init(&recorder, &base.graph, (rq_stat_kind)given->stat, err);
    if (status != RQ_OK)
        rq_error_prefix(err, "%s", given->base);
    if (status == RQ_OK)
        status = record(&recorder, given, &base, &out->n_images, err);
    if (status == RQ_OK) {
        status = rq_insert_bn(&withbn, &base, recorder.stats, err);
        if (status != RQ_OK)
            rq_error_prefix(err, "%s", given->base);
    }
    if (status == RQ_OK)
        status = check(given, &base, &withbn, out, err);
    if (status == RQ_OK)
        status = describe(&withbn, given, argc, argv, err);
    if (status == RQ_OK)
        status = rq_model_save(&withbn, given->out, err);
    rq_bn_recorder_deinit(&recorder);
    rq_model_deinit(&withbn);
    rq_model_deinit(&base);
    return status;
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {
        .data = RQ_DATA_OPTIONS_INIT, .augment = RQ_AUGMENT_OPTIONS_INIT, .shuffle = true};
    result found = {.n_images = 0};
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.open),
    };
    rq_status status = rq_command_option_sets(self, sets, 2, argc, argv, &done, err);
    if (status != RQ_OK || done)
        return status;
    rq_set_threads(given.data.threads);
    status = insert_bn(&given, argc, argv, &found, err);
    if (status != RQ_OK)
        return status;
    if (given.json)
        return print_json(&found, err);
    print_text(&given, &found);
    return RQ_OK;
}

const rq_command rq_command_insert_bn = {
    "insert_bn", "batch norms for fine-tuning, with statistics of training images", run};
