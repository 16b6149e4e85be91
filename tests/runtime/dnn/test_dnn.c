/* oneDNN's convolutions as we call them against plain loops in double: forward, gradient of the
 * source, gradient of the weights, over odd sizes; every tensor ends at a protected page, so that a
 * kernel that leaves it crashes the test. */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/bf16.h"
#include "runtime/base/random.h"
#include "runtime/base/size.h"
#include "runtime/dnn/dnn_conv.h"
#include "runtime/dnn/dnn_train_conv.h"
#include "tests/support/test.h"

typedef struct guarded {
    void *mapping;
    size_t mapping_bytes;
    float *data;
} guarded;

/* n random floats that end within 64 bytes of a page that cannot be touched; the page before is one
 * as well. */
static guarded make_guarded(size_t n, rq_random *random)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t used = (n * sizeof(float) + RQ_ALIGNMENT - 1) / RQ_ALIGNMENT * RQ_ALIGNMENT;
    const size_t inner = (used + page - 1) / page * page;
    guarded g = {.mapping_bytes = inner + 2 * page};
    unsigned char *at =
        mmap(NULL, g.mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    assert_int_equal(mprotect(at, page, PROT_NONE), 0);
    assert_int_equal(mprotect(at + page + inner, page, PROT_NONE), 0);
    g.mapping = at;
    g.data = (float *)(void *)(at + page + inner - used);
    for (size_t i = 0; i < n; i++)
        g.data[i] = (float)(2.0 * rq_random_unit(random) - 1.0);
    return g;
}

static void free_guarded(guarded *g)
{
    assert_int_equal(munmap(g->mapping, g->mapping_bytes), 0);
}

/* ---- plain loops ---- */

typedef enum what { FORWARD, DATA, WEIGHTS } what;

/* Visit every (source, weight, destination) triple of a convolution; the product of two goes into
 * the third. */
static void reference(const rq_conv_shape *s, what w, const float *src, const float *wei,
                      const float *dst, double *out)
{
    const rq_conv_attr *a = &s->conv;
    const int64_t icg = s->ic / a->groups, ocg = s->oc / a->groups;
    for (int64_t n = 0; n < s->n; n++)
        for (int64_t oy = 0; oy < s->oh; oy++)
            for (int64_t ox = 0; ox < s->ow; ox++)
                for (int64_t oc = 0; oc < s->oc; oc++)
                    for (int64_t tap = 0; tap < icg * a->kernel[0] * a->kernel[1]; tap++) {
                        const int64_t kx = tap % a->kernel[1];
                        const int64_t ky = tap / a->kernel[1] % a->kernel[0];
                        const int64_t c = tap / a->kernel[1] / a->kernel[0];
                        const int64_t y = oy * a->stride[0] - a->pad[0] + ky * a->dilation[0];
                        const int64_t x = ox * a->stride[1] - a->pad[1] + kx * a->dilation[1];
                        if (y < 0 || y >= s->ih || x < 0 || x >= s->iw)
                            continue;
                        const int64_t is =
                            ((n * s->ih + y) * s->iw + x) * s->ic + oc / ocg * icg + c;
                        const int64_t iw = oc * icg * a->kernel[0] * a->kernel[1] + tap;
                        const int64_t id = ((n * s->oh + oy) * s->ow + ox) * s->oc + oc;
                        if (w == FORWARD)
                            out[id] += (double)src[is] * (double)wei[iw];
                        else if (w == DATA)
                            out[is] += (double)dst[id] * (double)wei[iw];
                        else
                            out[iw] += (double)dst[id] * (double)src[is];
                    }
}

/* unit: what the largest product is. */
static void compare(const float *got, const double *want, size_t n, double n_terms, double unit)
{
    float *rounded = rq_alloc(n * sizeof *rounded);
    for (size_t i = 0; i < n; i++)
        rounded[i] = (float)want[i];
    /* n_terms additions, each rounding a sum that is about sqrt(n_terms) / 3 large */
    assert_all_close(got, rounded, n, unit * (0x1p-24 * n_terms + 1e-6), 1e-6);
    rq_free(rounded);
}

#define LEVELS 255.0

