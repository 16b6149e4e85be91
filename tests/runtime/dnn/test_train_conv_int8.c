/* The training step's convolution of quantized operands: exact sums by whatever kernels the CPU
 * has, and the backward of the same convolution whose forward is in floats. */
#include "runtime/dnn/train_conv.h"

#include <math.h>
#include <string.h>

#include "runtime/base/bf16.h"
#include "runtime/base/memory.h"
#include "runtime/base/random.h"
#include "tests/support/test.h"

static rq_error err = RQ_ERROR_INIT;

typedef struct problem {
    rq_conv_shape shape;
    size_t n_src, n_wei, n_dst;
    float *src, *wei, *ddst;
    uint8_t *bytes;           /* src */
    uint16_t *src16, *ddst16; /* rounded */
} problem;

static float *alloc_floats(size_t n)
{
    float *values = rq_alloc(n * sizeof *values);
    assert_non_null(values);
    return values;
}

static uint16_t *rounded(const float *data, size_t n)
{
    uint16_t *out = rq_alloc(n * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < n; i++)
        out[i] = rq_to_bf16(data[i]);
    return out;
}

/* extreme: 255 and ±127 only. */
static void setup(problem *p, const rq_conv_shape *s, bool extreme)
{
    rq_random random = {7};
    p->shape = *s;
    p->n_src = (size_t)(s->n * s->ih * s->iw * s->ic);
    p->n_dst = (size_t)(s->n * s->oh * s->ow * s->oc);
    p->n_wei = (size_t)(s->oc * (s->ic / s->conv.groups) * s->conv.kernel[0] * s->conv.kernel[1]);
    p->src = alloc_floats(p->n_src);
    p->bytes = rq_alloc(p->n_src);
    p->wei = alloc_floats(p->n_wei);
    p->ddst = alloc_floats(p->n_dst);
    for (size_t i = 0; i < p->n_src; i++) {
        p->bytes[i] = extreme ? 255 : (uint8_t)rq_random_below(&random, 256);
        p->src[i] = (float)p->bytes[i];
    }
    for (size_t i = 0; i < p->n_wei; i++)
        p->wei[i] =
            extreme ? i % 5 ? 127.0f : -127.0f : (float)rq_random_below(&random, 255) - 127.0f;
    for (size_t i = 0; i < p->n_dst; i++)
        p->ddst[i] = (float)rq_random_normal(&random);
    p->src16 = rounded(p->src, p->n_src);
    p->ddst16 = rounded(p->ddst, p->n_dst);
}

static void teardown(problem *p)
{
    rq_free(p->src);
    rq_free(p->bytes);
    rq_free(p->wei);
    rq_free(p->ddst);
    rq_free(p->src16);
    rq_free(p->ddst16);
}

/* Plain loops. */
static void check_sums(const problem *p, const float *dst)
{
    const rq_conv_shape *s = &p->shape;
    const rq_conv_attr *a = &s->conv;
    const int64_t icg = s->ic / a->groups, ocg = s->oc / a->groups;
    for (size_t i = 0; i < p->n_dst; i++) {
        const int64_t oc = (int64_t)i % s->oc, ox = (int64_t)i / s->oc % s->ow;
        const int64_t oy = (int64_t)i / s->oc / s->ow % s->oh;
        const int64_t n = (int64_t)i / s->oc / s->ow / s->oh;
        int64_t sum = 0;
        for (int64_t t = 0; t < icg * a->kernel[0] * a->kernel[1]; t++) {
            const int64_t kx = t % a->kernel[1], ky = t / a->kernel[1] % a->kernel[0];
            const int64_t c = t / a->kernel[1] / a->kernel[0];
            const int64_t y = oy * a->stride[0] - a->pad[0] + ky;
            const int64_t x = ox * a->stride[1] - a->pad[1] + kx;
            if (y < 0 || y >= s->ih || x < 0 || x >= s->iw)
                continue;
            const int64_t at = ((n * s->ih + y) * s->iw + x) * s->ic + oc / ocg * icg + c;
            sum +=
                (int64_t)p->src[at] * (int64_t)p->wei[oc * icg * a->kernel[0] * a->kernel[1] + t];
        }
        if ((int64_t)dst[i] != sum)
            fail_msg("sum %zu is %g, not %lld", i, (double)dst[i], (long long)sum);
    }
}

typedef struct outcome {
    float *dst, *dwei, *dsrc;
} outcome;

