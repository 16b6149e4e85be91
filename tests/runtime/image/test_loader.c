/* The loader: the same batches at any number of threads and with any memory, resuming, both
 * policies for bad images, mixup. */
#include "runtime/image/loader.h"

#include <math.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "runtime/base/log.h"
#include "tests/runtime/image/golden.h"

enum { N_CLASSES = 3, PER_CLASS = 9, N_IMAGES = N_CLASSES * PER_CLASS, SIZE = 16 };

/* A folder of small JPEGs of different sizes and colours. */
static const char *make_folder(void)
{
    const char *dir = rq_test_mkdir();
    static uint8_t pixels[40 * 40 * 3];
    for (int i = 0; i < N_IMAGES; i++) {
        const int w = 20 + i % 17, h = 20 + i % 13;
        for (int p = 0; p < w * h; p++) {
            pixels[3 * p] = (uint8_t)(9 * i);
            pixels[3 * p + 1] = (uint8_t)(5 * (p % w));
            pixels[3 * p + 2] = (uint8_t)(5 * (p / w));
        }
        rq_error err = RQ_ERROR_INIT;
        uint8_t *jpeg = NULL;
        size_t size_bytes;
        assert_ok(rq_jpeg_encode(pixels, w, h, 90, &jpeg, &size_bytes, &err), &err);
        const char *folder = rq_test_path("%s/class_%d", dir, i / PER_CLASS);
        (void)mkdir(folder, 0777);
        rq_test_write_file(rq_test_path("%s/%02d.jpg", folder, i % PER_CLASS), jpeg, size_bytes);
        rq_free(jpeg);
    }
    return dir;
}

static rq_loader_options options_of(int batch, int workers)
{
    return (rq_loader_options){.transform = {.kind = RQ_TRANSFORM_CROP, .size = SIZE},
                               .batch = batch,
                               .workers = workers,
                               .shuffle = true,
                               .seed = 42};
}

static void open_folder(rq_dataset *dataset, const char *dir)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_dataset_open(dataset, dir, RQ_SPLIT_VAL, &err), &err);
}

static rq_loader *new_loader(const rq_dataset *dataset, const rq_loader_options *options)
{
    rq_error err = RQ_ERROR_INIT;
    rq_loader *loader = NULL;
    assert_ok(rq_loader_create(&loader, dataset, options, &err), &err);
    return loader;
}

static rq_batch next_batch(rq_loader *loader)
{
    rq_error err = RQ_ERROR_INIT;
    rq_batch batch;
    assert_ok(rq_loader_next(loader, &batch, &err), &err);
    return batch;
}

static uint32_t batch_crc(const rq_batch *batch)
{
    const size_t n = (size_t)batch->n;
    uLong crc = crc32_z(0, batch->pixels, n * SIZE * SIZE * 3);
    crc = crc32_z(crc, (const uint8_t *)batch->labels, n * sizeof *batch->labels);
    return (uint32_t)crc32_z(crc, (const uint8_t *)batch->index, n * sizeof *batch->index);
}

/* CRCs of the batches of an epoch; returns how many. */
static size_t run_epoch(rq_loader *loader, uint64_t epoch, size_t start_batch, uint32_t *crcs)
{
    size_t n = 0;
    rq_loader_start(loader, epoch, start_batch);
    for (rq_batch batch = next_batch(loader); batch.n > 0; batch = next_batch(loader))
        crcs[n++] = batch_crc(&batch);
    assert_int_equal(next_batch(loader).n, 0);
    return n;
}

