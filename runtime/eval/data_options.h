/* The options that commands over a folder of images have in common, and what they say: which
 * images, prepared how, in batches of which size. */
#ifndef RQ_RUNTIME_EVAL_DATA_OPTIONS_H
#define RQ_RUNTIME_EVAL_DATA_OPTIONS_H

#include "runtime/base/options.h"
#include "runtime/image/loader.h"
#include "runtime/model/model.h"

typedef struct rq_data_options {
    const char *dir;
    int64_t batch;
    int64_t workers;    /* 0: one per CPU */
    int64_t resolution; /* 0: the model's */
    int64_t threads;    /* 0: OpenMP's choice */
    int bad_images;     /* rq_bad_images */
} rq_data_options;

#define RQ_DATA_OPTIONS_INIT                                                                       \
    {                                                                                              \
        .batch = 32, .bad_images = RQ_BAD_FAIL                                                     \
    }

enum { RQ_MAX_BATCH = 65536, RQ_MAX_THREADS = 1024 };

/* NOLINTBEGIN(bugprone-macro-parentheses): field names a member */

/* Rows of an option table; type has a member field of type rq_data_options. DIR is the first
 * positional. */
#define RQ_DATA_OPTIONS(type, field)                                                               \
    RQ_POSITIONAL("DIR", type, field.dir, "folder of images: train/CLASS/*, val/CLASS/*"),         \
        RQ_OPTION_BATCH(type, field.batch),                                                        \
        RQ_OPTION_INT("workers", 'j', type, field.workers, "N", 1, RQ_LOADER_MAX_WORKERS,          \
                      "threads that decode images; one per CPU when not given"),                   \
        RQ_OPTION_RESOLUTION(type, field.resolution),                                              \
        RQ_OPTION_CHOICE("bad-images", 0, type, field.bad_images, rq_bad_images_names,             \
                         "what to do about images that cannot be read"),                           \
        RQ_OPTION_THREADS(type, field.threads)

/* Rows for commands that need only these. */
#define RQ_OPTION_BATCH(type, field)                                                               \
    RQ_OPTION_INT("batch", 'b', type, field, "N", 1, RQ_MAX_BATCH, "images per batch")
#define RQ_OPTION_RESOLUTION(type, field)                                                          \
    RQ_OPTION_INT("resolution", 'r', type, field, "PIXELS", 1, RQ_MAX_SIDE,                        \
                  "side of the network's input; the model's when not given")
#define RQ_OPTION_THREADS(type, field)                                                             \
    RQ_OPTION_INT("threads", 0, type, field, "N", 1, RQ_MAX_THREADS,                               \
                  "threads that compute; OpenMP's choice when not given")

/* NOLINTEND(bugprone-macro-parentheses) */

/* omp_set_num_threads, to be called before sessions are created; 0 changes nothing. */
void rq_set_threads(int64_t threads);

/* Evaluation preprocessing at a resolution (0: the model's): the model's own resize and crop at its
 * own crop, else resize 256 and crop 224 for 224, resize r and crop r for any other r. */
rq_transform rq_eval_transform(const rq_preprocess *preprocess, int64_t resolution);

/* A loader as the options say, in the dataset's order, of this rank's rows (ranks.h): its options,
 * and the loader itself. */
rq_loader_options rq_data_loader_options(const rq_data_options *options, rq_transform transform);
RQ_NODISCARD rq_status rq_open_loader(rq_loader **out, const rq_dataset *dataset,
                                      const rq_data_options *options, rq_transform transform,
                                      rq_error *err);

/* Images prepared for evaluation, and the loader over them, which points into dataset: not to be
 * copied. */
typedef struct rq_eval_data {
    rq_dataset dataset;
    rq_loader *loader;
    int size; /* side of the images */
} rq_eval_data;

#define RQ_EVAL_DATA_INIT                                                                          \
    {                                                                                              \
        .loader = NULL                                                                             \
    }

/* The split that evaluating commands take, or the one given; on error *out is empty. Errors: as
 * rq_dataset_open and rq_loader_create. */
RQ_NODISCARD rq_status rq_eval_data_open(rq_eval_data *out, const rq_data_options *options,
                                         const rq_preprocess *preprocess, rq_error *err);
RQ_NODISCARD rq_status rq_eval_data_open_split(rq_eval_data *out, const rq_data_options *options,
                                               const rq_preprocess *preprocess, rq_split split,
                                               rq_error *err);
void rq_eval_data_close(rq_eval_data *data); /* a zeroed struct is fine */

#endif
