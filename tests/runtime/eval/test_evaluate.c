/* Evaluation against one image at a time, and what it does about images and logits that are bad. */
#include "runtime/eval/evaluate.h"

#include <math.h>
#include <string.h>

#include "cli/synthetic.h"
#include "runtime/base/memory.h"
#include "tests/runtime/tiny_models.h"

enum { PER_CLASS = 5, N_IMAGES = TINY_CLASSES * PER_CLASS, BATCH = 4 };

static const rq_transform transform = {
    .kind = RQ_TRANSFORM_EVAL, .resize = TINY_SIDE, .size = TINY_SIDE};

static rq_error err;
static const char *dir;
static rq_dataset dataset;
static rq_model model;
static rq_session *session;
static rq_loader *loader;

static void open_all(rq_bad_images bad_images, int workers)
{
    const rq_session_options session_options = {.batch = BATCH};
    const rq_loader_options loader_options = {
        .transform = transform, .batch = BATCH, .workers = workers, .bad_images = bad_images};
    assert_ok(rq_dataset_open(&dataset, dir, RQ_SPLIT_VAL, &err), &err);
    assert_ok(rq_session_create(&session, &model, &session_options, &err), &err);
    assert_ok(rq_loader_create(&loader, &dataset, &loader_options, &err), &err);
}

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    if (rq_synthetic_write(dir, TINY_CLASSES, 1, PER_CLASS, TINY_SIDE, 1, &err))
        return -1;
    tiny_deploy(&model);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_loader_destroy(loader);
    rq_session_destroy(session);
    rq_dataset_close(&dataset);
    rq_model_deinit(&model);
    loader = NULL;
    session = NULL;
    rq_test_rmdir(dir);
    return 0;
}

/* Image i of class c becomes something that is no image. */
static void spoil(int c, int i)
{
    const char *path = rq_test_path("%s/val/%s/%04d.jpg", dir, rq_synthetic_class_name(c), i);
    size_t size_bytes;
    rq_free(rq_test_read_file(path, &size_bytes)); /* it is there */
    rq_test_write_file(path, "no image", 8);
}

/* ---- reference: image by image, in double ---- */

typedef struct reference {
    float logits[N_IMAGES][TINY_CLASSES];
    int rank[N_IMAGES];
    double loss; /* sum */
} reference;

static void run_reference(reference *out)
{
    rq_sampler sampler = {0};
    rq_session *single;
    uint8_t pixels[TINY_SIDE * TINY_SIDE * 3];
    const rq_session_options options = {.batch = 1};
    assert_ok(rq_session_create(&single, &model, &options, &err), &err);
    out->loss = 0.0;
    for (size_t i = 0; i < dataset.n_images; i++) {
        float *row = out->logits[i];
        const int label = dataset.labels[i];
        assert_ok(rq_sample_file(&sampler, dataset.paths[i], &transform, NULL, pixels, &err), &err);
        assert_ok(rq_session_run(single, pixels, 1, row, &err), &err);
        double sum = 0.0;
        out->rank[i] = 0;
        for (int k = 0; k < TINY_CLASSES; k++) {
            sum += exp((double)row[k]);
            out->rank[i] += row[k] > row[label];
        }
        out->loss += log(sum) - (double)row[label];
    }
    rq_session_destroy(single);
    rq_sampler_deinit(&sampler);
}

typedef struct sunk {
    float logits[N_IMAGES][TINY_CLASSES];
    size_t n_images, n_calls;
    size_t n_allocations[16]; /* so far, at each call */
    rq_status fail_with;
} sunk;

static rq_status sink(void *context, const rq_batch *batch, const float *const *logits,
                      rq_error *error)
{
    sunk *self = context;
    self->n_allocations[self->n_calls++] = rq_alloc_count();
    for (int i = 0; i < batch->n; i++)
        memcpy(self->logits[batch->index[i]], logits[0] + (size_t)i * TINY_CLASSES,
               sizeof self->logits[0]);
    self->n_images += (size_t)batch->n;
    return self->fail_with ? rq_fail(error, RQ_ERR_IO, "sink is full") : RQ_OK;
}

