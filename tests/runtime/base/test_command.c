/* What all commands share: -q, -v, and the command line as one string. */
#include <string.h>

#include "runtime/base/command.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "tests/support/capture.h"
#include "tests/support/test.h"

/* A word of argv: not const, as main() gets them. */
#define W(text) ((char[]){text})

static rq_status never_run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    (void)self;
    (void)argc;
    (void)argv;
    return rq_fail(err, RQ_ERR_ARG, "not called here");
}

static const rq_command command = {"cmd", "does something", never_run};

typedef struct fields {
    int64_t batch;
} fields;

static const rq_option table[] = {
    RQ_OPTION_INT("batch", 'b', fields, batch, "N", 1, 9, "images per batch"),
};

static void count_line(void *context, rq_log_level level, const char *line)
{
    (void)line;
    ((int *)context)[level]++;
}

/* Parse, then log one line of each level: counts[level] says which got through. */
static rq_status log_with(char **argv, int argc, int counts[4], rq_error *err)
{
    fields got = {1};
    bool done = false;
    memset(counts, 0, 4 * sizeof counts[0]);
    const rq_status status = rq_command_options(&command, table, 1, argc, argv, &got, &done, err);
    assert_false(done);
    rq_log_set_sink(count_line, counts);
    for (int level = RQ_LOG_WARN; level <= RQ_LOG_DEBUG; level++)
        rq_log((rq_log_level)level, "line");
    rq_log_set_sink(NULL, NULL);
    return status;
}

static void test_options__quiet_and_verbose_set_the_level(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    int counts[4];
    char *plain[] = {W("cmd"), W("-b2"), NULL}, *quiet[] = {W("cmd"), W("-q"), NULL};
    char *verbose[] = {W("cmd"), W("--verbose"), NULL}, *both[] = {W("cmd"), W("-qv"), NULL};
    assert_ok(log_with(quiet, 2, counts, &err), &err);
    assert_true(counts[RQ_LOG_WARN] == 1 && counts[RQ_LOG_PROGRESS] == 0 &&
                counts[RQ_LOG_INFO] == 0 && counts[RQ_LOG_DEBUG] == 0);
    assert_ok(log_with(verbose, 2, counts, &err), &err);
    assert_true(counts[RQ_LOG_WARN] == 1 && counts[RQ_LOG_PROGRESS] == 1 &&
                counts[RQ_LOG_INFO] == 1 && counts[RQ_LOG_DEBUG] == 1);
    assert_ok(log_with(plain, 2, counts, &err), &err);
    assert_true(counts[RQ_LOG_WARN] == 1 && counts[RQ_LOG_PROGRESS] == 1 &&
                counts[RQ_LOG_INFO] == 1 && counts[RQ_LOG_DEBUG] == 0);
    assert_fails(log_with(both, 2, counts, &err), RQ_ERR_USAGE, &err);
    assert_says(&err, "exclude each other");
}

/* Neither the streams nor the sink of before receive anything. */
static void test_log__without_sink_is_silent(void **state)
{
    (void)state;
    int counts[4] = {0};
    rq_log_set_sink(count_line, counts);
    rq_log(RQ_LOG_WARN, "%s", "somebody listens");
    assert_int_equal(counts[RQ_LOG_WARN], 1);
    rq_log_set_sink(NULL, NULL);
    const rq_capture out = rq_capture_begin(stdout), err = rq_capture_begin(stderr);
    rq_log(RQ_LOG_WARN, "%s", "nobody listens");
    char *err_text = rq_capture_end(&err), *out_text = rq_capture_end(&out);
    assert_string_equal(out_text, "");
    assert_string_equal(err_text, "");
    assert_int_equal(counts[RQ_LOG_WARN], 1);
    rq_free(out_text);
    rq_free(err_text);
}

static void test_command_line__quotes_for_the_shell(void **state)
{
    (void)state;
    char *argv[] = {W("convert"), W("a.bin"), W("my file"),
                    W(""),        W("it's"),  W("repvgg:depth=1,2;width=3,4"),
                    W("'")};
    char *text = rq_command_line(7, argv);
    assert_non_null(text);
    assert_string_equal(text, "repqat convert a.bin 'my file' '' 'it'\\''s' "
                              "'repvgg:depth=1,2;width=3,4' ''\\'''");
    rq_free(text);
    rq_alloc_test_fail_after(0);
    char *none = rq_command_line(7, argv);
    rq_alloc_test_fail_after(-1);
    assert_null(none);
}

static void test_command_words__split_at_blanks(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    int argc = 0;
    char **argv = rq_command_words(&arena, "  train images  -b 4 ", &argc);
    static const char *const want[] = {"train", "images", "-b", "4"};
    assert_int_equal(argc, 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(argv[i], want[i]);
    assert_null(argv[4]);
    assert_null(rq_command_words(&arena, "", &argc)[0]);
    assert_null(rq_command_words(&arena, NULL, &argc));
    rq_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options__quiet_and_verbose_set_the_level),
        cmocka_unit_test(test_log__without_sink_is_silent),
        cmocka_unit_test(test_command_line__quotes_for_the_shell),
        cmocka_unit_test(test_command_words__split_at_blanks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
