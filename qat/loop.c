/* Epochs, validation, files. */
#include "qat/loop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "qat/checkpoint.h"
#include "runtime/base/clock.h"
#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "runtime/model/quant.h"
#include "runtime/session/evaluate.h"
#include "runtime/session/open_model.h"

const char *const rq_precision_names[] = {"f32", "bf16", NULL};
const char *const rq_augment_names[] = {"auto",   "crop", "weak", "raug15", "pad-crop",
                                        "cutout", "flip", "none", NULL};

enum {
    SMALL_IMAGE = 64
}; /* up to this side, "auto" pads and crops instead of cropping at random sizes */

typedef struct loop {
    const rq_loop_options *options;
    rq_model *model;
    rq_trainer *trainer;
    rq_optimizer *optimizer;
    rq_dataset train_set, val_set;
    rq_loader *train_loader, *val_loader;
    rq_schedule schedule;
    rq_progress progress;
    rq_arena arena;
    const char *checkpoint; /* path */
    const char *run;        /* what a checkpoint must have been made with */
    double train_seconds;
    size_t train_images;
    double last_top1, last_top5;
} loop;

/* Half as wide as the image (DeVries and Taylor's choice for CIFAR-10), in the mean colour. */
static rq_cutout mean_cutout(const rq_model *model, int size)
{
    rq_cutout cutout = {.side = size / 2};
    for (int c = 0; c < 3; c++)
        cutout.fill[c] = rq_pixel_zero_point(model->preprocess.mean[c]);
    return cutout;
}

static rq_transform train_transform(const rq_loop_options *options, const rq_model *model)
{
    const int size = options->resolution ? options->resolution : model->preprocess.crop;
    rq_transform transform = {
        .kind = RQ_TRANSFORM_CROP, .resize = model->preprocess.resize, .size = size};
    switch (options->augment) {
    case RQ_AUGMENT_AUTO:
        transform.kind = size <= SMALL_IMAGE ? RQ_TRANSFORM_PAD_CROP : RQ_TRANSFORM_CROP;
        break;
    case RQ_AUGMENT_CROP:
    case RQ_AUGMENT_WEAK:
        break;
    case RQ_AUGMENT_RAUG15:
        transform.randaug = true;
        break;
    case RQ_AUGMENT_PAD_CROP:
        transform.kind = RQ_TRANSFORM_PAD_CROP;
        break;
    case RQ_AUGMENT_CUTOUT:
        transform.kind = RQ_TRANSFORM_PAD_CROP;
        transform.cutout = mean_cutout(model, size);
        break;
    case RQ_AUGMENT_FLIP:
        transform.kind = RQ_TRANSFORM_FLIP;
        break;
    case RQ_AUGMENT_NONE:
        transform.kind = RQ_TRANSFORM_EVAL;
        break;
    }
    if (size != model->preprocess.crop)
        transform.resize = size;
    return transform;
}

/* Labels for a model that has none yet. */
static rq_status name_classes(rq_model *model, const rq_dataset *set, rq_error *err)
{
    void *names = NULL;
    rq_status status = rq_arena_array(&model->graph.arena, &names, (size_t)set->n_classes,
                                      sizeof *model->class_names, err);
    const char **copies = names;
    for (int i = 0; i < set->n_classes && status == RQ_OK; i++) {
        copies[i] = rq_arena_strdup(&model->graph.arena, set->class_names[i]);
        if (!copies[i])
            status = rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    }
    if (status == RQ_OK)
        model->class_names = copies;
    return status;
}

/* Is there a folder of validation images (as image/dataset.h names it)? Class folders that stand
 * directly in the folder of images are for training. */
static bool has_validation(loop *l)
{
    static const char *const names[] = {"val", "validation", "test"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *path = rq_arena_printf(&l->arena, "%s/%s", l->options->dir, names[i]);
        if (path && access(path, F_OK) == 0)
            return true;
    }
    return false;
}

static rq_status open_validation(loop *l, rq_error *err)
{
    if (!has_validation(l)) {
        rq_log(RQ_LOG_WARN, "no validation images in %s: the latest model is kept",
               l->options->dir);
        return RQ_OK;
    }
    const rq_status status = rq_dataset_open(&l->val_set, l->options->dir, RQ_SPLIT_VAL, err);
    return status == RQ_OK ? rq_require_classes(l->model, l->model->arch, &l->val_set, err)
                           : status;
}

