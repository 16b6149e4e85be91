/* The float convolution of sessions, by either way, against sums in double. */
#include "runtime/dnn/float_conv.h"

#include <math.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/dnn/winograd.h"
#include "tests/support/test.h"

static rq_error err;

typedef struct problem {
    rq_conv_shape shape;
    size_t n_src, n_dst, n_wei;
    float *src, *wei, *bias, *dst;
    rq_dnn *dnn;
} problem;

static float *random_floats(size_t n, uint64_t stream)
{
    float *values = rq_alloc(n * sizeof *values);
    rq_random random = rq_random_stream(11, stream, 0);
    assert_non_null(values);
    for (size_t i = 0; i < n; i++)
        values[i] = 2.0f * (float)rq_random_unit(&random) - 1.0f;
    return values;
}

static void setup(problem *p, const rq_conv_shape *shape)
{
    p->shape = *shape;
    p->n_src = (size_t)(shape->n * shape->ih * shape->iw * shape->ic);
    p->n_dst = (size_t)(shape->n * shape->oh * shape->ow * shape->oc);
    p->n_wei = (size_t)(shape->oc * shape->ic / shape->conv.groups * shape->conv.kernel[0] *
                        shape->conv.kernel[1]);
    p->src = random_floats(p->n_src, 1);
    p->wei = random_floats(p->n_wei, 2);
    p->bias = random_floats((size_t)shape->oc, 3);
    p->dst = random_floats(p->n_dst, 4);
    assert_ok(rq_dnn_create(&p->dnn, &err), &err);
}

static void teardown(problem *p)
{
    rq_dnn_destroy(p->dnn);
    rq_free(p->src);
    rq_free(p->wei);
    rq_free(p->bias);
    rq_free(p->dst);
}

/* The sum at dst[i] in double; *size: of the terms' magnitudes. */
static double sum_at(const problem *p, size_t i, double *size)
{
    const rq_conv_shape *s = &p->shape;
    const rq_conv_attr *a = &s->conv;
    const int64_t oc = (int64_t)i % s->oc, pixel = (int64_t)i / s->oc;
    const int64_t ox = pixel % s->ow, oy = pixel / s->ow % s->oh, n = pixel / s->ow / s->oh;
    const int64_t ic_group = s->ic / a->groups, first = oc / (s->oc / a->groups) * ic_group;
    double sum = *size = 0.0;
    for (int64_t ky = 0; ky < a->kernel[0]; ky++)
        for (int64_t kx = 0; kx < a->kernel[1]; kx++) {
            const int64_t y = oy * a->stride[0] - a->pad[0] + ky;
            const int64_t x = ox * a->stride[1] - a->pad[1] + kx;
            if (y < 0 || y >= s->ih || x < 0 || x >= s->iw)
                continue;
            for (int64_t ic = 0; ic < ic_group; ic++) {
                const double term =
                    (double)p->src[((n * s->ih + y) * s->iw + x) * s->ic + first + ic] *
                    (double)p->wei[((oc * ic_group + ic) * a->kernel[0] + ky) * a->kernel[1] + kx];
                sum += term;
                *size += fabs(term);
            }
        }
    return sum;
}

static rq_float_conv *create(const problem *p, bool bias, bool relu)
{
    rq_float_conv *conv = NULL;
    const rq_float_conv_options options = {bias, relu};
    assert_ok(rq_float_conv_create(&conv, p->dnn, &p->shape, &options, &err), &err);
    assert_ok(rq_float_conv_set_weights(conv, p->wei, bias ? p->bias : NULL, &err), &err);
    return conv;
}

static void check_shape(const rq_conv_shape *shape)
{
    problem p;
    setup(&p, shape);
    for (int k = 0; k < 4; k++) {
        const bool bias = k & 1, relu = k & 2;
        rq_float_conv *conv = create(&p, bias, relu);
        assert_true(rq_float_conv_bytes(conv) >= 4 * p.n_wei);
        assert_ok(rq_float_conv_run(conv, p.src, p.dst, &err), &err);
        size_t n_zeros = 0;
        for (size_t i = 0; i < p.n_dst; i++) {
            double size, want = sum_at(&p, i, &size);
            if (bias)
                want += (double)p.bias[i % (size_t)shape->oc];
            if (relu && want < 0.0)
                want = 0.0;
            n_zeros += p.dst[i] == 0.0f;
            assert_close(p.dst[i], want, 3e-6 * (size + 1.0), 0);
        }
        assert_true(relu ? n_zeros > p.n_dst / 4 : n_zeros < p.n_dst / 4);
        rq_float_conv_destroy(conv);
    }
    teardown(&p);
}

