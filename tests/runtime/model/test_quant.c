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

/* The range holds 0 and 0 is a level, so that relu and borders are exact. */
static void test_activation_qparams__hold_zero(void **state)
{
    (void)state;
    const struct {
        float min, max;
        int zero_point;
    } cases[] = {
        {0.0f, 6.0f, 0},    {0.5f, 6.0f, 0},     {-1.0f, 4.0f, 51}, {-1.0f, 3.0f, 64},
        {-2.0f, 0.0f, 255}, {-2.0f, -1.0f, 255}, {0.0f, 0.0f, 0},   {-1e-20f, 0.0f, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const rq_qparams q = rq_activation_qparams(cases[i].min, cases[i].max);
        const double lo = fmin((double)cases[i].min, 0.0), hi = fmax((double)cases[i].max, 0.0);
        assert_int_equal(q.zero_point, cases[i].zero_point);
        assert_true(q.scale == fmaxf((float)((hi - lo) / 255.0), RQ_SCALE_MIN));
        if (q.scale > RQ_SCALE_MIN) { /* the ends are half a level away at most */
            assert_close((double)q.scale * (0 - q.zero_point), lo, 0.501 * (double)q.scale, 0.0);
            assert_close((double)q.scale * (255 - q.zero_point), hi, 0.501 * (double)q.scale, 0.0);
        }
    }
    assert_true(rq_activation_qparams(0.0f, 6.0f).scale == rq_activation_scale(6.0));
    assert_true(isnan(rq_activation_qparams(0.0f, NAN).scale));
}

static void test_quantize_activation__with_zero_point(void **state)
{
    (void)state;
    assert_int_equal(rq_quantize_activation(0.0f, 4.0f, 100), 100);
    assert_int_equal(rq_quantize_activation(0.625f, 4.0f, 100), 102); /* 2.5 to even, then 100 */
    assert_int_equal(rq_quantize_activation(-0.625f, 4.0f, 100), 98);
    assert_int_equal(rq_quantize_activation(-25.25f, 4.0f, 100), 0);
    assert_int_equal(rq_quantize_activation(-1e30f, 4.0f, 100), 0);
    assert_int_equal(rq_quantize_activation(38.75f, 4.0f, 100), 255);
    assert_int_equal(rq_quantize_activation(INFINITY, 4.0f, 100), 255);
    assert_int_equal(rq_quantize_activation(NAN, 4.0f, 100), 0);
    assert_int_equal(rq_quantize_activation(63.75f, 4.0f, 0), 255);
}

/* The rule of pooling and of gates gives the nearest level, up to half a unit of acc. */
static void test_pool_rule__moves_zero_points(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_random random = {3};
    for (int i = 0; i < 2000; i++) {
        const rq_qparams x = {(float)(0.01 + rq_random_unit(&random)),
                              (uint8_t)rq_random_below(&random, 256)};
        const rq_qparams y = {x.scale * (float)(0.1 + rq_random_unit(&random)),
                              (uint8_t)rq_random_below(&random, 256)};
        const int64_t n = 1 + (int64_t)rq_random_below(&random, 50);
        rq_rule rule;
        assert_ok(rq_pool_rule(&rule, x, y, n, &err), &err);
        int32_t acc = 0;
        for (int64_t k = 0; k < n; k++)
            acc += (int32_t)rq_random_below(&random, 256);
        const double mean = (double)x.scale * ((double)acc / (double)n - x.zero_point);
        const double q = fmin(fmax(mean / (double)y.scale + y.zero_point, 0.0), 255.0);
        const double unit = (double)x.scale / ((double)y.scale * (double)n);
        assert_close(rq_requantize_u8(acc, rule.bias, rule.multiplier), q, 0.501 + 0.5 * unit, 0.0);
    }
    rq_rule rule;
    const rq_qparams plain = {0.5f, 0}, half = {0.25f, 0};
    assert_ok(rq_pool_rule(&rule, plain, half, 49, &err), &err);
    assert_int_equal(rule.bias, 0);
    assert_true(rule.multiplier == (float)(0.5 / (0.25 * 49.0)));
}

static void test_gate_rule__moves_zero_points(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_random random = {4};
    for (int i = 0; i < 2000; i++) {
        const rq_qparams x = {(float)(0.01 + rq_random_unit(&random)),
                              (uint8_t)rq_random_below(&random, 256)};
        const rq_qparams y = {x.scale * (float)(0.1 + rq_random_unit(&random)),
                              (uint8_t)rq_random_below(&random, 256)};
        const int q_x = (int)rq_random_below(&random, 256), g = (int)rq_random_below(&random, 256);
        rq_rule rule;
        assert_ok(rq_gate_rule(&rule, x, y, &err), &err);
        const double real = (double)x.scale * (q_x - x.zero_point) * (double)g / 255.0;
        const double q = fmin(fmax(real / (double)y.scale + y.zero_point, 0.0), 255.0);
        const int32_t acc = (q_x - x.zero_point) * g;
        assert_close(rq_requantize_u8(acc, rule.bias, rule.multiplier), q, 0.53, 0.0);
        assert_true(abs(acc) <=
                    rq_rule_bound(&rule, -255 * x.zero_point, 255 * (255 - x.zero_point)));
    }
}

static void test_rules__refuse_what_leaves_s32(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_rule rule;
    const rq_qparams one = {1.0f, 200}, huge = {1e30f, 200}, tiny = {RQ_SCALE_MIN, 0};
    assert_fails(rq_pool_rule(&rule, one, one, INT32_MAX / 255 + 1, &err), RQ_ERR_RANGE, &err);
    assert_fails(rq_pool_rule(&rule, one, huge, 4, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "leave s32");
    assert_fails(rq_gate_rule(&rule, one, huge, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "more than 2^30");
    const rq_qparams largest = {3e38f, 0};
    assert_fails(rq_pool_rule(&rule, tiny, largest, 1000, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "multiplier 0");
    assert_fails(rq_gate_rule(&rule, largest, tiny, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "multiplier inf");
    const rq_rule bound = {-30, 1.0f};
    assert_int_equal(rq_rule_bound(&bound, -10, 100), 100);
    assert_int_equal(rq_rule_bound(&bound, -80, 100), 110);
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

/* z_y * s_y is part of the bias, z_x * sum of weights is taken off it. */
static void test_layer__zero_points_of_values(void **state)
{
    (void)state;
    layer_data data;
    fill(&data);
    const uint8_t z_x = 37, z_y = 111;
    const float s_x = 0.02f, s_y = 0.05f;
    rq_layer_view plain = view_of(&data), view = plain;
    view.in_zero_point = &z_x;
    view.out_zero_point = &z_y;
    view.out_scale = &s_y;
    float scale[OC];
    int8_t q[OC * CHANNEL];
    rq_error err = RQ_ERROR_INIT;
    rq_layer_weight_scales(&view, s_x, scale);
    rq_layer_quantize(&view, scale, q);
    for (int oc = 0; oc < OC; oc++) {
        int64_t sum = 0;
        for (int i = 0; i < CHANNEL; i++)
            sum += q[oc * CHANNEL + i];
        const double bias = rq_layer_bias(&plain, oc) + 111.0 * (double)s_y;
        assert_close(rq_layer_bias(&view, oc), bias, 1e-12, 0.0);
        int32_t b = 0;
        const double step = (double)s_x * (double)scale[oc];
        assert_ok(
            rq_layer_integer_bias(&view, oc, s_x, scale[oc], q + oc * CHANNEL, NULL, &b, &err),
            &err);
        assert_int_equal(b, (int64_t)rint(bias / step) - 37 * sum);
        /* numbers whose zero point is taken off already */
        assert_ok(rq_layer_integer_bias(&view, oc, s_x, scale[oc], NULL, NULL, &b, &err), &err);
        assert_int_equal(b, (int64_t)rint(bias / step));
    }
    /* a dead channel's scale makes room for the zero point too */
    for (int i = 0; i < CHANNEL; i++)
        data.weight[i] = 0.0f;
    rq_layer_weight_scales(&view, s_x, scale);
    int32_t b = 0;
    assert_ok(rq_layer_integer_bias(&view, 0, s_x, scale[0], NULL, NULL, &b, &err), &err);
    assert_close((double)b * (double)s_x * (double)scale[0], rq_layer_bias(&view, 0), 0.0, 1e-6);
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

/* A conv between two quantizers with zero points; padding is refused there. */
static void test_layer_view_init__gathers_zero_points(void **state)
{
    (void)state;
    rq_model model = RQ_MODEL_INIT;
    rq_graph *graph = &model.graph;
    const int64_t wei[4] = {OC, 3, 1, 1}, vector[1] = {OC}, one[1] = {1};
    rq_error err = RQ_ERROR_INIT;
    add(graph, RQ_OP_INPUT, "input", 0);
    for (int node = 1; node <= 3; node++) {
        add(graph, node == 2 ? RQ_OP_CONV : RQ_OP_FAKE_QUANT, rq_test_path("node%d", node),
            node - 1);
        if (node == 2) {
            graph->nodes[2].conv = (rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
            (void)param(graph, RQ_SLOT_WEIGHT, 4, wei, 0.5f);
            (void)param(graph, RQ_SLOT_WEIGHT_SCALE, 1, vector, 0.1f);
            continue;
        }
        (void)param(graph, RQ_SLOT_SCALE, 1, one, 0.25f);
        assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, one, &err), &err);
        *(uint8_t *)rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT)->data = (uint8_t)(10 * node);
    }
    rq_layer_view view;
    assert_ok(rq_layer_view_init(&view, &model, 2, &err), &err);
    assert_int_equal(*view.in_zero_point, 10);
    assert_int_equal(*view.out_zero_point, 30);
    assert_true(*view.out_scale == 0.25f);
    assert_close(rq_layer_bias(&view, 0), 7.5, 0.0, 0.0);
    graph->nodes[2].conv.pad[1] = 1;
    assert_fails(rq_layer_view_init(&view, &model, 2, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "node2: pads node1, which has a zero point");
    graph->nodes[2].slot[RQ_SLOT_WEIGHT_SCALE] = -1; /* a float layer reads real values */
    assert_ok(rq_layer_view_init(&view, &model, 2, &err), &err);
    assert_null(view.in_zero_point);
    assert_null(view.out_zero_point);
    rq_model_deinit(&model);
}

static void test_is_matrix__layers_that_give_real_values(void **state)
{
    (void)state;
    const rq_shape pixel = {4, 1, 1, 8, RQ_F32}, image = {4, 2, 1, 8, RQ_F32};
    const rq_node linear = {.op = RQ_OP_LINEAR};
    const rq_node conv = {.op = RQ_OP_CONV, .conv = {{1, 1}, {2, 2}, {0, 0}, {1, 1}, 1}};
    assert_true(rq_is_matrix(&linear, &pixel));
    assert_true(rq_is_matrix(&conv, &pixel));
    assert_false(rq_is_matrix(&conv, &image));
    rq_node other = conv;
    other.conv.groups = 2;
    assert_false(rq_is_matrix(&other, &pixel));
    other = conv;
    other.conv.kernel[1] = 3;
    assert_false(rq_is_matrix(&other, &pixel));
    other = conv;
    other.conv.pad[0] = 1;
    assert_false(rq_is_matrix(&other, &pixel));
    other = conv;
    other.op = RQ_OP_RELU;
    assert_false(rq_is_matrix(&other, &pixel));
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
        cmocka_unit_test(test_activation_qparams__hold_zero),
        cmocka_unit_test(test_quantize_activation__with_zero_point),
        cmocka_unit_test(test_pool_rule__moves_zero_points),
        cmocka_unit_test(test_gate_rule__moves_zero_points),
        cmocka_unit_test(test_rules__refuse_what_leaves_s32),
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
        cmocka_unit_test(test_layer__zero_points_of_values),
        cmocka_unit_test(test_layer_view_init__gathers_conv_and_batch_norm),
        cmocka_unit_test(test_layer_view_init__gathers_zero_points),
        cmocka_unit_test(test_is_matrix__layers_that_give_real_values),
        cmocka_unit_test(test_layer_view_init__refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
