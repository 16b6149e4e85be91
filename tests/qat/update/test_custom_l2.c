/* The penalty on merged kernels: its value by the formula written down again, its gradient by
 * finite differences of that, what it is about, and whom it refuses. */
#include "qat/update/custom_l2.h"

#include <math.h>
#include <string.h>

#include "qat/update/optimizer.h"
#include "runtime/model/arch.h"
#include "tests/support/test.h"

#define DECAY 0.25
#define ARCH  "repvgg:depth=1,2;width=4,6;stride=1,1;groups=2;classes=3"

static rq_model model;
static rq_trainer *trainer;

static void start(const char *arch)
{
    rq_error err = RQ_ERROR_INIT;
    const rq_trainer_options options = {.batch = 1, .height = 4, .width = 4};
    model = (rq_model)RQ_MODEL_INIT;
    assert_ok(rq_arch_build(&model, arch, 0, &err), &err);
    rq_model_init_weights(&model, 3);
    assert_ok(rq_trainer_create(&trainer, &model, &options, &err), &err);
}

static void finish(void)
{
    rq_trainer_destroy(trainer);
    rq_model_deinit(&model);
}

static const rq_tensor *tensor_of(const char *block, const char *name)
{
    const int param = rq_graph_find_param(&model.graph, rq_test_path("%s.%s", block, name));
    assert_true(param >= 0);
    return &model.graph.params[param].tensor;
}

static float *values_of(const char *block, const char *name)
{
    return rq_tensor_f32(tensor_of(block, name));
}

static const char *const blocks[] = {"stage0", "stage1.0", "stage1.1"};
enum { N_BLOCKS = 3 };

/* Batch norms as after some training: nothing is 1 or 0 any more, but for one channel whose two
 * branches are both off. */
static void set_batch_norms(void)
{
    rq_random random = {5};
    for (int b = 0; b < N_BLOCKS; b++)
        for (int branch = 0; branch < 2; branch++) {
            const char *bn = branch ? "rbr_1x1.bn" : "rbr_dense.bn";
            const size_t n = rq_tensor_elems(tensor_of(blocks[b], rq_test_path("%s.weight", bn)));
            float *gamma = values_of(blocks[b], rq_test_path("%s.weight", bn));
            float *var = values_of(blocks[b], rq_test_path("%s.running_var", bn));
            for (size_t c = 0; c < n; c++) {
                gamma[c] = (float)(2.0 * rq_random_unit(&random) - 1.0);
                var[c] = (float)(0.1 + 2.0 * rq_random_unit(&random));
            }
            gamma[1] = 0.0f;
        }
}

static double factor(const char *block, const char *bn, size_t c)
{
    return (double)values_of(block, rq_test_path("%s.weight", bn))[c] /
           sqrt((double)values_of(block, rq_test_path("%s.running_var", bn))[c] + 1e-5);
}

/* get_custom_L2, channel by channel */
static double penalty(void)
{
    double total = 0.0;
    for (int b = 0; b < N_BLOCKS; b++) {
        const rq_tensor *point = tensor_of(blocks[b], "rbr_1x1.conv.weight");
        const size_t inputs = (size_t)point->dim[1];
        const float *k3 = values_of(blocks[b], "rbr_dense.conv.weight");
        const float *k1 = rq_tensor_f32(point);
        for (size_t i = 0; i < rq_tensor_elems(point); i++) {
            const double t3 = factor(blocks[b], "rbr_dense.bn", i / inputs);
            const double t1 = factor(blocks[b], "rbr_1x1.bn", i / inputs);
            const double eq = (double)k3[9 * i + 4] * t3 + (double)k1[i] * t1;
            for (size_t tap = 0; tap < 9; tap++)
                total += (double)k3[9 * i + tap] * (double)k3[9 * i + tap] * (tap != 4);
            if (t3 != 0.0 || t1 != 0.0)
                total += eq * eq / (t3 * t3 + t1 * t1);
        }
    }
    return 0.5 * DECAY * total;
}

static void check_gradient(const char *block, const char *name)
{
    const double step = 1.0 / 256.0;
    const int param = rq_graph_find_param(&model.graph, rq_test_path("%s.%s", block, name));
    const size_t n = rq_tensor_elems(&model.graph.params[param].tensor);
    float *values = rq_tensor_f32(&model.graph.params[param].tensor);
    const float *gradient = rq_trainer_gradient(trainer, param);
    for (size_t i = 0; i < n; i++) {
        const float kept = values[i];
        const float above = kept + (float)step, below = kept - (float)step;
        values[i] = above;
        const double high = penalty();
        values[i] = below;
        const double low = penalty();
        values[i] = kept;
        /* a quadratic function: the central difference is exact but for rounding */
        assert_close(gradient[i] - 1.0f, (high - low) / ((double)above - (double)below), 2e-7,
                     1e-6);
    }
}

static void test_add__value_and_gradient(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_custom_l2 *l2;
    start(ARCH);
    set_batch_norms();
    assert_ok(rq_custom_l2_create(&l2, trainer, &model, DECAY, &err), &err);
    for (int i = 0; i < model.graph.n_params; i++) { /* what is there stays */
        float *gradient = rq_trainer_gradient(trainer, i);
        for (size_t k = 0; gradient && k < rq_tensor_elems(&model.graph.params[i].tensor); k++)
            gradient[k] = 1.0f;
    }
    assert_close(rq_custom_l2_add(l2), penalty(), 0.0, 1e-12);
    for (int b = 0; b < N_BLOCKS; b++) {
        check_gradient(blocks[b], "rbr_dense.conv.weight");
        check_gradient(blocks[b], "rbr_1x1.conv.weight");
    }
    rq_custom_l2_destroy(l2);
    finish();
}

/* Their kernels have no decay of their own; all else is as before. */
static void test_kernels__no_ordinary_decay(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_custom_l2 *l2;
    static rq_param_rule rules[4096];
    start(ARCH);
    assert_ok(rq_custom_l2_create(&l2, trainer, &model, DECAY, &err), &err);
    const rq_rule_options options = {
        .bias_lr = 1.0, .decay_identity = true, .custom_l2 = rq_custom_l2_weights(l2)};
    assert_true(model.graph.n_params <= 4096);
    assert_ok(rq_param_rules(rules, &model.graph, &options, &err), &err);
    for (int i = 0; i < model.graph.n_params; i++) {
        const char *name = model.graph.params[i].name;
        const bool decays =
            strcmp(name, "linear.weight") == 0 || strstr(name, "rbr_identity.weight");
        assert_int_equal(rules[i].decays, decays);
    }
    rq_custom_l2_destroy(l2);
    finish();
}

static void test_create__other_blocks(void **state)
{
    (void)state;
    static const char *const words[] = {"target", "qarepvgg", "hs"};
    for (int i = 0; i < 3; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_custom_l2 *l2;
        start(rq_test_path("%s;block=%s", ARCH, words[i]));
        assert_fails(rq_custom_l2_create(&l2, trainer, &model, DECAY, &err), RQ_ERR_USAGE, &err);
        assert_says(&err, "--custom-l2");
        finish();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add__value_and_gradient),
        cmocka_unit_test(test_kernels__no_ordinary_decay),
        cmocka_unit_test(test_create__other_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
