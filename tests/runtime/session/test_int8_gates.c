/* Squeeze-and-excitation in integers: the session against the scalar reference, 0 differing
 * elements of any value, on random networks with gates before the ReLU (values with zero points)
 * and after it; and the reference against numbers computed by hand. */
#include "runtime/model/gate.h"
#include "tests/runtime/session/int8_net.h"

static int add_node(rq_graph *graph, rq_op op, int a, int b)
{
    rq_error err = RQ_ERROR_INIT;
    const int inputs[2] = {a, b};
    int node;
    assert_ok(rq_graph_add_node(graph, op, rq_test_path("node%d", graph->n_nodes), b < 0 ? 1 : 2,
                                inputs, &node, &err),
              &err);
    return node;
}

/* Scales and zero points of what an operator reads and gives. */
static void add_qparams(rq_graph *graph, int node, rq_qparams x, rq_qparams y)
{
    rq_error err = RQ_ERROR_INIT;
    const int64_t two = 2;
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_SCALE, RQ_F32, 1, &two, &err), &err);
    float *scale = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_SCALE));
    scale[0] = x.scale;
    scale[1] = y.scale;
    if (!x.zero_point && !y.zero_point)
        return;
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &two, &err), &err);
    uint8_t *zero_point = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT)->data;
    zero_point[0] = x.zero_point;
    zero_point[1] = y.zero_point;
}

