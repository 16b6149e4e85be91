/* Facts about the layers of the tiny models, counted by hand. */
#include "runtime/eval/layer_facts.h"

#include <string.h>

#include "tests/runtime/tiny_models.h"

static rq_error err;
static rq_model model;
static rq_shape shapes[16];

static int teardown(void **state)
{
    (void)state;
    rq_model_deinit(&model);
    return 0;
}

static rq_layer_facts facts_of(const char *name)
{
    rq_layer_facts facts;
    const int node = rq_graph_find_node(&model.graph, name);
    assert_true(node >= 0);
    assert_ok(rq_graph_shapes(&model.graph, 1, TINY_SIDE, TINY_SIDE, shapes, &err), &err);
    assert_ok(rq_layer_facts_get(&facts, &model, node, shapes, &err), &err);
    return facts;
}

static void test_layer_facts__of_a_float_model(void **state)
{
    (void)state;
    tiny_deploy(&model);
    const rq_layer_facts conv = facts_of("conv"), linear = facts_of("linear");
    assert_int_equal(conv.n_params, TINY_CHANNELS * TINY_TAPS + TINY_CHANNELS);
    assert_int_equal(conv.n_buffers, 0);
    assert_true(conv.macs == 8 * 8 * TINY_CHANNELS * TINY_TAPS);
    assert_false(conv.has_scale || conv.has_weight_scale || conv.has_acc);
    assert_true(linear.macs == TINY_CHANNELS * TINY_CLASSES);
    assert_int_equal(facts_of("gap").n_params, 0);
    assert_true(facts_of("relu").macs == 0.0);
}

static void test_layer_facts__of_a_fake_quantized_model(void **state)
{
    (void)state;
    tiny_qat(&model);
    const int node = rq_graph_find_node(&model.graph, "linear");
    float *scale = rq_tensor_f32(rq_graph_tensor(&model.graph, node, RQ_SLOT_WEIGHT_SCALE));
    float *weight = rq_tensor_f32(rq_graph_tensor(&model.graph, node, RQ_SLOT_WEIGHT));
    tiny_fill(weight, TINY_CHANNELS * TINY_CLASSES, 1.0f);
    weight[5] = -1.0f;
    scale[0] = 0.5f; /* q = 2, 2, 2, 2 */
    scale[1] = 0.1f; /* 10, -10, 10, 10 */
    scale[2] = 1.0f;
    const rq_layer_facts linear = facts_of("linear");
    assert_true(linear.has_weight_scale && linear.has_acc);
    assert_true(linear.weight_scale_min == 0.1f && linear.weight_scale_max == 1.0f);
    assert_int_equal(linear.acc_max, 255 * 30);
    const rq_layer_facts quant = facts_of("conv.quant");
    assert_true(quant.has_scale && quant.scale == TINY_SCALE);
    assert_true(quant.has_range && quant.min == 0.0f && quant.max == 255 * TINY_SCALE);
    assert_int_equal(quant.n_params, 0);
    assert_int_equal(quant.n_buffers, 3);
    assert_int_equal(linear.n_params, TINY_CHANNELS * TINY_CLASSES + TINY_CLASSES);
    assert_int_equal(linear.n_buffers, TINY_CLASSES);
    assert_false(quant.has_acc || linear.has_range);
}

static void test_layer_facts__of_an_integer_model(void **state)
{
    (void)state;
    tiny_int8(&model);
    const int node = rq_graph_find_node(&model.graph, "conv");
    int64_t *acc_max = rq_graph_tensor(&model.graph, node, RQ_SLOT_ACC_MAX)->data;
    const int64_t pairs[2 * TINY_CHANNELS] = {10, 99, 30, 98, 20, 97, 5, 96};
    memcpy(acc_max, pairs, sizeof pairs);
    const rq_layer_facts conv = facts_of("conv");
    assert_true(conv.has_acc);
    assert_int_equal(conv.acc_max, 30);
    assert_true(conv.weight_scale_min == 0.05f && conv.weight_scale_max == 0.05f);
    assert_true(facts_of("gap").has_scale);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_layer_facts__of_a_float_model, teardown),
        cmocka_unit_test_teardown(test_layer_facts__of_a_fake_quantized_model, teardown),
        cmocka_unit_test_teardown(test_layer_facts__of_an_integer_model, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
