/* Streams give what one session gives, whatever the number of images, and share its weights. */
#include "runtime/session/streams.h"

#include <omp.h>

#include "runtime/base/random.h"
#include "runtime/session/executor.h"
#include "runtime/session/session.h"
#include "tests/runtime/tiny_models.h"

enum { BATCH = 11, N_PIXELS = TINY_SIDE * TINY_SIDE * 3, N_LOGITS = BATCH * TINY_CLASSES };

static rq_error err;
static uint8_t pixels[BATCH * N_PIXELS];

static void (*const makers[])(rq_model *) = {tiny_deploy, tiny_qat, tiny_int8};
enum { N_MAKERS = sizeof makers / sizeof makers[0] };

static int setup(void **state)
{
    (void)state;
    rq_random random = {7};
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)rq_random_u64(&random);
    return 0;
}

static rq_session *open_session(const rq_model *model, int n_streams)
{
    rq_session *session = NULL;
    const rq_session_options options = {.batch = BATCH, .n_streams = n_streams};
    assert_ok(rq_session_create(&session, model, &options, &err), &err);
    return session;
}

static void test_streams__rows_of_one_session(void **state)
{
    (void)state;
    for (int k = 0; k < N_MAKERS; k++) {
        rq_model model;
        float want[N_LOGITS], got[N_LOGITS];
        makers[k](&model);
        rq_session *alone = open_session(&model, 1), *streams = open_session(&model, 3);
        assert_ok(rq_session_run(alone, pixels, BATCH, want, &err), &err);
        for (int n = BATCH; n > 0; n--) {
            memset(got, 0xff, sizeof got); /* NaN */
            assert_ok(rq_session_run(streams, pixels, n, got, &err), &err);
            const size_t n_logits = (size_t)n * TINY_CLASSES;
            if (model.form == RQ_FORM_DEPLOY)
                assert_all_close(got, want, n_logits, 0, 1e-5);
            else
                assert_memory_equal(got, want, n_logits * sizeof *got);
            for (size_t i = n_logits; i < N_LOGITS; i++)
                assert_true(got[i] != got[i]); /* untouched */
        }
        assert_fails(rq_session_run(streams, pixels, BATCH + 1, got, &err), RQ_ERR_ARG, &err);
        rq_session_destroy(streams);
        rq_session_destroy(alone);
        rq_model_deinit(&model);
    }
}

/* More runs than any race that is easily lost would survive. */
static void test_streams__many_runs(void **state)
{
    (void)state;
    rq_model model;
    float want[N_LOGITS], got[N_LOGITS];
    tiny_int8(&model);
    rq_session *streams = open_session(&model, 4);
    rq_model_deinit(&model); /* it is not needed any more */
    assert_ok(rq_session_run(streams, pixels, BATCH, want, &err), &err);
    for (int i = 0; i < 300; i++) {
        memset(got, 0, sizeof got);
        assert_ok(rq_session_run(streams, pixels, BATCH, got, &err), &err);
        assert_memory_equal(got, want, sizeof got);
    }
    rq_session_destroy(streams);
}

static void test_streams__weights_count_once(void **state)
{
    (void)state;
    for (int k = 0; k < N_MAKERS; k++) {
        rq_model model;
        makers[k](&model);
        rq_session *alone = open_session(&model, 0), *streams = open_session(&model, 3);
        const rq_session_info one = rq_session_get_info(alone), all = rq_session_get_info(streams);
        assert_int_equal(one.n_streams, 1);
        assert_int_equal(one.stream_batch, BATCH);
        assert_int_equal(all.n_streams, 3);
        assert_int_equal(all.stream_batch, 4); /* three of 4, not two rounds of 3 */
        assert_int_equal(all.weight_bytes, one.weight_bytes);
        assert_int_equal(all.n_classes, one.n_classes);
        assert_true(all.macs == one.macs && all.macs > 0.0);
        assert_int_equal(rq_session_n_steps(streams), 0);
        rq_session_destroy(streams);
        rq_session_destroy(alone);
        rq_model_deinit(&model);
    }
}

