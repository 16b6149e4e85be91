/* Messages: one line, cut when too long, prefixed from outside in. */
#include <errno.h>
#include <string.h>

#include "runtime/base/status.h"
#include "tests/support/test.h"

static void test_fail__writes_text_and_code(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    assert_int_equal(rq_fail(&err, RQ_ERR_FILE, "%s: %d", "a", 3), RQ_ERR_FILE);
    assert_int_equal(err.code, RQ_ERR_FILE);
    assert_string_equal(err.text, "a: 3");
    assert_int_equal(rq_fail(NULL, RQ_ERR_IO, "nobody reads this"), RQ_ERR_IO);
}

static void test_fail__is_one_line(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    (void)rq_fail(&err, RQ_ERR_FILE, "name '%s'", "a\nb\r\x1b[2Jc\x7f");
    assert_string_equal(err.text, "name 'a?b??[2Jc?'");
    rq_error_prefix(&err, "p\nq");
    assert_string_equal(err.text, "p?q: name 'a?b??[2Jc?'");
}

static void test_fail_errno__says_what_and_why(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    errno = ENOSPC;
    assert_int_equal(rq_fail_errno(&err, "f", "write"), RQ_ERR_IO);
    assert_string_equal(err.text, "f: cannot write: No space left on device");
    errno = ENOMEM;
    assert_int_equal(rq_fail_errno(&err, "f", "map"), RQ_ERR_NOMEM);
    assert_int_equal(err.code, RQ_ERR_NOMEM);
}

static void test_prefix__stacks_and_cuts(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    (void)rq_fail(&err, RQ_ERR_FILE, "core");
    rq_error_prefix(&err, "node %d", 3);
    rq_error_prefix(&err, "%s", "m.bin");
    assert_string_equal(err.text, "m.bin: node 3: core");
    assert_int_equal(err.code, RQ_ERR_FILE);
    char long_name[2 * sizeof err.text];
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    rq_error_prefix(&err, "%s", long_name);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    (void)rq_fail(&err, RQ_ERR_FILE, "%s", long_name);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    rq_error_prefix(&err, "p");
    assert_int_equal(strncmp(err.text, "p: xxx", 6), 0);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    rq_error_prefix(NULL, "nobody reads this");
}

static void test_text__every_code_has_one(void **state)
{
    (void)state;
#define X(code, value, text)                                                                       \
    assert_int_equal(code, value);                                                                 \
    assert_string_equal(rq_status_text(code), text);
    RQ_STATUS_LIST(X)
#undef X
    assert_string_equal(rq_status_text((rq_status)99), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail__writes_text_and_code),
        cmocka_unit_test(test_fail__is_one_line),
        cmocka_unit_test(test_fail_errno__says_what_and_why),
        cmocka_unit_test(test_prefix__stacks_and_cuts),
        cmocka_unit_test(test_text__every_code_has_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
