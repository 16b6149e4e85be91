/* Grouped integer convolutions against the scalar reference, 0 differing elements: the groups of
 * RepVGG's g2 and g4 models, and groups for which oneDNN has no kernel of its own. */
#include <math.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/dnn/dnn_conv.h"
#include "runtime/dnn/integer_conv.h"
#include "runtime/reference/integer.h"
#include "tests/support/test.h"

enum { N = 2, SIDE = 5 };

/* How weights and pixels are drawn. SMALL: no pair of products saturates, so nothing is split. */
typedef enum filling { RANDOM, LARGEST, SMALL, N_FILLINGS } filling;

typedef struct conv_case {
    int64_t ic, oc;
    int groups, stride;
} conv_case;

/* Everything that one convolution reads, and what the reference makes of it. */
typedef struct bench {
    rq_conv_shape shape;
    int8_t *wei;
    int32_t *bias;
    float *multiplier;
    uint8_t *src, *want;
    filling fill;
    size_t n_src, n_dst;
} bench;

static void bench_start(bench *b, const conv_case *c, filling fill)
{
    rq_random random = rq_random_stream((uint64_t)c->ic, (uint64_t)c->groups, fill);
    b->fill = fill;
    const int64_t out = (SIDE - 1) / c->stride + 1;
    const rq_conv_attr attr = {{3, 3}, {c->stride, c->stride}, {1, 1}, {1, 1}, c->groups};
    b->shape = (rq_conv_shape){N, SIDE, SIDE, c->ic, out, out, c->oc, attr};
    const size_t taps = (size_t)(c->ic / c->groups * 9), oc = (size_t)c->oc;
    b->n_src = (size_t)(N * SIDE * SIDE * c->ic);
    b->n_dst = (size_t)(N * out * out * c->oc);
    b->wei = rq_alloc(oc * taps);
    b->bias = rq_alloc(oc * sizeof *b->bias);
    b->multiplier = rq_alloc(oc * sizeof *b->multiplier);
    b->src = rq_alloc(b->n_src);
    b->want = rq_alloc(b->n_dst);
    for (size_t i = 0; i < oc * taps; i++)
        b->wei[i] = (int8_t)(fill == LARGEST ? 127
                             : fill == SMALL ? (int)rq_random_below(&random, 129) - 64
                                             : (int)rq_random_below(&random, 255) - 127);
    for (size_t i = 0; i < b->n_src; i++)
        b->src[i] = (uint8_t)(fill == LARGEST ? 255 : rq_random_below(&random, 256));
    for (size_t i = 0; i < oc; i++) {
        b->bias[i] = (int32_t)rq_random_below(&random, 200001) - 100000;
        b->multiplier[i] = (float)((0.5 + rq_random_unit(&random)) / (127.0 * sqrt((double)taps)));
        if (fill == LARGEST)
            b->multiplier[i] = (float)(200.0 / (255.0 * 127.0 * (double)taps));
    }
    rq_qconv_ref(&b->shape, b->src, b->wei, b->bias, b->multiplier, NULL, b->want);
}

static void bench_end(bench *b)
{
    rq_free(b->wei);
    rq_free(b->bias);
    rq_free(b->multiplier);
    rq_free(b->src);
    rq_free(b->want);
}

/* The numbers of a kind are u8, or integer-valued f32. */
static size_t count_differing(const bench *b, rq_dnn *dnn, rq_iconv_kind kind)
{
    rq_error err = RQ_ERROR_INIT;
    const rq_iconv_weights weights = {b->wei, b->bias, b->multiplier, b->fill == SMALL, NULL};
    const size_t size = kind == RQ_ICONV_U8 ? 1 : sizeof(float);
    void *src = rq_alloc(b->n_src * size), *dst = rq_alloc(b->n_dst * size);
    for (size_t i = 0; i < b->n_src; i++)
        if (kind == RQ_ICONV_U8)
            ((uint8_t *)src)[i] = b->src[i];
        else
            ((float *)src)[i] = (float)b->src[i];
    rq_iconv *conv = NULL;
    assert_ok(rq_iconv_create(&conv, dnn, &b->shape, kind, &weights, false, &err), &err);
    if (kind == RQ_ICONV_U8)
        assert_int_equal(rq_iconv_is_split(conv), b->fill != SMALL && rq_dnn_u8s8_may_saturate());
    void *scratch = rq_alloc(rq_iconv_scratch_bytes(conv));
    assert_ok(rq_iconv_run(conv, src, dst, scratch, &err), &err);
    size_t differing = 0;
    for (size_t i = 0; i < b->n_dst; i++)
        differing += kind == RQ_ICONV_U8 ? ((uint8_t *)dst)[i] != b->want[i]
                                         : ((float *)dst)[i] != (float)b->want[i];
    rq_iconv_destroy(conv);
    rq_free(scratch);
    rq_free(src);
    rq_free(dst);
    return differing;
}