/* A convolution of another network has no weights to share: it packs its own. */
static void test_executor__weights_of_a_batch_of_another_size(void **state)
{
    (void)state;
    rq_model model;
    float want[N_LOGITS], got[N_LOGITS];
    tiny_int8(&model);
    rq_executor *owner = NULL, *guest = NULL;
    rq_session_options options = {.batch = BATCH, .height = TINY_SIDE, .width = TINY_SIDE};
    assert_ok(rq_executor_create(&owner, &model, &options, NULL, &err), &err);
    options.batch = 2;
    assert_ok(rq_executor_create(&guest, &model, &options, owner, &err), &err);
    assert_ok(rq_executor_run(owner, pixels, BATCH, want, NULL, &err), &err);
    for (int i = 0; i + 2 <= BATCH; i += 2) {
        assert_ok(rq_executor_run(guest, pixels + i * N_PIXELS, 2, got, NULL, &err), &err);
        assert_memory_equal(got, want + i * TINY_CLASSES, 2 * TINY_CLASSES * sizeof *got);
    }
    rq_executor_destroy(guest);
    rq_executor_destroy(owner);
    rq_model_deinit(&model);
}

static void test_plan__divides_the_batch(void **state)
{
    (void)state;
    static const struct {
        int batch, wanted, n_streams, stream_batch;
    } cases[] = {
        {1, 4, 1, 1},  {3, 8, 3, 1},    {32, 2, 2, 16},     {100, 2, 2, 10},
        {32, 5, 5, 7}, {64, 64, 64, 1}, {1000, 1, 1, 1000}, {17, 2, 2, 9},
    };
    rq_model model;
    tiny_int8(&model); /* small enough for any cache */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_stream_plan plan;
        const rq_session_options options = {.batch = cases[i].batch,
                                            .height = TINY_SIDE,
                                            .width = TINY_SIDE,
                                            .n_streams = cases[i].wanted};
        assert_ok(rq_streams_plan(&plan, &model, &options, &err), &err);
        assert_int_equal(plan.n_streams, cases[i].n_streams);
        assert_int_equal(plan.batch, cases[i].stream_batch);
    }
    rq_stream_plan plan;
    const rq_session_options automatic = {
        .batch = 1000, .height = TINY_SIDE, .width = TINY_SIDE, .n_streams = RQ_STREAMS_AUTO};
    assert_ok(rq_streams_plan(&plan, &model, &automatic, &err), &err);
    assert_int_equal(plan.n_streams, omp_get_max_threads());
    rq_model_deinit(&model);
}

static void observe(void *context, int node, const void *value, const rq_shape *shape)
{
    (void)context, (void)node, (void)value, (void)shape;
}

static void test_streams__refusals(void **state)
{
    (void)state;
    rq_model model;
    rq_session *session = NULL;
    rq_session_options options = {.batch = BATCH, .n_streams = 2, .observer = observe};
    tiny_int8(&model);
    assert_fails(rq_session_create(&session, &model, &options, &err), RQ_ERR_ARG, &err);
    session = open_session(&model, 2);
    float logits[N_LOGITS];
    rq_step_time times[8];
    assert_fails(rq_session_run_timed(session, pixels, 1, logits, times, &err), RQ_ERR_ARG, &err);
    rq_session_destroy(session);

    /* what is wrong with the model is said by the stream that sees it */
    session = NULL;
    options.observer = NULL;
    for (int node = 0; node < model.graph.n_nodes; node++)
        if (model.graph.nodes[node].op == RQ_OP_QCONV)
            *(int64_t *)rq_graph_tensor(&model.graph, node, RQ_SLOT_ACC_MAX)->data += 1;
    assert_fails(rq_session_create(&session, &model, &options, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "acc_max of channel 0");
    assert_null(session);
    rq_model_deinit(&model);
}

static void test_streams__without_memory(void **state)
{
    (void)state;
    rq_model model;
    tiny_int8(&model);
    rq_status status = RQ_ERR_NOMEM;
    for (long n = 0; status != RQ_OK; n++) {
        rq_session *session = NULL;
        const rq_session_options options = {.batch = BATCH, .n_streams = 2};
        rq_alloc_test_fail_after(n);
        status = rq_session_create(&session, &model, &options, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK ? session != NULL : status == RQ_ERR_NOMEM && !session);
        rq_session_destroy(session);
        assert_true(n < 1000);
    }
    rq_model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams__rows_of_one_session),
        cmocka_unit_test(test_streams__many_runs),
        cmocka_unit_test(test_streams__weights_count_once),
        cmocka_unit_test(test_executor__weights_of_a_batch_of_another_size),
        cmocka_unit_test(test_plan__divides_the_batch),
        cmocka_unit_test(test_streams__refusals),
        cmocka_unit_test(test_streams__without_memory),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