static void test_evaluate__equals_image_by_image(void **state)
{
    (void)state;
    static reference want;
    static sunk got;
    rq_evaluation result;
    open_all(RQ_BAD_FAIL, 2);
    assert_int_equal(dataset.n_images, N_IMAGES);
    run_reference(&want);
    got = (sunk){.n_images = 0};
    assert_ok(rq_evaluate(&session, 1, loader, sink, &got, &result, &err), &err);
    size_t top1 = 0;
    for (int i = 0; i < N_IMAGES; i++)
        top1 += want.rank[i] == 0;
    assert_in_range(top1, 1, N_IMAGES - 1); /* else the test could not tell */
    assert_int_equal(result.n_images, N_IMAGES);
    assert_int_equal(result.n_skipped, 0);
    assert_int_equal(result.n_top1, top1);
    assert_close(result.top1, 100.0 * (double)top1 / N_IMAGES, 1e-12, 0);
    assert_close(result.top5, 100.0, 0, 0);
    assert_close(result.loss, want.loss / N_IMAGES, 0, 1e-5);
    assert_true(result.images_per_s > 0.0);
    assert_int_equal(got.n_images, N_IMAGES);
    assert_int_equal(got.n_calls, (N_IMAGES + BATCH - 1) / BATCH);
    assert_all_close(got.logits[0], want.logits[0], N_IMAGES * TINY_CLASSES, 1e-5, 1e-5);
}

static void test_evaluate__several_sessions_and_runs_agree(void **state)
{
    (void)state;
    open_all(RQ_BAD_FAIL, 1);
    rq_session *sessions[] = {session, session};
    rq_evaluation one, two[2];
    assert_ok(rq_evaluate(&session, 1, loader, NULL, NULL, &one, &err), &err);
    assert_ok(rq_evaluate(sessions, 2, loader, NULL, NULL, two, &err), &err);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(two[k].n_top1, one.n_top1);
        assert_true(two[k].loss == one.loss);
    }
    assert_fails(rq_evaluate(sessions, 0, loader, NULL, NULL, two, &err), RQ_ERR_ARG, &err);
    assert_fails(rq_evaluate(sessions, 5, loader, NULL, NULL, two, &err), RQ_ERR_ARG, &err);
}

static void test_evaluate__allocates_nothing_per_batch(void **state)
{
    (void)state;
    static sunk got;
    rq_evaluation result;
    open_all(RQ_BAD_FAIL, 1);
    assert_ok(rq_evaluate(&session, 1, loader, NULL, NULL, &result, &err), &err);
    got = (sunk){.n_images = 0};
    assert_ok(rq_evaluate(&session, 1, loader, sink, &got, &result, &err), &err);
    for (size_t i = 1; i < got.n_calls; i++)
        assert_int_equal(got.n_allocations[i], got.n_allocations[0]);
}

static void test_evaluate__does_not_count_skipped_images(void **state)
{
    (void)state;
    rq_evaluation before, after;
    open_all(RQ_BAD_SKIP, 2);
    assert_ok(rq_evaluate(&session, 1, loader, NULL, NULL, &before, &err), &err);
    spoil(0, 0);
    spoil(2, 3);
    assert_ok(rq_evaluate(&session, 1, loader, NULL, NULL, &after, &err), &err);
    assert_int_equal(after.n_images, N_IMAGES - 2);
    assert_int_equal(after.n_skipped, 2);
    assert_true(after.n_top1 <= before.n_top1 && after.n_top1 + 2 >= before.n_top1);
    assert_close(after.top1, 100.0 * (double)after.n_top1 / (N_IMAGES - 2), 1e-12, 0);
    for (int c = 0; c < TINY_CLASSES; c++)
        for (int i = 0; i < PER_CLASS; i++)
            spoil(c, i);
    assert_fails(rq_evaluate(&session, 1, loader, NULL, NULL, &after, &err), RQ_ERR_IMAGE, &err);
    assert_says(&err, "none of 15 images could be read");
}

