/* The threaded loader: a plan under one mutex, a ring of batches, one condition for the workers and
 * one for the caller. */
#include "runtime/image/loader.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/size.h"
#include "runtime/image/photo_cache.h"

const char *const rq_bad_images_names[] = {"fail", "skip", NULL};

enum { MIN_SLOTS = 3 };

/* The sample streams are numbered by dataset index, below 2^32; from here on are those of the
 * batches' mixup, and this one shuffles. */
#define MIXUP_STREAMS  (UINT64_C(1) << 32)
#define SHUFFLE_STREAM UINT64_MAX
/* What is chosen once for all epochs. */
#define NO_EPOCH UINT64_MAX

typedef struct worker {
    rq_loader *loader;
    rq_sampler sampler;
    pthread_t thread;
} worker;

struct rq_loader {
    const rq_dataset *dataset;
    rq_loader_options options;
    rq_arena arena; /* the arrays below */
    size_t parts;
    size_t batch;     /* rows of a batch for this process */
    size_t n_samples; /* of these, per epoch */
    size_t sample_bytes;
    rq_photo_cache cache; /* an epoch has each image once, so one worker at a time uses an entry */

    /* The ring: batch b is in slot b % n_slots. Each array has n_slots * batch elements. */
    size_t n_slots;
    uint8_t *pixels;
    int32_t *labels;
    uint32_t *index;
    rq_error *errors;

    /* The plan, under lock. Samples are numbered by their position in the epoch. */
    pthread_mutex_t lock;
    pthread_cond_t work; /* the plan offers samples, or stop */
    pthread_cond_t done; /* a slot is full, or no worker is busy */
    uint64_t epoch;
    uint32_t *order;   /* [n_images] dataset index of each sample */
    size_t next, end;  /* samples not yet taken */
    size_t oldest;     /* batch the caller has or waits for; from it on, n_slots may be filled */
    size_t *n_missing; /* [n_slots] samples that a slot still waits for */
    int n_busy;        /* workers at a sample */
    bool stop;

    /* The caller's alone. */
    bool is_held; /* the oldest batch has been handed out */
    bool *is_bad; /* [n_images] met and logged */
    size_t n_skipped;
    rq_mix *mix; /* [batch], of the held batch; NULL without mixup */

    worker *workers; /* [options.workers] */
    int n_started;
};

/* The place of this process's sample in the epoch of all processes. */
static size_t row_of(const rq_loader *loader, size_t sample)
{
    const size_t batch = loader->batch, part = (size_t)loader->options.part, half = batch / 2;
    const size_t first = sample / batch * batch * loader->parts, i = sample % batch;
    const bool in_pairs = loader->parts > 1 && loader->options.mixup > 0.0;
    if (!in_pairs)
        return first + part * batch + i;
    return i < half ? first + part * half + i /* the partners of these follow: */
                    : first + batch * loader->parts - (part + 1) * half + (i - half);
}

/* How many of n samples of all processes this one has. */
static size_t own_samples(const rq_loader *loader, size_t n)
{
    const size_t batch = loader->batch, all = batch * loader->parts;
    const size_t before = (size_t)loader->options.part * batch;
    const size_t rest = n % all > before ? n % all - before : 0;
    return n / all * batch + (rest < batch ? rest : batch);
}

static size_t batch_size(const rq_loader *loader, size_t b)
{
    const size_t first = b * loader->batch;
    const size_t left = first < loader->end ? loader->end - first : 0;
    return left < loader->batch ? left : loader->batch;
}

/* The other random choices are the same as without alternating. */
static rq_transform sample_transform(const rq_loader *loader, uint32_t index)
{
    rq_transform transform = loader->options.transform;
    if (loader->options.alternate_flips) {
        rq_random random = rq_random_stream(loader->options.seed, NO_EPOCH, index);
        const bool flips_odd = (rq_random_u64(&random) & 1) != 0;
        transform.flip = flips_odd == (loader->epoch % 2 != 0) ? RQ_FLIP_ALWAYS : RQ_FLIP_NEVER;
    }
    return transform;
}

