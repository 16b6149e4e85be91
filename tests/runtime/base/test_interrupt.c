/* The first signal is remembered, the second acts, ignored ones stay ignored. */
#include "runtime/base/interrupt.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/test.h"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

static void test_interrupt__remembers_the_first(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        rq_interrupt_catch();
        assert_int_equal(rq_interrupt_signal(), 0);
        assert_int_equal(raise(signals[i]), 0);
        assert_int_equal(rq_interrupt_signal(), signals[i]);
        rq_interrupt_release();
        assert_int_equal(rq_interrupt_signal(), signals[i]); /* for the exit code */
    }
}

/* Exit status of a child that runs body. */
static int status_of(void (*body)(void))
{
    int status = 0;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body();
        _exit(7);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void raise_twice(void)
{
    rq_interrupt_catch();
    (void)raise(SIGTERM);
    (void)raise(SIGTERM);
}

static void raise_after_release(void)
{
    rq_interrupt_catch();
    rq_interrupt_release();
    (void)raise(SIGINT);
}

static void raise_ignored(void)
{
    (void)signal(SIGHUP, SIG_IGN);
    rq_interrupt_catch();
    (void)raise(SIGHUP);
    if (rq_interrupt_signal() != 0)
        _exit(1);
    rq_interrupt_release();
    (void)raise(SIGHUP);
}

static void test_interrupt__the_second_acts(void **state)
{
    (void)state;
    int status = status_of(raise_twice);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    status = status_of(raise_after_release);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    status = status_of(raise_ignored);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interrupt__remembers_the_first),
        cmocka_unit_test(test_interrupt__the_second_acts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