static const rq_conv_attr point = {{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};

/* value times a gate of it; signed values have a zero point until the product. */
static int add_gate(rq_graph *graph, int value, int channels, bool is_signed, filling fill,
                    rq_random *random)
{
    const rq_qparams x = {0.02f, is_signed ? (uint8_t)(1 + rq_random_below(random, 255)) : 0};
    const rq_qparams pooled = {(float)(0.005 + 0.02 * rq_random_unit(random)),
                               is_signed ? (uint8_t)rq_random_below(random, 256) : 0};
    const rq_qparams y = {(float)(0.005 + 0.02 * rq_random_unit(random)), 0};
    const int hidden = 1 + (int)rq_random_below(random, 9);
    const int pool = add_node(graph, RQ_OP_QGLOBAL_AVG_POOL, value, -1);
    add_qparams(graph, pool, x, pooled);
    const int down = add_layer(graph, RQ_OP_QCONV, pool, channels, hidden, point, fill, random);
    const int up = add_layer(graph, RQ_OP_QLINEAR, down, hidden, channels, point, fill, random);
    float *multiplier = rq_tensor_f32(rq_graph_tensor(graph, up, RQ_SLOT_MULTIPLIER));
    int32_t *bias = rq_graph_tensor(graph, up, RQ_SLOT_BIAS)->data;
    int64_t *acc_max = rq_graph_tensor(graph, up, RQ_SLOT_ACC_MAX)->data;
    const int8_t *wei = rq_graph_tensor(graph, up, RQ_SLOT_WEIGHT)->data;
    for (int c = 0; c < channels; c++) { /* sigmoids between 0 and 1 */
        multiplier[c] *= 0.02f;
        bias[c] /= 64;
        acc_max[2 * c + 1] = rq_acc_bias_bound(wei + (size_t)(c * hidden), (size_t)hidden, bias[c]);
    }
    const int gate = add_node(graph, RQ_OP_QSIGMOID, up, -1);
    const int mul = add_node(graph, RQ_OP_QMUL, value, gate);
    add_qparams(graph, mul, x, y);
    return mul;
}

/* Two or three gated blocks of odd sizes, the second in groups. */
static void build(rq_model *model, bool is_signed, filling fill, rq_random *random)
{
    rq_error err = RQ_ERROR_INIT;
    rq_graph *graph = &model->graph;
    *model = (rq_model)RQ_MODEL_INIT;
    model->form = RQ_FORM_INT8;
    model->n_classes = N_CLASSES;
    int last, channels = 3;
    assert_ok(rq_graph_add_node(graph, RQ_OP_INPUT, "input", 0, NULL, &last, &err), &err);
    const int n_blocks = 2 + (int)rq_random_below(random, 2);
    for (int i = 0; i < n_blocks; i++) {
        const int stride = 1 + (int)rq_random_below(random, 2);
        int groups = 1, oc = 1 + (int)rq_random_below(random, 70);
        if (i == 1) {
            groups = channels % 4 == 0 ? 4 : channels % 2 == 0 ? 2 : 1;
            oc = groups * (1 + (int)rq_random_below(random, 17));
        }
        const rq_conv_attr conv = {{3, 3}, {stride, stride}, {1, 1}, {1, 1}, groups};
        last = add_layer(graph, RQ_OP_QCONV, last, channels, oc, conv, fill, random);
        channels = oc;
        last = add_gate(graph, last, channels, is_signed, fill, random);
    }
    const rq_qparams x = {0.02f, 0}, y = {0.013f, 0};
    last = add_node(graph, RQ_OP_QGLOBAL_AVG_POOL, last, -1);
    add_qparams(graph, last, x, y);
    (void)add_layer(graph, RQ_OP_QLINEAR, last, channels, N_CLASSES, point, fill, random);
}

static void check(bool is_signed, filling fill, int n_networks)
{
    for (int seed = 0; seed < n_networks; seed++) {
        rq_random random = rq_random_stream((uint64_t)seed, (uint64_t)fill, is_signed);
        rq_model model;
        const int n = 1 + (int)rq_random_below(&random, 3);
        const int h = 9 + (int)rq_random_below(&random, 12),
                  w = 9 + (int)rq_random_below(&random, 12);
        build(&model, is_signed, fill, &random);
        const size_t n_pixels = (size_t)n * (size_t)h * (size_t)w * 3;
        uint8_t *pixels = rq_alloc(n_pixels);
        for (size_t i = 0; i < n_pixels; i++)
            pixels[i] = fill == RANDOM ? (uint8_t)rq_random_below(&random, 256) : 255;
        check_model(&model, pixels, n, h, w, fill == RANDOM ? 200 : 2);
        rq_free(pixels);
        rq_model_deinit(&model);
    }
}

static void test_session__equals_reference_with_gates_before_relu(void **state)
{
    (void)state;
    check(true, RANDOM, 20);
    check(true, ALL_LARGEST, 4);
}

static void test_session__equals_reference_with_gates_behind_relu(void **state)
{
    (void)state;
    check(false, RANDOM, 20);
    check(false, ALL_LARGEST, 4);
}

/* ---- by hand ---- */

static rq_model model;
static rq_error err;

/* Three channels of pixels as u8 values with a zero point: quantize undoes the normalisation. */
static int start(float scale, uint8_t zero_point)
{
    const int64_t one = 1;
    model = (rq_model)RQ_MODEL_INIT;
    model.form = RQ_FORM_INT8;
    model.n_classes = 3;
    for (int c = 0; c < 3; c++) {
        model.preprocess.mean[c] = 0.0f;
        model.preprocess.std[c] = 1.0f / 255.0f;
    }
    int node;
    assert_ok(rq_graph_add_node(&model.graph, RQ_OP_INPUT, "input", 0, NULL, &node, &err), &err);
    node = add_node(&model.graph, RQ_OP_QUANTIZE, node, -1);
    assert_ok(rq_graph_add_param(&model.graph, node, RQ_SLOT_SCALE, RQ_F32, 1, &one, &err), &err);
    assert_ok(rq_graph_add_param(&model.graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &one, &err),
              &err);
    *rq_tensor_f32(rq_graph_tensor(&model.graph, node, RQ_SLOT_SCALE)) = scale;
    *(uint8_t *)rq_graph_tensor(&model.graph, node, RQ_SLOT_ZERO_POINT)->data = zero_point;
    return node;
}

static void test_rules__hand_computed(void **state)
{
    (void)state;
    static const uint8_t pixels[2 * 3] = {0, 40, 200, 10, 60, 90};
    const rq_qparams x = {2.0f, 50}, pooled = {1.0f, 20}, y = {0.5f, 10};
    const int value = start(2.0f, 50); /* q = rne(p / 2) + 50: 50 70 150, 55 80 95 */
    const int pool = add_node(&model.graph, RQ_OP_QGLOBAL_AVG_POOL, value, -1);
    add_qparams(&model.graph, pool, x, pooled);
    const int real = add_node(&model.graph, RQ_OP_DEQUANTIZE, pool, -1);
    const int64_t one = 1;
    assert_ok(rq_graph_add_param(&model.graph, real, RQ_SLOT_SCALE, RQ_F32, 1, &one, &err), &err);
    assert_ok(rq_graph_add_param(&model.graph, real, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &one, &err),
              &err);
    *rq_tensor_f32(rq_graph_tensor(&model.graph, real, RQ_SLOT_SCALE)) = 0.02f;
    *(uint8_t *)rq_graph_tensor(&model.graph, real, RQ_SLOT_ZERO_POINT)->data = 70;
    const int gate = add_node(&model.graph, RQ_OP_QSIGMOID, real, -1);
    const int mul = add_node(&model.graph, RQ_OP_QMUL, value, gate);
    add_qparams(&model.graph, mul, x, y);
    (void)add_node(&model.graph, RQ_OP_DEQUANTIZE, pool, -1);
    const int last = model.graph.n_nodes - 1;
    assert_ok(rq_graph_add_param(&model.graph, last, RQ_SLOT_SCALE, RQ_F32, 1, &one, &err), &err);
    *rq_tensor_f32(rq_graph_tensor(&model.graph, last, RQ_SLOT_SCALE)) = 1.0f;

    values seen = {0};
    float logits[3];
    assert_ok(rq_integer_run_ref(&model, pixels, 1, 1, 2, logits, keep, &seen, &err), &err);
    /* means 2 * (52.5 - 50) = 5, 50, 145; b = rne(20 * 1 * 2 / 2) - 50 * 2 = -80, m = 2 / (1 * 2):
     * 105 - 80 = 25, 150 - 80 = 70, 245 - 80 = 165 */
    assert_memory_equal(seen.data[pool], ((const uint8_t[]){25, 70, 165}), 3);
    /* 0.02 * (25 - 70) = -0.9, 0, 1.9: 255 * 0.28905 = 73.7, 127.5, 255 * 0.86989 = 221.8 */
    assert_memory_equal(seen.data[gate], ((const uint8_t[]){74, 128, 222}), 3);
    /* b = rne(10 * 0.5 * 255 / 2) = rne(637.5) = 638 (1 / 255 is rounded up), m = 2 / (255 * 0.5):
     * (0 + 638) m = 10.008, (20 * 128 + 638) m = 50.16, (100 * 222 + 638) m = 358.2 -> 255,
     * (5 * 74 + 638) m = 15.8, (30 * 128 + 638) m = 70.2, (45 * 222 + 638) m = 166.7 */
    assert_memory_equal(seen.data[mul], ((const uint8_t[]){10, 50, 255, 16, 70, 167}), 6);
    for (int node = 0; node < 32; node++)
        rq_free(seen.data[node]);
    rq_model_deinit(&model);
}

/* Scales and zero points that leave s32: refused with the node's name, in both executions. */
static void test_rules__refuse_what_leaves_s32(void **state)
{
    (void)state;
    static const uint8_t pixels[3] = {1, 2, 3};
    for (int product = 0; product < 2; product++) {
        float logits[3];
        rq_session *session = NULL;
        rq_session_options options = RQ_SESSION_OPTIONS_INIT;
        options.height = options.width = 1;
        const rq_qparams x = {1.0f, 3}, y = {1e30f, 7};
        const int value = start(1.0f, 3);
        /* one pixel may be its own gate */
        const int node = add_node(&model.graph, product ? RQ_OP_QMUL : RQ_OP_QGLOBAL_AVG_POOL,
                                  value, product ? value : -1);
        add_qparams(&model.graph, node, x, y);
        const int64_t one = 1;
        const int last = add_node(&model.graph, RQ_OP_DEQUANTIZE, node, -1);
        assert_ok(rq_graph_add_param(&model.graph, last, RQ_SLOT_SCALE, RQ_F32, 1, &one, &err),
                  &err);
        *rq_tensor_f32(rq_graph_tensor(&model.graph, last, RQ_SLOT_SCALE)) = 1.0f;
        assert_fails(rq_session_create(&session, &model, &options, &err), RQ_ERR_RANGE, &err);
        assert_says(&err, "node2: ");
        assert_fails(rq_integer_run_ref(&model, pixels, 1, 1, 1, logits, NULL, NULL, &err),
                     RQ_ERR_RANGE, &err);
        assert_says(&err, "node2: ");
        rq_model_deinit(&model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session__equals_reference_with_gates_before_relu),
        cmocka_unit_test(test_session__equals_reference_with_gates_behind_relu),
        cmocka_unit_test(test_rules__hand_computed),
        cmocka_unit_test(test_rules__refuse_what_leaves_s32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
