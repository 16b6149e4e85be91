/* What a file is, by its content; and who keeps it open. */
#include "runtime/torch/weight_file.h"

#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/model/arch.h"
#include "runtime/modelfile/modelfile.h"
#include "runtime/torch/checkpoint.h"
#include "tests/support/test.h"

static rq_error err;
static const char *dir, *path;
static rq_weight_file *file;

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    path = rq_test_path("%s/w", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_weight_file_close(file);
    file = NULL;
    rq_test_rmdir(dir);
    return 0;
}

static void check_kind(const char *at, rq_weight_kind kind)
{
    rq_weight_file_close(file);
    assert_ok(rq_weight_file_open(&file, at, &err), &err);
    assert_string_equal(file->path, at);
    assert_int_equal(file->kind, kind);
    assert_int_equal(rq_weight_file_is_checkpoint(file),
                     kind != RQ_WEIGHTS_UNKNOWN && kind != RQ_WEIGHTS_MODEL);
    assert_int_equal(file->tensorfile != NULL,
                     kind == RQ_WEIGHTS_MODEL || kind == RQ_WEIGHTS_SAFETENSORS);
}

static const char *golden(const char *name)
{
    return rq_test_path("%s/tests/golden/pth/%s", RQ_SOURCE_DIR, name);
}

static void build_small(rq_model *model)
{
    assert_ok(rq_arch_build_deploy(model, "repvgg:depth=1;width=4;classes=3", 0, &err), &err);
}

static void test_open__kind_by_content(void **state)
{
    (void)state;
    check_kind(golden("zip.pth"), RQ_WEIGHTS_TORCH_ZIP);
    check_kind(golden("deflated.pth"), RQ_WEIGHTS_TORCH_ZIP);
    check_kind(golden("legacy.pth"), RQ_WEIGHTS_TORCH_LEGACY);
    check_kind(rq_test_path("%s/CMakeLists.txt", RQ_SOURCE_DIR), RQ_WEIGHTS_UNKNOWN);
    assert_ok(rq_tensorfile_write(path, NULL, 0, NULL, 0, &err), &err);
    check_kind(path, RQ_WEIGHTS_SAFETENSORS);
    rq_model model;
    build_small(&model);
    assert_ok(rq_model_save(&model, path, &err), &err);
    rq_model_deinit(&model);
    check_kind(path, RQ_WEIGHTS_MODEL);
}

static void test_open__empty_and_short_files(void **state)
{
    (void)state;
    for (size_t n = 0; n < 9; n++) {
        rq_test_write_file(path, "\1\0\0\0\0\0\0\0{", n);
        check_kind(path, RQ_WEIGHTS_UNKNOWN);
    }
}

/* A header whose size is 0x0280 or 0x4b50 begins like a pickle or a zip archive. */
static void test_open__safetensors_that_begin_like_others(void **state)
{
    (void)state;
    static const char header[] = "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    static const size_t sizes[] = {0x0280, 0x4b50};
    static unsigned char bytes[8 + 0x4b50 + 1];
    for (size_t i = 0; i < 2; i++) {
        memset(bytes, ' ', sizeof bytes);
        memset(bytes, 0, 8);
        bytes[0] = (unsigned char)sizes[i];
        bytes[1] = (unsigned char)(sizes[i] >> 8);
        memcpy(bytes + 8, header, sizeof header - 1);
        rq_test_write_file(path, bytes, 8 + sizes[i] + 1);
        check_kind(path, RQ_WEIGHTS_SAFETENSORS);
    }
}

static void test_open__errors(void **state)
{
    (void)state;
    assert_fails(rq_weight_file_open(&file, "/nowhere", &err), RQ_ERR_IO, &err);
    assert_null(file);
    rq_test_write_file(path, "\2\0\0\0\0\0\0\0{]", 10);
    assert_fails(rq_weight_file_open(&file, path, &err), RQ_ERR_FILE, &err);
    assert_memory_equal(err.text, path, strlen(path));
    assert_null(file);
}

/* The description of a model and its weights come from one mapping, which outlives who opened it. */
static void test_hold__until_the_last_lets_go(void **state)
{
    (void)state;
    rq_model model, viewed;
    build_small(&model);
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_ok(rq_weight_file_open(&file, path, &err), &err);
    assert_ok(rq_model_view(&viewed, file->tensorfile, path, &err), &err);
    assert_ok(rq_weight_file_give(file, &viewed.graph, &err), &err);
    rq_checkpoint *checkpoint;
    assert_ok(rq_checkpoint_of(&checkpoint, file, &err), &err);
    assert_ptr_equal(rq_checkpoint_mapping(checkpoint), rq_weight_file_mapping(file));
    assert_int_equal(file->n_holders, 3);
    rq_weight_file_close(file);
    file = NULL;
    for (int i = 0; i < model.graph.n_params; i++) {
        const rq_param *want = &model.graph.params[i];
        const rq_tensor *got = &viewed.graph.params[i].tensor;
        const float *borrowed;
        const size_t n = rq_tensor_elems(&want->tensor) * rq_dtype_size(want->tensor.dtype);
        assert_memory_equal(got->data, want->tensor.data, n);
        assert_true(rq_graph_is_view(&viewed.graph, got));
        const int entry = rq_checkpoint_find(checkpoint, want->name);
        assert_ok(rq_checkpoint_borrow(checkpoint, entry, &borrowed, &err), &err);
        assert_ptr_equal(borrowed, want->tensor.dtype == RQ_F32 ? got->data : NULL);
    }
    rq_model_deinit(&viewed);
    assert_string_equal(rq_checkpoint_path(checkpoint), path);
    rq_checkpoint_close(checkpoint);
    rq_model_deinit(&model);
}

static void test_open__no_memory(void **state)
{
    (void)state;
    assert_ok(rq_tensorfile_write(path, NULL, 0, NULL, 0, &err), &err);
    for (long n = 0;; n++) {
        rq_alloc_test_fail_after(n);
        const rq_status status = rq_weight_file_open(&file, path, &err);
        rq_alloc_test_fail_after(-1);
        if (!status)
            break;
        assert_int_equal(status, RQ_ERR_NOMEM);
        assert_null(file);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open__kind_by_content),
        TEST(test_open__empty_and_short_files),
        TEST(test_open__safetensors_that_begin_like_others),
        TEST(test_open__errors),
        TEST(test_hold__until_the_last_lets_go),
        TEST(test_open__no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
