/* Two splits of a folder, loaded as training and evaluation load them. */
#include "runtime/session/loader_bench.h"

#include <math.h>
#include <sys/stat.h>

#include "runtime/base/clock.h"
#include "runtime/base/json_writer.h"
#include "runtime/model/quant.h"

#define AUTO_SECONDS 2.0

enum { SMALL_IMAGE = 64 }; /* "auto" pads and crops up to this side */

const char *const rq_bench_augment_words[] = {"auto",   "crop", "weak", "raug15", "pad-crop",
                                              "cutout", "flip", "none", NULL};

static const rq_preprocess imagenet = RQ_PREPROCESS_IMAGENET;

/* Half as wide as the image, in the mean colour. */
static rq_cutout mean_cutout(int size)
{
    rq_cutout cutout = {.side = size / 2};
    for (int c = 0; c < 3; c++)
        cutout.fill[c] = rq_pixel_zero_point(imagenet.mean[c]);
    return cutout;
}

rq_transform rq_bench_transform(rq_bench_augment augment, int64_t resolution)
{
    static const rq_transform_kind kinds[] = {
        [RQ_BENCH_CROP] = RQ_TRANSFORM_CROP,       [RQ_BENCH_WEAK] = RQ_TRANSFORM_CROP,
        [RQ_BENCH_RAUG15] = RQ_TRANSFORM_CROP,     [RQ_BENCH_PAD_CROP] = RQ_TRANSFORM_PAD_CROP,
        [RQ_BENCH_CUTOUT] = RQ_TRANSFORM_PAD_CROP, [RQ_BENCH_FLIP] = RQ_TRANSFORM_FLIP,
        [RQ_BENCH_NONE] = RQ_TRANSFORM_EVAL,
    };
    rq_transform transform = rq_eval_transform(&imagenet, resolution);
    if (augment == RQ_BENCH_AUTO)
        augment = transform.size <= SMALL_IMAGE ? RQ_BENCH_PAD_CROP : RQ_BENCH_CROP;
    transform.kind = kinds[augment];
    transform.randaug = augment == RQ_BENCH_RAUG15;
    if (augment == RQ_BENCH_CUTOUT)
        transform.cutout = mean_cutout(transform.size);
    return transform;
}

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
                 splits[0].options.workers, rq_bench_augment_words[given->augment]);
    for (int i = 0; i < n; i++) {
        const split *s = &splits[i];
        (void)printf("%-5s  %8.1f images/s, %7.1f MB/s of JPEG (%d x %d pixels, %zu images in "
                     "%.2f s, %zu skipped)\n",
                     s->key, images_per_s(s), mb_per_s(s), s->options.transform.size,
                     s->options.transform.size, s->time.n_images, s->time.seconds,
                     s->time.n_skipped);
    }
}

static void print_json(const rq_loader_bench *given, const split *splits, int n)
{
    rq_json_writer json = rq_json_begin(stdout);
    rq_json_add_int(&json, "batch", splits[0].options.batch);
    rq_json_add_int(&json, "workers", splits[0].options.workers);
    rq_json_add_string(&json, "augment", rq_bench_augment_words[given->augment]);
    for (int i = 0; i < n; i++) {
        const split *s = &splits[i];
        rq_json_open_object(&json, s->key);
        rq_json_add_int(&json, "resolution", s->options.transform.size);
        rq_json_add_int(&json, "files", (int64_t)s->n_files);
        rq_json_add_int(&json, "images", (int64_t)s->time.n_images);
        rq_json_add_int(&json, "skipped", (int64_t)s->time.n_skipped);
        rq_json_add_number(&json, "seconds", s->time.seconds);
        rq_json_add_number(&json, "img_per_s", images_per_s(s));
        rq_json_add_number(&json, "mb_per_s", mb_per_s(s));
        rq_json_close(&json);
    }
    rq_json_end(&json);
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
    const int64_t resolution = self->data.resolution;
    splits[0].options =
        rq_data_loader_options(&self->data, rq_bench_transform(self->augment, resolution));
    splits[0].options.shuffle = true;
    splits[1].options =
        rq_data_loader_options(&self->data, rq_eval_transform(&imagenet, resolution));
    for (int i = 0; i < N_SPLITS; i++) {
        const rq_status status = time_split(&splits[i], self, err);
        if (status != RQ_OK)
            return status;
    }
    if (self->json)
        print_json(self, splits, N_SPLITS);
    else
        print_text(self, splits, N_SPLITS);
    return RQ_OK;
}
