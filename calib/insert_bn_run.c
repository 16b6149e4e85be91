/* Recording over a loader, comparing the two models, writing. */
#include "calib/insert_bn_run.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "calib/bn_recorder.h"
#include "calib/insert_bn.h"
#include "calib/same_function.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/ranks.h"
#include "runtime/modelfile/modelfile.h"

enum { CHECK_BATCHES = 4 };
#define PROGRESS_SECONDS 0.2

/* ---- recording ---- */

typedef struct recording {
    rq_dataset dataset;
    rq_loader *loader;
    rq_session *session;
    rq_bn_recorder *recorder;
    size_t image_bytes;
    uint8_t *readable; /* [batch] images */
    float *logits;     /* [batch, classes] */
} recording;

static rq_status open_recording(recording *self, const rq_insert_bn_options *given,
                                const rq_model *base, rq_error *err)
{
    const rq_preprocess *preprocess = &base->preprocess;
    rq_transform transform;
    RQ_TRY(rq_augment_transform(&transform, &given->augment,
                                rq_eval_transform(preprocess, given->data.resolution), preprocess,
                                err));
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
    RQ_TRY(rq_dataset_open(&self->dataset, given->data.dir, RQ_SPLIT_TRAIN, err));
    RQ_TRY(rq_loader_create(&self->loader, &self->dataset, &loader, err));
    RQ_TRY(rq_session_create(&self->session, base, &session, err));
    self->image_bytes = size * size * 3;
    self->readable = rq_alloc_array(uint8_t, batch * self->image_bytes);
    self->logits = rq_alloc_array(float, batch *(size_t)base->n_classes);
    return self->readable && self->logits ? RQ_OK : rq_no_memory(err);
}

static void close_recording(recording *self)
{
    rq_session_destroy(self->session);
    rq_loader_destroy(self->loader);
    rq_dataset_close(&self->dataset);
    rq_free(self->readable);
    rq_free(self->logits);
}

/* The batch's images without those that were skipped, copied to dst when there are any of these.
 * Their number. */
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

static rq_status record_batch(recording *self, size_t *n_images, rq_error *err)
{
    rq_batch batch;
    const uint8_t *pixels;
    RQ_TRY(rq_loader_next(self->loader, &batch, err));
    const int n = keep_readable(&batch, self->image_bytes, self->readable, &pixels);
    self->recorder->n_images = n;
    *n_images += (size_t)n;
    return n > 0 ? rq_session_run(self->session, pixels, n, self->logits, err) : RQ_OK;
}

