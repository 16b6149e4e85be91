/* Scales, rounding, folding and quantizing of one layer, against formulas written out in double. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/model/model.h"
#include "runtime/model/quant.h"
#include "tests/support/test.h"

static void test_round__ties_to_even(void **state)
{
    (void)state;
    const float x[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49999997f, 254.5f, -126.5f, 0x1p22f};
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        assert_true(rq_round(x[i]) == rintf(x[i]));
    rq_random random = {1};
    for (int i = 0; i < 100000; i++) {
        const float value = (float)((rq_random_unit(&random) - 0.5) * 0x1p22);
        assert_true(rq_round(value) == rintf(value));
    }
}

static void test_round_u8__clamps(void **state)
{
    (void)state;
    assert_int_equal(rq_round_u8(-0.5f), 0);
    assert_int_equal(rq_round_u8(0.5f), 0);
    assert_int_equal(rq_round_u8(1.5f), 2);
    assert_int_equal(rq_round_u8(254.5f), 254);
    assert_int_equal(rq_round_u8(254.6f), 255);
    assert_int_equal(rq_round_u8(255.5f), 255);
    assert_int_equal(rq_round_u8(3e38f), 255);
    assert_int_equal(rq_round_u8(INFINITY), 255);
    assert_int_equal(rq_round_u8(-INFINITY), 0);
    assert_int_equal(rq_round_u8(NAN), 0);
}

static void test_round_s8__clamps(void **state)
{
    (void)state;
    assert_int_equal(rq_round_s8(-127.5f), -127);
    assert_int_equal(rq_round_s8(-126.5f), -126);
    assert_int_equal(rq_round_s8(127.5f), 127);
    assert_int_equal(rq_round_s8(-1e30f), -127);
    assert_int_equal(rq_round_s8(2.5f), 2);
    assert_int_equal(rq_round_s8(NAN), -127);
}

static void test_scales__floor_and_nan(void **state)
{
    (void)state;
    assert_true(rq_activation_scale(0.0f) == RQ_SCALE_MIN);
    assert_true(rq_activation_scale(255.0f) == 1.0f);
    assert_true(rq_activation_scale(6.0f) == (float)(6.0 / 255.0));
    assert_true(isnan(rq_activation_scale(NAN)));
    assert_true(rq_weight_scale(127.0f, 0.0, 1.0) == 1.0f);
    assert_true(rq_weight_scale(0.0f, 0.0, 1.0) == RQ_SCALE_MIN);
    assert_true(isnan(rq_weight_scale(NAN, 0.0, 1.0)));
}

static void test_weight_scale__makes_room_for_the_bias(void **state)
{
    (void)state;
    const double bias = 1000.0, s_x = 0.01;
    const float scale = rq_weight_scale(1e-9f, bias, s_x);
    int32_t b = 0;
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_integer_bias(bias, (float)s_x, scale, &b, &err), &err);
    assert_in_range(b, (1 << 23) - 2, (1 << 23) + 2);
}

static void test_integer_bias__rounds_half_to_even(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    int32_t b = 0;
    assert_ok(rq_integer_bias(2.5, 1.0f, 1.0f, &b, &err), &err);
    assert_int_equal(b, 2);
    assert_ok(rq_integer_bias(-0.875, 0.5f, 0.5f, &b, &err), &err);
    assert_int_equal(b, -4);
    assert_ok(rq_integer_bias(-0x1p30, 1.0f, 1.0f, &b, &err), &err);
    assert_int_equal(b, -(1 << 30));
}

static void test_integer_bias__refuses_what_does_not_fit(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    int32_t b = 7;
    assert_fails(rq_integer_bias(0x1p30 + 1.0, 1.0f, 1.0f, &b, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "2^30");
    assert_fails(rq_integer_bias((double)NAN, 1.0f, 1.0f, &b, &err), RQ_ERR_RANGE, &err);
    assert_fails(rq_integer_bias((double)INFINITY, 1.0f, 1.0f, &b, &err), RQ_ERR_RANGE, &err);
    assert_fails(rq_integer_bias(1.0, RQ_SCALE_MIN, RQ_SCALE_MIN, &b, &err), RQ_ERR_RANGE, &err);
    assert_int_equal(b, 7);
}

static void test_pixel_zero_point__imagenet(void **state)
{
    (void)state;
    assert_int_equal(rq_pixel_zero_point(0.485f), 124);
    assert_int_equal(rq_pixel_zero_point(0.456f), 116);
    assert_int_equal(rq_pixel_zero_point(0.406f), 104);
    assert_int_equal(rq_pixel_zero_point(-1.0f), 0);
    assert_int_equal(rq_pixel_zero_point(2.0f), 255);
    for (int z = 0; z <= 255; z++)
        assert_int_equal(rq_pixel_zero_point(rq_pixel_mean((uint8_t)z)), z);
}

/* ---- one layer, views filled by hand ---- */

