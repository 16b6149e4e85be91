/* Initial weights: their distribution, and what they depend on. */
#include <math.h>

#include "runtime/model/arch.h"
#include "tests/support/test.h"

static rq_error err;

static const rq_tensor *find(const rq_model *model, const char *name)
{
    const int i = rq_graph_find_param(&model->graph, name);
    if (i < 0)
        fail_msg("no parameter %s", name);
    return &model->graph.params[i].tensor;
}

/* Uniform in ±bound: mean 0, variance bound² / 3, all within the bound and some close to it. */
static void check_uniform(const rq_tensor *tensor, double bound)
{
    const size_t n = rq_tensor_elems(tensor);
    double sum = 0.0, squares = 0.0, largest = 0.0;
    for (size_t k = 0; k < n; k++) {
        const double x = (double)rq_tensor_f32(tensor)[k];
        sum += x;
        squares += x * x;
        largest = fmax(largest, fabs(x));
    }
    assert_true(largest <= bound && largest > (1.0 - 10.0 / (double)n) * bound);
    assert_close(sum / (double)n, 0.0, 5.0 * bound / sqrt(3.0 * (double)n), 0.0);
    /* x² has a standard deviation of 2 / sqrt(45) bound² */
    assert_close(squares / (double)n, bound * bound / 3.0,
                 5.0 * 0.3 * bound * bound / sqrt((double)n), 0.0);
}

static void test_model_init_weights__distribution_and_seed(void **state)
{
    (void)state;
    static const char text[] = "repvgg:depth=1,2;width=16,32;classes=10";
    rq_model a, b;
    assert_ok(rq_arch_build(&a, text, 0, &err), &err);
    assert_ok(rq_arch_build(&b, text, 0, &err), &err);
    rq_model_init_weights(&a, 7);
    rq_model_init_weights(&b, 7);
    const rq_tensor *weight = find(&a, "stage1.1.rbr_dense.conv.weight");
    const size_t size_bytes = rq_tensor_elems(weight) * sizeof(float);
    const void *other = find(&b, "stage1.1.rbr_dense.conv.weight")->data;
    check_uniform(weight, 1.0 / sqrt(32.0 * 9.0));
    assert_memory_equal(weight->data, other, size_bytes);
    rq_model_init_weights(&b, 8);
    assert_memory_not_equal(weight->data, other, size_bytes);
    assert_int_equal(b.seed, 8);
    assert_close(rq_tensor_f32(find(&a, "stage0.rbr_dense.bn.running_var"))[15], 1.0, 0, 0);
    assert_ok(rq_model_check_finite(&a, &err), &err);
    rq_tensor_f32(weight)[5] = NAN;
    assert_fails(rq_model_check_finite(&a, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "stage1.1.rbr_dense.conv.weight: value 5");
    rq_model_deinit(&a);
    rq_model_deinit(&b);
}

/* A parameter's values do not depend on the rest of the network. */
static void test_model_init_weights__depend_on_the_name(void **state)
{
    (void)state;
    rq_model a, b;
    assert_ok(rq_arch_build(&a, "repvgg:depth=1,1;width=8,16", 0, &err), &err);
    assert_ok(rq_arch_build(&b, "repvgg:depth=1,3;width=8,16;se=post/2;aux=0", 0, &err), &err);
    rq_model_init_weights(&a, 1);
    rq_model_init_weights(&b, 1);
    const rq_tensor *one = find(&a, "stage1.0.rbr_1x1.conv.weight");
    const rq_tensor *two = find(&b, "stage1.0.rbr_1x1.conv.weight");
    const rq_tensor *third = find(&b, "stage1.1.rbr_1x1.conv.weight");
    assert_memory_equal(one->data, two->data, 128 * sizeof(float));
    assert_memory_not_equal(two->data, third->data, 128 * sizeof(float));
    rq_model_deinit(&a);
    rq_model_deinit(&b);
}

static void test_model_init_weights__convolutions_with_bias_and_heads(void **state)
{
    (void)state;
    rq_model model;
    assert_ok(rq_arch_build(&model, "repvgg:depth=1,1;width=8,256;se=pre/4;aux=1", 0, &err), &err);
    rq_model_init_weights(&model, 3);
    check_uniform(find(&model, "stage1.0.se.down.weight"), 1.0 / 16.0);
    check_uniform(find(&model, "stage1.0.se.down.bias"), 1.0 / 16.0);
    check_uniform(find(&model, "stage1.0.se.up.weight"), 1.0 / 8.0);
    check_uniform(find(&model, "stage1.0.se.up.bias"), 1.0 / 8.0);
    check_uniform(find(&model, "stage1_aux.0.conv.weight"), 1.0 / 48.0);
    check_uniform(find(&model, "stage1_aux.3.weight"), 1.0 / 16.0);
    check_uniform(find(&model, "stage1_aux.3.bias"), 1.0 / 16.0);
    check_uniform(find(&model, "linear.bias"), 1.0 / 16.0);
    rq_model_deinit(&model);
}

static void check_scale(const rq_model *model, const char *name, double value)
{
    const rq_tensor *tensor = find(model, name);
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
        assert_close(rq_tensor_f32(tensor)[i], value, 0.0, 1e-7);
}

/* 1 in stage0 and in the first block of a stage, sqrt(2 / i) in block i; identity 1. */
static void test_model_init_weights__scales(void **state)
{
    (void)state;
    static const char *const texts[] = {"repvgg:depth=1,4;width=8,8;stride=1,1;block=hs",
                                        "repvgg:depth=1,4;width=8,8;stride=1,1;block=csla"};
    for (size_t i = 0; i < 2; i++) {
        rq_model model;
        assert_ok(rq_arch_build(&model, texts[i], 0, &err), &err);
        rq_model_init_weights(&model, 3);
        check_scale(&model, "stage0.scale_conv.weight", 1.0);
        check_scale(&model, "stage0.scale_1x1.weight", 1.0);
        check_scale(&model, "stage1.0.scale_conv.weight", 1.0);
        check_scale(&model, "stage1.0.scale_1x1.weight", 1.0);
        check_scale(&model, "stage1.0.scale_identity.weight", 1.0);
        check_scale(&model, "stage1.1.scale_conv.weight", 1.4142135623730951);
        check_scale(&model, "stage1.2.scale_1x1.weight", 1.0);
        check_scale(&model, "stage1.3.scale_conv.weight", 0.816496580927726);
        check_scale(&model, "stage1.3.scale_identity.weight", 1.0);
        check_scale(&model, "stage1.3.bn.weight", 1.0);
        check_uniform(find(&model, "stage1.3.conv.weight"), 1.0 / sqrt(72.0));
        rq_model_deinit(&model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_init_weights__distribution_and_seed),
        cmocka_unit_test(test_model_init_weights__depend_on_the_name),
        cmocka_unit_test(test_model_init_weights__convolutions_with_bias_and_heads),
        cmocka_unit_test(test_model_init_weights__scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
