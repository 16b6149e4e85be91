/* Checkpoints that PyTorch wrote (tests/golden/make_pth.py), of every container and layout. */
#include "runtime/torch/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/modelfile/tensorfile.h"
#include "tests/support/test.h"

static rq_error err;
static rq_checkpoint *checkpoint;

static void open_golden(const char *name)
{
    const char *path = rq_test_path("%s/tests/golden/pth/%s", RQ_SOURCE_DIR, name);
    assert_ok(rq_checkpoint_open(&checkpoint, path, &err), &err);
}

static int teardown(void **state)
{
    (void)state;
    rq_checkpoint_close(checkpoint);
    checkpoint = NULL;
    return 0;
}

/* ---- what make_pth.py wrote ---- */

typedef struct expected {
    const char *name;
    rq_element element;
    int rank;
    int64_t dim[4];
    double base, step;
} expected;

static const expected all[] = {
    {"f32", RQ_ELEMENT_F32, 2, {2, 3}, -1, 0.5},
    {"f16", RQ_ELEMENT_F16, 2, {2, 3}, -1, 0.5},
    {"bf16", RQ_ELEMENT_BF16, 2, {2, 3}, -1, 0.5},
    {"f64", RQ_ELEMENT_F64, 2, {2, 3}, 0.1, 1.0 / 3.0},
    {"bool", RQ_ELEMENT_BOOL, 1, {2}, 0, 1},
    {"u8", RQ_ELEMENT_U8, 1, {3}, 250, 1},
    {"s8", RQ_ELEMENT_S8, 1, {3}, -3, 2},
    {"s16", RQ_ELEMENT_S16, 1, {3}, -300, 200},
    {"s32", RQ_ELEMENT_S32, 1, {3}, -70000, 100000},
    {"s64", RQ_ELEMENT_S64, 0, {0}, 1099511627776.0, 1},
    {"scalar", RQ_ELEMENT_F32, 0, {0}, 2.5, 1},
    {"empty", RQ_ELEMENT_F32, 2, {0, 3}, 0, 1},
    {"parameter", RQ_ELEMENT_F32, 1, {4}, 10, 1},
    {"attributes", RQ_ELEMENT_F32, 1, {4}, 20, 1},
    {"transposed", RQ_ELEMENT_F32, 2, {2, 3}, 0, 1},
    {"slice", RQ_ELEMENT_F32, 2, {3, 3}, 30, 1},
    {"steps", RQ_ELEMENT_F32, 2, {2, 4}, 50, 1},
    {"expanded", RQ_ELEMENT_F32, 2, {2, 3}, 60, 0},
    {"channels_last", RQ_ELEMENT_F32, 4, {2, 3, 2, 2}, 0, 1},
    {"shared", RQ_ELEMENT_F32, 2, {4, 3}, 70, 1},
    {"shared_row", RQ_ELEMENT_F32, 1, {3}, 76, 1},
    {"tied", RQ_ELEMENT_F32, 1, {4}, 10, 1},
};
enum { N_ALL = sizeof all / sizeof all[0], MAX_ELEMS = 24 };

static size_t elems_of(const rq_checkpoint_tensor *tensor)
{
    size_t n = 1;
    for (int i = 0; i < tensor->rank; i++)
        n *= (size_t)tensor->dim[i];
    return n;
}

static void check_tensor(const expected *want, int i)
{
    const rq_checkpoint_tensor *tensor = rq_checkpoint_get(checkpoint, i);
    float values[MAX_ELEMS + 1];
    const float *borrowed;
    assert_string_equal(tensor->name, want->name);
    assert_null(tensor->other);
    assert_int_equal(tensor->element, want->element);
    assert_int_equal(tensor->rank, want->rank);
    for (int k = 0; k < want->rank; k++)
        assert_int_equal(tensor->dim[k], want->dim[k]);
    const size_t n = elems_of(tensor);
    values[n] = 12345.0f; /* must stay */
    assert_ok(rq_checkpoint_read(checkpoint, i, RQ_F32, values, &err), &err);
    for (size_t k = 0; k < n; k++)
        assert_true(values[k] == (float)(want->base + want->step * (double)k));
    assert_true(values[n] == 12345.0f);
    assert_ok(rq_checkpoint_borrow(checkpoint, i, &borrowed, &err), &err);
    if (borrowed)
        assert_memory_equal(borrowed, values, n * sizeof(float));
}