static void test_next__is_the_same_at_any_number_of_workers(void **state)
{
    (void)state;
    static const int workers[] = {1, 2, 3, 7};
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    for (int batch = 1; batch <= 10; batch += 3) {
        uint32_t first[2][N_IMAGES], crcs[N_IMAGES];
        for (size_t w = 0; w < sizeof workers / sizeof *workers; w++) {
            const rq_loader_options options = options_of(batch, workers[w]);
            rq_loader *loader = new_loader(&dataset, &options);
            const size_t n_batches = (N_IMAGES + (size_t)batch - 1) / (size_t)batch;
            assert_int_equal(rq_loader_n_batches(loader), n_batches);
            for (uint64_t epoch = 0; epoch < 2; epoch++) {
                uint32_t *out = w == 0 ? first[epoch] : crcs;
                assert_int_equal(run_epoch(loader, epoch, 0, out), n_batches);
                assert_memory_equal(out, first[epoch], n_batches * sizeof *out);
            }
            rq_loader_destroy(loader);
        }
    }
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_next__visits_each_image_once(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        rq_loader_options options = options_of(4, 2);
        options.shuffle = shuffle;
        rq_loader *loader = new_loader(&dataset, &options);
        int seen[N_IMAGES] = {0}, n = 0, n_in_place = 0;
        rq_loader_start(loader, 3, 0);
        for (rq_batch batch = next_batch(loader); batch.n > 0; batch = next_batch(loader)) {
            assert_int_equal(batch.n, n + 4 <= N_IMAGES ? 4 : N_IMAGES - n);
            for (int i = 0; i < batch.n; i++, n++) {
                seen[batch.index[i]]++;
                n_in_place += batch.index[i] == (uint32_t)n;
                assert_int_equal(batch.labels[i], batch.index[i] / PER_CLASS);
            }
        }
        for (int i = 0; i < N_IMAGES; i++)
            assert_int_equal(seen[i], 1);
        if (shuffle)
            assert_in_range(n_in_place, 0, N_IMAGES / 2);
        else
            assert_int_equal(n_in_place, N_IMAGES);
        rq_loader_destroy(loader);
    }
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_start__seeds_and_epochs_differ(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    uint32_t crcs[4];
    for (int i = 0; i < 4; i++) {
        rq_loader_options options = options_of(N_IMAGES, 2);
        options.seed = (uint64_t)i / 2;
        rq_loader *loader = new_loader(&dataset, &options);
        assert_int_equal(run_epoch(loader, (uint64_t)i % 2, 0, &crcs[i]), 1);
        for (int j = 0; j < i; j++)
            assert_int_not_equal(crcs[i], crcs[j]);
        rq_loader_destroy(loader);
    }
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_start__resumes_in_an_epoch(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    const rq_loader_options options = options_of(4, 3);
    rq_loader *loader = new_loader(&dataset, &options);
    uint32_t whole[N_IMAGES], rest[N_IMAGES];
    const size_t n = run_epoch(loader, 5, 0, whole);
    for (size_t start = 0; start < n; start++) {
        assert_int_equal(run_epoch(loader, 5, start, rest), n - start);
        assert_memory_equal(rest, whole + start, (n - start) * sizeof *rest);
    }
    assert_int_equal(run_epoch(loader, 5, n, rest), 0);
    assert_int_equal(run_epoch(loader, 5, SIZE_MAX, rest), 0);
    assert_int_equal(run_epoch(loader, 5, 0, rest), n);
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_start__abandons_an_unfinished_epoch(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    const rq_loader_options options = options_of(2, 4);
    rq_loader *loader = new_loader(&dataset, &options);
    uint32_t want[N_IMAGES], got[N_IMAGES];
    assert_int_equal(next_batch(loader).n, 0); /* nothing before the first start */
    const size_t n = run_epoch(loader, 1, 0, want);
    for (int taken = 0; taken < 5; taken++) {
        rq_loader_start(loader, 9, 0);
        for (int i = 0; i < taken; i++)
            assert_int_equal(next_batch(loader).n, 2);
        assert_int_equal(run_epoch(loader, 1, 0, got), n);
        assert_memory_equal(got, want, n * sizeof *got);
    }
    rq_loader_start(loader, 2, 0); /* and destroys one that has just begun */
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_next__keeps_the_held_batch(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    const rq_loader_options options = options_of(1, 7);
    rq_loader *loader = new_loader(&dataset, &options);
    rq_loader_start(loader, 0, 0);
    for (int i = 0; i < 5; i++) {
        const rq_batch batch = next_batch(loader);
        const uint32_t crc = batch_crc(&batch);
        (void)usleep(5000); /* time to decode all of them */
        assert_int_equal(batch_crc(&batch), crc);
    }
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_n_batches__drops_the_last_when_asked(void **state)
{
    (void)state;
    static const struct {
        int batch;
        bool drop_last;
        size_t n_batches;
        int last;
    } cases[] = {{10, false, 3, 7}, {10, true, 2, 10}, {9, true, 3, 9},
                 {27, true, 1, 27}, {28, true, 1, 27}, {1000, false, 1, 27}};
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_loader_options options = options_of(cases[i].batch, 2);
        options.drop_last = cases[i].drop_last;
        rq_loader *loader = new_loader(&dataset, &options);
        assert_int_equal(rq_loader_n_batches(loader), cases[i].n_batches);
        rq_loader_start(loader, 0, cases[i].n_batches - 1);
        assert_int_equal(next_batch(loader).n, cases[i].last);
        assert_int_equal(next_batch(loader).n, 0);
        rq_loader_destroy(loader);
    }
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_next__allocates_nothing_after_the_first_epoch(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    rq_loader_options options = options_of(4, 1);
    options.transform = (rq_transform){.kind = RQ_TRANSFORM_EVAL, .resize = SIZE, .size = SIZE};
    rq_loader *loader = new_loader(&dataset, &options);
    uint32_t crcs[N_IMAGES];
    (void)run_epoch(loader, 0, 0, crcs);
    const size_t n_allocs = rq_alloc_count();
    (void)run_epoch(loader, 1, 0, crcs);
    (void)run_epoch(loader, 2, 1, crcs);
    assert_int_equal(rq_alloc_count(), n_allocs);
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

/* Dataset positions 4, 11 and 20 become a truncated JPEG, a PNG and an empty file; 25 vanishes. */
static void spoil(const char *dir)
{
    size_t size_bytes;
    const char *cut = rq_test_path("%s/class_0/04.jpg", dir);
    uint8_t *data = rq_test_read_file(cut, &size_bytes);
    rq_test_write_file(cut, data, size_bytes / 2);
    rq_free(data);
    rq_test_write_file(rq_test_path("%s/class_1/02.jpg", dir), "\x89PNG\r\n\x1a\n", 8);
    rq_test_write_file(rq_test_path("%s/class_2/02.jpg", dir), "", 0);
    assert_int_equal(unlink(rq_test_path("%s/class_2/07.jpg", dir)), 0);
}

static void test_next__fails_at_the_first_bad_image_in_order(void **state)
{
    (void)state;
    static const int workers[] = {1, 3, 7};
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    spoil(dir);
    for (size_t w = 0; w < sizeof workers / sizeof *workers; w++) {
        rq_loader_options options = options_of(10, workers[w]);
        options.shuffle = false;
        rq_loader *loader = new_loader(&dataset, &options);
        static const struct {
            size_t start;
            rq_status status;
            const char *says;
        } cases[] = {{0, RQ_ERR_IMAGE, "class_0/04.jpg: damaged JPEG"},
                     {1, RQ_ERR_IMAGE, "class_1/02.jpg: not a JPEG: looks like a PNG"},
                     {2, RQ_ERR_IMAGE, "class_2/02.jpg: not a JPEG: an empty file"}};
        for (size_t i = 0; i < 3; i++) {
            rq_loader_start(loader, 0, cases[i].start);
            for (int again = 0; again < 2; again++) {
                rq_error err = RQ_ERROR_INIT;
                rq_batch batch;
                assert_fails(rq_loader_next(loader, &batch, &err), cases[i].status, &err);
                assert_says(&err, cases[i].says);
                assert_says(&err, dir);
                assert_int_equal(batch.n, 0);
            }
        }
        assert_int_equal(rq_loader_n_skipped(loader), 0);
        rq_loader_destroy(loader);
    }
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

typedef struct log_record {
    int n;
    bool same_thread;
    pthread_t thread;
    char lines[16][256];
} log_record;

static void record_line(void *context, rq_log_level level, const char *line)
{
    log_record *record = context;
    if (level != RQ_LOG_WARN)
        return;
    record->same_thread = record->same_thread && pthread_equal(pthread_self(), record->thread);
    (void)snprintf(record->lines[record->n++ % 16], sizeof record->lines[0], "%s", line);
}

static void ignore_line(void *context, rq_log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

static void test_next__skips_bad_images_and_says_so_once(void **state)
{
    (void)state;
    static const uint8_t black[SIZE * SIZE * 3];
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    spoil(dir);
    log_record record = {.same_thread = true, .thread = pthread_self()};
    rq_log_set_sink(record_line, &record);
    rq_loader_options options = options_of(4, 5);
    options.shuffle = false;
    options.bad_images = RQ_BAD_SKIP;
    rq_loader *loader = new_loader(&dataset, &options);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        rq_loader_start(loader, epoch, 0);
        int n_ignored = 0;
        for (rq_batch batch = next_batch(loader); batch.n > 0; batch = next_batch(loader)) {
            for (int i = 0; i < batch.n; i++) {
                const uint32_t index = batch.index[i];
                const bool is_bad = index == 4 || index == 11 || index == 20 || index == 25;
                const uint8_t *pixels = batch.pixels + (size_t)i * sizeof black;
                assert_int_equal(batch.labels[i],
                                 is_bad ? RQ_LABEL_IGNORE : (int)index / PER_CLASS);
                assert_int_equal(memcmp(pixels, black, sizeof black) == 0, is_bad);
                n_ignored += is_bad;
            }
        }
        assert_int_equal(n_ignored, 4);
        assert_int_equal(rq_loader_n_skipped(loader), 4);
    }
    rq_loader_destroy(loader);
    rq_log_set_sink(NULL, NULL);
    assert_int_equal(record.n, 4);
    assert_true(record.same_thread);
    static const char *const says[] = {"class_0/04.jpg: damaged", "class_1/02.jpg: not a JPEG",
                                       "class_2/02.jpg: not a JPEG: an empty",
                                       "class_2/07.jpg: cannot open"};
    for (int i = 0; i < 4; i++)
        assert_non_null(strstr(record.lines[i], says[i]));
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static const rq_transform whole_transforms[] = {
    {.kind = RQ_TRANSFORM_EVAL, .resize = SIZE, .size = SIZE},
    {.kind = RQ_TRANSFORM_FLIP, .resize = SIZE + 5, .size = SIZE, .randaug = true},
    {.kind = RQ_TRANSFORM_PAD_CROP,
     .resize = SIZE,
     .size = SIZE,
     .padding = 4,
     .cutout = {6, {1, 2, 3}}},
};
enum { N_WHOLE = sizeof whole_transforms / sizeof *whole_transforms };

static void remove_images(const rq_dataset *dataset)
{
    for (size_t i = 0; i < dataset->n_images; i++)
        assert_int_equal(unlink(dataset->paths[i]), 0);
}

/* The files go away after the first epoch; the batches do not change. */
static void test_cache__gives_the_same_batches_without_the_files(void **state)
{
    (void)state;
    enum { N_EPOCHS = 3 };
    for (int t = 0; t < N_WHOLE; t++)
        for (int workers = 1; workers <= 4; workers += 3) {
            const char *dir = make_folder();
            rq_dataset dataset;
            open_folder(&dataset, dir);
            rq_loader_options options = options_of(4, workers);
            options.transform = whole_transforms[t];
            rq_loader *plain = new_loader(&dataset, &options);
            options.cache_bytes = RQ_LOADER_CACHE_BYTES;
            rq_loader *caching = new_loader(&dataset, &options);
            uint32_t want[N_EPOCHS][N_IMAGES], got[N_IMAGES];
            for (uint64_t epoch = 0; epoch < N_EPOCHS; epoch++)
                assert_int_equal(run_epoch(plain, epoch, 0, want[epoch]), 7);
            for (uint64_t epoch = 0; epoch < N_EPOCHS; epoch++) {
                assert_int_equal(run_epoch(caching, epoch, 0, got), 7);
                assert_memory_equal(got, want[epoch], 7 * sizeof *got);
                if (epoch == 0)
                    remove_images(&dataset);
            }
            rq_error err = RQ_ERROR_INIT;
            rq_batch batch;
            rq_loader_start(plain, 0, 0);
            assert_fails(rq_loader_next(plain, &batch, &err), RQ_ERR_IO, &err);
            rq_loader_destroy(plain);
            rq_loader_destroy(caching);
            rq_dataset_close(&dataset);
            rq_test_rmdir(dir);
        }
}

enum { SAMPLE_BYTES = SIZE * SIZE * 3 };

static bool is_mirror_of(const uint8_t *a, const uint8_t *b)
{
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++)
            if (memcmp(a + (y * SIZE + x) * 3, b + (y * SIZE + SIZE - 1 - x) * 3, 3) != 0)
                return false;
    return true;
}

/* The images of an epoch by their place in the dataset. */
static void load_epoch(rq_loader *loader, uint64_t epoch, uint8_t (*images)[SAMPLE_BYTES])
{
    rq_loader_start(loader, epoch, 0);
    for (rq_batch batch = next_batch(loader); batch.n > 0; batch = next_batch(loader))
        for (int i = 0; i < batch.n; i++)
            memcpy(images[batch.index[i]], batch.pixels + (size_t)i * SAMPLE_BYTES, SAMPLE_BYTES);
}

/* Two epochs in a row show each image from both sides, and each epoch some from either. */
static void test_alternate_flips__mirror_in_every_second_epoch(void **state)
{
    (void)state;
    enum { N_EPOCHS = 4 };
    static uint8_t plain[N_IMAGES][SAMPLE_BYTES], got[N_EPOCHS][N_IMAGES][SAMPLE_BYTES];
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    rq_loader_options options = options_of(4, 3);
    options.transform = (rq_transform){.kind = RQ_TRANSFORM_EVAL, .resize = SIZE + 5, .size = SIZE};
    rq_loader *loader = new_loader(&dataset, &options);
    load_epoch(loader, 0, plain);
    rq_loader_destroy(loader);
    options.transform.kind = RQ_TRANSFORM_FLIP;
    options.alternate_flips = true;
    loader = new_loader(&dataset, &options);
    for (uint64_t epoch = 0; epoch < N_EPOCHS; epoch++)
        load_epoch(loader, epoch, got[epoch]);
    rq_loader_destroy(loader);
    int n_first = 0;
    for (int i = 0; i < N_IMAGES; i++) {
        const bool is_first = is_mirror_of(got[0][i], plain[i]);
        n_first += is_first;
        for (int epoch = 0; epoch < N_EPOCHS; epoch++)
            if (is_first == (epoch % 2 == 0))
                assert_true(is_mirror_of(got[epoch][i], plain[i]));
            else
                assert_memory_equal(got[epoch][i], plain[i], SAMPLE_BYTES);
    }
    assert_in_range(n_first, 4, N_IMAGES - 4);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_cache__is_not_for_crops(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    rq_loader_options options = options_of(4, 2);
    options.cache_bytes = RQ_LOADER_CACHE_BYTES;
    rq_loader *loader = new_loader(&dataset, &options);
    uint32_t crcs[N_IMAGES];
    rq_error err = RQ_ERROR_INIT;
    rq_batch batch;
    (void)run_epoch(loader, 0, 0, crcs);
    remove_images(&dataset);
    rq_loader_start(loader, 1, 0);
    assert_fails(rq_loader_next(loader, &batch, &err), RQ_ERR_IO, &err);
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_cache__allocates_nothing_after_the_first_epoch(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    rq_loader_options options = options_of(4, 1);
    options.transform = whole_transforms[2];
    options.cache_bytes = RQ_LOADER_CACHE_BYTES;
    rq_loader *loader = new_loader(&dataset, &options);
    uint32_t crcs[N_IMAGES];
    (void)run_epoch(loader, 0, 0, crcs);
    const size_t n_allocs = rq_alloc_count();
    (void)run_epoch(loader, 1, 0, crcs);
    assert_int_equal(rq_alloc_count(), n_allocs);
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

/* In every epoch, as without memory. */
static void test_cache__reports_bad_images_again(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    spoil(dir);
    rq_loader_options options = options_of(10, 2);
    options.transform = whole_transforms[2];
    options.shuffle = false;
    options.cache_bytes = RQ_LOADER_CACHE_BYTES;
    rq_loader *loader = new_loader(&dataset, &options);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        rq_error err = RQ_ERROR_INIT;
        rq_batch batch;
        rq_loader_start(loader, epoch, 0);
        assert_fails(rq_loader_next(loader, &batch, &err), RQ_ERR_IMAGE, &err);
        assert_says(&err, "class_0/04.jpg: damaged JPEG");
    }
    rq_loader_destroy(loader);
    rq_log_set_sink(ignore_line, NULL);
    options.bad_images = RQ_BAD_SKIP;
    loader = new_loader(&dataset, &options);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        int n_ignored = 0;
        rq_loader_start(loader, epoch, 0);
        for (rq_batch batch = next_batch(loader); batch.n > 0; batch = next_batch(loader))
            for (int i = 0; i < batch.n; i++)
                n_ignored += batch.labels[i] == RQ_LABEL_IGNORE;
        assert_int_equal(n_ignored, 4);
        assert_int_equal(rq_loader_n_skipped(loader), 4);
    }
    rq_log_set_sink(NULL, NULL);
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

/* Lambda of each batch of an epoch; how the images are paired is checked on the way. */
static size_t run_mixed_epoch(rq_loader *loader, uint64_t epoch, size_t start_batch, float *lambdas)
{
    size_t n = 0;
    rq_loader_start(loader, epoch, start_batch);
    for (rq_batch batch = next_batch(loader); batch.n > 0; batch = next_batch(loader)) {
        assert_non_null(batch.mix);
        for (int i = 0; i < batch.n; i++) {
            assert_int_equal(batch.mix[i].partner, batch.n - 1 - i);
            assert_true(batch.mix[i].lambda == batch.mix[0].lambda);
        }
        lambdas[n++] = batch.mix[0].lambda;
    }
    return n;
}

static void test_mixup__draws_one_lambda_per_batch(void **state)
{
    (void)state;
    enum { N_BATCHES = 7 };
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    float first[2 * N_BATCHES], got[N_BATCHES]; /* two epochs */
    for (int workers = 1; workers <= 5; workers += 2) {
        rq_loader_options options = options_of(4, workers);
        rq_loader *plain = new_loader(&dataset, &options);
        options.mixup = 0.7;
        rq_loader *loader = new_loader(&dataset, &options);
        for (uint64_t epoch = 0; epoch < 2; epoch++) {
            float *want = first + epoch * N_BATCHES, *out = workers == 1 ? want : got;
            assert_int_equal(run_mixed_epoch(loader, epoch, 0, out), N_BATCHES);
            assert_memory_equal(out, want, sizeof got);
        }
        assert_int_equal(run_mixed_epoch(loader, 1, 3, got), N_BATCHES - 3);
        assert_memory_equal(got, first + N_BATCHES + 3, (N_BATCHES - 3) * sizeof *got);
        uint32_t mixed[N_IMAGES], unmixed[N_IMAGES]; /* what is to be mixed is the same */
        assert_int_equal(run_epoch(loader, 4, 0, mixed), N_BATCHES);
        assert_int_equal(run_epoch(plain, 4, 0, unmixed), N_BATCHES);
        assert_memory_equal(mixed, unmixed, N_BATCHES * sizeof *mixed);
        rq_loader_start(plain, 0, 0);
        assert_null(next_batch(plain).mix);
        rq_loader_destroy(plain);
        rq_loader_destroy(loader);
    }
    for (int i = 0; i < 2 * N_BATCHES; i++) /* batches and epochs differ */
        for (int k = 0; k < i; k++)
            assert_true(first[i] != first[k]);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_mixup__leaves_skipped_images_alone(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    spoil(dir);
    rq_log_set_sink(ignore_line, NULL);
    rq_loader_options options = options_of(N_IMAGES, 3);
    options.shuffle = false;
    options.bad_images = RQ_BAD_SKIP;
    options.mixup = 0.7;
    rq_loader *loader = new_loader(&dataset, &options);
    rq_loader_start(loader, 0, 0);
    const rq_batch batch = next_batch(loader);
    assert_int_equal(batch.n, N_IMAGES);
    for (int i = 0; i < N_IMAGES; i++) {
        /* positions 4, 11, 20 and 25 are bad: so are the partners 22, 15, 6 and 1 */
        const bool alone =
            i == 4 || i == 22 || i == 11 || i == 15 || i == 20 || i == 6 || i == 25 || i == 1;
        assert_int_equal(batch.mix[i].partner, alone ? i : N_IMAGES - 1 - i);
        assert_int_equal(batch.mix[i].lambda == 1.0f, alone);
    }
    rq_log_set_sink(NULL, NULL);
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_create__rejects_bad_options(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset, empty = {.arena = RQ_ARENA_INIT};
    open_folder(&dataset, dir);
    enum { N_CASES = 8 };
    rq_loader_options cases[N_CASES];
    for (int i = 0; i < N_CASES; i++)
        cases[i] = options_of(4, 1);
    cases[0].batch = 0;
    cases[1].workers = 0;
    cases[2].workers = RQ_LOADER_MAX_WORKERS + 1;
    cases[3].transform.size = 0;
    cases[5].mixup = -0.1;
    cases[6].mixup = NAN;
    cases[7].mixup = INFINITY;
    for (int i = 0; i < N_CASES; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_loader *loader = NULL;
        assert_fails(rq_loader_create(&loader, i == 4 ? &empty : &dataset, &cases[i], &err),
                     RQ_ERR_ARG, &err);
        assert_null(loader);
    }
    rq_error err = RQ_ERROR_INIT;
    rq_loader *loader = NULL;
    rq_loader_options options = options_of(4, 1);
    options.transform = whole_transforms[0];
    options.alternate_flips = true;
    assert_fails(rq_loader_create(&loader, &dataset, &options, &err), RQ_ERR_USAGE, &err);
    assert_null(loader);
    rq_loader_destroy(NULL);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_create__reports_missing_memory(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    rq_error err = RQ_ERROR_INIT;
    rq_loader *loader = NULL;
    rq_loader_options options = options_of(INT32_MAX, 2);
    options.transform.size = RQ_MAX_IMAGE_SIDE;
    assert_fails(rq_loader_create(&loader, &dataset, &options, &err), RQ_ERR_NOMEM, &err);
    options = options_of(4, 2);
    options.transform = whole_transforms[2];
    options.cache_bytes = RQ_LOADER_CACHE_BYTES;
    options.mixup = 0.2;
    rq_status status = RQ_ERR_NOMEM;
    long n_failed = 0;
    for (; status != RQ_OK && n_failed < 100; n_failed++) {
        rq_alloc_test_fail_after(n_failed);
        status = rq_loader_create(&loader, &dataset, &options, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK || status == RQ_ERR_NOMEM);
    }
    assert_in_range(n_failed, 4, 99);
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

/* Under the skip policy too: the image is not to blame. */
static void test_next__never_skips_for_want_of_memory(void **state)
{
    (void)state;
    const char *dir = make_folder();
    rq_dataset dataset;
    open_folder(&dataset, dir);
    rq_loader_options options = options_of(4, 2);
    options.bad_images = RQ_BAD_SKIP;
    rq_loader *loader = new_loader(&dataset, &options);
    rq_error err = RQ_ERROR_INIT;
    rq_batch batch;
    rq_alloc_test_fail_after(0);
    rq_loader_start(loader, 0, 0);
    const rq_status status = rq_loader_next(loader, &batch, &err);
    rq_alloc_test_fail_after(-1);
    assert_fails(status, RQ_ERR_NOMEM, &err);
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next__is_the_same_at_any_number_of_workers),
        cmocka_unit_test(test_next__visits_each_image_once),
        cmocka_unit_test(test_start__seeds_and_epochs_differ),
        cmocka_unit_test(test_start__resumes_in_an_epoch),
        cmocka_unit_test(test_start__abandons_an_unfinished_epoch),
        cmocka_unit_test(test_next__keeps_the_held_batch),
        cmocka_unit_test(test_n_batches__drops_the_last_when_asked),
        cmocka_unit_test(test_next__allocates_nothing_after_the_first_epoch),
        cmocka_unit_test(test_next__fails_at_the_first_bad_image_in_order),
        cmocka_unit_test(test_next__skips_bad_images_and_says_so_once),
        cmocka_unit_test(test_alternate_flips__mirror_in_every_second_epoch),
        cmocka_unit_test(test_cache__gives_the_same_batches_without_the_files),
        cmocka_unit_test(test_cache__is_not_for_crops),
        cmocka_unit_test(test_cache__allocates_nothing_after_the_first_epoch),
        cmocka_unit_test(test_cache__reports_bad_images_again),
        cmocka_unit_test(test_mixup__draws_one_lambda_per_batch),
        cmocka_unit_test(test_mixup__leaves_skipped_images_alone),
        cmocka_unit_test(test_create__rejects_bad_options),
        cmocka_unit_test(test_create__reports_missing_memory),
        cmocka_unit_test(test_next__never_skips_for_want_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
