/* The generated image set: a valid dataset, reproducible, varied, and wrong arguments. */
#include "cli/synthetic.h"

#include <math.h>
#include <sys/stat.h>

#include "runtime/image/dataset.h"
#include "runtime/image/transform.h"
#include "tests/runtime/image/golden.h"

enum { SIDE = 64 };

static void draw(int class_index, uint64_t number, uint8_t *pixels)
{
    static float canvas[SIDE * SIDE * 3];
    rq_random random = rq_random_stream(7, 0, number);
    rq_synthetic_draw(&rq_synthetic_demo, class_index, SIDE, &random, canvas, pixels);
}

static void test_draw__repeats_and_varies(void **state)
{
    (void)state;
    static uint8_t a[SIDE * SIDE * 3], b[SIDE * SIDE * 3];
    for (int c = 0; c < RQ_SYNTHETIC_MAX_CLASSES; c++) {
        draw(c, 1, a);
        draw(c, 1, b);
        assert_memory_equal(a, b, sizeof a);
        draw(c, 2, b);
        assert_memory_not_equal(a, b, sizeof a);
    }
}

/* Classes are told apart by the shape alone: same stream, other class, different pixels only where
 * the shape is. */
static void test_draw__shows_the_class(void **state)
{
    (void)state;
    static uint8_t a[SIDE * SIDE * 3], b[SIDE * SIDE * 3];
    for (int c = 1; c < RQ_SYNTHETIC_MAX_CLASSES; c++) {
        size_t n_different = 0;
        for (uint64_t i = 0; i < 20; i++) {
            draw(0, i, a);
            draw(c, i, b);
            for (size_t p = 0; p < sizeof a; p++)
                n_different += a[p] != b[p];
        }
        assert_in_range(n_different, sizeof a / 20, 10 * sizeof a); /* of 20 pictures */
    }
}

static void test_class_name__is_sorted(void **state)
{
    (void)state;
    for (int c = 1; c < RQ_SYNTHETIC_MAX_CLASSES; c++)
        assert_true(strcmp(rq_synthetic_class_name(c - 1), rq_synthetic_class_name(c)) < 0);
}

static void assert_same_file(const char *a, const char *b)
{
    size_t a_bytes, b_bytes;
    uint8_t *a_data = rq_test_read_file(a, &a_bytes), *b_data = rq_test_read_file(b, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a_data, b_data, a_bytes);
    rq_free(a_data);
    rq_free(b_data);
}

static void test_write__makes_a_dataset(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    char set[64], more[64];
    (void)snprintf(set, sizeof set, "%s/set", dir);
    (void)snprintf(more, sizeof more, "%s/more", dir);
    assert_ok(rq_synthetic_write(set, 4, 3, 2, 32, 5, &err), &err);
    assert_ok(rq_synthetic_write(set, 4, 3, 2, 32, 5, &err), &err); /* replaces */
    assert_ok(rq_synthetic_write(more, 10, 4, 1, 32, 5, &err), &err);
    rq_dataset train, val;
    assert_ok(rq_dataset_open(&train, set, RQ_SPLIT_TRAIN, &err), &err);
    assert_ok(rq_dataset_open(&val, set, RQ_SPLIT_VAL, &err), &err);
    assert_int_equal(train.n_classes, 4);
    assert_int_equal(train.n_images, 12);
    assert_int_equal(val.n_images, 8);
    const rq_transform transform = {.kind = RQ_TRANSFORM_EVAL, .resize = 32, .size = 32};
    rq_sampler sampler = {0};
    static uint8_t pixels[32 * 32 * 3];
    for (size_t i = 0; i < train.n_images; i++)
        assert_ok(rq_sample_file(&sampler, train.paths[i], &transform, NULL, pixels, &err), &err);
    for (int c = 0; c < 4; c++) {
        const char *name = rq_synthetic_class_name(c);
        assert_string_equal(train.class_names[c], name);
        assert_same_file(rq_test_path("%s/train/%s/0002.jpg", set, name),
                         rq_test_path("%s/train/%s/0002.jpg", more, name));
    }
    rq_sampler_deinit(&sampler);
    rq_dataset_close(&train);
    rq_dataset_close(&val);
    rq_test_rmdir(dir);
}

static void test_write__seeds_and_splits_differ(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    const char *dir = rq_test_mkdir();
    uint8_t *files[4];
    size_t sizes[4];
    for (int i = 0; i < 4; i++) {
        assert_ok(rq_synthetic_write(dir, 2, 1, 1, 32, (uint64_t)i / 2, &err), &err);
        files[i] = rq_test_read_file(
            rq_test_path("%s/%s/checker/0000.jpg", dir, i % 2 ? "val" : "train"), &sizes[i]);
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            assert_true(sizes[i] != sizes[j] || memcmp(files[i], files[j], sizes[i]) != 0);
    for (int i = 0; i < 4; i++)
        rq_free(files[i]);
    rq_test_rmdir(dir);
}

static void test_write__rejects_bad_arguments(void **state)
{
    (void)state;
    static const int cases[][4] = {{1, 1, 1, 64},   {11, 1, 1, 64},
                                   {-1, 1, 1, 64},  {2, 0, 1, 64},
                                   {2, 1, -1, 64},  {2, 1, 1, 15},
                                   {2, 1, 1, 1025}, {2, RQ_SYNTHETIC_MAX_PER_CLASS + 1, 1, 64}};
    const char *dir = rq_test_mkdir();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_error err = RQ_ERROR_INIT;
        assert_fails(rq_synthetic_write(rq_test_path("%s/set", dir), cases[i][0], cases[i][1],
                                        cases[i][2], cases[i][3], 1, &err),
                     RQ_ERR_ARG, &err);
    }
    struct stat info;
    assert_int_not_equal(stat(rq_test_path("%s/set", dir), &info), 0);
    rq_test_rmdir(dir);
}

static void test_write__reports_what_stands_in_the_way(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    rq_error err = RQ_ERROR_INIT;
    assert_fails(rq_synthetic_write(rq_test_path("%s/no/parent", dir), 2, 1, 1, 32, 1, &err),
                 RQ_ERR_IO, &err);
    assert_says(&err, "no/parent: cannot make the folder");
    rq_test_write_file(rq_test_path("%s/train", dir), "", 0);
    assert_fails(rq_synthetic_write(dir, 2, 1, 1, 32, 1, &err), RQ_ERR_IO, &err);
    assert_says(&err, "/train/checker: cannot make the folder: Not a directory");
    rq_test_rmdir(dir);
}

static void test_write__reports_missing_memory(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    for (long n = 0; n < 3; n++) { /* canvas, pixels, encoded file */
        rq_error err = RQ_ERROR_INIT;
        rq_alloc_test_fail_after(n);
        const rq_status status = rq_synthetic_write(dir, 2, 1, 1, 32, 1, &err);
        rq_alloc_test_fail_after(-1);
        assert_fails(status, RQ_ERR_NOMEM, &err);
    }
    rq_test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draw__repeats_and_varies),
        cmocka_unit_test(test_draw__shows_the_class),
        cmocka_unit_test(test_class_name__is_sorted),
        cmocka_unit_test(test_write__makes_a_dataset),
        cmocka_unit_test(test_write__seeds_and_splits_differ),
        cmocka_unit_test(test_write__rejects_bad_arguments),
        cmocka_unit_test(test_write__reports_what_stands_in_the_way),
        cmocka_unit_test(test_write__reports_missing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