enum { OC = 4, IC = 3, TAPS = 9, CHANNEL = IC * TAPS };

typedef struct layer_data {
    float weight[OC * CHANNEL], bias[OC], gamma[OC], beta[OC], mean[OC], var[OC];
} layer_data;

static void fill(layer_data *data)
{
    rq_random random = {5};
    for (int i = 0; i < OC * CHANNEL; i++)
        data->weight[i] = (float)rq_random_normal(&random);
    for (int i = 0; i < OC; i++) {
        data->bias[i] = (float)rq_random_normal(&random);
        data->gamma[i] = (float)rq_random_normal(&random);
        data->beta[i] = (float)rq_random_normal(&random);
        data->mean[i] = (float)rq_random_normal(&random);
        data->var[i] = (float)(0.1 + rq_random_unit(&random));
    }
}

static rq_layer_view view_of(const layer_data *data)
{
    return (rq_layer_view){.name = "layer",
                           .oc = OC,
                           .ic = IC,
                           .taps = TAPS,
                           .groups = 1,
                           .weight = data->weight,
                           .gamma = data->gamma,
                           .beta = data->beta,
                           .mean = data->mean,
                           .var = data->var,
                           .eps = 1e-5f};
}

static void test_layer__folds_batch_norm(void **state)
{
    (void)state;
    layer_data data;
    fill(&data);
    rq_layer_view view = view_of(&data);
    view.bias = data.bias;
    float folded[CHANNEL], scale[OC];
    rq_layer_weight_scales(&view, 0.02f, scale);
    for (int oc = 0; oc < OC; oc++) {
        const double sigma = sqrt((double)data.var[oc] + (double)1e-5f);
        const float t = (float)((double)data.gamma[oc] / sigma);
        const double bias =
            (double)data.beta[oc] +
            ((double)data.bias[oc] - (double)data.mean[oc]) * (double)data.gamma[oc] / sigma;
        assert_close(rq_layer_bias(&view, oc), bias, 1e-12, 1e-12);
        rq_layer_fold(&view, oc, folded);
        float max = 0.0f;
        for (int i = 0; i < CHANNEL; i++) {
            assert_true(folded[i] == data.weight[oc * CHANNEL + i] * t);
            max = fmaxf(max, fabsf(folded[i]));
        }
        assert_true(scale[oc] == (float)((double)max / 127.0));
    }
}

static void test_layer__plain_without_batch_norm(void **state)
{
    (void)state;
    layer_data data;
    fill(&data);
    rq_layer_view view = view_of(&data);
    view.gamma = view.beta = view.mean = view.var = NULL;
    float folded[CHANNEL];
    rq_layer_fold(&view, 2, folded);
    assert_memory_equal(folded, data.weight + 2 * CHANNEL, sizeof folded);
    assert_true(rq_layer_bias(&view, 2) == 0.0);
    view.bias = data.bias;
    assert_true(rq_layer_bias(&view, 2) == (double)data.bias[2]);
}

/* std folds in per input channel, which in a grouped layer is counted over the groups. */
static void test_layer__pixels_fold_std(void **state)
{
    (void)state;
    layer_data data;
    fill(&data);
    const float std[4] = {0.229f, 0.224f, 0.225f, 0.5f};
    rq_layer_view view = view_of(&data);
    view.ic = 2;
    view.groups = 2;
    view.std = std;
    float folded[2 * TAPS], scale[OC];
    rq_layer_weight_scales(&view, RQ_PIXEL_SCALE, scale);
    for (int oc = 0; oc < OC; oc++) {
        rq_layer_fold(&view, oc, folded);
        float max = 0.0f;
        for (int i = 0; i < 2 * TAPS; i++) {
            const int channel = oc / 2 * 2 + i / TAPS;
            const double t = (double)data.gamma[oc] / sqrt((double)data.var[oc] + (double)1e-5f);
            const float factor = (float)(t / (255.0 * (double)std[channel]));
            assert_true(folded[i] == data.weight[oc * 2 * TAPS + i] * factor);
            max = fmaxf(max, fabsf(folded[i]));
        }
        assert_true(scale[oc] == rq_weight_scale(max, rq_layer_bias(&view, oc), 1.0));
    }
}