static void test_evaluate__names_a_bad_image(void **state)
{
    (void)state;
    rq_evaluation result;
    spoil(1, 2);
    open_all(RQ_BAD_FAIL, 2);
    assert_fails(rq_evaluate(&session, 1, loader, NULL, NULL, &result, &err), RQ_ERR_IMAGE, &err);
    assert_says(&err, rq_test_path("val/%s/0002.jpg", rq_synthetic_class_name(1)));
}

static void test_evaluate__refuses_labels_beyond_the_classes(void **state)
{
    (void)state;
    rq_evaluation result;
    open_all(RQ_BAD_FAIL, 1);
    dataset.labels[7] = TINY_CLASSES;
    assert_fails(rq_evaluate(&session, 1, loader, NULL, NULL, &result, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "image 7 has label 3, the model has 3 classes");
}

static void check_bias(float bias)
{
    rq_evaluation result;
    const int linear = rq_graph_find_node(&model.graph, "linear");
    rq_tensor_f32(rq_graph_tensor(&model.graph, linear, RQ_SLOT_BIAS))[1] = bias;
    open_all(RQ_BAD_FAIL, 1);
    assert_fails(rq_evaluate(&session, 1, loader, NULL, NULL, &result, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "the logits of image 0 are not finite");
}

static void test_evaluate__refuses_nan(void **state)
{
    (void)state;
    check_bias(NAN);
}

static void test_evaluate__refuses_infinity(void **state)
{
    (void)state;
    check_bias(INFINITY);
}

static void test_evaluate__hands_on_the_errors_of_a_sink(void **state)
{
    (void)state;
    static sunk got;
    rq_evaluation result;
    open_all(RQ_BAD_FAIL, 2);
    got = (sunk){.fail_with = RQ_ERR_IO};
    assert_fails(rq_evaluate(&session, 1, loader, sink, &got, &result, &err), RQ_ERR_IO, &err);
    assert_says(&err, "sink is full");
    assert_int_equal(got.n_calls, 1);
}

static void test_evaluate__survives_lack_of_memory(void **state)
{
    (void)state;
    rq_evaluation result;
    open_all(RQ_BAD_FAIL, 1);
    assert_ok(rq_evaluate(&session, 1, loader, NULL, NULL, &result, &err), &err);
    for (long n = 0; n < 2; n++) {
        rq_alloc_test_fail_after(n);
        const rq_status status = rq_evaluate(&session, 1, loader, NULL, NULL, &result, &err);
        rq_alloc_test_fail_after(-1);
        assert_int_equal(status, RQ_ERR_NOMEM);
    }
}

static void test_logit_rank__ties_go_to_the_lower_index(void **state)
{
    (void)state;
    const float logits[] = {1.0f, 3.0f, 3.0f, -2.0f, 3.0f};
    assert_int_equal(rq_logit_rank(logits, 5, 1), 0);
    assert_int_equal(rq_logit_rank(logits, 5, 2), 1);
    assert_int_equal(rq_logit_rank(logits, 5, 4), 2);
    assert_int_equal(rq_logit_rank(logits, 5, 0), 3);
    assert_int_equal(rq_logit_rank(logits, 5, 3), 4);
    assert_int_equal(rq_top_class(logits, 5), 1);
    assert_int_equal(rq_top_class(logits + 3, 1), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_evaluate__equals_image_by_image),
        TEST(test_evaluate__several_sessions_and_runs_agree),
        TEST(test_evaluate__allocates_nothing_per_batch),
        TEST(test_evaluate__does_not_count_skipped_images),
        TEST(test_evaluate__names_a_bad_image),
        TEST(test_evaluate__refuses_labels_beyond_the_classes),
        TEST(test_evaluate__refuses_nan),
        TEST(test_evaluate__refuses_infinity),
        TEST(test_evaluate__hands_on_the_errors_of_a_sink),
        TEST(test_evaluate__survives_lack_of_memory),
        cmocka_unit_test(test_logit_rank__ties_go_to_the_lower_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
