/* Two splits of a folder, loaded as training and evaluation load them. */
#include "runtime/eval/loader_bench.h"

#include <math.h>
#include <sys/stat.h>

#include "runtime/base/clock.h"
#include "runtime/base/json_line.h"

#define AUTO_SECONDS 2.0

static const rq_preprocess imagenet = RQ_PREPROCESS_IMAGENET;

/* ---- timing ---- */

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
    rq_status status;
    do {
        status = rq_loader_next(loader, &batch, err);
        if (status == RQ_OK)
            status = count_batch(self, dataset, &batch, err);
    } while (status == RQ_OK && batch.n > 0 && rq_clock() < end);
    return status;
}

rq_status rq_time_loader(rq_loader_time *out, const rq_dataset *dataset,
                         const rq_loader_options *options, int64_t n_epochs, rq_error *err)
{
    rq_loader *loader = NULL;
    rq_loader_time self = {.n_images = 0};
    rq_status status = rq_loader_create(&loader, dataset, options, err);
    if (status != RQ_OK)
        return status;
    const double start = rq_clock(), end = n_epochs ? HUGE_VAL : start + AUTO_SECONDS;
    for (int64_t epoch = 0; status == RQ_OK && (n_epochs ? epoch < n_epochs : rq_clock() < end);
         epoch++) {
        rq_loader_start(loader, (uint64_t)epoch, 0);
        status = time_epoch(&self, dataset, loader, end, err);
    }
    self.seconds = rq_clock() - start;
    self.n_skipped = rq_loader_n_skipped(loader);
    rq_loader_destroy(loader);
    if (status == RQ_OK)
        *out = self;
    return status;
}

/* ---- report ---- */

typedef struct split {
    const char *key;
    rq_split which;
    rq_loader_options options;
    size_t n_files;
    rq_loader_time time;
} split;

static double images_per_s(const split *self)
{
    return (double)self->time.n_images / self->time.seconds;
}

static double mb_per_s(const split *self)
{
    return 1e-6 * self->time.bytes / self->time.seconds;
}

static void print_text(const rq_loader_bench *given, const split *splits, int n)
{
    (void)printf("batch %d, %d workers, augment %s\n", splits[0].options.batch,
                 splits[0].options.workers, rq_augment_names[given->augment.kind]);
    for (int i = 0; i < n; i++) {
        const split *s = &splits[i];
        (void)printf("%-5s  %8.1f images/s, %7.1f MB/s of JPEG (%d x %d pixels, %zu images in "
                     "%.2f s, %zu skipped)\n",
                     s->key, images_per_s(s), mb_per_s(s), s->options.transform.size,
                     s->options.transform.size, s->time.n_images, s->time.seconds,
                     s->time.n_skipped);
    }
}

static rq_status print_json(const rq_loader_bench *given, const split *splits, int n, rq_error *err)
{
    json_t *json = json_object();
    rq_json_set(&json, "batch", json_integer(splits[0].options.batch));
    rq_json_set(&json, "workers", json_integer(splits[0].options.workers));
    rq_json_set(&json, "augment", rq_json_string(rq_augment_names[given->augment.kind]));
    for (int i = 0; i < n; i++) {
        const split *s = &splits[i];
        json_t *one = json_object();
        rq_json_set(&one, "resolution", json_integer(s->options.transform.size));
        rq_json_set(&one, "files", json_integer(s->n_files));
        rq_json_set(&one, "images", json_integer(s->time.n_images));
        rq_json_set(&one, "skipped", json_integer(s->time.n_skipped));
        rq_json_set(&one, "seconds", rq_json_number(s->time.seconds));
        rq_json_set(&one, "img_per_s", rq_json_number(images_per_s(s)));
        rq_json_set(&one, "mb_per_s", rq_json_number(mb_per_s(s)));
        rq_json_set(&json, s->key, one);
    }
    return rq_json_print(json, stdout, err);
}

static rq_status time_split(split *self, const rq_loader_bench *given, rq_error *err)
{
    rq_dataset dataset;
    rq_status status = rq_dataset_open(&dataset, given->data.dir, self->which, err);
    if (status != RQ_OK)
        return status;
    self->n_files = dataset.n_images;
    status = rq_time_loader(&self->time, &dataset, &self->options, given->n_epochs, err);
    rq_dataset_close(&dataset);
    return status;
}

rq_status rq_bench_loader(const rq_loader_bench *self, rq_error *err)
{
    enum { N_SPLITS = 2 };
    split splits[N_SPLITS] = {{.key = "train", .which = RQ_SPLIT_TRAIN},
                              {.key = "val", .which = RQ_SPLIT_VAL}};
    const rq_transform evaluate = rq_eval_transform(&imagenet, self->data.resolution);
    rq_transform train;
    const rq_status usable = rq_augment_transform(&train, &self->augment, evaluate, &imagenet, err);
    if (usable != RQ_OK)
        return usable;
    splits[0].options = rq_data_loader_options(&self->data, train);
    splits[0].options.shuffle = true;
    splits[1].options = rq_data_loader_options(&self->data, evaluate);
    for (int i = 0; i < N_SPLITS; i++) {
        const rq_status status = time_split(&splits[i], self, err);
        if (status != RQ_OK)
            return status;
    }
    if (self->json)
        return print_json(self, splits, N_SPLITS, err);
    print_text(self, splits, N_SPLITS);
    return RQ_OK;
}
