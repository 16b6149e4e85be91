/* The oneDNN session of an int8 model against the scalar reference, every value of every layer, 0
 * differing elements: random networks with odd channels, strides, groups, kernels and borders, and
 * the extremes where 16-bit pair sums and f32 would fail. Registered again under instruction sets
 * without VNNI. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/dnn/dnn.h"
#include "runtime/model/quant.h"
#include "runtime/session/integer_conv.h"
#include "runtime/session/session.h"
#include "tests/support/test.h"

enum { N_CLASSES = 7 };

/* How weights and pixels are drawn. */
typedef enum filling { RANDOM, ALL_LARGEST, ALTERNATING, SMALL_WEIGHTS } filling;

static int8_t draw_weight(filling fill, size_t i, rq_random *random)
{
    switch (fill) {
    case ALL_LARGEST:
        return 127;
    case ALTERNATING:
        return i % 2 ? 127 : -127;
    case SMALL_WEIGHTS:
        return (int8_t)((int)rq_random_below(random, 129) - 64);
    case RANDOM:
        break;
    }
    return (int8_t)((int)rq_random_below(random, 255) - 127);
}

static int add_layer(rq_graph *graph, rq_op op, int input, int ic, int oc, rq_conv_attr conv,
                     filling fill, rq_random *random)
{
    rq_error err = RQ_ERROR_INIT;
    char name[16];
    int node;
    (void)snprintf(name, sizeof name, "layer%d", graph->n_nodes);
    assert_ok(rq_graph_add_node(graph, op, name, 1, &input, &node, &err), &err);
    if (op == RQ_OP_QCONV)
        graph->nodes[node].conv = conv;
    const int64_t wide[4] = {oc, ic / conv.groups, conv.kernel[0], conv.kernel[1]};
    const int64_t channels = oc, acc_max[2] = {oc, 2}, in_channels = ic;
    const int rank = op == RQ_OP_QCONV ? 4 : 2;
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_WEIGHT, RQ_S8, rank, wide, &err), &err);
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_BIAS, RQ_S32, 1, &channels, &err), &err);
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_MULTIPLIER, RQ_F32, 1, &channels, &err),
              &err);
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_ACC_MAX, RQ_S64, 2, acc_max, &err), &err);
    if (input == 0) {
        assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &in_channels, &err),
                  &err);
        uint8_t *zero = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT)->data;
        for (int c = 0; c < ic; c++)
            zero[c] = (uint8_t)rq_random_below(random, 256);
    }
    int8_t *wei = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)->data;
    int32_t *bias = rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->data;
    float *multiplier = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER));
    const size_t taps = (size_t)(wide[1] * (rank == 4 ? wide[2] * wide[3] : 1));
    for (size_t i = 0; i < (size_t)oc * taps; i++)
        wei[i] = draw_weight(fill, i, random);
    for (int c = 0; c < oc; c++) {
        bias[c] = (int32_t)rq_random_below(random, 2000001) - 1000000;
        /* so that results use the whole of 0…255, ties and both clamps included */
        multiplier[c] = (float)((0.5 + rq_random_unit(random)) / (127.0 * sqrt((double)taps)));
        if (fill == ALL_LARGEST)
            multiplier[c] = (float)(200.0 / (255.0 * 127.0 * (double)taps));
        int64_t *largest = rq_graph_tensor(graph, node, RQ_SLOT_ACC_MAX)->data;
        largest[2 * c] = rq_acc_bound(wei + (size_t)c * taps, taps);
        largest[2 * c + 1] = rq_acc_bias_bound(wei + (size_t)c * taps, taps, bias[c]);
    }
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

/* ---- every value of a reference run, kept to be compared ---- */

typedef struct values {
    void *data[32];
    size_t size_bytes[32];
    size_t differing, compared;
} values;

static size_t value_bytes(const rq_shape *shape)
{
    return rq_shape_elems(shape) * rq_dtype_size(shape->dtype);
}

static void keep(void *context, int node, const void *value, const rq_shape *shape)
{
    values *kept = context;
    kept->size_bytes[node] = value_bytes(shape);
    kept->data[node] = rq_alloc(kept->size_bytes[node]);
    memcpy(kept->data[node], value, kept->size_bytes[node]);
}

static void compare(void *context, int node, const void *value, const rq_shape *shape)
{
    values *kept = context;
    assert_int_equal(kept->size_bytes[node], value_bytes(shape));
    const uint8_t *want = kept->data[node], *got = value;
    for (size_t i = 0; i < kept->size_bytes[node]; i++)
        kept->differing += got[i] != want[i];
    kept->compared += kept->size_bytes[node];
}

/* Returns how many distinct bytes the reference's values take: a test over constant outputs would
 * prove little. */
static size_t distinct(const values *kept)
{
    bool seen[256] = {false};
    size_t n = 0;
    for (int node = 0; node < 32; node++)
        for (size_t i = 0; kept->data[node] && i < kept->size_bytes[node]; i++) {
            n += !seen[((const uint8_t *)kept->data[node])[i]];
            seen[((const uint8_t *)kept->data[node])[i]] = true;
        }
    return n;
}

static void check_model(const rq_model *model, const uint8_t *pixels, int n, int h, int w,
                        size_t min_distinct)
{
    rq_error err = RQ_ERROR_INIT;
    values kept = {0};
    float want[4 * N_CLASSES], got[4 * N_CLASSES];
    assert_ok(rq_integer_run_ref(model, pixels, n, h, w, want, keep, &kept, &err), &err);
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    options.batch = n;
    options.height = h;
    options.width = w;
    options.observer = compare;
    options.observer_context = &kept;
    assert_ok(rq_session_create(&session, model, &options, &err), &err);
    assert_ok(rq_session_run(session, pixels, n, got, &err), &err);
    assert_int_equal(kept.differing, 0);
    assert_true(kept.compared > 0);
    assert_memory_equal(got, want, (size_t)n * N_CLASSES * sizeof *got);
    assert_true(distinct(&kept) >= min_distinct);
    rq_session_destroy(session);
    for (int node = 0; node < 32; node++)
        rq_free(kept.data[node]);
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
    const rq_iconv_weights weights = {wei, bias, multiplier, false};
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
    print_message("instruction set: %s\n", rq_dnn_isa_name());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session__equals_reference_on_random_networks),
        cmocka_unit_test(test_session__equals_reference_at_extremes),
        cmocka_unit_test(test_session__needs_no_split_when_pairs_are_proven_safe),
        cmocka_unit_test(test_session__takes_the_safe_kernel_where_pairs_saturate),
        cmocka_unit_test(test_integer_conv__f32_sums_are_exact_beyond_2_24),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