static outcome run(const problem *p, rq_precision precision, bool u8_source)
{
    const rq_train_conv_options options = {
        .precision = precision, .with_dsrc = true, .exact_forward = true, .u8_source = u8_source};
    outcome out = {alloc_floats(p->n_dst), alloc_floats(p->n_wei), alloc_floats(p->n_src)};
    rq_dnn *dnn;
    rq_train_conv *conv;
    assert_ok(rq_dnn_create(&dnn, &err), &err);
    assert_ok(rq_train_conv_create(&conv, dnn, &p->shape, &options, &err), &err);
    if (!u8_source)
        assert_false(rq_train_conv_reads_u8(conv));
    const rq_train_source src = {
        .f32 = rq_train_conv_reads_f32(conv) ? p->src : NULL,
        .bf16 = rq_train_conv_reads_bf16(conv) ? p->src16 : NULL,
        .u8 = rq_train_conv_reads_u8(conv) ? p->bytes : NULL,
    };
    const void *ddst =
        precision == RQ_PRECISION_BF16 ? (const void *)p->ddst16 : (const void *)p->ddst;
    assert_ok(rq_train_conv_forward(conv, src, p->wei, out.dst, &err), &err);
    assert_ok(rq_train_conv_backward(conv, src, p->wei, ddst, out.dwei, out.dsrc, &err), &err);
    rq_train_conv_destroy(conv);
    rq_dnn_destroy(dnn);
    return out;
}

static void free_outcome(outcome *out)
{
    rq_free(out->dst);
    rq_free(out->dwei);
    rq_free(out->dsrc);
}

static void check(const rq_conv_shape *shape, rq_precision precision, bool extreme)
{
    problem p;
    setup(&p, shape, extreme);
    outcome u8 = run(&p, precision, true), floats = run(&p, precision, false);
    check_sums(&p, u8.dst);
    assert_memory_equal(u8.dst, floats.dst, p.n_dst * sizeof(float));
    assert_memory_equal(u8.dwei, floats.dwei, p.n_wei * sizeof(float));
    assert_memory_equal(u8.dsrc, floats.dsrc, p.n_src * sizeof(float));
    free_outcome(&u8);
    free_outcome(&floats);
    teardown(&p);
}

static rq_conv_shape shape(int n, int side, int ic, int oc, int k, int stride, int groups)
{
    const int out = (side + k / 2 * 2 - k) / stride + 1;
    return (rq_conv_shape){
        n,   side, side, ic,
        out, out,  oc,   {{k, k}, {stride, stride}, {k / 2, k / 2}, {1, 1}, groups}};
}

static void test_u8__exact_sums_and_the_same_backward(void **state)
{
    (void)state;
    const rq_conv_shape shapes[] = {
        shape(2, 8, 16, 32, 3, 1, 1), shape(2, 9, 16, 16, 3, 2, 1), shape(3, 7, 5, 7, 3, 1, 1),
        shape(1, 6, 33, 17, 1, 1, 1), shape(2, 8, 8, 8, 3, 1, 4),   shape(2, 8, 6, 6, 3, 1, 2),
        shape(4, 1, 40, 10, 1, 1, 1), shape(3, 8, 32, 48, 3, 1, 1), /* gradients by Winograd's */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int extreme = 0; extreme < 2; extreme++) {
            check(&shapes[i], RQ_PRECISION_F32, extreme);
            if (rq_dnn_has_bf16())
                check(&shapes[i], RQ_PRECISION_BF16, extreme);
        }
}

static void test_precision__f32_for_short_rows(void **state)
{
    (void)state;
    const rq_conv_shape narrow = shape(2, 2, 16, 16, 3, 1, 1), wide = shape(2, 4, 16, 16, 3, 1, 1);
    const rq_conv_shape pixel = shape(2, 1, 16, 16, 1, 1, 1);
    assert_int_equal(rq_train_conv_precision(&narrow, RQ_PRECISION_BF16), RQ_PRECISION_F32);
    assert_int_equal(rq_train_conv_precision(&wide, RQ_PRECISION_BF16), RQ_PRECISION_BF16);
    assert_int_equal(rq_train_conv_precision(&pixel, RQ_PRECISION_BF16), RQ_PRECISION_BF16);
    assert_int_equal(rq_train_conv_precision(&wide, RQ_PRECISION_F32), RQ_PRECISION_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u8__exact_sums_and_the_same_backward),
        cmocka_unit_test(test_precision__f32_for_short_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
