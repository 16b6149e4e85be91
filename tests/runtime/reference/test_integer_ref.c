/* The integer reference against hand-computed cases, an independent convolution that scatters
 * instead of gathering, and whole small graphs. */
#include <math.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/model/quant.h"
#include "runtime/reference/integer.h"
#include "tests/support/test.h"

/* ---- convolution ---- */

static void test_qconv_ref__hand_computed(void **state)
{
    (void)state;
    /* 2x3 image, one channel, 3x3 kernel, padding 1 */
    const uint8_t src[6] = {1, 2, 3, 4, 5, 6};
    const int8_t wei[9] = {1, 0, -1, 2, 1, 0, 0, 3, 1};
    const int32_t bias[1] = {2};
    const float multiplier[1] = {0.5f};
    const rq_conv_shape shape = {1, 2, 3, 1, 2, 3, 1, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}};
    uint8_t dst[6];
    rq_qconv_ref(&shape, src, wei, bias, multiplier, NULL, dst);
    /* acc: (0,0) 1 + 12 + 5 = 18; (0,1) 2 + 2 + 15 + 6 = 25; (0,2) 4 + 3 + 18 = 25
     *      (1,0) -2 + 4 = 2; (1,1) 1 - 3 + 8 + 5 = 11; (1,2) 2 + 10 + 6 = 18
     * (acc + 2) / 2: 10, 13.5 -> 14, 13.5 -> 14, 2, 6.5 -> 6, 10 */
    const uint8_t want[6] = {10, 14, 14, 2, 6, 10};
    assert_memory_equal(dst, want, sizeof want);

    /* the same with a border of 10: more at (0,0): 10 * (1 + 0 - 1 + 2 + 0) = 20 -> 20, and so on
     */
    const uint8_t zero_point[1] = {10};
    rq_qconv_ref(&shape, src, wei, bias, multiplier, zero_point, dst);
    /* border weights: (0,0) 1+0-1+2+0 = 2; (0,1) 1+0-1 = 0; (0,2) 1+0-1+0+1 = 1
     *                 (1,0) 1+2+0+3+1 = 7; (1,1) 0+3+1 = 4; (1,2) -1+0+0+3+1 = 3
     * (acc + 2) / 2: 20, 14, 18.5 -> 18, 37, 26.5 -> 26, 25 */
    const uint8_t want_border[6] = {20, 14, 18, 37, 26, 25};
    assert_memory_equal(dst, want_border, sizeof want_border);
}

/* Every input pixel of an image with an explicit border adds to the outputs that it reaches. */
static void scatter_conv(const rq_conv_shape *shape, const uint8_t *src, const int8_t *wei,
                         const uint8_t *zero_point, int64_t *acc)
{
    const rq_conv_attr *conv = &shape->conv;
    const int64_t icg = shape->ic / conv->groups, ocg = shape->oc / conv->groups;
    memset(acc, 0, (size_t)(shape->n * shape->oh * shape->ow * shape->oc) * sizeof *acc);
    for (int64_t n = 0; n < shape->n; n++)
        for (int64_t py = 0; py < shape->ih + 2 * conv->pad[0]; py++)
            for (int64_t px = 0; px < shape->iw + 2 * conv->pad[1]; px++)
                for (int64_t c = 0; c < shape->ic; c++) {
                    const int64_t iy = py - conv->pad[0], ix = px - conv->pad[1];
                    const bool border = iy < 0 || iy >= shape->ih || ix < 0 || ix >= shape->iw;
                    const int64_t x =
                        border ? (zero_point ? zero_point[c] : 0)
                               : src[((n * shape->ih + iy) * shape->iw + ix) * shape->ic + c];
                    for (int ky = 0; ky < conv->kernel[0]; ky++)
                        for (int kx = 0; kx < conv->kernel[1]; kx++) {
                            const int64_t y = py - (int64_t)ky * conv->dilation[0];
                            const int64_t z = px - (int64_t)kx * conv->dilation[1];
                            if (y < 0 || z < 0 || y % conv->stride[0] || z % conv->stride[1])
                                continue;
                            const int64_t oy = y / conv->stride[0], ox = z / conv->stride[1];
                            if (oy >= shape->oh || ox >= shape->ow)
                                continue;
                            for (int64_t k = 0; k < ocg; k++) {
                                const int64_t oc = c / icg * ocg + k;
                                acc[((n * shape->oh + oy) * shape->ow + ox) * shape->oc + oc] +=
                                    x * wei[((oc * icg + c % icg) * conv->kernel[0] + ky) *
                                                conv->kernel[1] +
                                            kx];
                            }
                        }
                }
}