static rq_status record_batches(recording *self, size_t n_batches, size_t *n_images, rq_error *err)
{
    const double start = rq_clock();
    double last_progress = start;
    rq_loader_start(self->loader, 0, 0);
    for (size_t done = 0; done < n_batches; done++) {
        RQ_TRY(record_batch(self, n_images, err));
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

static rq_status record_all(recording *self, const rq_insert_bn_options *given,
                            const rq_model *base, size_t *n_images, rq_error *err)
{
    RQ_TRY(open_recording(self, given, base, err));
    const size_t all = rq_loader_n_batches(self->loader), wanted = (size_t)given->batches;
    RQ_TRY(record_batches(self, wanted && wanted < all ? wanted : all, n_images, err));
    if (*n_images == 0)
        return rq_fail(err, RQ_ERR_IMAGE, "%s: no image could be read", self->dataset.root);
    return RQ_OK;
}

static rq_status record(rq_bn_recorder *recorder, const rq_insert_bn_options *given,
                        const rq_model *base, size_t *n_images, rq_error *err)
{
    recording self = {.recorder = recorder};
    const rq_status status = record_all(&self, given, base, n_images, err);
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

typedef struct proof {
    const rq_insert_bn_options *given;
    const rq_model *base, *withbn;
    bool is_validation;
    rq_eval_data data;
    rq_session *sessions[2];
} proof;

static rq_status require_same(proof *self, rq_difference *out, rq_error *err)
{
    const rq_insert_bn_options *given = self->given;
    const int batch = (int)rq_rank_rows(given->data.batch);
    RQ_TRY(rq_eval_data_open_split(&self->data, &given->data, &self->base->preprocess,
                                   self->is_validation ? RQ_SPLIT_VAL : RQ_SPLIT_TRAIN, err));
    const int size = self->data.size;
    RQ_TRY(rq_open_session(&self->sessions[0], self->base, given->base, batch, size,
                           RQ_STREAMS_AUTO, err));
    RQ_TRY(rq_open_session(&self->sessions[1], self->withbn, given->out, batch, size,
                           RQ_STREAMS_AUTO, err));
    return rq_require_same_function(out, self->sessions[0], self->sessions[1], self->data.loader,
                                    CHECK_BATCHES, err);
}

static rq_status evaluate(proof *self, rq_insert_bn_result *out, rq_error *err)
{
    rq_error reason = RQ_ERROR_INIT;
    out->has_accuracy =
        !rq_require_classes(self->base, self->given->base, &self->data.dataset, &reason);
    if (out->has_accuracy)
        return rq_evaluate(self->sessions, 2, self->data.loader, NULL, NULL, out->accuracy, err);
    rq_log(RQ_LOG_INFO, "no accuracy: %s", reason.text);
    return RQ_OK;
}

/* Compare the two models over validation images, or without such a split over training images that
 * are prepared in the same way; then their accuracy, where labels fit. */
static rq_status check(const rq_insert_bn_options *given, const rq_model *base,
                       const rq_model *withbn, rq_insert_bn_result *out, rq_error *err)
{
    proof self = {.given = given,
                  .base = base,
                  .withbn = withbn,
                  .is_validation = has_validation(given->data.dir),
                  .data = RQ_EVAL_DATA_INIT};
    rq_status status = require_same(&self, &out->difference, err);
    if (status == RQ_ERR_RANGE)
        rq_error_prefix(err, "%s: not written", given->out);
    else if (!status && self.is_validation)
        status = evaluate(&self, out, err);
    rq_session_destroy(self.sessions[0]);
    rq_session_destroy(self.sessions[1]);
    rq_eval_data_close(&self.data);
    return status;
}

/* ---- the whole ---- */

/* The same batches whatever the number of processes. */
static rq_status check_ranks(const rq_insert_bn_options *given, rq_error *err)
{
    if (given->stat == RQ_STAT_EMA && rq_n_ranks() > 1)
        return rq_fail(err, RQ_ERR_USAGE,
                       "--stat ema: an average over batches in their order is made by one process");
    return rq_ranks_must_divide(given->data.batch, "batch", err);
}

typedef struct job {
    rq_model base, withbn;
    rq_bn_recorder recorder;
} job;

static rq_status named(const char *path, rq_status status, rq_error *err)
{
    if (status)
        rq_error_prefix(err, "%s", path);
    return status;
}

static rq_status run(job *self, const rq_insert_bn_options *given, rq_insert_bn_result *out,
                     rq_error *err)
{
    rq_model *base = &self->base;
    const rq_stat_kind kind = (rq_stat_kind)given->stat;
    RQ_TRY(rq_writer_probe(given->out, err));
    RQ_TRY(rq_open_model(base, given->base, &given->open, 1u << RQ_FORM_DEPLOY, err));
    RQ_TRY(named(given->base, rq_bn_recorder_init(&self->recorder, &base->graph, kind, err), err));
    RQ_TRY(record(&self->recorder, given, base, &out->n_images, err));
    RQ_TRY(named(given->base, rq_insert_bn(&self->withbn, base, self->recorder.stats, err), err));
    return check(given, base, &self->withbn, out, err);
}

rq_status rq_insert_bn_run(rq_insert_bn_result *out, const rq_insert_bn_options *options, int argc,
                           char **argv, rq_error *err)
{
    job self = {RQ_MODEL_INIT, RQ_MODEL_INIT, RQ_BN_RECORDER_INIT};
    rq_model *withbn = &self.withbn;
    rq_status status;
    *out = (rq_insert_bn_result){.n_images = 0};
    RQ_TRY(check_ranks(options, err));
    if ((status = run(&self, options, out, err)))
        goto out;
    withbn->seed = (uint64_t)options->seed;
    if ((status = rq_model_set_origin(withbn, options->base, argc, argv, err)))
        goto out;
    status = rq_model_save(withbn, options->out, err);
out:
    rq_bn_recorder_deinit(&self.recorder);
    rq_model_deinit(&self.withbn);
    rq_model_deinit(&self.base);
    return status;
}
