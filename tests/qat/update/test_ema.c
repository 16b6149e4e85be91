/* The two rules, the average itself, changing places with the model. */
#include "qat/update/ema.h"

#include <omp.h>
#include <string.h>

#include "tests/qat/net.h"
#include "tests/support/test.h"

static void test_share__repvgg(void **state)
{
    (void)state;
    const rq_ema_options o = {
        .alpha = 1e-3, .rule = RQ_EMA_REPVGG, .batch = 256, .epochs = 120, .warmup_epochs = 5};
    assert_close(rq_ema_share(&o, 0, 0), 1.0, 0.0, 0.0); /* warm-up: a copy */
    assert_close(rq_ema_share(&o, 4, 800), 1.0, 0.0, 0.0);
    assert_close(rq_ema_share(&o, 5, 0), 1e-3 * 256.0 / 120.0 * 8.0, 0.0, 1e-15);
    assert_close(rq_ema_share(&o, 119, 16), 1e-3 * 256.0 / 120.0 * 8.0, 0.0, 1e-15);
    for (int64_t i = 1; i < 8; i++)
        assert_close(rq_ema_share(&o, 5, i), 0.0, 0.0, 0.0); /* nothing in between */
    const rq_ema_options large = {
        .alpha = 0.9, .rule = RQ_EMA_REPVGG, .batch = 256, .epochs = 10, .warmup_epochs = 0};
    assert_close(rq_ema_share(&large, 0, 8), 1.0, 0.0, 0.0); /* at most everything */
    const rq_ema_options none = {
        .alpha = 0.0, .rule = RQ_EMA_REPVGG, .batch = 1, .epochs = 1, .warmup_epochs = 9};
    assert_close(rq_ema_share(&none, 0, 0), 0.0, 0.0, 0.0);
}

static void test_share__plain(void **state)
{
    (void)state;
    const rq_ema_options o = {
        .alpha = 0.01, .rule = RQ_EMA_PLAIN, .batch = 256, .epochs = 120, .warmup_epochs = 5};
    for (int64_t i = 0; i < 20; i++)
        assert_close(rq_ema_share(&o, (int)i, i), 0.01, 0.0, 0.0);
}

static void build(net *n)
{
    net_begin(n, RQ_FORM_TRAIN, 4, 3, 1);
    const int a = net_conv(n, "a", 0, 45, NET_K3, false);
    const int b = net_bn(n, "bn", net_conv(n, "b", a, 45, NET_K3, false)); /* 18,225 weights */
    (void)net_head(n, b);
}

static void fill(rq_model *model, uint64_t seed)
{
    rq_random random = {seed};
    for (int i = 0; i < model->graph.n_params; i++) {
        rq_tensor *tensor = &model->graph.params[i].tensor;
        for (size_t k = 0; k < rq_tensor_elems(tensor); k++) {
            if (tensor->dtype == RQ_F32)
                rq_tensor_f32(tensor)[k] = (float)rq_random_normal(&random);
            else
                ((int64_t *)tensor->data)[k] = (int64_t)rq_random_below(&random, 1000);
        }
    }
}

static void test_update__formula_and_swap(void **state)
{
    (void)state;
    const int usual = omp_get_max_threads();
    for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
        rq_error err = RQ_ERROR_INIT;
        rq_ema *ema = NULL;
        net n;
        build(&n);
        omp_set_num_threads(n_threads);
        assert_ok(rq_ema_create(&ema, &n.model, &err), &err);
        const rq_graph *graph = &n.model.graph;
        static float old[64][20000], new[64][20000];
        assert_true(graph->n_params <= 64);
        for (int i = 0; i < graph->n_params; i++) { /* a copy at first */
            const rq_tensor *t = &graph->params[i].tensor;
            const size_t n_bytes = rq_tensor_elems(t) * rq_dtype_size(t->dtype);
            assert_memory_equal(rq_ema_values(ema, i), t->data, n_bytes);
            memcpy(old[i], t->data, n_bytes);
        }
        fill(&n.model, 5);
        for (int i = 0; i < graph->n_params; i++) {
            const rq_tensor *t = &graph->params[i].tensor;
            memcpy(new[i], t->data, rq_tensor_elems(t) * rq_dtype_size(t->dtype));
        }
        rq_ema_update(ema, 0.25);
        rq_ema_swap(ema);
        for (int i = 0; i < graph->n_params; i++) {
            const rq_tensor *t = &graph->params[i].tensor;
            const size_t elems = rq_tensor_elems(t);
            for (size_t k = 0; k < elems && t->dtype == RQ_F32; k++)
                assert_close(rq_tensor_f32(t)[k], 0.75f * old[i][k] + 0.25f * new[i][k], 1e-6,
                             1e-6);
            if (t->dtype == RQ_S64)
                assert_memory_equal(t->data, new[i], elems * 8);
            assert_memory_equal(rq_ema_values(ema, i), new[i], elems * rq_dtype_size(t->dtype));
        }
        rq_ema_swap(ema);
        for (int i = 0; i < graph->n_params; i++) {
            const rq_tensor *t = &graph->params[i].tensor;
            assert_memory_equal(t->data, new[i], rq_tensor_elems(t) * rq_dtype_size(t->dtype));
        }
        rq_ema_update(ema, 1.0);
        for (int i = 0; i < graph->n_params; i++) {
            const rq_tensor *t = &graph->params[i].tensor;
            assert_memory_equal(rq_ema_values(ema, i), new[i],
                                rq_tensor_elems(t) * rq_dtype_size(t->dtype));
        }
        rq_ema_destroy(ema);
        rq_model_deinit(&n.model);
    }
    omp_set_num_threads(usual);
}

static void test_create__out_of_memory(void **state)
{
    (void)state;
    net n;
    build(&n);
    rq_status status = RQ_ERR_NOMEM;
    for (long i = 0; status != RQ_OK; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_ema *ema = NULL;
        rq_alloc_test_fail_after(i);
        status = rq_ema_create(&ema, &n.model, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK ? ema != NULL : status == RQ_ERR_NOMEM && !ema);
        rq_ema_destroy(ema);
    }
    rq_model_deinit(&n.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share__repvgg),
        cmocka_unit_test(test_share__plain),
        cmocka_unit_test(test_update__formula_and_swap),
        cmocka_unit_test(test_create__out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