static rq_status open_data(loop *l, rq_error *err)
{
    const rq_loop_options *o = l->options;
    rq_status status = rq_dataset_open(&l->train_set, o->dir, RQ_SPLIT_TRAIN, err);
    if (status == RQ_OK)
        status = rq_require_classes(l->model, l->model->arch, &l->train_set, err);
    if (status == RQ_OK && !l->model->class_names)
        status = name_classes(l->model, &l->train_set, err);
    if (status != RQ_OK)
        return status;
    if ((size_t)o->batch > l->train_set.n_images)
        return rq_fail(err, RQ_ERR_USAGE, "batch %d: %s has only %zu images", o->batch,
                       l->train_set.root, l->train_set.n_images);
    return open_validation(l, err);
}

static rq_status open_loaders(loop *l, rq_error *err)
{
    const rq_loop_options *o = l->options;
    const rq_loader_options train = {
        .transform = train_transform(o, l->model),
        .batch = o->batch,
        .workers = o->workers,
        .shuffle = true,
        .drop_last = true,
        .seed = o->seed,
        .bad_images = o->bad_images,
        .cache_bytes = RQ_LOADER_CACHE_BYTES,
    };
    rq_status status = rq_loader_create(&l->train_loader, &l->train_set, &train, err);
    if (status != RQ_OK || !l->val_set.n_images)
        return status;
    const rq_preprocess *pre = &l->model->preprocess;
    const rq_loader_options val = {
        .transform = {.kind = RQ_TRANSFORM_EVAL, .resize = pre->resize, .size = pre->crop},
        .batch = o->val_batch,
        .workers = o->workers,
        .bad_images = o->bad_images,
        .cache_bytes = RQ_LOADER_CACHE_BYTES,
    };
    return rq_loader_create(&l->val_loader, &l->val_set, &val, err);
}

static rq_status create_trainer(loop *l, rq_error *err)
{
    const rq_loop_options *o = l->options;
    const rq_trainer_options options = {
        .batch = o->batch,
        .height = o->resolution,
        .width = o->resolution,
        .label_smoothing = o->label_smoothing,
        .precision = o->precision,
    };
    rq_status status = rq_trainer_create(&l->trainer, l->model, &options, err);
    if (status == RQ_OK)
        status = rq_optimizer_create(&l->optimizer, l->trainer, l->model, &o->optimizer, err);
    const int64_t steps = (int64_t)rq_loader_n_batches(l->train_loader);
    l->schedule = (rq_schedule){
        .lr = o->lr,
        .warmup_steps = (int64_t)lround(o->warmup_epochs * (double)steps),
        .total_steps = o->epochs * steps,
    };
    return status;
}

/* ---- resuming ---- */

static rq_status describe_run(loop *l, rq_error *err)
{
    const rq_loop_options *o = l->options;
    l->run = rq_arena_printf(
        &l->arena,
        "%s form=%s %s images=%zu batch=%d epochs=%d resolution=%d lr=%.9g warmup=%.9g "
        "momentum=%.9g decay=%.9g nesterov=%d decay_identity=%d bias_lr=%.9g smoothing=%.9g "
        "augment=%s precision=%s seed=%llu bn_freeze=%d observer_freeze=%d",
        l->model->arch, rq_form_name(l->model->form), o->run ? o->run : "", l->train_set.n_images,
        o->batch, o->epochs, o->resolution, o->lr, o->warmup_epochs, o->optimizer.sgd.momentum,
        o->optimizer.weight_decay, o->optimizer.sgd.nesterov, o->optimizer.rules.decay_identity,
        o->optimizer.rules.bias_lr, o->label_smoothing, rq_augment_names[o->augment],
        rq_precision_names[o->precision], (unsigned long long)o->seed, o->bn_freeze_epoch,
        o->observer_freeze_epoch);
    return l->run ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
}

