/* The check that a pass left the function alone: it lets equal models through and no others. */
#include "calib/same_function.h"

#include "cli/synthetic.h"
#include "tests/calib/small_net.h"

enum { BATCH = 4, N_IMAGES = 2 * 5, SIDE = 16 };

static rq_error err;
static const char *dir;
static rq_dataset dataset;
static rq_loader *loader;
static rq_model models[2];
static rq_session *sessions[2];

static int setup(void **state)
{
    (void)state;
    const rq_loader_options options = {
        .transform = {.kind = RQ_TRANSFORM_EVAL, .resize = NET_SIDE, .size = NET_SIDE},
        .batch = BATCH,
        .workers = 1};
    dir = rq_test_mkdir();
    if (rq_synthetic_write(dir, 2, 1, 5, SIDE, 1, &err) ||
        rq_dataset_open(&dataset, dir, RQ_SPLIT_VAL, &err) ||
        rq_loader_create(&loader, &dataset, &options, &err))
        return -1;
    for (int k = 0; k < 2; k++)
        net_make(&models[k], 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        rq_session_destroy(sessions[k]);
        rq_model_deinit(&models[k]);
        sessions[k] = NULL;
    }
    rq_loader_destroy(loader);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
    return 0;
}

static void open_sessions(void)
{
    const rq_session_options options = {.batch = BATCH};
    for (int k = 0; k < 2; k++)
        assert_ok(rq_session_create(&sessions[k], &models[k], &options, &err), &err);
}

static float *linear_bias(int k)
{
    const int node = rq_graph_find_node(&models[k].graph, "linear");
    return rq_tensor_f32(rq_graph_tensor(&models[k].graph, node, RQ_SLOT_BIAS));
}

static void test_same_function__accepts_equal_models(void **state)
{
    (void)state;
    rq_difference difference;
    open_sessions();
    assert_ok(rq_require_same_function(&difference, sessions[0], sessions[1], loader, 99, &err),
              &err);
    assert_true(difference.max_abs_diff == 0.0);
    assert_true(difference.max_abs_logit > 0.0);
    assert_int_equal(difference.n_images, N_IMAGES);
    assert_ok(rq_require_same_function(&difference, sessions[0], sessions[1], loader, 1, &err),
              &err);
    assert_int_equal(difference.n_images, BATCH);
}

/* Change one logit by a share of the largest. */
static void check_change(float share, rq_status want)
{
    rq_difference difference;
    open_sessions();
    assert_ok(rq_require_same_function(&difference, sessions[0], sessions[1], loader, 99, &err),
              &err);
    const float change = share * (float)difference.max_abs_logit;
    linear_bias(1)[2] += change;
    rq_session_destroy(sessions[0]);
    rq_session_destroy(sessions[1]);
    open_sessions();
    const rq_status got =
        rq_require_same_function(&difference, sessions[0], sessions[1], loader, 99, &err);
    assert_int_equal(got, want);
    assert_close(difference.max_abs_diff, change, 1e-5, 1e-3);
}

static void test_same_function__accepts_rounding(void **state)
{
    (void)state;
    check_change(0.0009f, RQ_OK);
}

static void test_same_function__refuses_a_changed_logit(void **state)
{
    (void)state;
    check_change(0.0011f, RQ_ERR_RANGE);
    assert_says(&err, "the function would change");
}

static void test_same_function__refuses_nan(void **state)
{
    (void)state;
    rq_difference difference;
    linear_bias(1)[0] = NAN;
    open_sessions();
    assert_fails(rq_require_same_function(&difference, sessions[0], sessions[1], loader, 99, &err),
                 RQ_ERR_RANGE, &err);
    assert_says(&err, "the logits are");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_same_function__accepts_equal_models),
        TEST(test_same_function__accepts_rounding),
        TEST(test_same_function__refuses_a_changed_logit),
        TEST(test_same_function__refuses_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
