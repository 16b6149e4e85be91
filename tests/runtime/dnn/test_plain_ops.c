/* What sessions, training and lowering take for granted of every plain operator. */
#include "runtime/dnn/plain_ops.h"

#include <string.h>

#include "runtime/base/random.h"
#include "tests/support/test.h"

enum { N = 2, SIDE = 5, OUT = 3, C = 17, N_SRC = N * SIDE * SIDE * C, N_DST = N * OUT * OUT * C };

static const rq_shape in = {N, SIDE, SIDE, C, RQ_F32}, out = {N, OUT, OUT, C, RQ_F32};
static const rq_conv_attr window = {{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1};
static const rq_plain_args args = {&in, &out, &window, false};

#define PLAIN_OWN(code)
#define PLAIN_INTEGER(code)
#define PLAIN_TWIN(code)
#define PLAIN_PLAIN(code) RQ_OP_##code,

static const rq_op plain_ops[] = {
#define X(code, name, kind) PLAIN_##kind(code)
    RQ_OP_LIST(X)
#undef X
};
enum { N_PLAIN = sizeof plain_ops / sizeof plain_ops[0] };

static void fill(float *x, size_t n, uint64_t seed)
{
    rq_random random = rq_random_stream(seed, 0, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rq_random_normal(&random);
}

static void test_plain_op_of__finds_rows_and_twins(void **state)
{
    (void)state;
    assert_null(rq_plain_op_of(RQ_OP_CONV));
    assert_null(rq_plain_op_of(RQ_OP_QCONV));
    for (int i = 0; i < N_PLAIN; i++) {
        const rq_plain_op *op = rq_plain_op_of(plain_ops[i]);
        assert_non_null(op);
        assert_false(rq_op_is_integer(plain_ops[i]));
        if (op->twin != RQ_OP_INPUT) {
            assert_true(rq_op_is_integer(op->twin));
            assert_ptr_equal(rq_plain_op_of(op->twin), op);
        }
    }
}

/* Powers of two, so that no rounding differs. */
static void test_forward__keeps_scales(void **state)
{
    (void)state;
    float src[N_SRC], scaled[N_SRC], dst[N_DST], dst_scaled[N_DST];
    fill(src, N_SRC, 1);
    for (int i = 0; i < N_SRC; i++)
        scaled[i] = 0.25f * src[i];
    for (int i = 0; i < N_PLAIN; i++) {
        rq_plain_op_of(plain_ops[i])->forward(&args, src, dst);
        rq_plain_op_of(plain_ops[i])->forward(&args, scaled, dst_scaled);
        for (int k = 0; k < N_DST; k++)
            assert_close(dst_scaled[k], 0.25f * dst[k], 0.0, 0.0);
    }
}

/* One that has a twin gives the same levels, as u8 and as f32. */
static void test_forward__of_levels_equals_twin(void **state)
{
    (void)state;
    uint8_t levels[N_SRC], dst_u8[N_DST];
    float src[N_SRC], dst[N_DST];
    rq_random random = rq_random_stream(2, 0, 0);
    for (int i = 0; i < N_SRC; i++)
        src[i] = (float)(levels[i] = (uint8_t)rq_random_below(&random, 256));
    const rq_plain_args u8_args = {&in, &out, &window, true};
    for (int i = 0; i < N_PLAIN; i++) {
        const rq_plain_op *op = rq_plain_op_of(plain_ops[i]);
        if (op->twin == RQ_OP_INPUT)
            continue;
        op->forward(&args, src, dst);
        op->forward(&u8_args, levels, dst_u8);
        for (int k = 0; k < N_DST; k++)
            assert_int_equal((int)dst[k], dst_u8[k]);
    }
}

/* sum of ddst * dst as a function of one number, by central differences. */
static void test_backward__agrees_with_finite_differences(void **state)
{
    (void)state;
    float src[N_SRC], dst[N_DST], ddst[N_DST], left[N_DST], dsrc[N_SRC];
    const float step = 1.0f / 1024;
    fill(src, N_SRC, 3);
    fill(ddst, N_DST, 4);
    for (int i = 0; i < N_PLAIN; i++) {
        const rq_plain_op *op = rq_plain_op_of(plain_ops[i]);
        op->forward(&args, src, dst);
        memcpy(left, ddst, sizeof left);
        op->backward(&args, src, dst, left, dsrc);
        for (int k = 0; k < N_SRC; k += 7) {
            double sums[2] = {0.0, 0.0};
            const float kept = src[k];
            for (int side = 0; side < 2; side++) {
                src[k] = side ? kept + step : kept - step;
                op->forward(&args, src, dst);
                for (int j = 0; j < N_DST; j++)
                    sums[side] += (double)ddst[j] * (double)dst[j];
            }
            src[k] = kept;
            assert_close(dsrc[k], (sums[1] - sums[0]) / (2.0 * (double)step), 1e-2, 1e-2);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_op_of__finds_rows_and_twins),
        cmocka_unit_test(test_forward__keeps_scales),
        cmocka_unit_test(test_forward__of_levels_equals_twin),
        cmocka_unit_test(test_backward__agrees_with_finite_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