static void check_all(void)
{
    assert_int_equal(rq_checkpoint_count(checkpoint), N_ALL);
    for (int i = 0; i < N_ALL; i++) {
        assert_int_equal(rq_checkpoint_find(checkpoint, all[i].name), i);
        check_tensor(&all[i], i);
    }
    assert_int_equal(rq_checkpoint_find(checkpoint, "f3"), -1);
    assert_int_equal(rq_checkpoint_find(checkpoint, "zzz"), -1);
}

static void check_file(const char *name, const char *where)
{
    open_golden(name);
    assert_string_equal(rq_checkpoint_where(checkpoint), where);
    check_all();
}

static void test_checkpoint__zip(void **state)
{
    (void)state;
    check_file("zip.pth", "");
}

static void test_checkpoint__zip_with_protocol_4(void **state)
{
    (void)state;
    check_file("zip_protocol4.pth", "");
}

static void test_checkpoint__deflated_zip(void **state)
{
    (void)state;
    check_file("deflated.pth", "");
}

static void test_checkpoint__legacy(void **state)
{
    (void)state;
    check_file("legacy.pth", "");
}

static void test_checkpoint__training_state_beside_the_weights(void **state)
{
    (void)state;
    check_file("training.pth.tar", "state_dict");
}

static void test_checkpoint__legacy_training_state(void **state)
{
    (void)state;
    check_file("legacy_training.pth.tar", "state_dict");
}

static void test_checkpoint__nested_wrappers(void **state)
{
    (void)state;
    check_file("nested.pth", "model.state_dict");
}

/* ---- details ---- */

static void test_read__s64(void **state)
{
    (void)state;
    int64_t values[3];
    open_golden("zip.pth");
    assert_ok(
        rq_checkpoint_read(checkpoint, rq_checkpoint_find(checkpoint, "s64"), RQ_S64, values, &err),
        &err);
    assert_true(values[0] == (int64_t)1 << 40);
    assert_ok(
        rq_checkpoint_read(checkpoint, rq_checkpoint_find(checkpoint, "s8"), RQ_S64, values, &err),
        &err);
    assert_true(values[0] == -3 && values[1] == -1 && values[2] == 1);
    assert_ok(rq_checkpoint_read(checkpoint, rq_checkpoint_find(checkpoint, "bool"), RQ_S64, values,
                                 &err),
              &err);
    assert_true(values[0] == 0 && values[1] == 1);
    assert_fails(
        rq_checkpoint_read(checkpoint, rq_checkpoint_find(checkpoint, "f32"), RQ_S64, values, &err),
        RQ_ERR_FILE, &err);
    assert_says(&err, "zip.pth: f32: its values are float32");
}

/* Stored, dense and aligned: in the mapping. Everything else has to be read. */
static void test_borrow__gives_what_lies_in_the_file(void **state)
{
    (void)state;
    static const char *const dense[] = {"f32", "scalar", "parameter", "shared", "shared_row"};
    static const char *const others[] = {"f16", "transposed", "slice", "expanded", "empty"};
    const float *values, *row;
    open_golden("zip.pth");
    for (size_t i = 0; i < sizeof dense / sizeof dense[0]; i++) {
        const int k = rq_checkpoint_find(checkpoint, dense[i]);
        assert_ok(rq_checkpoint_borrow(checkpoint, k, &values, &err), &err);
        assert_non_null(values);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const int k = rq_checkpoint_find(checkpoint, others[i]);
        assert_ok(rq_checkpoint_borrow(checkpoint, k, &values, &err), &err);
        assert_null(values);
    }
    assert_ok(
        rq_checkpoint_borrow(checkpoint, rq_checkpoint_find(checkpoint, "shared"), &values, &err),
        &err);
    assert_ok(
        rq_checkpoint_borrow(checkpoint, rq_checkpoint_find(checkpoint, "shared_row"), &row, &err),
        &err);
    assert_ptr_equal(row, values + 6);
    assert_int_equal(
        rq_checkpoint_get(checkpoint, rq_checkpoint_find(checkpoint, "tied"))->storage,
        rq_checkpoint_get(checkpoint, rq_checkpoint_find(checkpoint, "parameter"))->storage);
}