static void test_layer_quantize__is_fake_quantize_of_folded(void **state)
{
    (void)state;
    layer_data data;
    fill(&data);
    const rq_layer_view view = view_of(&data);
    float folded[CHANNEL], scale[OC];
    int8_t q[OC * CHANNEL], channel[CHANNEL];
    rq_layer_weight_scales(&view, 0.02f, scale);
    scale[1] *= 0.5f; /* half of the range is clipped */
    rq_layer_quantize(&view, scale, q);
    int n_clipped = 0;
    for (int oc = 0; oc < OC; oc++) {
        rq_layer_fold(&view, oc, folded);
        rq_layer_quantize_channel(&view, oc, scale[oc], channel);
        assert_memory_equal(channel, q + oc * CHANNEL, sizeof channel);
        for (int i = 0; i < CHANNEL; i++) {
            const float want = rintf(folded[i] * (1.0f / scale[oc]));
            assert_int_equal(channel[i], (int)fminf(fmaxf(want, -127.0f), 127.0f));
            n_clipped += fabsf(want) > 127.0f;
        }
    }
    assert_true(n_clipped > 0);
}

static void test_layer_quantize__large_layer_in_threads(void **state)
{
    (void)state;
    enum { BIG_OC = 64, BIG_IC = 2048 };
    static float weight[BIG_OC * BIG_IC];
    static int8_t q[BIG_OC * BIG_IC], channel[BIG_IC];
    float scale[BIG_OC];
    rq_random random = {9};
    for (int i = 0; i < BIG_OC * BIG_IC; i++)
        weight[i] = (float)rq_random_normal(&random);
    const rq_layer_view view = {
        .name = "big", .oc = BIG_OC, .ic = BIG_IC, .taps = 1, .groups = 1, .weight = weight};
    rq_layer_weight_scales(&view, 1.0f, scale);
    rq_layer_quantize(&view, scale, q);
    for (int oc = 0; oc < BIG_OC; oc++) {
        rq_layer_quantize_channel(&view, oc, scale[oc], channel);
        assert_memory_equal(channel, q + oc * BIG_IC, sizeof channel);
        int max = 0;
        for (int i = 0; i < BIG_IC; i++)
            max = abs(channel[i]) > max ? abs(channel[i]) : max;
        assert_int_equal(max, 127);
    }
}

static void test_layer__dead_channels(void **state)
{
    (void)state;
    layer_data data;
    fill(&data);
    data.gamma[0] = 0.0f;
    memset(data.weight + CHANNEL, 0, CHANNEL * sizeof(float));
    data.beta[1] = 300.0f;
    rq_layer_view view = view_of(&data);
    float scale[OC];
    int8_t q[OC * CHANNEL];
    rq_layer_weight_scales(&view, 0.02f, scale);
    rq_layer_quantize(&view, scale, q);
    rq_error err = RQ_ERROR_INIT;
    for (int oc = 0; oc < 2; oc++) {
        for (int i = 0; i < CHANNEL; i++)
            assert_int_equal(q[oc * CHANNEL + i], 0);
        int32_t b = 0;
        assert_ok(
            rq_layer_integer_bias(&view, oc, 0.02f, scale[oc], q + oc * CHANNEL, NULL, &b, &err),
            &err);
        const double bias = rq_layer_bias(&view, oc);
        assert_close((double)b * (double)0.02f * (double)scale[oc], bias, 0.0, 1e-6);
    }
}

static void test_layer_integer_bias__takes_zero_points_off(void **state)
{
    (void)state;
    layer_data data;
    fill(&data);
    const float std[3] = {0.2f, 0.2f, 0.2f};
    const uint8_t zero_point[3] = {10, 20, 255};
    rq_layer_view view = view_of(&data);
    view.std = std;
    int8_t q[CHANNEL];
    int64_t share = 0;
    for (int i = 0; i < CHANNEL; i++) {
        q[i] = (int8_t)(i * 7 % 255 - 127);
        share += (int64_t)zero_point[i / TAPS] * q[i];
    }
    rq_error err = RQ_ERROR_INIT;
    int32_t b = 0;
    assert_ok(rq_layer_integer_bias(&view, 3, 1.0f, 0.001f, q, zero_point, &b, &err), &err);
    assert_int_equal(b, (int64_t)rint(rq_layer_bias(&view, 3) / (double)0.001f) - share);

    assert_fails(rq_layer_integer_bias(&view, 3, 1.0f, 1e-12f, q, zero_point, &b, &err),
                 RQ_ERR_RANGE, &err);
    assert_says(&err, "layer: channel 3: bias");
}

/* ---- views gathered from a graph ---- */

static void add(rq_graph *graph, rq_op op, const char *name, int input)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_graph_add_node(graph, op, name, op == RQ_OP_INPUT ? 0 : 1, &input, NULL, &err),
              &err);
}

static float *param(rq_graph *graph, rq_slot slot, int rank, const int64_t *dims, float value)
{
    rq_error err = RQ_ERROR_INIT;
    const int node = graph->n_nodes - 1;
    assert_ok(rq_graph_add_param(graph, node, slot, RQ_F32, rank, dims, &err), &err);
    rq_tensor *tensor = rq_graph_tensor(graph, node, slot);
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
        rq_tensor_f32(tensor)[i] = value;
    return tensor->data;
}

