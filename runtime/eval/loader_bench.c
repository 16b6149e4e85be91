/* Two splits of a folder, loaded as training and evaluation load them. */
#include "runtime/eval/loader_bench.h"

#include <math.h>
#include <sys/stat.h>

#include "runtime/base/clock.h"

#define AUTO_SECONDS 2.0

/* ---- one loader ---- */

static rq_status count_batch(rq_loader_time *self, const rq_dataset *dataset, const rq_batch *batch,
                             rq_error *err)
{
    for (int i = 0; i < batch->n; i++) {
        const char *path = dataset->paths[batch->index[i]];
        struct stat info;
        if (batch->labels[i] == RQ_LABEL_IGNORE)
            continue;
        if (stat(path, &info) != 0)
            return rq_fail_errno(err, path, "read");
        self->n_images++;
        self->bytes += (double)info.st_size;
    }
    return RQ_OK;
}

/* One epoch, or what of it is delivered until the clock shows the end. */
static rq_status time_epoch(rq_loader_time *self, const rq_dataset *dataset, rq_loader *loader,
                            double end, rq_error *err)
{
    rq_batch batch;
    do {
        RQ_TRY(rq_loader_next(loader, &batch, err));
        RQ_TRY(count_batch(self, dataset, &batch, err));
    } while (batch.n > 0 && rq_clock() < end);
    return RQ_OK;
}

static rq_status time_epochs(rq_loader_time *self, const rq_dataset *dataset, rq_loader *loader,
                             int64_t n_epochs, rq_error *err)
{
    const double start = rq_clock(), end = n_epochs ? HUGE_VAL : start + AUTO_SECONDS;
    for (int64_t epoch = 0; n_epochs ? epoch < n_epochs : rq_clock() < end; epoch++) {
        rq_loader_start(loader, (uint64_t)epoch, 0);
        RQ_TRY(time_epoch(self, dataset, loader, end, err));
    }
    self->seconds = rq_clock() - start;
    self->n_skipped = rq_loader_n_skipped(loader);
    return RQ_OK;
}

rq_status rq_time_loader(rq_loader_time *out, const rq_dataset *dataset,
                         const rq_loader_options *options, int64_t n_epochs, rq_error *err)
{
    rq_loader *loader = NULL;
    rq_loader_time self = {.n_images = 0};
    RQ_TRY(rq_loader_create(&loader, dataset, options, err));
    const rq_status status = time_epochs(&self, dataset, loader, n_epochs, err);
    rq_loader_destroy(loader);
    if (!status)
        *out = self;
    return status;
}

/* ---- both splits ---- */

static rq_status time_split(rq_loader_report *self, const rq_loader_bench *given, rq_split split,
                            rq_error *err)
{
    rq_dataset dataset;
    RQ_TRY(rq_dataset_open(&dataset, given->data.dir, split, err));
    self->n_files = dataset.n_images;
    const rq_status status =
        rq_time_loader(&self->time, &dataset, &self->options, given->n_epochs, err);
    rq_dataset_close(&dataset);
    return status;
}

rq_status rq_bench_loader(rq_loader_report *train, rq_loader_report *val,
                          const rq_loader_bench *given, rq_error *err)
{
    static const rq_preprocess imagenet = RQ_PREPROCESS_IMAGENET;
    const rq_transform evaluate = rq_eval_transform(&imagenet, given->data.resolution);
    rq_transform augmented;
    RQ_TRY(rq_augment_transform(&augmented, &given->augment, evaluate, &imagenet, err));
    *train = (rq_loader_report){.options = rq_data_loader_options(&given->data, augmented)};
    *val = (rq_loader_report){.options = rq_data_loader_options(&given->data, evaluate)};
    train->options.shuffle = true;
    RQ_TRY(time_split(train, given, RQ_SPLIT_TRAIN, err));
    return time_split(val, given, RQ_SPLIT_VAL, err);
}