static int64_t out_side(int64_t in, const rq_conv_attr *conv, int i)
{
    return (in + 2 * conv->pad[i] - conv->dilation[i] * (conv->kernel[i] - 1) - 1) /
               conv->stride[i] +
           1;
}

enum { MAX_ELEMS = 8192 };

/* How many outputs are neither 0 nor 255. */
static int check_geometry(const rq_conv_attr *conv, int64_t ic, int64_t oc, bool pixels)
{
    static uint8_t src[MAX_ELEMS], dst[MAX_ELEMS];
    static int8_t wei[MAX_ELEMS];
    static int64_t acc[MAX_ELEMS];
    int32_t bias[32];
    float multiplier[32];
    uint8_t zero_point[32];
    rq_conv_shape shape = {2, 7, 9, ic, 0, 0, oc, *conv};
    shape.oh = out_side(7, conv, 0);
    shape.ow = out_side(9, conv, 1);
    rq_random random = {(uint64_t)(ic * 100 + oc)};
    for (int i = 0; i < MAX_ELEMS; i++) {
        src[i] = (uint8_t)rq_random_below(&random, 256);
        wei[i] = (int8_t)((int)rq_random_below(&random, 255) - 127);
    }
    for (int i = 0; i < 32; i++) {
        bias[i] = (int32_t)rq_random_below(&random, 100000) - 50000;
        multiplier[i] = (float)(1e-3 * (0.1 + rq_random_unit(&random)));
        zero_point[i] = (uint8_t)rq_random_below(&random, 256);
    }
    rq_qconv_ref(&shape, src, wei, bias, multiplier, pixels ? zero_point : NULL, dst);
    scatter_conv(&shape, src, wei, pixels ? zero_point : NULL, acc);
    int n_inside = 0;
    for (int64_t i = 0; i < 2 * shape.oh * shape.ow * oc; i++) {
        /* all sums are below 2^24, so the double formula is exact up to the product's rounding to
         * f32 */
        const float y = (float)((double)(acc[i] + bias[i % oc]) * (double)multiplier[i % oc]);
        const float q = fminf(fmaxf(rintf(y), 0.0f), 255.0f);
        assert_int_equal(dst[i], (int)q);
        n_inside += dst[i] > 0 && dst[i] < 255;
    }
    return n_inside;
}