static rq_status resume(loop *l, rq_error *err)
{
    const char *path = l->options->resume;
    if (!path)
        return RQ_OK;
    if (strcmp(path, "auto") == 0) {
        path = l->checkpoint;
        if (access(path, F_OK) != 0)
            return RQ_OK;
    }
    const rq_status status =
        rq_checkpoint_load(path, l->model, l->optimizer, &l->progress, l->run, err);
    if (status == RQ_OK)
        rq_log(RQ_LOG_INFO, "resumed from %s after %d of %d epochs", path, l->progress.epoch,
               l->options->epochs);
    return status;
}

/* ---- one epoch ---- */

typedef struct meters {
    double loss, time;
    size_t counted, top1, top5, batches;
} meters;

static void print_progress(const loop *l, int epoch, size_t batch, const meters *m,
                           const rq_step_result *r, double seconds, double lr)
{
    const double n = m->counted ? (double)m->counted : 1.0;
    const double counted = r->n_counted ? (double)r->n_counted : 1.0;
    rq_log(RQ_LOG_INFO,
           "Epoch: [%d][%5zu/%zu]\tTime %6.3f (%6.3f)\tLoss %.4e (%.4e)\tAcc@1 %6.2f (%6.2f)\t"
           "Acc@5 %6.2f (%6.2f)\tlr %.6f",
           epoch, batch, rq_loader_n_batches(l->train_loader), seconds,
           m->time / (double)m->batches, r->loss, m->loss / n, 100.0 * r->top1 / counted,
           100.0 * (double)m->top1 / n, 100.0 * r->top5 / counted, 100.0 * (double)m->top5 / n, lr);
}

static rq_status train_epoch(loop *l, int epoch, rq_error *err)
{
    const rq_loop_options *o = l->options;
    const size_t n_batches = rq_loader_n_batches(l->train_loader);
    meters m = {0};
    rq_trainer_freeze_bn(l->trainer, epoch >= o->bn_freeze_epoch);
    rq_trainer_observe(l->trainer, epoch < o->observer_freeze_epoch);
    rq_loader_start(l->train_loader, (uint64_t)epoch, 0);
    double start = rq_clock();
    for (size_t i = 0; i < n_batches; i++) {
        rq_batch batch;
        rq_step_result result;
        rq_status status = rq_loader_next(l->train_loader, &batch, err);
        if (status != RQ_OK)
            return status;
        status = rq_trainer_step(l->trainer, batch.pixels, batch.labels, &result, err);
        if (status != RQ_OK) {
            rq_error_prefix(err, "epoch %d, step %zu", epoch, i);
            return status;
        }
        const double lr =
            rq_schedule_lr(&l->schedule, (int64_t)epoch * (int64_t)n_batches + (int64_t)i);
        status = rq_optimizer_step(l->optimizer, lr, err);
        if (status != RQ_OK) {
            rq_error_prefix(err, "epoch %d, step %zu", epoch, i);
            return status;
        }
        const double now = rq_clock(), seconds = now - start;
        start = now;
        m.loss += result.loss * result.n_counted;
        m.time += seconds;
        m.counted += (size_t)result.n_counted;
        m.top1 += (size_t)result.top1;
        m.top5 += (size_t)result.top5;
        m.batches++;
        if (o->print_every && i % (size_t)o->print_every == 0)
            print_progress(l, epoch, i, &m, &result, seconds, lr);
    }
    l->train_seconds += m.time;
    l->train_images += n_batches * (size_t)o->batch;
    return RQ_OK;
}

static rq_status validate(loop *l, rq_error *err)
{
    l->last_top1 = l->last_top5 = -1.0;
    if (!l->val_loader)
        return RQ_OK;
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    options.batch = l->options->val_batch;
    rq_status status = rq_session_create(&session, l->model, &options, err);
    rq_evaluation result;
    if (status == RQ_OK)
        status = rq_evaluate(&session, 1, l->val_loader, NULL, NULL, &result, err);
    rq_session_destroy(session);
    if (status != RQ_OK)
        return status;
    l->last_top1 = result.top1;
    l->last_top5 = result.top5;
    rq_log(RQ_LOG_INFO, " * Acc@1 %.3f Acc@5 %.3f", result.top1, result.top5);
    return RQ_OK;
}

