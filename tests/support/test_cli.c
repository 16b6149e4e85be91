/* The harness sees what a program does: streams, exit code, signal, time limit, environment. */
#include "tests/support/cli.h"

#include <signal.h>
#include <string.h>

#include "tests/support/test.h"

static const rq_cli_options shell = {.program = "/bin/sh"};

static void test_run__captures_both_streams(void **state)
{
    (void)state;
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run_with(&run, &shell, "-c", "echo out; echo err >&2; exit 7");
    assert_exit(&run, 7);
    assert_string_equal(run.out, "out\n");
    assert_string_equal(run.err, "err\n");
    rq_cli_run_with(&run, &shell, "-c", "exit 0"); /* nothing of the last run is left */
    assert_exit(&run, 0);
    assert_int_equal(run.out_bytes + run.err_bytes, 0);
    rq_cli_deinit(&run);
}

static void test_run__takes_more_than_a_pipe_holds(void **state)
{
    (void)state;
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run_with(&run, &shell, "-c", "head -c 300000 /dev/zero; head -c 200000 /dev/zero >&2");
    assert_exit(&run, 0);
    assert_int_equal(run.out_bytes, 300000);
    assert_int_equal(run.err_bytes, 200000);
    rq_cli_deinit(&run);
}

static void test_run__reports_signals_and_time_limit(void **state)
{
    (void)state;
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run_with(&run, &shell, "-c", "kill -SEGV $$");
    assert_exit(&run, 128 + SIGSEGV);
    const rq_cli_options impatient = {.program = "/bin/sleep", .timeout_s = 1};
    rq_cli_run_with(&run, &impatient, "60");
    assert_exit(&run, RQ_CLI_TIMED_OUT);
    rq_cli_deinit(&run);
}

static void test_run__sets_folder_environment_and_streams(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    static const char *const env[] = {"RQ_TEST_WORD=word", NULL};
    const rq_cli_options options = {.program = "/bin/sh", .dir = dir, .env = env};
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run_with(&run, &options, "-c", "pwd; echo $RQ_TEST_WORD; cat");
    assert_exit(&run, 0);
    assert_string_equal(run.out, rq_test_path("%s\nword\n", dir));
    const rq_cli_options to_file = {.program = "/bin/sh",
                                    .stdout_path = rq_test_path("%s/out", dir)};
    rq_cli_run_with(&run, &to_file, "-c", "echo out; cat >/dev/null");
    assert_exit(&run, 0);
    assert_string_equal(run.out, "");
    rq_cli_run_with(&run, &shell, "-c", rq_test_path("cat %s/out", dir));
    assert_string_equal(run.out, "out\n");
    const rq_cli_options closed = {.program = "/bin/sh", .close_stdout = true};
    rq_cli_run_with(&run, &closed, "-c", "echo x");
    assert_int_not_equal(run.exit_code, 0);
    rq_cli_deinit(&run);
    rq_test_rmdir(dir);
}

static void test_json__reads_the_object(void **state)
{
    (void)state;
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run_with(&run, &shell, "-c", "echo '{\"schema\": 1, \"top1\": 50}'");
    json_t *object = rq_cli_json(&run);
    assert_int_equal(json_integer_value(json_object_get(object, "top1")), 50);
    json_decref(object);
    rq_cli_deinit(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run__captures_both_streams),
        cmocka_unit_test(test_run__takes_more_than_a_pipe_holds),
        cmocka_unit_test(test_run__reports_signals_and_time_limit),
        cmocka_unit_test(test_run__sets_folder_environment_and_streams),
        cmocka_unit_test(test_json__reads_the_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