static rq_status take_sample(rq_loader *loader, rq_sampler *sampler, uint32_t index,
                             uint8_t *pixels, rq_error *err)
{
    const rq_transform transform = sample_transform(loader, index);
    const char *path = loader->dataset->paths[index];
    rq_random random = rq_random_stream(loader->options.seed, loader->epoch, index);
    const rq_photo *kept = rq_photo_cache_find(&loader->cache, index);
    if (!kept) {
        RQ_TRY(rq_sample_file(sampler, path, &transform, &random, pixels, err));
        rq_photo_cache_keep(&loader->cache, index, &sampler->photo);
        return RQ_OK;
    }
    const rq_status status = rq_sample_photo(sampler, kept, &transform, &random, pixels, err);
    if (status)
        rq_error_prefix(err, "%s", path);
    return status;
}

/* Without the lock: the element belongs to this worker until it reports. */
static void load_sample(rq_loader *loader, rq_sampler *sampler, size_t sample)
{
    const size_t slot = sample / loader->batch % loader->n_slots;
    const size_t i = slot * loader->batch + sample % loader->batch;
    const uint32_t index = loader->order[row_of(loader, sample)];
    uint8_t *pixels = loader->pixels + i * loader->sample_bytes;
    rq_error *err = &loader->errors[i];
    err->code = take_sample(loader, sampler, index, pixels, err);
    loader->index[i] = index;
    loader->labels[i] = err->code ? RQ_LABEL_IGNORE : loader->dataset->labels[index];
    if (err->code)
        memset(pixels, 0, loader->sample_bytes);
}

static bool has_work(const rq_loader *loader)
{
    return loader->next < loader->end &&
           loader->next / loader->batch < loader->oldest + loader->n_slots;
}