static void to_integers(float *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        data[i] = rintf((float)LEVELS * data[i]);
}

/* The same numbers as bf16. */
static guarded make_rounded(const guarded *from, size_t n, rq_random *random)
{
    guarded out = make_guarded((n + 1) / 2, random);
    uint16_t *numbers = (uint16_t *)(void *)out.data;
    for (size_t i = 0; i < n; i++)
        numbers[i] = rq_to_bf16(from->data[i]);
    return out;
}

static void check_training_in(const rq_conv_shape *s, const rq_dnn_train_options *options)
{
    rq_error err = RQ_ERROR_INIT;
    rq_random random = rq_random_stream((uint64_t)s->ic, (uint64_t)s->ih, (uint64_t)s->oc);
    const rq_conv_attr *a = &s->conv;
    const size_t n_src = (size_t)(s->n * s->ih * s->iw * s->ic);
    const size_t n_dst = (size_t)(s->n * s->oh * s->ow * s->oc);
    const size_t taps = (size_t)(s->ic / a->groups * a->kernel[0] * a->kernel[1]);
    const size_t n_wei = (size_t)s->oc * taps;
    guarded src = make_guarded(n_src, &random), wei = make_guarded(n_wei, &random);
    guarded dst = make_guarded(n_dst, &random), dsrc = make_guarded(n_src, &random);
    guarded ddst = make_guarded(n_dst, &random), dwei = make_guarded(n_wei, &random);
    const bool bf16 = options->precision == RQ_PRECISION_BF16;
    const double unit = bf16 ? LEVELS * LEVELS : 1.0;
    if (bf16) { /* what bf16 holds exactly, so that only sums can differ */
        to_integers(src.data, n_src);
        to_integers(wei.data, n_wei);
        to_integers(ddst.data, n_dst);
    }
    guarded src16 = make_rounded(&src, n_src, &random),
            ddst16 = make_rounded(&ddst, n_dst, &random);
    const float *in = bf16 ? src16.data : src.data;
    const float *gradient = bf16 ? ddst16.data : ddst.data;
    rq_dnn *dnn = NULL;
    rq_dnn_train_conv *conv = NULL;
    assert_ok(rq_dnn_create(&dnn, &err), &err);
    assert_ok(rq_dnn_train_conv_create(&conv, dnn, s, options, &err), &err);
    assert_ok(rq_dnn_train_conv_set_weights(conv, wei.data, &err), &err);
    if (options->with_forward)
        assert_ok(rq_dnn_train_conv_forward(conv, in, dst.data, &err), &err);
    assert_ok(rq_dnn_train_conv_backward(conv, in, gradient, dwei.data, dsrc.data, &err), &err);
    const struct {
        what kind;
        const float *got;
        size_t n;
        double terms;
    } results[] = {{FORWARD, dst.data, n_dst, (double)taps},
                   {DATA, dsrc.data, n_src, (double)taps},
                   {WEIGHTS, dwei.data, n_wei, (double)n_dst / (double)s->oc}};
    for (size_t i = options->with_forward ? 0 : 1; i < 3; i++) {
        double *want = rq_alloc(results[i].n * sizeof *want);
        reference(s, results[i].kind, src.data, wei.data, ddst.data, want);
        compare(results[i].got, want, results[i].n, results[i].terms, unit);
        rq_free(want);
    }
    rq_dnn_train_conv_destroy(conv);
    rq_dnn_destroy(dnn);
    guarded *all[] = {&src, &wei, &dst, &dsrc, &ddst, &dwei, &src16, &ddst16};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free_guarded(all[i]);
}

static void check_training(const rq_conv_shape *s)
{
    for (int forward = 0; forward < 2; forward++) {
        rq_dnn_train_options options = {.with_forward = forward, .with_dsrc = true};
        check_training_in(s, &options);
        if (!rq_dnn_has_bf16())
            continue;
        options.precision = RQ_PRECISION_BF16;
        check_training_in(s, &options);
    }
}

static rq_conv_shape shape(int n, int side, int ic, int oc, int k, int stride, int dilation,
                           int groups)
{
    const int pad = k / 2 * dilation;
    const int out = (side + 2 * pad - (k - 1) * dilation - 1) / stride + 1;
    return (rq_conv_shape){
        n,   side, side, ic,
        out, out,  oc,   {{k, k}, {stride, stride}, {pad, pad}, {dilation, dilation}, groups}};
}

