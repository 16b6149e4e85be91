/* The checkers can fail: each comparison is shown a case that it must refuse. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/memory.h"

/* Does this test fail? It runs in a process of its own, since a failing assertion ends the test
 * that it is in. */
static bool fails(CMUnitTestFunction body)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int nowhere = open("/dev/null", O_WRONLY);
        (void)dup2(nowhere, STDOUT_FILENO);
        (void)dup2(nowhere, STDERR_FILENO);
        const struct CMUnitTest tests[] = {{"body", body, NULL, NULL, NULL}};
        _exit(cmocka_run_group_tests(tests, NULL, NULL));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 1;
}

static const float wanted[] = {1.0f, -2.0f, 0.0f, INFINITY};

/* assert_all_close of wanted with one value changed. */
static void compare_with(size_t index, float value)
{
    float got[4];
    memcpy(got, wanted, sizeof got);
    got[index] = value;
    assert_all_close(got, wanted, 4, 1e-6, 1e-3);
}

#define BODY(name, statement)                                                                      \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        statement;                                                                                 \
    }

BODY(equal, compare_with(0, 1.0f))
BODY(within_relative, compare_with(1, -2.0015f))
BODY(beyond_relative, compare_with(1, -2.0025f))
BODY(within_absolute, compare_with(2, 9e-7f))
BODY(beyond_absolute, compare_with(2, 2e-6f))
BODY(nan_for_number, compare_with(0, NAN))
BODY(nan_for_infinity, compare_with(3, NAN))
BODY(infinity_for_number, compare_with(0, INFINITY))
BODY(number_for_infinity, compare_with(3, 3e38f))
BODY(other_infinity, compare_with(3, -INFINITY))
BODY(one_number, assert_close(1.0f, 1.0f, 0.0, 0.0))
BODY(one_nan, assert_close(NAN, 1.0, 1.0, 1.0))
BODY(nan_for_nan, assert_close(NAN, NAN, 1.0, 1.0))
BODY(one_infinity, assert_close(1.0, INFINITY, 1.0, 1.0))

static void test_all_close__accepts_what_is_close(void **state)
{
    (void)state;
    assert_false(fails(equal));
    assert_false(fails(within_relative));
    assert_false(fails(within_absolute));
    assert_false(fails(one_number));
}

static void test_all_close__refuses_what_is_far(void **state)
{
    (void)state;
    assert_true(fails(beyond_relative));
    assert_true(fails(beyond_absolute));
}

static void test_all_close__refuses_nan_and_infinity(void **state)
{
    (void)state;
    assert_true(fails(nan_for_number));
    assert_true(fails(nan_for_infinity));
    assert_true(fails(infinity_for_number));
    assert_true(fails(number_for_infinity));
    assert_true(fails(other_infinity));
    assert_true(fails(one_nan));
    assert_true(fails(nan_for_nan));
    assert_true(fails(one_infinity));
}

static void test_first_far__finds_the_index(void **state)
{
    (void)state;
    const float got[] = {1.0f, -2.0f, NAN, 5.0f};
    assert_int_equal(rq_first_far(got, wanted, 4, 1e-6, 1e-3), 2);
    assert_int_equal(rq_first_far(got, wanted, 2, 1e-6, 1e-3), 2); /* n: none */
    assert_int_equal(rq_first_far(got, wanted, 0, 1e-6, 1e-3), 0);
}

static const rq_error example = {RQ_ERR_FILE, "model.bin: byte 8: too long"};

BODY(ok_for_error, assert_ok(RQ_ERR_FILE, &example))
BODY(error_for_ok, assert_fails(RQ_OK, RQ_ERR_FILE, &example))
BODY(other_error, assert_fails(RQ_ERR_IO, RQ_ERR_FILE, &example))
BODY(same_error, assert_fails(RQ_ERR_FILE, RQ_ERR_FILE, &example))
BODY(says, assert_says(&example, "byte 8"))
BODY(does_not_say, assert_says(&example, "byte 9"))

static void test_status__must_be_the_wanted_one(void **state)
{
    (void)state;
    assert_true(fails(ok_for_error));
    assert_true(fails(error_for_ok));
    assert_true(fails(other_error));
    assert_false(fails(same_error));
    assert_false(fails(says));
    assert_true(fails(does_not_say));
}

static void test_folder__is_removed_with_its_contents(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    const char *sub = rq_test_path("%s/sub", dir);
    assert_int_equal(mkdir(sub, 0777), 0);
    const char *path = rq_test_path("%s/file", sub);
    rq_test_write_file(path, "ab\0c", 4);
    size_t size_bytes = 0;
    uint8_t *data = rq_test_read_file(path, &size_bytes);
    assert_int_equal(size_bytes, 4);
    assert_memory_equal(data, "ab\0c", 4);
    rq_free(data);
    rq_test_rmdir(dir);
    assert_int_not_equal(access(dir, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_close__accepts_what_is_close),
        cmocka_unit_test(test_all_close__refuses_what_is_far),
        cmocka_unit_test(test_all_close__refuses_nan_and_infinity),
        cmocka_unit_test(test_first_far__finds_the_index),
        cmocka_unit_test(test_status__must_be_the_wanted_one),
        cmocka_unit_test(test_folder__is_removed_with_its_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
