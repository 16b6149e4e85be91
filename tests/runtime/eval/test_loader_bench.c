/* Timed loaders: what they count and how the images are transformed. How long they take is not
 * tested. */
#include "runtime/eval/loader_bench.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/synthetic.h"
#include "tests/support/test.h"

enum { N_CLASSES = 2, PER_CLASS = 3, N_IMAGES = N_CLASSES * PER_CLASS, SIDE = 16 };

static const char *dir;
static rq_error err;

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    assert_ok(rq_synthetic_write(dir, N_CLASSES, PER_CLASS, 1, SIDE, 1, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_test_rmdir(dir);
    return 0;
}

static double file_bytes(const rq_dataset *dataset)
{
    double total = 0.0;
    for (size_t i = 0; i < dataset->n_images; i++) {
        struct stat info;
        assert_int_equal(stat(dataset->paths[i], &info), 0);
        total += (double)info.st_size;
    }
    return total;
}

static rq_loader_options small_options(void)
{
    return (rq_loader_options){.transform = (rq_transform){.kind = RQ_TRANSFORM_PAD_CROP,
                                                           .resize = SIDE,
                                                           .size = SIDE,
                                                           .padding = 4},
                               .batch = 4,
                               .workers = 2,
                               .shuffle = true};
}

static void test_time_loader__counts_images_and_bytes(void **state)
{
    (void)state;
    const rq_loader_options options = small_options();
    rq_dataset dataset;
    rq_loader_time time;
    assert_ok(rq_dataset_open(&dataset, dir, RQ_SPLIT_TRAIN, &err), &err);
    for (int n_epochs = 1; n_epochs <= 3; n_epochs++) {
        assert_ok(rq_time_loader(&time, &dataset, &options, n_epochs, &err), &err);
        assert_int_equal(time.n_images, (size_t)n_epochs * N_IMAGES);
        assert_int_equal(time.n_skipped, 0);
        assert_close(time.bytes, n_epochs * file_bytes(&dataset), 0, 0);
        assert_true(time.seconds > 0.0);
    }
    assert_ok(rq_time_loader(&time, &dataset, &options, 0, &err), &err);
    assert_true(time.n_images >= N_IMAGES && time.seconds >= 2.0);
    rq_dataset_close(&dataset);
}

static void test_time_loader__bad_images_fail_or_are_left_out(void **state)
{
    (void)state;
    rq_loader_options options = small_options();
    rq_dataset dataset;
    rq_loader_time time = {.n_images = 77};
    char bad[256];
    (void)snprintf(bad, sizeof bad, "%s/train/%s/x.jpg", dir, rq_synthetic_class_name(0));
    rq_test_write_file(bad, "text", 4);
    assert_ok(rq_dataset_open(&dataset, dir, RQ_SPLIT_TRAIN, &err), &err);
    assert_int_equal(dataset.n_images, N_IMAGES + 1);
    assert_fails(rq_time_loader(&time, &dataset, &options, 1, &err), RQ_ERR_IMAGE, &err);
    assert_says(&err, "/x.jpg: ");
    assert_int_equal(time.n_images, 77);
    options.bad_images = RQ_BAD_SKIP;
    assert_ok(rq_time_loader(&time, &dataset, &options, 2, &err), &err);
    assert_int_equal(time.n_images, 2 * N_IMAGES);
    assert_int_equal(time.n_skipped, 1);
    assert_close(time.bytes, 2 * (file_bytes(&dataset) - 4), 0, 0);
    rq_dataset_close(&dataset);
    assert_int_equal(unlink(bad), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_loader__counts_images_and_bytes),
        cmocka_unit_test(test_time_loader__bad_images_fail_or_are_left_out),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
