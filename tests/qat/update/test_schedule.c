/* Warm-up and cosine at the points that matter, and against the formulas at every step. */
#include "qat/update/schedule.h"

#include <math.h>

#include "tests/support/test.h"

static const double PI = 3.14159265358979323846;

static void test_schedule__ends_of_its_parts(void **state)
{
    (void)state;
    const rq_schedule s = {.lr = 0.4, .warmup_steps = 10, .total_steps = 110};
    assert_close(rq_schedule_lr(&s, 0), 0.0, 0.0, 0.0);
    assert_close(rq_schedule_lr(&s, 5), 0.2, 0.0, 1e-15);
    assert_close(rq_schedule_lr(&s, 10), 0.4, 0.0, 0.0); /* the top */
    assert_close(rq_schedule_lr(&s, 60), 0.2, 0.0, 1e-15);
    assert_close(rq_schedule_lr(&s, 110), 0.0, 0.0, 0.0);
    assert_close(rq_schedule_lr(&s, 1000), 0.0, 0.0, 0.0); /* it does not rise again */
}

static void test_schedule__the_formula(void **state)
{
    (void)state;
    const rq_schedule s = {.lr = 1e-3, .warmup_steps = 7, .total_steps = 100};
    double before = -1.0;
    for (int64_t t = 0; t <= 100; t++) {
        const double want =
            t < 7 ? 1e-3 * (double)t / 7.0 : 1e-3 * 0.5 * (1.0 + cos(PI * (double)(t - 7) / 93.0));
        const double lr = rq_schedule_lr(&s, t);
        assert_close(lr, want, 1e-18, 1e-14);
        assert_true(t <= 7 ? lr > before : lr < before);
        before = lr;
    }
}

static void test_schedule__without_warmup(void **state)
{
    (void)state;
    const rq_schedule s = {.lr = 0.1, .warmup_steps = 0, .total_steps = 4};
    const double want[] = {0.1, 0.05 * (1.0 + sqrt(0.5)), 0.05, 0.05 * (1.0 - sqrt(0.5)), 0.0};
    for (int64_t t = 0; t <= 4; t++)
        assert_close(rq_schedule_lr(&s, t), want[t], 1e-17, 1e-14);
}

/* Warm-up as long as the training or longer, and no training at all: finite and never negative. */
static void test_schedule__degenerate(void **state)
{
    (void)state;
    static const rq_schedule all[] = {
        {.lr = 0.1, .warmup_steps = 5, .total_steps = 5},
        {.lr = 0.1, .warmup_steps = 9, .total_steps = 5},
        {.lr = 0.1, .warmup_steps = 0, .total_steps = 0},
        {.lr = 0.0, .warmup_steps = 2, .total_steps = 5},
        {.kind = RQ_SCHEDULE_TIMM, .lr = 0.1, .warmup_steps = 5, .total_steps = 5},
        {.kind = RQ_SCHEDULE_TIMM, .lr = 0.1, .warmup_steps = 9, .total_steps = 5},
        {.kind = RQ_SCHEDULE_TIMM, .lr = 0.1, .warmup_steps = 0, .total_steps = 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (int64_t t = 0; t < 12; t++) {
            const double lr = rq_schedule_lr(&all[i], t);
            assert_true(lr >= 0.0 && lr <= all[i].lr);
        }
    assert_close(rq_schedule_lr(&all[0], 4), 0.08, 0.0, 1e-15);
    assert_close(rq_schedule_lr(&all[0], 5), 0.0, 0.0, 0.0);
    assert_close(rq_schedule_lr(&all[1], 8), 0.1 * 8.0 / 9.0, 0.0, 1e-15);
}

/* timm counts the cosine from the start, and moves after the update. */
static void test_schedule__timm(void **state)
{
    (void)state;
    const rq_schedule s = {.kind = RQ_SCHEDULE_TIMM,
                           .lr = 0.2,
                           .min_lr = 0.02,
                           .warmup_steps = 10,
                           .total_steps = 100};
    assert_close(rq_schedule_lr(&s, 0), 0.0, 0.0, 0.0); /* the first two updates */
    assert_close(rq_schedule_lr(&s, 1), 0.0, 0.0, 0.0);
    for (int64_t k = 1; k < 200; k++) {
        const double t = (double)(k - 1);
        const double want = t < 10.0    ? 0.2 * t / 10.0
                            : t < 100.0 ? 0.02 + 0.18 * 0.5 * (1.0 + cos(PI * t / 100.0))
                                        : 0.02;
        assert_close(rq_schedule_lr(&s, k), want, 1e-17, 1e-14);
    }
    /* where the warm-up ends, the rate is already down the cosine */
    assert_true(rq_schedule_lr(&s, 11) < 0.2 && rq_schedule_lr(&s, 11) > 0.19);
    const rq_schedule plain = {.kind = RQ_SCHEDULE_TIMM, .lr = 0.2, .total_steps = 100};
    assert_close(rq_schedule_lr(&plain, 0), 0.2, 0.0, 0.0); /* no warm-up: the base rate twice */
    assert_close(rq_schedule_lr(&plain, 1), 0.2, 0.0, 0.0);
}

static void test_schedule__min_lr(void **state)
{
    (void)state;
    const rq_schedule s = {.lr = 0.2, .min_lr = 0.1, .warmup_steps = 10, .total_steps = 110};
    assert_close(rq_schedule_lr(&s, 5), 0.1, 0.0, 1e-15); /* the warm-up begins at 0 */
    assert_close(rq_schedule_lr(&s, 10), 0.2, 0.0, 0.0);
    assert_close(rq_schedule_lr(&s, 60), 0.15, 0.0, 1e-15);
    assert_close(rq_schedule_lr(&s, 110), 0.1, 0.0, 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule__ends_of_its_parts),
        cmocka_unit_test(test_schedule__the_formula),
        cmocka_unit_test(test_schedule__without_warmup),
        cmocka_unit_test(test_schedule__degenerate),
        cmocka_unit_test(test_schedule__timm),
        cmocka_unit_test(test_schedule__min_lr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
