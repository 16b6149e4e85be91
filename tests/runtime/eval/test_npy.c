/* NumPy files byte for byte, and files that must not appear. */
#include "runtime/eval/npy.h"

#include <string.h>
#include <unistd.h>

#include "runtime/base/memory.h"
#include "tests/support/test.h"

static rq_error err;
static const float values[] = {1.0f, -2.5f, 3.0f, 0.0f, 1e-30f, 7.0f};

static void test_npy__writes_the_format(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir(), *path = rq_test_path("%s/a.npy", dir);
    static const char text[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    rq_npy npy;
    size_t size_bytes;
    assert_ok(rq_npy_open(&npy, path, 2, 3, &err), &err);
    assert_ok(rq_npy_write(&npy, values, 1, &err), &err);
    assert_ok(rq_npy_write(&npy, values + 3, 1, &err), &err);
    assert_int_not_equal(access(path, F_OK), 0); /* not before it is whole */
    assert_ok(rq_npy_commit(&npy, &err), &err);
    rq_npy_abort(&npy);
    uint8_t *file = rq_test_read_file(path, &size_bytes);
    assert_int_equal(size_bytes, 128 + sizeof values);
    assert_memory_equal(file, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_memory_equal(file + 10, text, strlen(text));
    for (size_t i = 10 + strlen(text); i < 127; i++)
        assert_int_equal(file[i], ' ');
    assert_int_equal(file[127], '\n');
    assert_memory_equal(file + 128, values, sizeof values);
    rq_free(file);
    rq_test_rmdir(dir);
}

static void test_npy__counts_rows(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir(), *path = rq_test_path("%s/a.npy", dir);
    rq_npy npy;
    rq_test_write_file(path, "before", 6);
    assert_ok(rq_npy_open(&npy, path, 2, 3, &err), &err);
    assert_ok(rq_npy_write(&npy, values, 1, &err), &err);
    assert_fails(rq_npy_write(&npy, values, 2, &err), RQ_ERR_ARG, &err);
    assert_fails(rq_npy_commit(&npy, &err), RQ_ERR_ARG, &err);
    assert_says(&err, "1 of 2 rows");
    rq_npy_abort(&npy);
    size_t size_bytes;
    uint8_t *file = rq_test_read_file(path, &size_bytes);
    assert_int_equal(size_bytes, 6);
    rq_free(file);
    rq_test_rmdir(dir);
}

static void test_npy__needs_a_folder(void **state)
{
    (void)state;
    rq_npy npy;
    assert_fails(rq_npy_open(&npy, "/no/such/folder/a.npy", 1, 1, &err), RQ_ERR_IO, &err);
    assert_says(&err, "/no/such/folder");
    assert_null(npy.writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_npy__writes_the_format),
        cmocka_unit_test(test_npy__counts_rows),
        cmocka_unit_test(test_npy__needs_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