static void check_cases(const conv_case *cases, size_t n)
{
    rq_error err = RQ_ERROR_INIT;
    rq_dnn *dnn = NULL;
    assert_ok(rq_dnn_create(&dnn, &err), &err);
    for (size_t i = 0; i < n; i++)
        for (filling fill = 0; fill < N_FILLINGS; fill++) {
            bench b;
            bench_start(&b, &cases[i], fill);
            const size_t u8 = count_differing(&b, dnn, RQ_ICONV_U8);
            const size_t f32 = count_differing(&b, dnn, RQ_ICONV_F32);
            if (u8 || f32)
                fail_msg("%lld to %lld channels in %d groups: %zu and %zu differ",
                         (long long)cases[i].ic, (long long)cases[i].oc, cases[i].groups, u8, f32);
            bench_end(&b);
        }
    rq_dnn_destroy(dnn);
}

/* Channels per group 32 to 80, and strides, as in RepVGG-B1g4, B2g4, B3g4 and their g2. */
static void test_groups__of_repvgg(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {128, 128, 2, 1}, {128, 128, 4, 1}, {160, 160, 4, 1}, {160, 160, 2, 1},
        {192, 192, 4, 1}, {160, 320, 2, 2}, {128, 256, 4, 2},
    };
    check_cases(cases, sizeof cases / sizeof cases[0]);
}

/* Not a multiple of 16, 8, 4 or 2 channels per group, on either side; depthwise. */
static void test_groups__of_any_size(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {24, 24, 2, 1}, {40, 24, 2, 2}, {12, 12, 2, 1}, {24, 20, 4, 1},  {9, 15, 3, 1},
        {6, 4, 2, 2},   {35, 7, 7, 1},  {3, 6, 3, 1},   {13, 13, 13, 1}, {14, 28, 14, 2},
    };
    check_cases(cases, sizeof cases / sizeof cases[0]);
}

/* Which groups oneDNN has a kernel for is its own matter; where it has none, its plain loops must
 * not be what runs: that is a matter of minutes. */
static void test_groups__dense_where_there_is_no_kernel(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_dnn *dnn = NULL;
    assert_ok(rq_dnn_create(&dnn, &err), &err);
    const conv_case odd = {24, 24, 4, 1};
    bench b;
    bench_start(&b, &odd, RANDOM);
    const rq_dnn_conv_options options = {.types = RQ_DNN_U8_S32};
    rq_dnn_conv *grouped = NULL;
    assert_ok(rq_dnn_conv_create(&grouped, dnn, &b.shape, &options, &err), &err);
    const bool is_reference = rq_dnn_conv_is_reference(grouped);
    rq_dnn_conv_destroy(grouped);
    const rq_iconv_weights weights = {b.wei, b.bias, b.multiplier, true, NULL};
    rq_iconv *conv = NULL;
    assert_ok(rq_iconv_create(&conv, dnn, &b.shape, RQ_ICONV_U8, &weights, false, &err), &err);
    const size_t grouped_bytes = (size_t)(b.shape.oc * b.shape.ic / 4 * 9);
    if (is_reference)
        assert_true(rq_iconv_weight_bytes(conv) >= 4 * grouped_bytes);
    rq_iconv_destroy(conv);
    bench_end(&b);
    rq_dnn_destroy(dnn);
}

int main(void)
{
    print_message("instruction set: rq_dnn_isa %d\n", (int)rq_dnn_isa_level());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups__of_repvgg),
        cmocka_unit_test(test_groups__of_any_size),
        cmocka_unit_test(test_groups__dense_where_there_is_no_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
