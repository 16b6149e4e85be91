/* Twenty steps of training a small network of each block kind: the losses of PyTorch, from the same
 * weights and batches (tests/golden/make_training.py). */
#include "qat/update/optimizer.h"

#include <string.h>

#include "runtime/model/arch.h"
#include "tests/qat/golden.h"
#include "tests/support/test.h"

enum { STEPS = 20, BATCH = 6, SIDE = 16 };

static rq_tensorfile *file;

static int setup(void **state)
{
    (void)state;
    file = golden_open("training");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_tensorfile_close(file);
    return 0;
}

static void start(rq_model *model, const char *kind)
{
    rq_error err = RQ_ERROR_INIT;
    const char *arch = rq_tensorfile_metadata(file, kind);
    assert_non_null(arch);
    assert_ok(rq_arch_build(model, arch, 0, &err), &err);
    model->preprocess.resize = model->preprocess.crop = SIDE;
    for (int i = 0; i < model->graph.n_params; i++) {
        const rq_param *param = &model->graph.params[i];
        const rq_tensor source = golden(file, kind, rq_test_path("init.%s", param->name));
        assert_int_equal(source.dtype, param->tensor.dtype);
        assert_int_equal(rq_tensor_elems(&source), rq_tensor_elems(&param->tensor));
        memcpy(param->tensor.data, source.data,
               rq_tensor_elems(&source) * rq_dtype_size(source.dtype));
    }
}

/* pixels, labels: of one step. */
static double step(rq_trainer *trainer, rq_optimizer *optimizer, const uint8_t *pixels,
                   const int64_t *labels)
{
    rq_error err = RQ_ERROR_INIT;
    rq_step_result result;
    int32_t batch_labels[BATCH];
    for (int i = 0; i < BATCH; i++)
        batch_labels[i] = (int32_t)labels[i];
    assert_ok(rq_trainer_step(trainer, pixels, batch_labels, &result, &err), &err);
    assert_ok(rq_optimizer_step(optimizer, 0.05, &err), &err);
    return result.loss;
}

static void check_losses(const char *kind)
{
    rq_error err = RQ_ERROR_INIT;
    rq_model model;
    rq_trainer *trainer = NULL;
    rq_optimizer *optimizer = NULL;
    start(&model, kind);
    const rq_trainer_options trainer_options = {.batch = BATCH, .label_smoothing = 0.1};
    rq_optimizer_options options = RQ_OPTIMIZER_OPTIONS_INIT;
    options.sgd.nesterov = true;
    options.weight_decay = 1e-3;
    options.rules.decay_identity = true;
    assert_ok(rq_trainer_create(&trainer, &model, &trainer_options, &err), &err);
    assert_ok(rq_optimizer_create(&optimizer, trainer, &model, &options, &err), &err);
    const uint8_t *pixels = golden(file, "", "pixels").data;
    const int64_t *labels = golden(file, "", "labels").data;
    const float *losses = golden_f32(file, kind, "losses");
    for (int i = 0; i < STEPS; i++) {
        const double loss = step(trainer, optimizer, pixels + (size_t)i * BATCH * SIDE * SIDE * 3,
                                 labels + (size_t)i * BATCH);
        assert_close(loss, losses[i], 0.0, 1e-4);
    }
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&model);
}

#define KIND_TEST(kind)                                                                            \
    static void test_##kind(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        check_losses(#kind);                                                                       \
    }
KIND_TEST(repvgg)
KIND_TEST(grouped)
KIND_TEST(pre_se)
KIND_TEST(post_se)
KIND_TEST(qarepvgg)
KIND_TEST(target)
KIND_TEST(target_se)
KIND_TEST(hs)
KIND_TEST(csla)
KIND_TEST(repopt_repvgg)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repvgg),    cmocka_unit_test(test_grouped),
        cmocka_unit_test(test_pre_se),    cmocka_unit_test(test_post_se),
        cmocka_unit_test(test_qarepvgg),  cmocka_unit_test(test_target),
        cmocka_unit_test(test_target_se), cmocka_unit_test(test_hs),
        cmocka_unit_test(test_csla),      cmocka_unit_test(test_repopt_repvgg),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
