/* Softmax cross-entropy: values and gradients against a plain formula in double, ranks, ignored
 * rows, logits at the edges of f32, bad labels. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "qat/step/step.h"
#include "tests/qat/reference.h"
#include "tests/support/test.h"

enum { ROWS = 9, CLASSES = 7 };

typedef struct rows {
    float logits[ROWS * CLASSES], gradient[ROWS * CLASSES];
    int32_t labels[ROWS];
    double loss[ROWS];
    int rank[ROWS];
    rq_step_result result;
} rows;

static rows random_rows(uint64_t seed)
{
    rows r = {.rank = {0}};
    rq_random random = {seed};
    for (int i = 0; i < ROWS * CLASSES; i++)
        r.logits[i] = (float)(3.0 * rq_random_normal(&random));
    for (int i = 0; i < ROWS; i++)
        r.labels[i] = (int32_t)rq_random_below(&random, CLASSES);
    return r;
}

static rq_status run(rows *r, size_t n, double smoothing, rq_error *err)
{
    memset(r->gradient, 0x7f, sizeof r->gradient); /* every element must be written */
    return tr_loss(r->logits, r->labels, NULL, n, CLASSES, smoothing, r->gradient, r->loss, r->rank,
                   &r->result, err);
}

static double want_loss(const rows *r, const double *logits, double smoothing)
{
    return reference_loss(logits, r->labels, ROWS, CLASSES, smoothing);
}

/* Central differences of the formula; H^2 and 1e-16 / H are both under 1e-9. */
static void check_gradient(const rows *r, double smoothing)
{
    static const double H = 1e-5;
    double logits[ROWS * CLASSES];
    for (int i = 0; i < ROWS * CLASSES; i++)
        logits[i] = (double)r->logits[i];
    assert_close(r->result.loss, want_loss(r, logits, smoothing), 1e-12, 1e-12);
    for (int i = 0; i < ROWS * CLASSES; i++) {
        const double at = logits[i];
        logits[i] = at + H;
        const double above = want_loss(r, logits, smoothing);
        logits[i] = at - H;
        const double below = want_loss(r, logits, smoothing);
        logits[i] = at;
        assert_close(r->gradient[i], (above - below) / (2.0 * H), 1e-8, 1e-6);
    }
}

static void test_loss__equals_the_formula(void **state)
{
    (void)state;
    static const double smoothings[] = {0.0, 0.1, 1.0};
    for (size_t k = 0; k < 3; k++)
        for (uint64_t seed = 1; seed < 5; seed++) {
            rq_error err = RQ_ERROR_INIT;
            rows r = random_rows(seed);
            if (seed > 2)
                r.labels[0] = r.labels[4] = r.labels[ROWS - 1] = RQ_LABEL_IGNORE;
            assert_ok(run(&r, ROWS, smoothings[k], &err), &err);
            check_gradient(&r, smoothings[k]);
            assert_int_equal(r.result.n_counted, seed > 2 ? ROWS - 3 : ROWS);
            for (int i = 0; i < ROWS; i++) { /* probabilities and targets sum to 1 */
                double sum = 0.0;
                for (int c = 0; c < CLASSES; c++)
                    sum += (double)r.gradient[i * CLASSES + c];
                assert_close(sum, 0.0, 1e-7, 0.0);
            }
        }
}

static void test_loss__counts_ranks(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rows r = {.rank = {0}};
    for (int i = 0; i < ROWS; i++) /* row i: class k has logit -k, so label k has rank k */
        for (int k = 0; k < CLASSES; k++)
            r.logits[i * CLASSES + k] = (float)-k;
    static const int32_t labels[ROWS] = {0, 1, 2, 3, 4, 5, 6, RQ_LABEL_IGNORE, 0};
    memcpy(r.labels, labels, sizeof labels);
    assert_ok(run(&r, ROWS, 0.0, &err), &err);
    assert_int_equal(r.result.top1, 2);
    assert_int_equal(r.result.top5, 6);
    assert_int_equal(r.result.n_counted, 8);
    for (int i = 0; i < 7; i++)
        assert_int_equal(r.rank[i], i);
    for (int i = 0; i < ROWS * CLASSES; i++) /* all equal: ties go to the lower index */
        r.logits[i] = 2.0f;
    assert_ok(run(&r, ROWS, 0.0, &err), &err);
    assert_int_equal(r.result.top1, 2);
    assert_int_equal(r.result.top5, 6);
}

