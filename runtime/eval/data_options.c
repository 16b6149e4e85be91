/* From options to loaders. */
#include "runtime/eval/data_options.h"

#include <omp.h>

#include "runtime/base/ranks.h"

void rq_set_threads(int64_t threads)
{
    if (threads > 0)
        omp_set_num_threads((int)threads);
}

rq_transform rq_eval_transform(const rq_preprocess *preprocess, int64_t resolution)
{
    static const rq_preprocess imagenet = RQ_PREPROCESS_IMAGENET;
    rq_transform transform = {
        .kind = RQ_TRANSFORM_EVAL, .resize = (int)resolution, .size = (int)resolution};
    if (resolution == 0 || resolution == preprocess->crop)
        transform = (rq_transform){
            .kind = RQ_TRANSFORM_EVAL, .resize = preprocess->resize, .size = preprocess->crop};
    else if (resolution == imagenet.crop)
        transform.resize = imagenet.resize;
    return transform;
}

static int worker_count(int64_t asked)
{
    const int cpus = omp_get_num_procs();
    if (asked > 0)
        return (int)asked;
    return cpus < RQ_LOADER_MAX_WORKERS ? cpus : RQ_LOADER_MAX_WORKERS;
}

rq_loader_options rq_data_loader_options(const rq_data_options *options, rq_transform transform)
{
    return (rq_loader_options){
        .transform = transform,
        .batch = (int)options->batch,
        .parts = rq_n_ranks(),
        .part = rq_rank(),
        .workers = worker_count(options->workers),
        .bad_images = (rq_bad_images)options->bad_images,
    };
}

rq_status rq_open_loader(rq_loader **out, const rq_dataset *dataset, const rq_data_options *options,
                         rq_transform transform, rq_error *err)
{
    const rq_loader_options loader = rq_data_loader_options(options, transform);
    return rq_loader_create(out, dataset, &loader, err);
}

rq_status rq_eval_data_open_split(rq_eval_data *out, const rq_data_options *options,
                                  const rq_preprocess *preprocess, rq_split split, rq_error *err)
{
    const rq_transform transform = rq_eval_transform(preprocess, options->resolution);
    *out = (rq_eval_data){.size = transform.size};
    RQ_TRY(rq_dataset_open(&out->dataset, options->dir, split, err));
    const rq_status status = rq_open_loader(&out->loader, &out->dataset, options, transform, err);
    if (status)
        rq_eval_data_close(out);
    return status;
}

rq_status rq_eval_data_open(rq_eval_data *out, const rq_data_options *options,
                            const rq_preprocess *preprocess, rq_error *err)
{
    return rq_eval_data_open_split(out, options, preprocess, RQ_SPLIT_VAL, err);
}

void rq_eval_data_close(rq_eval_data *data)
{
    rq_loader_destroy(data->loader);
    rq_dataset_close(&data->dataset);
    *data = (rq_eval_data)RQ_EVAL_DATA_INIT;
}