static void *run_worker(void *argument)
{
    worker *self = argument;
    rq_loader *loader = self->loader;
    (void)pthread_mutex_lock(&loader->lock);
    for (;;) {
        while (!loader->stop && !has_work(loader))
            (void)pthread_cond_wait(&loader->work, &loader->lock);
        if (loader->stop)
            break;
        const size_t sample = loader->next++;
        loader->n_busy++;
        (void)pthread_mutex_unlock(&loader->lock);
        load_sample(loader, &self->sampler, sample);
        (void)pthread_mutex_lock(&loader->lock);
        loader->n_busy--;
        size_t *n_missing = &loader->n_missing[sample / loader->batch % loader->n_slots];
        if (--*n_missing == 0 || loader->n_busy == 0)
            (void)pthread_cond_signal(&loader->done);
    }
    (void)pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static rq_status check_options(const rq_dataset *dataset, const rq_loader_options *options,
                               rq_error *err)
{
    if (dataset->n_images == 0 || dataset->n_images > UINT32_MAX)
        return rq_fail(err, RQ_ERR_ARG, "cannot load from a dataset of %zu images",
                       dataset->n_images);
    if (options->batch < 1)
        return rq_fail(err, RQ_ERR_ARG, "a batch of %d images; at least 1 is needed",
                       options->batch);
    if (options->workers < 1 || options->workers > RQ_LOADER_MAX_WORKERS)
        return rq_fail(err, RQ_ERR_ARG, "%d loading threads; 1…%d are possible", options->workers,
                       RQ_LOADER_MAX_WORKERS);
    if (options->alternate_flips && options->transform.kind == RQ_TRANSFORM_EVAL)
        return rq_fail(err, RQ_ERR_USAGE, "alternate flips: this transform never mirrors an image");
    if (options->parts > 1 && (options->part < 0 || options->part >= options->parts))
        return rq_fail(err, RQ_ERR_ARG, "part %d of %d", options->part, options->parts);
    if (options->parts > 1 && options->mixup > 0.0 && options->batch % (2 * options->parts))
        return rq_fail(err, RQ_ERR_USAGE,
                       "mixup: a batch of %d images cannot be shared by pairs among %d processes",
                       options->batch, options->parts);
    if (!(options->mixup >= 0.0 && options->mixup <= RQ_LOADER_MAX_MIXUP))
        return rq_fail(err, RQ_ERR_ARG, "mixup with alpha %g; 0…%d are possible", options->mixup,
                       RQ_LOADER_MAX_MIXUP);
    return rq_transform_check(&options->transform, err);
}

/* All arrays. */
static rq_status allocate(rq_loader *loader, rq_error *err)
{
    const size_t n_images = loader->dataset->n_images, batch = loader->batch;
    const size_t size = (size_t)loader->options.transform.size;
    const size_t n_workers = (size_t)loader->options.workers;
    const bool mixes = loader->options.mixup > 0.0;
    rq_arena *arena = &loader->arena;
    size_t n, pixel_bytes;
    loader->n_slots = 2 * n_workers / batch + 1;
    loader->n_slots = loader->n_slots < MIN_SLOTS ? MIN_SLOTS : loader->n_slots;
    loader->sample_bytes = size * size * 3;
    if (!rq_mul_size(loader->n_slots, batch, &n) ||
        !rq_mul_size(n, loader->sample_bytes, &pixel_bytes) ||
        !(loader->pixels = rq_arena_array(arena, uint8_t, pixel_bytes)) ||
        !(loader->errors = rq_arena_array(arena, rq_error, n)) ||
        !(loader->labels = rq_arena_array(arena, int32_t, n)) ||
        !(loader->index = rq_arena_array(arena, uint32_t, n)) ||
        !(loader->n_missing = rq_arena_array(arena, size_t, loader->n_slots)) ||
        !(loader->order = rq_arena_array(arena, uint32_t, n_images)) ||
        !(loader->is_bad = rq_arena_array(arena, bool, n_images)) ||
        !(loader->workers = rq_arena_array(arena, worker, n_workers)) ||
        (mixes && !(loader->mix = rq_arena_array(arena, rq_mix, batch))))
        return rq_fail(err, RQ_ERR_NOMEM,
                       "out of memory (loading batches of %zu images of %zu x %zu pixels)", batch,
                       size, size);
    return RQ_OK;
}

/* The next one of loader->workers. */
static rq_status start_worker(rq_loader *loader, rq_error *err)
{
    worker *self = &loader->workers[loader->n_started];
    self->loader = loader;
    RQ_TRY(rq_jpeg_decoder_create(&self->sampler.decoder, err));
    const int failure = pthread_create(&self->thread, NULL, run_worker, self);
    if (failure)
        return rq_fail(err, RQ_ERR_NOMEM, "cannot start loading thread %d of %d: %s",
                       loader->n_started + 1, loader->options.workers, strerror(failure));
    loader->n_started++;
    return RQ_OK;
}

/* Signals are for the program's own threads. */
static rq_status start_workers(rq_loader *loader, rq_error *err)
{
    rq_status status = RQ_OK;
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    while (!status && loader->n_started < loader->options.workers)
        status = start_worker(loader, err);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

static rq_status init(rq_loader *loader, const rq_dataset *dataset,
                      const rq_loader_options *options, rq_error *err)
{
    const size_t n_images = dataset->n_images;
    loader->dataset = dataset;
    loader->options = *options;
    loader->parts = options->parts > 1 ? (size_t)options->parts : 1;
    loader->batch = ((size_t)options->batch + loader->parts - 1) / loader->parts;
    const size_t all = loader->batch * loader->parts;
    const bool drops = options->drop_last && n_images >= all;
    loader->n_samples = own_samples(loader, drops ? n_images - n_images % all : n_images);
    (void)pthread_mutex_init(&loader->lock, NULL);
    (void)pthread_cond_init(&loader->work, NULL);
    (void)pthread_cond_init(&loader->done, NULL);
    RQ_TRY(allocate(loader, err));
    if (rq_transform_is_whole(&options->transform))
        RQ_TRY(rq_photo_cache_init(&loader->cache, n_images, options->cache_bytes, err));
    return start_workers(loader, err);
}

rq_status rq_loader_create(rq_loader **out, const rq_dataset *dataset,
                           const rq_loader_options *options, rq_error *err)
{
    RQ_TRY(check_options(dataset, options, err));
    rq_loader *loader = rq_alloc(sizeof *loader);
    if (!loader)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory (loader)");
    const rq_status status = init(loader, dataset, options, err);
    if (status)
        rq_loader_destroy(loader);
    else
        *out = loader;
    return status;
}

void rq_loader_destroy(rq_loader *loader)
{
    if (!loader)
        return;
    (void)pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    (void)pthread_cond_broadcast(&loader->work);
    (void)pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->n_started; i++)
        (void)pthread_join(loader->workers[i].thread, NULL);
    for (int i = 0; loader->workers && i < loader->options.workers; i++)
        rq_sampler_deinit(&loader->workers[i].sampler);
    (void)pthread_cond_destroy(&loader->done);
    (void)pthread_cond_destroy(&loader->work);
    (void)pthread_mutex_destroy(&loader->lock);
    rq_photo_cache_deinit(&loader->cache);
    rq_arena_deinit(&loader->arena);
    rq_free(loader);
}

void rq_loader_start(rq_loader *loader, uint64_t epoch, size_t start_batch)
{
    const size_t n_images = loader->dataset->n_images;
    const size_t n_batches = rq_loader_n_batches(loader);
    (void)pthread_mutex_lock(&loader->lock);
    loader->next = loader->end; /* nobody takes another sample of the old epoch */
    while (loader->n_busy > 0)
        (void)pthread_cond_wait(&loader->done, &loader->lock);
    for (size_t i = 0; i < n_images; i++)
        loader->order[i] = (uint32_t)i;
    if (loader->options.shuffle) {
        rq_random random = rq_random_stream(loader->options.seed, epoch, SHUFFLE_STREAM);
        rq_random_shuffle(&random, loader->order, n_images);
    }
    loader->epoch = epoch;
    loader->oldest = start_batch < n_batches ? start_batch : n_batches;
    loader->next = loader->oldest * loader->batch;
    loader->end = loader->n_samples;
    loader->is_held = false;
    for (size_t b = loader->oldest; b < loader->oldest + loader->n_slots; b++)
        loader->n_missing[b % loader->n_slots] = batch_size(loader, b);
    (void)pthread_cond_broadcast(&loader->work);
    (void)pthread_mutex_unlock(&loader->lock);
}

size_t rq_loader_n_batches(const rq_loader *loader)
{
    return (loader->n_samples + loader->batch - 1) / loader->batch;
}

/* Give the held batch's slot back, then wait for the next one; its size, 0 after the last one. */
static size_t await_batch(rq_loader *loader)
{
    (void)pthread_mutex_lock(&loader->lock);
    if (loader->is_held) {
        loader->n_missing[loader->oldest % loader->n_slots] =
            batch_size(loader, loader->oldest + loader->n_slots);
        loader->oldest++;
        loader->is_held = false;
        (void)pthread_cond_broadcast(&loader->work);
    }
    const size_t n = batch_size(loader, loader->oldest);
    while (n > 0 && loader->n_missing[loader->oldest % loader->n_slots] > 0)
        (void)pthread_cond_wait(&loader->done, &loader->lock);
    (void)pthread_mutex_unlock(&loader->lock);
    return n;
}

/* What the workers reported for the batch at ring position first, in sample order. */
static rq_status report_bad(rq_loader *loader, size_t first, size_t n, rq_error *err)
{
    for (size_t i = first; i < first + n; i++) {
        const rq_error *found = &loader->errors[i];
        if (!found->code)
            continue;
        const bool is_image = found->code == RQ_ERR_IMAGE || found->code == RQ_ERR_IO;
        if (loader->options.bad_images == RQ_BAD_FAIL || !is_image)
            return rq_fail(err, found->code, "%s", found->text);
        bool *is_bad = &loader->is_bad[loader->index[i]];
        if (*is_bad)
            continue;
        *is_bad = true;
        loader->n_skipped++;
        rq_log(RQ_LOG_WARN, "skipped %s", found->text);
    }
    return RQ_OK;
}

rq_status rq_loader_next(rq_loader *loader, rq_batch *out, rq_error *err)
{
    *out = (rq_batch){0};
    const size_t n = await_batch(loader);
    if (n == 0)
        return RQ_OK;
    const size_t first = loader->oldest % loader->n_slots * loader->batch;
    RQ_TRY(report_bad(loader, first, n, err));
    *out = (rq_batch){.pixels = loader->pixels + first * loader->sample_bytes,
                      .labels = loader->labels + first,
                      .index = loader->index + first,
                      .mix = loader->mix,
                      .n = (int)n};
    if (loader->mix) {
        rq_random random =
            rq_random_stream(loader->options.seed, loader->epoch, MIXUP_STREAMS + loader->oldest);
        rq_mixup_draw(&random, loader->options.mixup, out->labels, n, loader->mix);
    }
    loader->is_held = true;
    return RQ_OK;
}

size_t rq_loader_n_skipped(const rq_loader *loader)
{
    return loader->n_skipped;
}