static void test_loss__nothing_counted(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rows r = random_rows(3);
    for (int i = 0; i < ROWS; i++)
        r.labels[i] = RQ_LABEL_IGNORE;
    assert_ok(run(&r, ROWS, 0.1, &err), &err);
    assert_close(r.result.loss, 0.0, 0.0, 0.0);
    assert_int_equal(r.result.n_counted + r.result.top1 + r.result.top5, 0);
    for (int i = 0; i < ROWS * CLASSES; i++)
        assert_close(r.gradient[i], 0.0, 0.0, 0.0);
}

/* A skipped row may hold anything: it must not reach the loss. */
static void test_loss__ignored_rows_do_not_matter(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rows r = random_rows(4), other;
    r.labels[2] = RQ_LABEL_IGNORE;
    other = r;
    for (int k = 0; k < CLASSES; k++)
        other.logits[2 * CLASSES + k] = k % 2 ? NAN : INFINITY;
    assert_ok(run(&r, ROWS, 0.1, &err), &err);
    assert_ok(run(&other, ROWS, 0.1, &err), &err);
    assert_memory_equal(&r.result.loss, &other.result.loss, sizeof r.result.loss);
    assert_memory_equal(r.gradient, other.gradient, sizeof r.gradient);
}

/* Logits that would overflow exp: exact answers exist and must come out. */
static void test_loss__large_logits(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rows r = {.rank = {0}};
    static const float large[] = {1000.0f, 1e30f, FLT_MAX};
    for (size_t i = 0; i < 3; i++) {
        memset(r.logits, 0, sizeof r.logits);
        r.labels[0] = 2;
        r.logits[2] = large[i];
        assert_ok(run(&r, 1, 0.0, &err), &err);
        assert_close(r.result.loss, 0.0, 1e-12, 0.0);
        r.labels[0] = 1; /* the wrong class: the loss is the difference */
        assert_ok(run(&r, 1, 0.0, &err), &err);
        assert_close(r.result.loss, large[i], 0.0, 1e-12);
        assert_close(r.gradient[1], -1.0, 0.0, 0.0);
        assert_close(r.gradient[2], 1.0, 0.0, 0.0);
    }
}

static void test_loss__not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        rq_error err = RQ_ERROR_INIT;
        rows r = random_rows(5);
        r.logits[3 * CLASSES + r.labels[3]] = bad[i];
        assert_fails(run(&r, ROWS, 0.0, &err), RQ_ERR_RANGE, &err);
        assert_says(&err, "the loss is not finite");
    }
}

static void test_loss__labels_that_are_no_class(void **state)
{
    (void)state;
    static const int32_t bad[] = {CLASSES, CLASSES + 1, -2, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        rq_error err = RQ_ERROR_INIT;
        rows r = random_rows(6);
        r.labels[ROWS - 1] = bad[i];
        assert_fails(run(&r, ROWS, 0.0, &err), RQ_ERR_RANGE, &err);
        assert_says(&err, rq_test_path("label %d: the model has 7 classes", bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss__equals_the_formula),
        cmocka_unit_test(test_loss__counts_ranks),
        cmocka_unit_test(test_loss__nothing_counted),
        cmocka_unit_test(test_loss__ignored_rows_do_not_matter),
        cmocka_unit_test(test_loss__large_logits),
        cmocka_unit_test(test_loss__not_finite),
        cmocka_unit_test(test_loss__labels_that_are_no_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