static rq_status finish_epoch(loop *l, int epoch, rq_error *err)
{
    rq_status status = rq_trainer_settle(l->trainer, err);
    if (status == RQ_OK)
        status = rq_model_check_finite(l->model, err);
    if (status == RQ_OK)
        status = validate(l, err);
    if (status != RQ_OK)
        return status;
    const bool best = !l->val_loader || l->last_top1 > l->progress.best_top1;
    if (best) {
        l->progress.best_top1 = l->last_top1;
        status = rq_model_save(l->model, l->options->output, err);
    }
    l->progress.epoch = epoch + 1;
    if (status == RQ_OK)
        status =
            rq_checkpoint_save(l->checkpoint, l->model, l->optimizer, &l->progress, l->run, err);
    return status;
}

static rq_status evaluate_only(loop *l, rq_error *err)
{
    if (!l->val_loader)
        return rq_fail(err, RQ_ERR_FILE, "%s: no validation images", l->options->dir);
    const rq_status status = rq_trainer_settle(l->trainer, err);
    return status == RQ_OK ? validate(l, err) : status;
}

static void log_profile(const loop *l)
{
    const rq_trainer_profile p = rq_trainer_get_profile(l->trainer);
    const double n = l->train_images ? (double)l->train_images : 1.0;
    rq_log(RQ_LOG_INFO,
           "ms/image: conv forward %.3f, passes forward %.3f, conv backward %.3f, passes backward "
           "%.3f, weights %.3f, loss %.3f",
           1e3 * p.forward_conv / n, 1e3 * p.forward_pass / n, 1e3 * p.backward_conv / n,
           1e3 * p.backward_pass / n, 1e3 * p.weights / n, 1e3 * p.loss / n);
}

/* What can be wrong about the options alone: found before any work. */
static rq_status check_outputs(loop *l, rq_error *err)
{
    const rq_loop_options *o = l->options;
    l->checkpoint = rq_arena_printf(&l->arena, "%s.ckpt", o->output);
    if (!l->checkpoint)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    if (o->evaluate_only)
        return RQ_OK;
    if (o->start_epoch >= o->epochs)
        return rq_fail(err, RQ_ERR_USAGE, "start-epoch %d: there are only %d epochs, from 0",
                       o->start_epoch, o->epochs);
    const rq_status status = rq_writer_probe(o->output, err);
    return status == RQ_OK ? rq_writer_probe(l->checkpoint, err) : status;
}

rq_status rq_train_loop(rq_model *model, const rq_loop_options *options, rq_loop_result *result,
                        rq_error *err)
{
    loop l = {.options = options,
              .model = model,
              .progress = {options->start_epoch, -1.0},
              .last_top1 = -1.0,
              .last_top5 = -1.0};
    rq_status status = check_outputs(&l, err);
    if (status == RQ_OK)
        status = open_data(&l, err);
    if (status == RQ_OK)
        status = open_loaders(&l, err);
    if (status == RQ_OK)
        status = create_trainer(&l, err);
    if (status == RQ_OK)
        status = describe_run(&l, err);
    if (status == RQ_OK)
        status = resume(&l, err);
    if (status == RQ_OK && options->evaluate_only)
        status = evaluate_only(&l, err);
    const int end = options->evaluate_only ? 0 : options->epochs;
    for (int epoch = l.progress.epoch; epoch < end && status == RQ_OK; epoch++) {
        status = train_epoch(&l, epoch, err);
        if (status == RQ_OK)
            status = finish_epoch(&l, epoch, err);
    }
    if (status == RQ_OK) {
        if (options->profile)
            log_profile(&l);
        *result = (rq_loop_result){
            .best_top1 = l.progress.best_top1,
            .last_top1 = l.last_top1,
            .last_top5 = l.last_top5,
            .seconds = l.train_seconds,
            .images_per_second =
                l.train_seconds > 0.0 ? (double)l.train_images / l.train_seconds : 0.0,
            .epochs = options->epochs,
        };
    }
    rq_optimizer_destroy(l.optimizer);
    rq_trainer_destroy(l.trainer);
    rq_loader_destroy(l.train_loader);
    rq_loader_destroy(l.val_loader);
    rq_dataset_close(&l.train_set);
    rq_dataset_close(&l.val_set);
    rq_arena_deinit(&l.arena);
    return status;
}
