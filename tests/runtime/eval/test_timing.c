/* Timed runs: what they count. How long they take is not tested. */
#include "runtime/eval/timing.h"

#include <string.h>

#include "runtime/eval/layer_facts.h"
#include "tests/runtime/tiny_models.h"

enum { BATCH = 3 };

static rq_error err;

/* Every form counts the multiply-adds of conv (8x8 outputs) and linear. */
static void check_timing(void (*make)(rq_model *))
{
    rq_model model;
    rq_session *session;
    rq_timing timing;
    const rq_session_options options = {.batch = BATCH};
    const double macs = 8 * 8 * TINY_CHANNELS * TINY_TAPS + TINY_CLASSES * TINY_CHANNELS;
    make(&model);
    assert_ok(rq_session_create(&session, &model, &options, &err), &err);
    assert_ok(rq_time_session(&timing, session, BATCH, TINY_SIDE, 4, true, &err), &err);
    assert_int_equal(timing.n_runs, 4);
    assert_int_equal(timing.batch, BATCH);
    assert_int_equal(timing.n_steps, rq_session_n_steps(session));
    assert_true(timing.macs == macs);
    assert_true(timing.min_s > 0.0 && timing.min_s <= timing.median_s &&
                timing.median_s <= timing.max_s);
    double steps = 0.0;
    for (int i = 0; i < timing.n_steps; i++) {
        assert_non_null(timing.steps[i].name);
        assert_int_equal(timing.steps[i].is_int8,
                         model.form == RQ_FORM_INT8 && timing.steps[i].macs > 0.0);
        steps += timing.steps[i].seconds;
    }
    assert_true(steps > 0.0 && steps <= timing.max_s);
    assert_close(rq_timing_gops(&timing), 2e-9 * macs * BATCH / timing.median_s, 0, 1e-12);
    rq_timing_deinit(&timing);

    assert_ok(rq_time_session(&timing, session, BATCH, TINY_SIDE, 1, false, &err), &err);
    assert_int_equal(timing.n_runs, 1);
    assert_int_equal(timing.n_steps, 0);
    assert_true(timing.min_s == timing.max_s);
    rq_timing_deinit(&timing);
    rq_timing_deinit(&timing);
    rq_session_destroy(session);
    rq_model_deinit(&model);
}

static void test_time_session__float(void **state)
{
    (void)state;
    check_timing(tiny_deploy);
}

static void test_time_session__fake_quantized(void **state)
{
    (void)state;
    check_timing(tiny_qat);
}

static void test_time_session__integer(void **state)
{
    (void)state;
    check_timing(tiny_int8);
}

static void test_time_session__chooses_the_number_of_runs(void **state)
{
    (void)state;
    rq_model model;
    rq_session *session;
    rq_timing timing;
    const rq_session_options options = {.batch = 1};
    tiny_deploy(&model);
    assert_ok(rq_session_create(&session, &model, &options, &err), &err);
    assert_ok(rq_time_session(&timing, session, 1, TINY_SIDE, 0, false, &err), &err);
    assert_in_range(timing.n_runs, 5, 200);
    assert_fails(rq_time_session(&timing, session, 2, TINY_SIDE, 1, false, &err), RQ_ERR_ARG, &err);
    rq_session_destroy(session);
    rq_model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_session__float),
        cmocka_unit_test(test_time_session__fake_quantized),
        cmocka_unit_test(test_time_session__integer),
        cmocka_unit_test(test_time_session__chooses_the_number_of_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