static void test_training__equals_plain_loops(void **state)
{
    (void)state;
    const rq_conv_shape shapes[] = {
        shape(2, 9, 16, 32, 3, 1, 1, 1), shape(2, 9, 5, 7, 3, 2, 1, 1),
        shape(3, 8, 17, 33, 3, 1, 1, 1), shape(2, 11, 6, 8, 3, 1, 1, 2),
        shape(2, 7, 12, 12, 3, 2, 1, 4), shape(2, 10, 8, 8, 3, 1, 2, 1),
        shape(1, 6, 31, 3, 5, 1, 1, 1),  shape(4, 1, 40, 10, 1, 1, 1, 1),
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_training(&shapes[i]);
}

/* The 1x1 branch of a first block: oneDNN 2.6.3's own choice for its weights' gradient wrote
 * outside the tensors. */
static void test_training__strided_1x1_with_few_channels_stays_inside(void **state)
{
    (void)state;
    const int channels[] = {1, 2, 3, 4, 15, 16, 17};
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) {
        const rq_conv_shape large = shape(64, 64, channels[i], 16, 1, 2, 1, 1);
        const rq_conv_shape odd = shape(3, 27, channels[i], 21, 1, 2, 1, 1);
        check_training(&large);
        check_training(&odd);
    }
}

static void test_inference__equals_plain_loops(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_random random = rq_random_stream(1, 2, 3);
    const rq_conv_shape s = shape(2, 13, 6, 10, 3, 2, 1, 2);
    const size_t n_src = (size_t)(s.n * s.ih * s.iw * s.ic),
                 n_dst = (size_t)(s.n * s.oh * s.ow * s.oc);
    guarded src = make_guarded(n_src, &random), wei = make_guarded((size_t)s.oc * 27, &random);
    guarded bias = make_guarded((size_t)s.oc, &random), dst = make_guarded(n_dst, &random);
    rq_dnn *dnn = NULL;
    rq_dnn_conv *conv = NULL;
    const rq_dnn_conv_options options = {.types = RQ_DNN_F32, .bias = true, .relu = true};
    assert_ok(rq_dnn_create(&dnn, &err), &err);
    assert_ok(rq_dnn_conv_create(&conv, dnn, &s, &options, &err), &err);
    assert_ok(rq_dnn_conv_set_weights(conv, wei.data, bias.data, &err), &err);
    assert_ok(rq_dnn_conv_run(conv, src.data, dst.data, &err), &err);
    double *want = rq_alloc(n_dst * sizeof *want);
    reference(&s, FORWARD, src.data, wei.data, NULL, want);
    for (size_t i = 0; i < n_dst; i++)
        want[i] = fmax(want[i] + (double)bias.data[i % (size_t)s.oc], 0.0);
    compare(dst.data, want, n_dst, 27.0, 1.0);
    rq_free(want);
    rq_dnn_conv_destroy(conv);
    rq_dnn_destroy(dnn);
    guarded *all[] = {&src, &wei, &bias, &dst};
    for (size_t i = 0; i < 4; i++)
        free_guarded(all[i]);
}

static void test_create__names_a_problem_that_has_no_kernel(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_dnn *dnn = NULL;
    rq_dnn_conv *conv = NULL;
    rq_conv_shape s = shape(1, 8, 4, 4, 3, 1, 1, 1);
    s.conv.groups = 3;
    const rq_dnn_conv_options options = {.types = RQ_DNN_F32};
    assert_ok(rq_dnn_create(&dnn, &err), &err);
    assert_true(rq_dnn_conv_create(&conv, dnn, &s, &options, &err) != RQ_OK);
    assert_says(&err, "g3ic4ih8iw8oc4");
    assert_null(conv);
    rq_dnn_destroy(dnn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training__equals_plain_loops),
        cmocka_unit_test(test_training__strided_1x1_with_few_channels_stays_inside),
        cmocka_unit_test(test_inference__equals_plain_loops),
        cmocka_unit_test(test_create__names_a_problem_that_has_no_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