static const rq_conv_shape by_winograd = {2,  28, 28, 32,
                                          28, 28, 48, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}};
static const rq_conv_shape small_side = {3,  14, 14, 32,
                                         14, 14, 32, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}};
static const rq_conv_shape strided = {2, 9, 10, 5, 5, 5, 7, {{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1}};
static const rq_conv_shape grouped = {1, 6, 5, 8, 6, 5, 12, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 4}};

static void test_float_conv__sums_in_double(void **state)
{
    (void)state;
    check_shape(&by_winograd);
    check_shape(&small_side);
    check_shape(&strided);
    check_shape(&grouped);
}

static void test_winograd__packed_weights_give_the_same(void **state)
{
    (void)state;
    problem p;
    setup(&p, &by_winograd);
    if (!rq_winograd_suits(&by_winograd, RQ_PRECISION_F32)) { /* a CPU without its instructions */
        teardown(&p);
        skip();
    }
    rq_winograd plan;
    rq_winograd_init(&plan, &by_winograd, RQ_PRECISION_F32, 2);
    void *scratch = rq_alloc(rq_winograd_scratch_bytes(&plan));
    float *packed = rq_alloc(rq_winograd_packed_size(&plan) * sizeof *packed);
    float *want = rq_alloc(p.n_dst * sizeof *want);
    assert_true(scratch && packed && want);
    rq_winograd_forward(&plan, p.src, p.wei, want, scratch);
    rq_winograd_pack(&plan, p.wei, packed);
    rq_winograd_infer(&plan, p.src, packed, NULL, false, p.dst, scratch);
    assert_memory_equal(p.dst, want, p.n_dst * sizeof *want);
    rq_free(want);
    rq_free(packed);
    rq_free(scratch);
    teardown(&p);
}

/* One image alone gives what it gives in a batch; so streams and sessions agree. */
static void test_float_conv__batch_does_not_matter(void **state)
{
    (void)state;
    problem p;
    setup(&p, &by_winograd);
    rq_float_conv *both = create(&p, true, true);
    assert_ok(rq_float_conv_run(both, p.src, p.dst, &err), &err);
    const size_t n_src = p.n_src / 2, n_dst = p.n_dst / 2;
    float *want = rq_alloc(p.n_dst * sizeof *want);
    memcpy(want, p.dst, p.n_dst * sizeof *want);
    p.shape.n = 1;
    rq_float_conv *single = create(&p, true, true);
    for (size_t i = 0; i < 2; i++) {
        assert_ok(rq_float_conv_run(single, p.src + i * n_src, p.dst, &err), &err);
        assert_memory_equal(p.dst, want + i * n_dst, n_dst * sizeof *want);
    }
    rq_float_conv_destroy(single);
    rq_float_conv_destroy(both);
    rq_free(want);
    teardown(&p);
}

static void test_float_conv__shares_weights(void **state)
{
    (void)state;
    const rq_conv_shape shapes[] = {by_winograd, small_side};
    for (int k = 0; k < 2; k++) {
        problem p;
        setup(&p, &shapes[k]);
        rq_float_conv *owner = create(&p, true, false), *guest = NULL, *unset = NULL;
        const rq_float_conv_options options = {true, false};
        float *want = rq_alloc(p.n_dst * sizeof *want);
        assert_ok(rq_float_conv_create(&guest, p.dnn, &p.shape, &options, &err), &err);
        assert_ok(rq_float_conv_create(&unset, p.dnn, &p.shape, &options, &err), &err);
        assert_false(rq_float_conv_share_weights(guest, unset)); /* has none yet */
        assert_true(rq_float_conv_share_weights(guest, owner));
        assert_ok(rq_float_conv_run(owner, p.src, want, &err), &err);
        assert_ok(rq_float_conv_run(guest, p.src, p.dst, &err), &err);
        assert_memory_equal(p.dst, want, p.n_dst * sizeof *want);
        rq_float_conv_destroy(unset);
        rq_float_conv_destroy(guest);
        rq_float_conv_destroy(owner);
        rq_free(want);
        teardown(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float_conv__sums_in_double),
        cmocka_unit_test(test_winograd__packed_weights_give_the_same),
        cmocka_unit_test(test_float_conv__batch_does_not_matter),
        cmocka_unit_test(test_float_conv__shares_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
