/* What the options over folders of images mean. */
#include "runtime/eval/data_options.h"

#include <omp.h>
#include <string.h>

#include "cli/synthetic.h"
#include "tests/support/test.h"

static rq_error err;

static void check_transform(const rq_preprocess *preprocess, int64_t resolution, int resize,
                            int size)
{
    const rq_transform transform = rq_eval_transform(preprocess, resolution);
    assert_int_equal(transform.kind, RQ_TRANSFORM_EVAL);
    assert_int_equal(transform.resize, resize);
    assert_int_equal(transform.size, size);
}

static void test_eval_transform__follows_the_rule(void **state)
{
    (void)state;
    const rq_preprocess imagenet = RQ_PREPROCESS_IMAGENET, small = {.resize = 36, .crop = 32};
    check_transform(&imagenet, 0, 256, 224);
    check_transform(&imagenet, 224, 256, 224);
    check_transform(&imagenet, 320, 320, 320);
    check_transform(&small, 0, 36, 32);
    check_transform(&small, 32, 36, 32);
    check_transform(&small, 224, 256, 224);
    check_transform(&small, 16, 16, 16);
}

static void test_set_threads__zero_changes_nothing(void **state)
{
    (void)state;
    const int before = omp_get_max_threads();
    rq_set_threads(0);
    assert_int_equal(omp_get_max_threads(), before);
    rq_set_threads(3);
    assert_int_equal(omp_get_max_threads(), 3);
    rq_set_threads(before);
}

static void test_data_options__fill_the_loader(void **state)
{
    (void)state;
    const rq_transform transform = {.kind = RQ_TRANSFORM_EVAL, .resize = 16, .size = 16};
    rq_data_options given = RQ_DATA_OPTIONS_INIT;
    rq_loader_options loader = rq_data_loader_options(&given, transform);
    assert_int_equal(loader.batch, 32);
    assert_int_equal(loader.workers, omp_get_num_procs());
    assert_int_equal(loader.bad_images, RQ_BAD_FAIL);
    assert_false(loader.shuffle || loader.drop_last);
    given = (rq_data_options){.batch = 7, .workers = 3, .bad_images = RQ_BAD_SKIP};
    loader = rq_data_loader_options(&given, transform);
    assert_int_equal(loader.batch, 7);
    assert_int_equal(loader.workers, 3);
    assert_int_equal(loader.bad_images, RQ_BAD_SKIP);
    assert_string_equal(rq_bad_images_names[RQ_BAD_SKIP], "skip");
    assert_null(rq_bad_images_names[RQ_BAD_SKIP + 1]);
}

static void test_eval_data__opens_the_split(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    const rq_preprocess preprocess = {.resize = 16, .crop = 16};
    const rq_data_options given = {.dir = dir, .batch = 4, .workers = 1};
    rq_eval_data data;
    rq_batch batch;
    assert_ok(rq_synthetic_write(dir, 2, 3, 2, 16, 1, &err), &err);
    assert_ok(rq_eval_data_open(&data, &given, &preprocess, &err), &err);
    assert_int_equal(data.dataset.n_images, 4);
    assert_int_equal(data.size, 16);
    rq_loader_start(data.loader, 0, 0);
    assert_ok(rq_loader_next(data.loader, &batch, &err), &err);
    assert_int_equal(batch.n, 4);
    rq_eval_data_close(&data);
    assert_ok(rq_eval_data_open_split(&data, &given, &preprocess, RQ_SPLIT_TRAIN, &err), &err);
    assert_int_equal(data.dataset.n_images, 6);
    rq_eval_data_close(&data);
    rq_eval_data_close(&data);
    rq_test_rmdir(dir);
    assert_fails(rq_eval_data_open(&data, &given, &preprocess, &err), RQ_ERR_IO, &err);
    assert_says(&err, dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eval_transform__follows_the_rule),
        cmocka_unit_test(test_set_threads__zero_changes_nothing),
        cmocka_unit_test(test_data_options__fill_the_loader),
        cmocka_unit_test(test_eval_data__opens_the_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
