/* A threaded batch loader. Worker threads decode ahead into a ring of batches; what a batch holds
 * depends on the seed and the epoch only, never on the number of workers or on timing.
 *
 * One sample is the unit of work, so a few slow photographs do not hold up a worker's whole batch.
 * One mutex guards the plan (who takes which sample); pixels are written outside it, each sample by
 * one thread. Nobody spins: workers wait for a free batch, the caller for a full one. */
#ifndef RQ_RUNTIME_IMAGE_LOADER_H
#define RQ_RUNTIME_IMAGE_LOADER_H

#include <stdbool.h>

#include "runtime/image/dataset.h"
#include "runtime/image/mixup.h"
#include "runtime/image/transform.h"

/* What to do about images that cannot be read. */
typedef enum rq_bad_images { RQ_BAD_FAIL, RQ_BAD_SKIP } rq_bad_images;
extern const char *const rq_bad_images_names[]; /* by the above, NULL at the end */

typedef struct rq_loader_options {
    rq_transform transform;
    int batch; /* images per batch, >= 1 */
    /* Of `parts` processes that share the batches this is number `part`: it gets, of each batch,
     * its batch / parts rows (rounded up, the batch too). With mixup these are pairs of an image
     * and its partner. parts 0 or 1: all rows. */
    int parts, part;
    int workers; /* decoding threads, 1…RQ_LOADER_MAX_WORKERS */
    rq_bad_images bad_images;
    bool shuffle;   /* a new order each epoch */
    bool drop_last; /* leave out a partial last batch, except where it is the only one */
    /* Mirror an image in every second epoch, half of the images in the even ones, instead of by
     * chance, so that two epochs show it from both sides. Not with EVAL. Source: Jordan 2024, 94 %
     * on CIFAR-10 in 3.29 seconds on a single GPU, section 3.6. */
    bool alternate_flips;
    uint64_t seed;
    double mixup; /* alpha of mixup.h, up to RQ_LOADER_MAX_MIXUP; 0: none */
    /* Memory for decoded photographs (photo_cache.h), which are then not read again in later
     * epochs; 0: none. Only for transforms that need all of a photograph, and it never changes a
     * batch. RQ_LOADER_CACHE_BYTES is meant for training. */
    size_t cache_bytes;
} rq_loader_options;

enum { RQ_LABEL_IGNORE = -1, RQ_LOADER_MAX_WORKERS = 1024, RQ_LOADER_MAX_MIXUP = 1000 };
#define RQ_LOADER_CACHE_BYTES ((size_t)1 << 30)

/* This process's rows. Valid until the next rq_loader_next, _start or _destroy. */
typedef struct rq_batch {
    const uint8_t *pixels; /* [n, size, size, 3] u8 RGB */
    const int32_t *labels; /* [n]; RQ_LABEL_IGNORE for a skipped image (its pixels are zero) */
    const uint32_t *index; /* [n] position in the dataset */
    const rq_mix *mix;     /* [n]: how the images are to be mixed; NULL without mixup */
    int n;                 /* 0: the epoch is over */
} rq_batch;

typedef struct rq_loader rq_loader; /* used by one thread */

/* The dataset must outlive the loader. Allocates everything here; later calls allocate only when a
 * photograph is larger than all before it, or is kept. Errors: RQ_ERR_NOMEM (threads too),
 * RQ_ERR_ARG. */
RQ_NODISCARD rq_status rq_loader_create(rq_loader **out, const rq_dataset *dataset,
                                        const rq_loader_options *options, rq_error *err);
void rq_loader_destroy(rq_loader *loader); /* NULL is fine; stops the workers first */

/* Begin an epoch (0, 1, …; any order); an unfinished one is abandoned. start_batch > 0 begins
 * there, for resuming. */
void rq_loader_start(rq_loader *loader, uint64_t epoch, size_t start_batch);

size_t rq_loader_n_batches(const rq_loader *loader); /* per epoch */

/* The next batch, in order; waits for it. Errors under RQ_BAD_FAIL: that of the first bad image in
 * sample order, naming its path; under RQ_BAD_SKIP only those that are not the image's fault
 * (RQ_ERR_NOMEM). An error is final for the epoch and returned again by further calls. Skipped
 * images are logged (RQ_LOG_WARN, by the calling thread, in sample order) with path and reason,
 * each once per run, and counted. Before rq_loader_start and after the last batch: n = 0. */
RQ_NODISCARD rq_status rq_loader_next(rq_loader *loader, rq_batch *out, rq_error *err);

size_t rq_loader_n_skipped(const rq_loader *loader); /* distinct bad images met so far */

#endif
