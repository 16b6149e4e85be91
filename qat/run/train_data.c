/* Datasets, transforms, loaders. */
#include "qat/run/train_data.h"

#include <stdio.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/ranks.h"
#include "runtime/eval/open_model.h"

/* At another size than the model's crop, images are resized to that size. */
static rq_status train_transform(rq_transform *out, const rq_train_data_options *options,
                                 const rq_model *model, rq_error *err)
{
    const rq_preprocess *pre = &model->preprocess;
    const int size = options->resolution ? options->resolution : pre->crop;
    const rq_transform evaluate = {
        .kind = RQ_TRANSFORM_EVAL, .resize = size == pre->crop ? pre->resize : size, .size = size};
    return rq_augment_transform(out, &options->augment, evaluate, pre, err);
}

/* Labels for a model that has none yet. */
static rq_status name_classes(rq_model *model, const rq_dataset *set, rq_error *err)
{
    void *names = NULL;
    rq_status status = rq_arena_array_old(&model->graph.arena, &names, (size_t)set->n_classes,
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
static bool has_validation(const char *dir)
{
    static const char *const names[] = {"val", "validation", "test"};
    rq_arena arena = RQ_ARENA_INIT;
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !found; i++) {
        const char *path = rq_arena_printf(&arena, "%s/%s", dir, names[i]);
        found = path && access(path, F_OK) == 0;
    }
    rq_arena_deinit(&arena);
    return found;
}

static rq_status open_training(rq_train_data *data, rq_model *model, const rq_train_data_options *o,
                               rq_error *err)
{
    rq_status status = rq_ranks_must_divide(o->batch, "batch-size", err);
    if (status == RQ_OK)
        status = rq_dataset_open(&data->train_set, o->dir, RQ_SPLIT_TRAIN, err);
    if (status == RQ_OK)
        status = rq_require_classes(model, model->arch, &data->train_set, err);
    if (status == RQ_OK && !model->class_names)
        status = name_classes(model, &data->train_set, err);
    if (status != RQ_OK)
        return status;
    if ((size_t)o->batch > data->train_set.n_images)
        return rq_fail(err, RQ_ERR_USAGE, "batch %d: %s has only %zu images", o->batch,
                       data->train_set.root, data->train_set.n_images);
    rq_transform transform;
    status = train_transform(&transform, o, model, err);
    if (status != RQ_OK)
        return status;
    const rq_loader_options options = {
        .transform = transform,
        .batch = o->batch,
        .parts = rq_n_ranks(),
        .part = rq_rank(),
        .workers = o->workers,
        .shuffle = true,
        .drop_last = true,
        .seed = o->seed,
        .bad_images = o->bad_images,
        .mixup = o->mixup,
        .alternate_flips = o->alternate_flips,
        .cache_bytes = RQ_LOADER_CACHE_BYTES,
    };
    return rq_loader_create(&data->train, &data->train_set, &options, err);
}

static rq_status open_validation(rq_train_data *data, const rq_model *model,
                                 const rq_train_data_options *o, rq_error *err)
{
    if (!has_validation(o->dir)) {
        rq_log(RQ_LOG_WARN, "no validation images in %s: the latest model is kept", o->dir);
        return RQ_OK;
    }
    rq_status status = rq_dataset_open(&data->val_set, o->dir, RQ_SPLIT_VAL, err);
    if (status == RQ_OK)
        status = rq_require_classes(model, model->arch, &data->val_set, err);
    if (status != RQ_OK)
        return status;
    const rq_preprocess *pre = &model->preprocess;
    const rq_loader_options options = {
        .transform = {.kind = RQ_TRANSFORM_EVAL, .resize = pre->resize, .size = pre->crop},
        .batch = o->val_batch,
        .parts = rq_n_ranks(),
        .part = rq_rank(),
        .workers = o->workers,
        .bad_images = o->bad_images,
        .cache_bytes = RQ_LOADER_CACHE_BYTES,
    };
    return rq_loader_create(&data->val, &data->val_set, &options, err);
}

rq_status rq_train_data_open(rq_train_data *data, rq_model *model,
                             const rq_train_data_options *options, rq_error *err)
{
    const rq_status status = open_training(data, model, options, err);
    return status == RQ_OK ? open_validation(data, model, options, err) : status;
}

void rq_train_data_close(rq_train_data *data)
{
    rq_loader_destroy(data->train);
    rq_loader_destroy(data->val);
    rq_dataset_close(&data->train_set);
    rq_dataset_close(&data->val_set);
}
