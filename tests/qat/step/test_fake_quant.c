/* Fake quantization against PyTorch: values and straight-through gradients of activations (the mix)
 * and weights. */
#include <math.h>
#include <string.h>

#include "qat/step/eltwise_passes.h"
#include "runtime/model/quant.h"
#include "tests/qat/golden.h"
#include "tests/support/test.h"

/* One plain term, quantized: what a fake_quant node after a value does. */
static void check_activations(rq_tensorfile *file, const char *name)
{
    const rq_tensor x = golden(file, name, "x");
    const size_t n = rq_tensor_elems(&x);
    const float scale = *golden_f32(file, name, "scale");
    const float *want = golden_f32(file, name, "y"), *g = golden_f32(file, name, "g");
    const float *want_dx = golden_f32(file, name, "d.x");
    const float one = 1.0f, zero = 0.0f;
    float *q = rq_alloc(n * sizeof *q), *dz = rq_alloc(n * sizeof *dz);
    const tr_pass_args args = {
        .u = {x.data},
        .n_terms = 1,
        .a = {&one},
        .c = &zero,
        .quantize = true,
        .inverse_scale = 1.0f / scale,
        .low = 0.0f,
        .high = 255.0f,
        .pixels = n,
        .channels = 1,
    };
    tr_pass_apply(&args, q, TR_F32);
    for (size_t i = 0; i < n; i++)
        assert_close(q[i] * scale, want[i], 0.0, 0.0);
    memcpy(dz, g, n * sizeof *dz);
    float sum = 0.0f;
    const float *pivot[TR_MAX_TERMS] = {NULL};
    float *sums[TR_MAX_TERMS] = {&sum};
    float unused = 0.0f;
    const tr_pass_gradients gradients = {{dz}, 1, TR_F32};
    tr_pass_reduce(&args, &gradients, 1.0f, pivot, &unused, sums);
    assert_all_close(dz, want_dx, n, 0.0, 0.0);
    rq_free(dz);
    rq_free(q);
}

static void test_activations__equal_pytorch(void **state)
{
    (void)state;
    rq_tensorfile *file = golden_open("fake_quant");
    check_activations(file, "pow2");
    check_activations(file, "odd");
    rq_tensorfile_close(file);
}

static void test_weights__equal_pytorch(void **state)
{
    (void)state;
    rq_tensorfile *file = golden_open("fake_quant");
    const rq_tensor x = golden(file, "channel", "x");
    const float *w = x.data, *scale = golden_f32(file, "channel", "scale");
    const float *want = golden_f32(file, "channel", "y");
    const size_t n = rq_tensor_elems(&x), per_channel = n / (size_t)x.dim[0];
    for (size_t i = 0; i < n; i++) {
        const float s = scale[i / per_channel];
        assert_close((float)rq_quantize_weight(w[i], 1.0f / s) * s, want[i], 0.0, 0.0);
    }
    rq_tensorfile_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activations__equal_pytorch),
        cmocka_unit_test(test_weights__equal_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
