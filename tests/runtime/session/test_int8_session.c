/* The oneDNN session of an int8 model against the scalar reference, every value of every layer, 0
 * differing elements: random networks with odd channels, strides, groups, kernels and borders, and
 * the extremes where 16-bit pair sums and f32 would fail. Registered again under instruction sets
 * without VNNI. */
#include "runtime/dnn/dnn.h"
#include "runtime/dnn/integer_conv.h"
#include "tests/runtime/session/int8_net.h"

/* Windows that overlap, touch, or leave pixels out, with a border or without. */
static int add_max_pool(rq_graph *graph, int input, rq_random *random)
{
    rq_error err = RQ_ERROR_INIT;
    char name[16];
    int node;
    (void)snprintf(name, sizeof name, "pool%d", graph->n_nodes);
    assert_ok(rq_graph_add_node(graph, RQ_OP_QMAX_POOL, name, 1, &input, &node, &err), &err);
    rq_conv_attr window = {{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    for (int i = 0; i < 2; i++) {
        window.kernel[i] = 1 + (int)rq_random_below(random, 3);
        window.stride[i] = 1 + (int)rq_random_below(random, 3);
        window.pad[i] = (int)rq_random_below(random, (uint64_t)window.kernel[i]);
    }
    graph->nodes[node].conv = window;
    return node;
}

static void build(rq_model *model, filling fill, rq_random *random)
{
    rq_error err = RQ_ERROR_INIT;
    rq_graph *graph = &model->graph;
    *model = (rq_model)RQ_MODEL_INIT;
    model->form = RQ_FORM_INT8;
    model->n_classes = N_CLASSES;
    int last, channels = 3;
    assert_ok(rq_graph_add_node(graph, RQ_OP_INPUT, "input", 0, NULL, &last, &err), &err);
    for (int i = 0; i < 4; i++) {
        const int k = 1 + 2 * (int)rq_random_below(random, 3),
                  stride = 1 + (int)rq_random_below(random, 2);
        const int dilation = k > 1 && rq_random_below(random, 4) == 0 ? 2 : 1;
        const int pad = (int)rq_random_below(random, (uint64_t)(k / 2 * dilation) + 1);
        int groups = 1, oc = 1 + (int)rq_random_below(random, 70);
        if (i && rq_random_below(random, 3) == 0) {
            groups = channels % 3 == 0 ? 3 : channels % 2 == 0 ? 2 : channels; /* or depthwise */
            oc = groups * (1 + (int)rq_random_below(random, 20));
        }
        const rq_conv_attr conv = {
            {k, k}, {stride, stride}, {pad, pad}, {dilation, dilation}, groups};
        last = add_layer(graph, RQ_OP_QCONV, last, channels, oc, conv, fill, random);
        if (rq_random_below(random, 3) == 0)
            last = add_max_pool(graph, last, random);
        channels = oc;
    }
    const int64_t two = 2;
    assert_ok(rq_graph_add_node(graph, RQ_OP_QGLOBAL_AVG_POOL, "gap", 1, &last, &last, &err), &err);
    assert_ok(rq_graph_add_param(graph, last, RQ_SLOT_SCALE, RQ_F32, 1, &two, &err), &err);
    float *scale = rq_tensor_f32(rq_graph_tensor(graph, last, RQ_SLOT_SCALE));
    scale[0] = 0.02f;
    scale[1] = 0.013f;
    const rq_conv_attr point = {{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    (void)add_layer(graph, RQ_OP_QLINEAR, last, channels, N_CLASSES, point, fill, random);
}

static void check(filling fill, int n_networks, size_t min_distinct)
{
    for (int seed = 0; seed < n_networks; seed++) {
        rq_random random = rq_random_stream((uint64_t)seed, (uint64_t)fill, 8);
        rq_model model;
        const int n = 1 + (int)rq_random_below(&random, 3);
        const int h = 23 + (int)rq_random_below(&random, 19),
                  w = 23 + (int)rq_random_below(&random, 19);
        build(&model, fill, &random);
        uint8_t *pixels = rq_alloc((size_t)n * (size_t)h * (size_t)w * 3);
        for (int i = 0; i < n * h * w * 3; i++)
            pixels[i] = fill == ALL_LARGEST || fill == ALTERNATING
                            ? 255
                            : (uint8_t)rq_random_below(&random, 256);
        rq_error err = RQ_ERROR_INIT;
        rq_shape shapes[32];
        if (rq_graph_shapes(&model.graph, n, h, w, shapes, &err) == RQ_OK)
            check_model(&model, pixels, n, h, w, min_distinct);
        else
            print_message("seed %d: skipped (%s)\n", seed, err.text);
        rq_free(pixels);
        rq_model_deinit(&model);
    }
}

static void test_session__equals_reference_on_random_networks(void **state)
{
    (void)state;
    check(RANDOM, 30, 100);
}

static void test_session__equals_reference_at_extremes(void **state)
{
    (void)state;
    check(ALL_LARGEST, 8, 2);
    check(ALTERNATING, 8, 2);
}

static void test_session__needs_no_split_when_pairs_are_proven_safe(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_random random = rq_random_stream(1, 2, 3);
    rq_model model;
    build(&model, SMALL_WEIGHTS, &random);
    model.isa_proof = true;
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    options.height = options.width = 40;
    assert_ok(rq_session_create(&session, &model, &options, &err), &err);
    assert_false(rq_session_get_info(session).saturation_safe);
    rq_session_destroy(session);
    uint8_t pixels[40 * 40 * 3];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)rq_random_below(&random, 256);
    check_model(&model, pixels, 1, 40, 40, 100);
    rq_model_deinit(&model);
}

/* The guard is not optional: oneDNN's own kernel is wrong on such CPUs, and the split one is what
 * makes it right. */
static void test_session__takes_the_safe_kernel_where_pairs_saturate(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_random random = rq_random_stream(4, 5, 6);
    rq_model model;
    build(&model, RANDOM, &random);
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    options.height = options.width = 40;
    assert_ok(rq_session_create(&session, &model, &options, &err), &err);
    assert_int_equal(rq_session_get_info(session).saturation_safe, rq_dnn_u8s8_may_saturate());
    rq_session_destroy(session);
    rq_model_deinit(&model);
}

/* ---- integer convolutions over f32, as form qat uses them, far beyond 2^24 ---- */

static void test_integer_conv__f32_sums_are_exact_beyond_2_24(void **state)
{
    (void)state;
    enum { IC = 900, OC = 5, SIDE = 4 };
    rq_error err = RQ_ERROR_INIT;
    const rq_conv_attr attr = {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1};
    const rq_conv_shape shape = {1, SIDE, SIDE, IC, SIDE, SIDE, OC, attr};
    const size_t n_wei = (size_t)OC * IC * 9, n_src = SIDE * SIDE * IC, n_dst = SIDE * SIDE * OC;
    int8_t *wei = rq_alloc(n_wei);
    uint8_t *src = rq_alloc(n_src), want[SIDE * SIDE * OC];
    float *src_f32 = rq_alloc(n_src * sizeof(float)), got[SIDE * SIDE * OC];
    rq_random random = rq_random_stream(7, 8, 9);
    for (size_t i = 0; i < n_wei; i++) /* nearly all of one sign: |acc| to 2.5e8 */
        wei[i] = (int8_t)(127 - (int)rq_random_below(&random, 9));
    for (size_t i = 0; i < n_src; i++) {
        src[i] = (uint8_t)(255 - rq_random_below(&random, 7));
        src_f32[i] = (float)src[i];
    }
    int32_t bias[OC];
    float multiplier[OC];
    for (int c = 0; c < OC; c++) {
        bias[c] = -100000000 * c;
        multiplier[c] = (float)(1e-6 * (1.0 + rq_random_unit(&random)));
    }
    rq_qconv_ref(&shape, src, wei, bias, multiplier, NULL, want);
    const rq_iconv_weights weights = {wei, bias, multiplier, false, NULL};
    rq_dnn *dnn = NULL;
    rq_iconv *conv = NULL;
    assert_ok(rq_dnn_create(&dnn, &err), &err);
    assert_ok(rq_iconv_create(&conv, dnn, &shape, RQ_ICONV_F32, &weights, false, &err), &err);
    assert_true(rq_iconv_is_split(conv));
    void *scratch = rq_alloc(rq_iconv_scratch_bytes(conv));
    assert_ok(rq_iconv_run(conv, src_f32, got, scratch, &err), &err);
    for (size_t i = 0; i < n_dst; i++)
        assert_int_equal((int)got[i], want[i]);
    rq_iconv_destroy(conv);
    rq_dnn_destroy(dnn);
    rq_free(scratch);
    rq_free(src_f32);
    rq_free(src);
    rq_free(wei);
}

int main(void)
{
    print_message("instruction set: rq_dnn_isa %d\n", (int)rq_dnn_isa_level());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session__equals_reference_on_random_networks),
        cmocka_unit_test(test_session__equals_reference_at_extremes),
        cmocka_unit_test(test_session__needs_no_split_when_pairs_are_proven_safe),
        cmocka_unit_test(test_session__takes_the_safe_kernel_where_pairs_saturate),
        cmocka_unit_test(test_integer_conv__f32_sums_are_exact_beyond_2_24),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