static void test_checkpoint__safetensors(void **state)
{
    (void)state;
    float values[6] = {0, 1, 2, 3, 4, 5}, got[6];
    int64_t count = 7;
    const float *borrowed;
    const char *dir = rq_test_mkdir(), *path = rq_test_path("%s/a.safetensors", dir);
    const rq_param params[] = {{"module.w", {RQ_F32, 2, {2, 3}, values}},
                               {"n", {RQ_S64, 0, {0}, &count}}};
    assert_ok(rq_tensorfile_write(path, params, 2, NULL, 0, &err), &err);
    assert_ok(rq_checkpoint_open(&checkpoint, path, &err), &err);
    assert_int_equal(rq_checkpoint_count(checkpoint), 2);
    const int w = rq_checkpoint_find(checkpoint, "w"), n = rq_checkpoint_find(checkpoint, "n");
    assert_ok(rq_checkpoint_read(checkpoint, w, RQ_F32, got, &err), &err);
    assert_memory_equal(got, values, sizeof got);
    assert_ok(rq_checkpoint_borrow(checkpoint, w, &borrowed, &err), &err);
    assert_memory_equal(borrowed, values, sizeof values);
    count = 0;
    assert_ok(rq_checkpoint_read(checkpoint, n, RQ_S64, &count, &err), &err);
    assert_true(count == 7);
    rq_test_rmdir(dir);
}

/* A header whose size is 0x0280 or 0x4b50 begins like a pickle or a zip archive. */
static void test_checkpoint__safetensors_that_begin_like_others(void **state)
{
    (void)state;
    static const size_t sizes[] = {0x0280, 0x4b50};
    static const char header[] = "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    static unsigned char bytes[8 + 0x4b50 + 1];
    const char *dir = rq_test_mkdir(), *path = rq_test_path("%s/a", dir);
    for (size_t i = 0; i < 2; i++) {
        memset(bytes, ' ', sizeof bytes);
        memset(bytes, 0, 8);
        bytes[0] = (unsigned char)sizes[i];
        bytes[1] = (unsigned char)(sizes[i] >> 8);
        memcpy(bytes + 8, header, sizeof header - 1);
        rq_test_write_file(path, bytes, 8 + sizes[i] + 1);
        assert_ok(rq_checkpoint_open(&checkpoint, path, &err), &err);
        assert_int_equal(rq_checkpoint_count(checkpoint), 1);
        rq_checkpoint_close(checkpoint);
        checkpoint = NULL;
    }
    rq_test_rmdir(dir);
}

/* RepOptimizer's published scales. */
static void test_checkpoint__published_scales(void **state)
{
    (void)state;
    const char *shared = rq_test_shared();
    if (!shared) {
        print_message("skipped: no published files here\n");
        skip();
    }
    float values[2048];
    assert_ok(rq_checkpoint_open(
                  &checkpoint, rq_test_path("%s/data/pth/RepOpt-VGG-B1-scales.pth", shared), &err),
              &err);
    assert_int_equal(rq_checkpoint_count(checkpoint), 79);
    for (int i = 0; i < rq_checkpoint_count(checkpoint); i++) {
        const rq_checkpoint_tensor *tensor = rq_checkpoint_get(checkpoint, i);
        const float *borrowed;
        assert_true(tensor->rank == 1 && tensor->dim[0] <= 2048);
        assert_non_null(strstr(tensor->name, ".scale_"));
        assert_ok(rq_checkpoint_borrow(checkpoint, i, &borrowed, &err), &err);
        assert_non_null(borrowed);
        assert_ok(rq_checkpoint_read(checkpoint, i, RQ_F32, values, &err), &err);
        for (int64_t k = 0; k < tensor->dim[0]; k++)
            assert_true(isfinite(values[k]) && values[k] == borrowed[k]);
    }
    rq_checkpoint_close(checkpoint);
    assert_ok(rq_checkpoint_open(&checkpoint,
                                 rq_test_path("%s/data/pth/RepOptGhostNet_0_5x_scales.pth", shared),
                                 &err),
              &err);
    assert_int_equal(rq_checkpoint_count(checkpoint), 64);
    assert_string_equal(rq_checkpoint_get(checkpoint, 0)->name,
                        "blocks.0.0.ghost1.fusion_scale.weight");
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoint__zip),
        TEST(test_checkpoint__zip_with_protocol_4),
        TEST(test_checkpoint__deflated_zip),
        TEST(test_checkpoint__legacy),
        TEST(test_checkpoint__training_state_beside_the_weights),
        TEST(test_checkpoint__legacy_training_state),
        TEST(test_checkpoint__nested_wrappers),
        TEST(test_read__s64),
        TEST(test_borrow__gives_what_lies_in_the_file),
        TEST(test_checkpoint__safetensors),
        TEST(test_checkpoint__safetensors_that_begin_like_others),
        TEST(test_checkpoint__published_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