static void test_qconv_ref__geometries(void **state)
{
    (void)state;
    const struct {
        rq_conv_attr conv;
        int64_t ic, oc;
    } cases[] = {
        {{{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}, 3, 5},
        {{{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1}, 4, 7},
        {{{3, 3}, {1, 1}, {1, 1}, {1, 1}, 2}, 6, 10},
        {{{3, 3}, {1, 1}, {1, 1}, {1, 1}, 5}, 5, 5},
        {{{3, 3}, {1, 1}, {2, 2}, {2, 2}, 1}, 3, 4},
        {{{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1}, 17, 13},
        {{{1, 1}, {2, 2}, {0, 0}, {1, 1}, 1}, 8, 8},
        {{{5, 3}, {2, 1}, {2, 0}, {1, 2}, 1}, 3, 2},
        {{{7, 9}, {1, 1}, {0, 0}, {1, 1}, 1}, 1, 31},
        {{{1, 1}, {1, 1}, {2, 1}, {1, 1}, 1}, 2, 3}, /* some outputs see the border only */
    };
    int n_inside = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        n_inside += check_geometry(&cases[i].conv, cases[i].ic, cases[i].oc, false);
        n_inside += check_geometry(&cases[i].conv, cases[i].ic, cases[i].oc, true);
    }
    assert_true(n_inside > 2000);
}

/* One pixel, one channel: acc = 255 * 127 * n_taps, far over 2^24. */
static uint8_t dot_all_max(int64_t n_taps, int8_t weight, int32_t bias, float multiplier)
{
    static uint8_t src[MAX_ELEMS];
    static int8_t wei[MAX_ELEMS];
    memset(src, 255, sizeof src);
    memset(wei, weight, sizeof wei);
    const rq_conv_shape shape = {1, 1, 1, n_taps, 1, 1, 1, {{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1}};
    uint8_t dst;
    rq_qconv_ref(&shape, src, wei, &bias, &multiplier, NULL, &dst);
    return dst;
}

static void test_qconv_ref__extremes(void **state)
{
    (void)state;
    assert_int_equal(dot_all_max(MAX_ELEMS, 127, 0, 1.0f), 255);
    assert_int_equal(dot_all_max(MAX_ELEMS, -127, 0, 1.0f), 0);
    /* 8191 * 255 * 127 = 265,265,535 is odd and over 2^24; f32 holds 265,265,536, the addition of
     * -265,265,536 then gives 0 (not -1), and of -265,265,408 gives 128 (not 127) */
    assert_int_equal(dot_all_max(8191, 127, -265265536, 1.0f), 0);
    assert_int_equal(dot_all_max(8191, 127, -265265408, 1.0f), 128);
    assert_int_equal(dot_all_max(8191, -127, 265265408, 1.0f), 0);
    assert_int_equal(dot_all_max(8191, -127, 265265664, 1.0f), 128);
}

static void test_requantize__rounds_each_operation_to_f32(void **state)
{
    (void)state;
    const int32_t two24 = 1 << 24;
    assert_true(rq_requantize_f32(two24 + 1, 0, 1.0f) == 0x1p24f);        /* ties to even */
    assert_true(rq_requantize_f32(two24 + 3, 0, 1.0f) == 0x1p24f + 4.0f); /* ties to even */
    assert_true(rq_requantize_f32(two24, 1, 1.0f) == 0x1p24f);
    assert_true(rq_requantize_f32(two24 + 1, 1, 1.0f) == 0x1p24f);         /* exact sum: 2^24 + 2 */
    assert_true(rq_requantize_f32(INT32_MAX, INT32_MAX, 1.0f) == 0x1p32f); /* no s32 overflow */
    assert_int_equal(rq_requantize_u8(1, 0, 0.5f), 0);
    assert_int_equal(rq_requantize_u8(3, 0, 0.5f), 2);
    assert_int_equal(rq_requantize_u8(5, 0, 0.5f), 2);
    assert_int_equal(rq_requantize_u8(509, 0, 0.5f), 254);
    assert_int_equal(rq_requantize_u8(511, 0, 0.5f), 255);
    assert_int_equal(rq_requantize_u8(-1000, 3, 0.5f), 0);
}

/* ---- proofs ---- */

static void test_acc_bound__worst_inputs(void **state)
{
    (void)state;
    const int8_t wei[5] = {100, -30, 27, -127, 0};
    assert_int_equal(rq_acc_bound(wei, 5), 255 * 157);
    assert_int_equal(rq_acc_bound(wei, 3), 255 * 127);
    assert_int_equal(rq_acc_bias_bound(wei, 5, 0), 255 * 157);
    assert_int_equal(rq_acc_bias_bound(wei, 5, 10000), 255 * 127 + 10000);
    assert_int_equal(rq_acc_bias_bound(wei, 5, -50000), 255 * 157 + 50000);
    assert_int_equal(rq_acc_bias_bound(wei, 5, INT32_MIN), 255 * 157 + ((int64_t)1 << 31));
    assert_int_equal(rq_acc_bound(wei + 4, 1), 0);
}

static void test_saturation_free__pairs_of_one_sign(void **state)
{
    (void)state;
    const struct {
        int8_t wei[4];
        bool safe;
    } cases[] = {
        {{127, 1, -127, -1}, true}, {{127, 2, 0, 0}, false},   {{64, 64, 64, 64}, true},
        {{65, 64, 0, 0}, false},    {{-64, -65, 0, 0}, false}, {{-127, 127, -1, 1}, true},
        {{1, -127, 0, -2}, false},  {{0, 0, 0, 0}, true},      {{-128, 0, 127, 0}, true},
        {{2, 2, 2, 127}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(rq_saturation_free(cases[i].wei, 4), cases[i].safe);
    const int8_t one = 127;
    assert_true(rq_saturation_free(&one, 1));
}

/* ---- graphs ---- */

static int add(rq_graph *graph, rq_op op, const char *name, int input)
{
    rq_error err = RQ_ERROR_INIT;
    int node = 0;
    assert_ok(rq_graph_add_node(graph, op, name, op == RQ_OP_INPUT ? 0 : 1, &input, &node, &err),
              &err);
    return node;
}

static void *param(rq_graph *graph, int node, rq_slot slot, rq_dtype dtype, int rank,
                   const int64_t *dims)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_graph_add_param(graph, node, slot, dtype, rank, dims, &err), &err);
    return rq_graph_tensor(graph, node, slot)->data;
}

static void set_scale(rq_graph *graph, int node, float value)
{
    const int64_t one[1] = {1};
    *(float *)param(graph, node, RQ_SLOT_SCALE, RQ_F32, 1, one) = value;
}

/* Random weights in ±spread, then the proofs over them. */
static void quantized_layer(rq_graph *graph, int node, int rank, const int64_t *dims, int spread,
                            float multiplier)
{
    const int64_t oc = dims[0], pair[2] = {oc, 2};
    int8_t *wei = param(graph, node, RQ_SLOT_WEIGHT, RQ_S8, rank, dims);
    int32_t *bias = param(graph, node, RQ_SLOT_BIAS, RQ_S32, 1, &oc);
    float *m = param(graph, node, RQ_SLOT_MULTIPLIER, RQ_F32, 1, &oc);
    int64_t *acc_max = param(graph, node, RQ_SLOT_ACC_MAX, RQ_S64, 2, pair);
    const size_t n_taps =
        rq_tensor_elems(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)) / (size_t)oc;
    rq_random random = {(uint64_t)node};
    for (int64_t i = 0; i < oc; i++) {
        for (size_t k = 0; k < n_taps; k++)
            wei[(size_t)i * n_taps + k] =
                (int8_t)((int)rq_random_below(&random, 2 * (uint64_t)spread + 1) - spread);
        bias[i] = (int32_t)rq_random_below(&random, 2000) - 500;
        m[i] = multiplier;
        acc_max[2 * i] = rq_acc_bound(wei + (size_t)i * n_taps, n_taps);
        acc_max[2 * i + 1] = rq_acc_bias_bound(wei + (size_t)i * n_taps, n_taps, bias[i]);
    }
}

enum { CLASSES = 3, CHANNELS = 5, SIDE = 4 };

/* input -> qconv (pixels) -> qglobal_avg_pool -> qlinear */
static void integer_model(rq_model *model)
{
    *model = (rq_model)RQ_MODEL_INIT;
    model->form = RQ_FORM_INT8;
    model->n_classes = CLASSES;
    rq_graph *graph = &model->graph;
    const int64_t conv_dims[4] = {CHANNELS, 3, 3, 3}, linear_dims[2] = {CLASSES, CHANNELS};
    const int64_t three[1] = {3}, two[1] = {2};
    const int input = add(graph, RQ_OP_INPUT, "input", 0);
    const int conv = add(graph, RQ_OP_QCONV, "conv", input);
    graph->nodes[conv].conv = (rq_conv_attr){{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1};
    quantized_layer(graph, conv, 4, conv_dims, 60, 1.0f / 64.0f);
    uint8_t *z = param(graph, conv, RQ_SLOT_ZERO_POINT, RQ_U8, 1, three);
    z[0] = 124;
    z[1] = 116;
    z[2] = 104;
    const int pool = add(graph, RQ_OP_QGLOBAL_AVG_POOL, "gap", conv);
    float *scale = param(graph, pool, RQ_SLOT_SCALE, RQ_F32, 1, two);
    scale[0] = 0.5f;
    scale[1] = 0.25f;
    const int linear = add(graph, RQ_OP_QLINEAR, "linear", pool);
    quantized_layer(graph, linear, 2, linear_dims, 60, 0.001f);
}

static void fill_pixels(uint8_t *pixels, size_t n)
{
    rq_random random = {3};
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)rq_random_below(&random, 256);
}

enum { BATCH = 2, N_PIXELS = BATCH * SIDE * SIDE * 3 };

typedef struct seen {
    uint8_t conv[BATCH * SIDE * SIDE * CHANNELS];
    uint8_t pool[BATCH * CHANNELS];
    int n_nodes;
} seen;

static void see(void *context, int node, const void *value, const rq_shape *shape)
{
    seen *what = context;
    what->n_nodes++;
    if (node == 1)
        memcpy(what->conv, value, rq_shape_elems(shape));
    if (node == 2)
        memcpy(what->pool, value, rq_shape_elems(shape));
}

static void test_integer_run_ref__integer_graph(void **state)
{
    (void)state;
    rq_model model;
    integer_model(&model);
    uint8_t pixels[N_PIXELS];
    fill_pixels(pixels, N_PIXELS);
    float logits[BATCH * CLASSES];
    seen what = {.n_nodes = 0};
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_integer_run_ref(&model, pixels, BATCH, SIDE, SIDE, logits, see, &what, &err),
              &err);
    assert_int_equal(what.n_nodes, 4);

    const rq_graph *graph = &model.graph;
    const rq_conv_shape shape = {BATCH, SIDE, SIDE,     3,
                                 SIDE,  SIDE, CHANNELS, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}};
    uint8_t conv[sizeof what.conv];
    rq_qconv_ref(&shape, pixels, rq_graph_tensor(graph, 1, RQ_SLOT_WEIGHT)->data,
                 rq_graph_tensor(graph, 1, RQ_SLOT_BIAS)->data,
                 rq_graph_tensor(graph, 1, RQ_SLOT_MULTIPLIER)->data,
                 rq_graph_tensor(graph, 1, RQ_SLOT_ZERO_POINT)->data, conv);
    assert_memory_equal(what.conv, conv, sizeof conv);

    const int8_t *wei = rq_graph_tensor(graph, 3, RQ_SLOT_WEIGHT)->data;
    const int32_t *bias = rq_graph_tensor(graph, 3, RQ_SLOT_BIAS)->data;
    for (int n = 0; n < BATCH; n++) {
        for (int c = 0; c < CHANNELS; c++) {
            int sum = 0;
            for (int p = 0; p < SIDE * SIDE; p++)
                sum += conv[(n * SIDE * SIDE + p) * CHANNELS + c];
            /* 0.5 / (0.25 * 16) = 1/8 exactly */
            assert_int_equal(what.pool[n * CHANNELS + c],
                             (int)fmin(rint((double)sum / 8.0), 255.0));
        }
        for (int k = 0; k < CLASSES; k++) {
            int acc = bias[k];
            for (int c = 0; c < CHANNELS; c++)
                acc += what.pool[n * CHANNELS + c] * wei[k * CHANNELS + c];
            assert_true(logits[n * CLASSES + k] == (float)acc * 0.001f);
        }
    }
    rq_model_deinit(&model);
}