/* input -> conv (quantized) -> bn */
static void small_graph(rq_model *model)
{
    *model = (rq_model)RQ_MODEL_INIT;
    rq_graph *graph = &model->graph;
    const int64_t wei[4] = {OC, 3, 3, 3}, vector[1] = {OC};
    add(graph, RQ_OP_INPUT, "input", 0);
    add(graph, RQ_OP_CONV, "conv", 0);
    graph->nodes[1].conv = (rq_conv_attr){{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1};
    (void)param(graph, RQ_SLOT_WEIGHT, 4, wei, 0.5f);
    (void)param(graph, RQ_SLOT_WEIGHT_SCALE, 1, vector, 0.1f);
    add(graph, RQ_OP_BATCH_NORM, "bn", 1);
    graph->nodes[2].eps = 1e-5f;
    (void)param(graph, RQ_SLOT_WEIGHT, 1, vector, 2.0f);
    (void)param(graph, RQ_SLOT_BIAS, 1, vector, 3.0f);
    (void)param(graph, RQ_SLOT_MEAN, 1, vector, 4.0f);
    (void)param(graph, RQ_SLOT_VAR, 1, vector, 5.0f);
}

static void test_layer_view_init__gathers_conv_and_batch_norm(void **state)
{
    (void)state;
    rq_model model;
    small_graph(&model);
    rq_layer_view view;
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_layer_view_init(&view, &model, 1, &err), &err);
    assert_string_equal(view.name, "conv");
    assert_int_equal(view.oc * 100 + view.ic * 10 + view.taps, OC * 100 + 30 + 9);
    assert_true(view.gamma[0] == 2.0f && view.beta[0] == 3.0f && view.mean[0] == 4.0f &&
                view.var[3] == 5.0f && view.eps == 1e-5f && view.bias == NULL);
    assert_ptr_equal(view.std, model.preprocess.std);

    model.graph.nodes[1].slot[RQ_SLOT_WEIGHT_SCALE] = -1; /* a float layer: normalised input */
    assert_ok(rq_layer_view_init(&view, &model, 1, &err), &err);
    assert_null(view.std);
    rq_model_deinit(&model);
}

static void test_layer_view_init__refuses(void **state)
{
    (void)state;
    rq_model model;
    small_graph(&model);
    rq_layer_view view;
    rq_error err = RQ_ERROR_INIT;
    assert_fails(rq_layer_view_init(&view, &model, 2, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "bn: batch_norm has no weights");

    rq_tensor_f32(rq_graph_tensor(&model.graph, 2, RQ_SLOT_VAR))[1] = -0.5f;
    assert_fails(rq_layer_view_init(&view, &model, 1, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "conv: batch norm variance 1 is -0.5");
    rq_tensor_f32(rq_graph_tensor(&model.graph, 2, RQ_SLOT_VAR))[1] = 0.0f;

    rq_tensor_f32(rq_graph_tensor(&model.graph, 1, RQ_SLOT_WEIGHT))[7] = NAN;
    assert_fails(rq_layer_view_init(&view, &model, 1, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "weight 7");
    rq_tensor_f32(rq_graph_tensor(&model.graph, 1, RQ_SLOT_WEIGHT))[7] = 1.0f;

    model.preprocess.std[2] = 0.0f;
    assert_fails(rq_layer_view_init(&view, &model, 1, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "std 2");
    model.preprocess.std[2] = 1.0f;
    assert_ok(rq_layer_view_init(&view, &model, 1, &err), &err);

    add(&model.graph, RQ_OP_RELU, "relu", 1);
    assert_fails(rq_layer_view_init(&view, &model, 1, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "bn must be the only one");
    rq_model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round__ties_to_even),
        cmocka_unit_test(test_round_u8__clamps),
        cmocka_unit_test(test_round_s8__clamps),
        cmocka_unit_test(test_scales__floor_and_nan),
        cmocka_unit_test(test_weight_scale__makes_room_for_the_bias),
        cmocka_unit_test(test_integer_bias__rounds_half_to_even),
        cmocka_unit_test(test_integer_bias__refuses_what_does_not_fit),
        cmocka_unit_test(test_pixel_zero_point__imagenet),
        cmocka_unit_test(test_layer__folds_batch_norm),
        cmocka_unit_test(test_layer__plain_without_batch_norm),
        cmocka_unit_test(test_layer__pixels_fold_std),
        cmocka_unit_test(test_layer_quantize__is_fake_quantize_of_folded),
        cmocka_unit_test(test_layer_quantize__large_layer_in_threads),
        cmocka_unit_test(test_layer__dead_channels),
        cmocka_unit_test(test_layer_integer_bias__takes_zero_points_off),
        cmocka_unit_test(test_layer_view_init__gathers_conv_and_batch_norm),
        cmocka_unit_test(test_layer_view_init__refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
