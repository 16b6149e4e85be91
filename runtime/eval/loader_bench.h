/* What bench measures of a folder of images: how fast the loader alone makes batches of them. */
#ifndef RQ_RUNTIME_EVAL_LOADER_BENCH_H
#define RQ_RUNTIME_EVAL_LOADER_BENCH_H

#include "runtime/eval/augment.h"
#include "runtime/eval/data_options.h"

/* What a loader delivered, and in what time. */
typedef struct rq_loader_time {
    size_t n_images;  /* skipped ones not counted */
    size_t n_skipped; /* distinct bad images */
    double bytes;     /* of the images' files */
    double seconds;   /* from the start of the first epoch to the last batch */
} rq_loader_time;

/* Make a loader and take batches from it without using them: n_epochs whole epochs, or with 0 as
 * many batches as it gives in two seconds, over as many epochs as these are. Errors: those of the
 * loader; RQ_ERR_IO (an image's file is gone). */
RQ_NODISCARD rq_status rq_time_loader(rq_loader_time *out, const rq_dataset *dataset,
                                      const rq_loader_options *options, int64_t n_epochs,
                                      rq_error *err);

typedef struct rq_loader_bench {
    rq_data_options data; /* threads is not used */
    rq_augment_options augment;
    int64_t n_epochs; /* as above */
} rq_loader_bench;

/* Of one split. */
typedef struct rq_loader_report {
    rq_loader_options options;
    size_t n_files;
    rq_loader_time time;
} rq_loader_report;

/* Time the training images, transformed and shuffled as for training, then the validation images,
 * transformed as for evaluation; nothing decoded is kept for a later epoch. Errors: as
 * rq_dataset_open and rq_time_loader. */
RQ_NODISCARD rq_status rq_bench_loader(rq_loader_report *train, rq_loader_report *val,
                                       const rq_loader_bench *given, rq_error *err);

#endif