/* input -> conv (float) -> batch_norm -> relu -> add (itself) -> quantize -> dequantize -> pool ->
 * linear */
static void float_model(rq_model *model)
{
    *model = (rq_model)RQ_MODEL_INIT;
    model->form = RQ_FORM_INT8;
    model->n_classes = 1;
    rq_graph *graph = &model->graph;
    const int64_t wei[4] = {1, 3, 1, 1}, one[2] = {1, 1};
    rq_error err = RQ_ERROR_INIT;
    const int conv = add(graph, RQ_OP_CONV, "conv", add(graph, RQ_OP_INPUT, "input", 0));
    graph->nodes[conv].conv = (rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    float *w = param(graph, conv, RQ_SLOT_WEIGHT, RQ_F32, 4, wei);
    w[0] = 1.0f;
    w[1] = 2.0f;
    w[2] = -1.0f;
    *(float *)param(graph, conv, RQ_SLOT_BIAS, RQ_F32, 1, one) = 0.25f;
    const int bn = add(graph, RQ_OP_BATCH_NORM, "bn", conv);
    graph->nodes[bn].eps = 0.25f;
    *(float *)param(graph, bn, RQ_SLOT_WEIGHT, RQ_F32, 1, one) = 3.0f;
    *(float *)param(graph, bn, RQ_SLOT_BIAS, RQ_F32, 1, one) = 0.5f;
    *(float *)param(graph, bn, RQ_SLOT_MEAN, RQ_F32, 1, one) = 0.125f;
    *(float *)param(graph, bn, RQ_SLOT_VAR, RQ_F32, 1, one) = 2.0f; /* sigma = 1.5 */
    const int relu = add(graph, RQ_OP_RELU, "relu", bn);
    int sum = 0;
    const int twice[2] = {relu, relu};
    assert_ok(rq_graph_add_node(graph, RQ_OP_ADD, "add", 2, twice, &sum, &err), &err);
    const int quantize = add(graph, RQ_OP_QUANTIZE, "quantize", sum);
    set_scale(graph, quantize, 0.5f);
    const int dequantize = add(graph, RQ_OP_DEQUANTIZE, "dequantize", quantize);
    set_scale(graph, dequantize, 0.5f);
    const int pool = add(graph, RQ_OP_GLOBAL_AVG_POOL, "gap", dequantize);
    const int linear = add(graph, RQ_OP_LINEAR, "linear", pool);
    *(float *)param(graph, linear, RQ_SLOT_WEIGHT, RQ_F32, 2, one) = 2.0f;
    *(float *)param(graph, linear, RQ_SLOT_BIAS, RQ_F32, 1, one) = -1.0f;
}

static void test_integer_run_ref__float_operators(void **state)
{
    (void)state;
    rq_model model;
    float_model(&model);
    for (int c = 0; c < 3; c++) {
        model.preprocess.mean[c] = 0.2f;
        model.preprocess.std[c] = 0.5f;
    }
    const uint8_t pixels[2 * 3] = {255, 51, 51, 0, 51, 255}; /* 1.6 0 0 and -0.4 0 1.6 */
    float logit = 0.0f;
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_integer_run_ref(&model, pixels, 1, 1, 2, &logit, NULL, NULL, &err), &err);
    /* conv 1.85 and -1.75; bn 3 * (x - 0.125) / 1.5 + 0.5 = 3.95 and < 0; twice 7.9 and 0; q 16 and
     * 0 dequantized 8 and 0; mean 4; 2 * 4 - 1 */
    assert_close(logit, 7.0, 1e-6, 0.0);
    rq_model_deinit(&model);
}

