/* Differences between models: zero, known, and not a number. */
#include "runtime/eval/difference.h"

#include <math.h>

#include "cli/report.h"
#include "fuse/fold.h"
#include "runtime/base/random.h"
#include "runtime/model/arch.h"
#include "tests/support/test.h"

enum { SIZE = 16, N_IMAGES = 3 };

static rq_error err;
static rq_model a, b;

static int setup(void **state)
{
    (void)state;
    assert_ok(rq_arch_build(&a, "repvgg:depth=1,2;width=8,8;classes=5", 0, &err), &err);
    rq_model_init_weights(&a, 1);
    a.preprocess.crop = SIZE;
    assert_ok(rq_graph_clone(&b.graph, &a.graph, &err), &err);
    assert_ok(rq_model_copy_info(&b, &a, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_model_deinit(&a);
    rq_model_deinit(&b);
    return 0;
}

static float *values(const rq_model *model, const char *name)
{
    const int i = rq_graph_find_param(&model->graph, name);
    assert_true(i >= 0);
    return rq_tensor_f32(&model->graph.params[i].tensor);
}

static void test_difference__same_model(void **state)
{
    (void)state;
    rq_difference difference;
    assert_ok(rq_difference_random(&difference, &a, &b, SIZE, N_IMAGES, 1, &err), &err);
    assert_int_equal(difference.n_images, N_IMAGES);
    assert_true(difference.max_abs_diff == 0.0);
    assert_true(difference.max_abs_logit > 0.01);
    assert_true(rq_difference_relative(&difference) == 0.0);
    assert_ok(rq_difference_judge(&difference, 0.0, &err), &err);
}

static void test_difference__known_shift(void **state)
{
    (void)state;
    rq_difference difference;
    values(&b, "linear.bias")[3] += 0.25f;
    assert_ok(rq_difference_random(&difference, &a, &b, SIZE, N_IMAGES, 1, &err), &err);
    assert_close(difference.max_abs_diff, 0.25, 1e-6, 0.0);
    assert_close(rq_difference_relative(&difference), 0.25 / difference.max_abs_logit, 0.0, 1e-4);
    assert_fails(rq_difference_judge(&difference, 1e-4, &err), RQ_ERR_GATE, &err);
    assert_says(&err, "differ by up to 0.25");
}

static void test_difference__depends_on_seed(void **state)
{
    (void)state;
    rq_difference first, again, other;
    assert_ok(rq_difference_random(&first, &a, &b, SIZE, 1, 1, &err), &err);
    assert_ok(rq_difference_random(&again, &a, &b, SIZE, 1, 1, &err), &err);
    assert_ok(rq_difference_random(&other, &a, &b, SIZE, 1, 2, &err), &err);
    assert_true(first.max_abs_logit == again.max_abs_logit);
    assert_true(first.max_abs_logit != other.max_abs_logit);
}

/* The check that convert relies on: forms agree as closely as FP32 sums in another order do; one
 * wrong weight does not. */
static void test_difference__merged_model(void **state)
{
    (void)state;
    rq_model deploy;
    rq_difference difference;
    rq_random random = rq_random_stream(5, 0, 0);
    for (int i = 0; i < a.graph.n_nodes; i++) {
        const rq_tensor *var = rq_graph_tensor(&a.graph, i, RQ_SLOT_VAR);
        for (size_t c = 0; var && c < rq_tensor_elems(var); c++) {
            rq_tensor_f32(var)[c] = (float)(0.05 + rq_random_unit(&random));
            rq_tensor_f32(rq_graph_tensor(&a.graph, i, RQ_SLOT_MEAN))[c] =
                (float)rq_random_normal(&random);
            rq_tensor_f32(rq_graph_tensor(&a.graph, i, RQ_SLOT_BIAS))[c] =
                (float)rq_random_normal(&random);
        }
    }
    assert_ok(rq_fuse(&deploy, &a, &err), &err);
    assert_ok(rq_difference_random(&difference, &a, &deploy, SIZE, N_IMAGES, 1, &err), &err);
    assert_true(difference.max_abs_diff > 0.0); /* two computations, not one */
    assert_ok(rq_difference_judge(&difference, 1e-5, &err), &err);
    values(&deploy, "stage1.1.rbr_reparam.weight")[40] += 0.1f;
    assert_ok(rq_difference_random(&difference, &a, &deploy, SIZE, N_IMAGES, 1, &err), &err);
    assert_fails(rq_difference_judge(&difference, RQ_DEFAULT_TOLERANCE, &err), RQ_ERR_GATE, &err);
    rq_model_deinit(&deploy);
}

static void test_difference__rejects(void **state)
{
    (void)state;
    rq_difference difference;
    rq_model other;
    assert_ok(rq_arch_build(&other, "repvgg:depth=1;width=8", 7, &err), &err);
    assert_fails(rq_difference_random(&difference, &a, &other, SIZE, 1, 1, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, "5 classes, the other 7");
    rq_model_deinit(&other);
    values(&b, "linear.bias")[2] = NAN;
    assert_fails(rq_difference_random(&difference, &a, &b, SIZE, 1, 1, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "image 0, class 2");
    const rq_difference broken = {NAN, 1.0, 1};
    assert_fails(rq_difference_judge(&broken, 1.0, &err), RQ_ERR_GATE, &err);
    const rq_difference empty_scale = {1.0, 0.0, 1};
    assert_fails(rq_difference_judge(&empty_scale, 1.0, &err), RQ_ERR_GATE, &err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_difference__same_model),      TEST(test_difference__known_shift),
        TEST(test_difference__depends_on_seed), TEST(test_difference__merged_model),
        TEST(test_difference__rejects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
