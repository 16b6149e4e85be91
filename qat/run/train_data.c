/* Datasets, transforms, loaders. */
#include "qat/run/train_data.h"

#include <stdio.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/ranks.h"
#include "runtime/eval/open_model.h"

/* At another size than the model's crop, images are resized to that size. */
static rq_status train_transform(rq_transform *out, const rq_train_options *options,
                                 const rq_model *model, rq_error *err)
{
    const rq_preprocess *pre = &model->preprocess;
    const int size = options->resolution ? (int)options->resolution : pre->crop;
    const rq_transform evaluate = {
        .kind = RQ_TRANSFORM_EVAL, .resize = size == pre->crop ? pre->resize : size, .size = size};
    return rq_augment_transform(out, &options->augment, evaluate, pre, err);
}

/* Labels for a model that has none yet. */
static rq_status name_classes(rq_model *model, const rq_dataset *set, rq_error *err)
{
    const char **names = rq_arena_array(&model->graph.arena, const char *, set->n_classes);
    if (!names)
        return rq_no_memory(err);
    for (int i = 0; i < set->n_classes; i++) {
        names[i] = rq_arena_strdup(&model->graph.arena, set->class_names[i]);
        if (!names[i])
            return rq_no_memory(err);
    }
    model->class_names = names;
    return RQ_OK;
}

/* Is there a folder of validation images (as image/dataset.h names it)? Class folders that are
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

/* What both loaders have in common. */
static rq_loader_options loader_options(const rq_train_options *o, rq_transform transform,
                                        int64_t batch)
{
    return (rq_loader_options){
        .transform = transform,
        .batch = (int)batch,
        .parts = rq_n_ranks(),
        .part = rq_rank(),
        .workers = (int)o->workers,
        .bad_images = o->bad_images,
        .cache_bytes = RQ_LOADER_CACHE_BYTES,
    };
}

static rq_status open_training(rq_train_data *data, rq_model *model, const rq_train_options *o,
                               rq_error *err)
{
    rq_transform transform;
    RQ_TRY(rq_ranks_must_divide(o->batch, "batch-size", err));
    RQ_TRY(rq_dataset_open(&data->train_set, o->dir, RQ_SPLIT_TRAIN, err));
    RQ_TRY(rq_require_classes(model, model->arch, &data->train_set, err));
    if (!model->class_names)
        RQ_TRY(name_classes(model, &data->train_set, err));
    if ((size_t)o->batch > data->train_set.n_images)
        return rq_fail(err, RQ_ERR_USAGE, "batch %lld: %s has only %zu images", (long long)o->batch,
                       data->train_set.root, data->train_set.n_images);
    RQ_TRY(train_transform(&transform, o, model, err));
    rq_loader_options options = loader_options(o, transform, o->batch);
    options.shuffle = true;
    options.drop_last = true;
    options.seed = (uint64_t)o->seed;
    options.mixup = o->mixup;
    options.alternate_flips = o->alternate_flips;
    return rq_loader_create(&data->train, &data->train_set, &options, err);
}

static rq_status open_validation(rq_train_data *data, const rq_model *model,
                                 const rq_train_options *o, rq_error *err)
{
    const rq_preprocess *pre = &model->preprocess;
    if (!has_validation(o->dir)) {
        rq_log(RQ_LOG_WARN, "no validation images in %s: the latest model is kept", o->dir);
        return RQ_OK;
    }
    RQ_TRY(rq_dataset_open(&data->val_set, o->dir, RQ_SPLIT_VAL, err));
    RQ_TRY(rq_require_classes(model, model->arch, &data->val_set, err));
    const rq_loader_options options = loader_options(
        o, (rq_transform){.kind = RQ_TRANSFORM_EVAL, .resize = pre->resize, .size = pre->crop},
        o->val_batch);
    return rq_loader_create(&data->val, &data->val_set, &options, err);
}

rq_status rq_train_data_open(rq_train_data *data, rq_model *model, const rq_train_options *options,
                             rq_error *err)
{
    RQ_TRY(open_training(data, model, options, err));
    return open_validation(data, model, options, err);
}

void rq_train_data_close(rq_train_data *data)
{
    rq_loader_destroy(data->train);
    rq_loader_destroy(data->val);
    rq_dataset_close(&data->train_set);
    rq_dataset_close(&data->val_set);
}