static void expect_refusal(rq_model *model, rq_status code, const char *part)
{
    uint8_t pixels[N_PIXELS] = {0};
    float logits[BATCH * CLASSES];
    rq_error err = RQ_ERROR_INIT;
    assert_fails(rq_integer_run_ref(model, pixels, BATCH, SIDE, SIDE, logits, NULL, NULL, &err),
                 code, &err);
    assert_says(&err, part);
    rq_model_deinit(model);
}

static void *slot_data(const rq_model *model, int node, rq_slot slot)
{
    return rq_graph_tensor(&model->graph, node, slot)->data;
}

static void test_integer_run_ref__refuses_other_models(void **state)
{
    (void)state;
    rq_model model;
    integer_model(&model);
    model.form = RQ_FORM_QAT;
    expect_refusal(&model, RQ_ERR_MODEL, "form is qat, not int8");

    integer_model(&model);
    model.n_classes = CLASSES + 1; /* the caller's logits would be misread */
    expect_refusal(&model, RQ_ERR_MODEL, "linear: the output is F32 1x1x3");

    integer_model(&model);
    model.graph.n_nodes = 3; /* ends with u8 */
    model.n_classes = CHANNELS;
    expect_refusal(&model, RQ_ERR_MODEL, "gap: the output is U8");

    integer_model(&model);
    model.graph.nodes[1].slot[RQ_SLOT_ZERO_POINT] = -1;
    expect_refusal(&model, RQ_ERR_MODEL, "conv: ");

    integer_model(&model);
    model.graph.n_nodes = 0;
    expect_refusal(&model, RQ_ERR_MODEL, "first node");

    float_model(&model);
    rq_graph *graph = &model.graph;
    const int64_t one[1] = {1};
    const int node = add(graph, RQ_OP_FAKE_QUANT, "fake", graph->n_nodes - 1);
    set_scale(graph, node, 1.0f);
    (void)param(graph, node, RQ_SLOT_MIN, RQ_F32, 1, one);
    (void)param(graph, node, RQ_SLOT_MAX, RQ_F32, 1, one);
    expect_refusal(&model, RQ_ERR_MODEL, "fake: fake_quant");
}

