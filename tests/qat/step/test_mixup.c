/* Mixed batches: pixels and targets against the definition in double, and what cannot be mixed. */
#include <math.h>

#include "qat/prepare.h"
#include "tests/qat/reference.h"
#include "tests/support/test.h"

enum { BATCH = 5, SIDE = 6, CLASSES = 4 };

static const rq_mix mix[BATCH] = {{0.7f, 4}, {0.7f, 3}, {1.0f, 2}, {0.7f, 1}, {0.7f, 0}};
static const double SMOOTHING = 0.1;

static rq_trainer *create(rq_model *model)
{
    rq_error err = RQ_ERROR_INIT;
    rq_trainer *trainer = NULL;
    const rq_trainer_options options = {.batch = BATCH, .label_smoothing = SMOOTHING};
    assert_ok(rq_trainer_create(&trainer, model, &options, &err), &err);
    return trainer;
}

/* -sum t log softmax(z) of one row, and d / dz[k] = softmax - t. */
static double row_loss(const float *logits, const double *target, double *gradient)
{
    double total = 0.0, loss = 0.0;
    for (int k = 0; k < CLASSES; k++)
        total += exp((double)logits[k]);
    for (int k = 0; k < CLASSES; k++) {
        const double log_p = (double)logits[k] - log(total);
        loss -= target[k] * log_p;
        gradient[k] = exp(log_p) - target[k];
    }
    return loss;
}

static void soft_target(const int32_t *labels, int i, double *target)
{
    for (int k = 0; k < CLASSES; k++) {
        const double own = SMOOTHING / CLASSES + (k == labels[i] ? 1.0 - SMOOTHING : 0.0);
        const double other =
            SMOOTHING / CLASSES + (k == labels[mix[i].partner] ? 1.0 - SMOOTHING : 0.0);
        target[k] = (double)mix[i].lambda * own + (1.0 - (double)mix[i].lambda) * other;
    }
}

static void test_step_mixed__pixels_and_targets(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_step_result result;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 1);
    const int head = net_head(&n, net_relu(&n, "relu", net_conv(&n, "a", 0, 6, NET_K3, true)));
    rq_trainer *trainer = create(&n.model);
    net_batch batch = net_random_batch(&n.model, BATCH, false, 3);
    assert_ok(rq_trainer_step_mixed(trainer, batch.pixels, batch.labels, mix, &result, &err), &err);
    float scale;
    const float *x = rq_trainer_value(trainer, 0, &scale);
    const rq_preprocess *pre = &n.model.preprocess;
    const size_t per_image = SIDE * SIDE * 3;
    for (size_t i = 0; i < BATCH * per_image; i++) {
        const rq_mix *m = &mix[i / per_image];
        const double lambda = (double)m->lambda;
        const double own = batch.pixels[i];
        const double other = batch.pixels[m->partner * per_image + i % per_image];
        const double p = (lambda * own + (1.0 - lambda) * other) / 255.0;
        assert_close(x[i], (p - (double)pre->mean[i % 3]) / (double)pre->std[i % 3], 1e-5, 1e-5);
    }
    double loss = 0.0;
    const float *dbias = rq_trainer_gradient(
        trainer, n.model.graph.nodes[head].slot[RQ_SLOT_BIAS]); /* sum over rows of dlogits */
    double want[CLASSES] = {0.0};
    for (int i = 0; i < BATCH; i++) {
        double target[CLASSES], gradient[CLASSES];
        soft_target(batch.labels, i, target);
        loss += row_loss(rq_trainer_logits(trainer) + i * CLASSES, target, gradient) / BATCH;
        for (int k = 0; k < CLASSES; k++)
            want[k] += gradient[k] / BATCH;
    }
    assert_close(result.loss, loss, 1e-6, 1e-6);
    for (int k = 0; k < CLASSES; k++)
        assert_close(dbias[k], want[k], 1e-6, 1e-5);
    assert_int_equal(result.n_counted, BATCH);
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
}

/* Weight 1 and oneself: the step that is not mixed. */
static void test_step_mixed__with_itself(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_step_result plain, mixed;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 2);
    (void)net_head(&n, net_relu(&n, "relu", net_conv(&n, "a", 0, 6, NET_K3, true)));
    rq_trainer *trainer = create(&n.model);
    net_batch batch = net_random_batch(&n.model, BATCH, true, 4); /* one row is not counted */
    rq_mix alone[BATCH];
    for (uint32_t i = 0; i < BATCH; i++)
        alone[i] = (rq_mix){1.0f, i};
    assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &plain, &err), &err);
    assert_ok(rq_trainer_step_mixed(trainer, batch.pixels, batch.labels, alone, &mixed, &err),
              &err);
    assert_close(mixed.loss, plain.loss, 0.0, 1e-7);
    assert_int_equal(mixed.n_counted, BATCH - 1);
    assert_int_equal(mixed.top1, plain.top1);
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
}

static void test_step_mixed__quantized_pixels(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_step_result result;
    rq_model model;
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 3);
    (void)net_head(&n, net_block(&n, "b", net_block(&n, "a", 0, 4, NET_K3), 4, NET_K3));
    assert_ok(rq_prepare_qat(&model, &n.model, RQ_QUANT_ALL, &err), &err);
    rq_trainer *trainer = create(&model);
    net_batch batch = net_random_batch(&model, BATCH, false, 5);
    assert_fails(rq_trainer_step_mixed(trainer, batch.pixels, batch.labels, mix, &result, &err),
                 RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "mixup: ");
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&model);
    rq_model_deinit(&n.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_mixed__pixels_and_targets),
        cmocka_unit_test(test_step_mixed__with_itself),
        cmocka_unit_test(test_step_mixed__quantized_pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
