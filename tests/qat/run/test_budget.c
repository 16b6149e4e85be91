/* Durations as text, and how many steps fit into a time. */
#include "qat/run/budget.h"

#include "tests/support/test.h"

static void test_duration__read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double seconds;
    } good[] = {{"2h", 7200.0},  {"90m", 5400.0},       {"45s", 45.0},  {"1h30m", 5400.0},
                {"1d", 86400.0}, {"1d2h3m4s", 93784.0}, {"600", 600.0}, {"0.5h", 1800.0},
                {"1.5", 1.5},    {"0h1s", 1.0}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        double seconds = -1.0;
        assert_true(rq_parse_duration(good[i].text, &seconds));
        assert_close(seconds, good[i].seconds, 0.0, 1e-15);
    }
}

static void test_duration__refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",    "0",     "0s",     "-1h",    "h",   "2x",
        "2 h", "30m2h", "1h30",   "1h1h",   "1e3", "inf",
        "nan", "+5",    "20000d", "1.2.3s", "2H",  "99999999999999999999999999s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        double seconds = 7.0;
        if (rq_parse_duration(bad[i], &seconds))
            fail_msg("'%s' was read as %g s", bad[i], seconds);
        assert_close(seconds, 7.0, 0.0, 0.0);
    }
}

static void test_duration__printed(void **state)
{
    (void)state;
    static const struct {
        double seconds;
        const char *text;
    } all[] = {{7380.0, "2h03m"}, {250.0, "4m10s"}, {59.4, "59s"}, {0.0, "0s"}, {-3.0, "0s"}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char text[32];
        rq_print_duration(all[i].seconds, text, sizeof text);
        assert_string_equal(text, all[i].text);
    }
}

/* 100 steps of 0.1 s and 5 s at the end: 15 s per epoch. */
static const rq_pace PACE = {.seconds_left = 0.0,
                             .step_seconds = 0.1,
                             .overhead_seconds = 5.0,
                             .steps_per_epoch = 100,
                             .epochs = 0,
                             .max_epochs = 120};

static int64_t plan(double seconds_left, int64_t epochs)
{
    rq_pace pace = PACE;
    pace.seconds_left = seconds_left;
    pace.epochs = epochs;
    return rq_budget_plan(&pace);
}

static void test_plan__whole_epochs(void **state)
{
    (void)state;
    assert_int_equal(plan(200.0, 0), 1200);  /* 194 s usable: 12.9 epochs */
    assert_int_equal(plan(15.4, 0), 99);     /* 14.94 s: not one whole epoch */
    assert_int_equal(plan(15.5, 0), 100);    /* 15.04 s */
    assert_int_equal(plan(1e9, 0), 12000);   /* no more than asked for */
    assert_int_equal(plan(200.0, 10), 2200); /* besides those that are done */
    assert_int_equal(plan(200.0, 115), 12000);
    assert_int_equal(plan(14.0, 3), 300); /* nothing more fits */
    assert_int_equal(plan(-5.0, 3), 300);
    for (int i = 16; i < 1500; i += 7) { /* it keeps its promise */
        const double seconds = i;
        const double used = (double)plan(seconds, 0) / 100.0 * 15.0;
        assert_true(used <= seconds && used > 0.97 * seconds - 15.0 - 1e-6);
    }
}

/* Less than an epoch: steps that leave time for the end, and never none. */
static void test_plan__part_of_an_epoch(void **state)
{
    (void)state;
    assert_int_equal(plan(10.0, 0), 46); /* 9.7 s less 5 s */
    assert_int_equal(plan(5.3, 0), 1);
    assert_int_equal(plan(0.0, 0), 1);
    assert_int_equal(plan(-1.0, 0), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_duration__read),         cmocka_unit_test(test_duration__refused),
        cmocka_unit_test(test_duration__printed),      cmocka_unit_test(test_plan__whole_epochs),
        cmocka_unit_test(test_plan__part_of_an_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