static void test_integer_check__refuses_what_a_file_may_claim(void **state)
{
    (void)state;
    rq_model model;
    integer_model(&model);
    ((int8_t *)slot_data(&model, 1, RQ_SLOT_WEIGHT))[30] = -128;
    expect_refusal(&model, RQ_ERR_MODEL, "conv: channel 1 has a weight -128");

    integer_model(&model);
    ((float *)slot_data(&model, 3, RQ_SLOT_MULTIPLIER))[2] = NAN;
    expect_refusal(&model, RQ_ERR_MODEL, "linear: multiplier 2 is nan");

    integer_model(&model);
    ((float *)slot_data(&model, 2, RQ_SLOT_SCALE))[1] = 0.0f;
    expect_refusal(&model, RQ_ERR_MODEL, "gap: scale 1 is 0");

    integer_model(&model);
    ((int32_t *)slot_data(&model, 1, RQ_SLOT_BIAS))[0] = INT32_MIN;
    expect_refusal(&model, RQ_ERR_RANGE, "conv: channel 0 can reach");

    integer_model(&model);
    ((int64_t *)slot_data(&model, 1, RQ_SLOT_ACC_MAX))[3] -= 1;
    expect_refusal(&model, RQ_ERR_MODEL, "conv: acc_max of channel 1");

    integer_model(&model);
    ((int8_t *)slot_data(&model, 1, RQ_SLOT_WEIGHT))[0] = 0; /* only to be changed below */
    const int8_t *wei = slot_data(&model, 1, RQ_SLOT_WEIGHT);
    const int32_t *bias = slot_data(&model, 1, RQ_SLOT_BIAS);
    int64_t *acc_max = slot_data(&model, 1, RQ_SLOT_ACC_MAX);
    acc_max[0] = rq_acc_bound(wei, 27);
    acc_max[1] = rq_acc_bias_bound(wei, 27, bias[0]);
    model.isa_proof = true; /* true: all weights are within ±60 */
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_integer_check(&model, &err), &err);
    ((int8_t *)slot_data(&model, 1, RQ_SLOT_WEIGHT))[0] = 127;
    acc_max[0] = rq_acc_bound(wei, 27);
    acc_max[1] = rq_acc_bias_bound(wei, 27, bias[0]);
    expect_refusal(&model, RQ_ERR_MODEL, "conv: channel 0 has a pair of weights over 128");
}

static void test_integer_run_ref__survives_without_memory(void **state)
{
    (void)state;
    rq_model model;
    integer_model(&model);
    uint8_t pixels[N_PIXELS];
    fill_pixels(pixels, N_PIXELS);
    float logits[BATCH * CLASSES];
    rq_error err = RQ_ERROR_INIT;
    int n_failed = 0;
    for (rq_status status = RQ_ERR_NOMEM; status; n_failed++) {
        rq_alloc_test_fail_after(n_failed);
        status = rq_integer_run_ref(&model, pixels, BATCH, SIDE, SIDE, logits, NULL, NULL, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK || status == RQ_ERR_NOMEM);
        assert_in_range(n_failed, 0, 100);
    }
    assert_true(n_failed > 1);
    rq_model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qconv_ref__hand_computed),
        cmocka_unit_test(test_qconv_ref__geometries),
        cmocka_unit_test(test_qconv_ref__extremes),
        cmocka_unit_test(test_requantize__rounds_each_operation_to_f32),
        cmocka_unit_test(test_acc_bound__worst_inputs),
        cmocka_unit_test(test_saturation_free__pairs_of_one_sign),
        cmocka_unit_test(test_integer_run_ref__integer_graph),
        cmocka_unit_test(test_integer_run_ref__float_operators),
        cmocka_unit_test(test_integer_run_ref__refuses_other_models),
        cmocka_unit_test(test_integer_check__refuses_what_a_file_may_claim),
        cmocka_unit_test(test_integer_run_ref__survives_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
