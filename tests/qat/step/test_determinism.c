/* Training is a function of the model, the batches and the number of threads: the same bytes at
 * every run, whatever the order in which threads finish. */
#include <omp.h>
#include <string.h>

#include "qat/update/optimizer.h"
#include "runtime/model/arch.h"
#include "tests/qat/forms.h"
#include "tests/qat/net.h"
#include "tests/support/test.h"

/* Odd channels, more pixels than a block of sums, a batch that threads cannot share evenly. */
enum { SIDE = 13, CLASSES = 5, BATCH = 5, STEPS = 4, MAX_BYTES = 1 << 20 };

static void build_three_branches(rq_model *model)
{
    rq_error err = RQ_ERROR_INIT;
    static const char arch[] =
        "repvgg:depth=1,2,1;width=5,7,9;stride=1,1,2;se=post/3;aux=1;classes=5";
    assert_ok(rq_arch_build(model, arch, 0, &err), &err);
    model->preprocess.crop = model->preprocess.resize = SIDE;
    rq_model_init_weights(model, 8);
}

static void build_deploy(rq_model *model)
{
    forms_deploy(model, build_three_branches);
}

static void build_withbn(rq_model *model)
{
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 9);
    const int a = net_gated_block(&n, "a", 0, 7, NET_K3, true, 3);
    (void)net_head(&n, net_gated_block(&n, "b", a, 9, NET_K3_S2, false, 4));
    *model = n.model;
}

static void build_qat(rq_model *model)
{
    forms_qat(model, build_withbn);
}

static void append(uint8_t *bytes, size_t *n, const void *data, size_t size_bytes)
{
    assert_true(*n + size_bytes <= MAX_BYTES);
    memcpy(bytes + *n, data, size_bytes);
    *n += size_bytes;
}

/* Parameters, buffers, velocities and logits after some steps, the last of them frozen. */
static size_t train(void (*build)(rq_model *), int n_threads, uint8_t *bytes)
{
    rq_error err = RQ_ERROR_INIT;
    rq_model model = RQ_MODEL_INIT;
    rq_trainer *trainer = NULL;
    rq_optimizer *optimizer = NULL;
    size_t n = 0;
    build(&model);
    omp_set_num_threads(n_threads);
    const rq_trainer_options options = {.batch = BATCH, .label_smoothing = 0.1};
    const rq_optimizer_options optimizer_options = RQ_OPTIMIZER_OPTIONS_INIT;
    assert_ok(rq_trainer_create(&trainer, &model, &options, &err), &err);
    assert_ok(rq_optimizer_create(&optimizer, trainer, &model, &optimizer_options, &err), &err);
    for (int step = 0; step < STEPS; step++) {
        rq_step_result result;
        net_batch batch = net_random_batch(&model, BATCH, false, (uint64_t)step);
        rq_trainer_freeze_bn(trainer, step == STEPS - 1);
        rq_trainer_observe(trainer, step < STEPS - 1);
        assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
        assert_ok(rq_optimizer_step(optimizer, 0.05, &err), &err);
        rq_free(batch.pixels);
    }
    assert_ok(rq_trainer_settle(trainer, &err), &err);
    append(bytes, &n, rq_trainer_logits(trainer), BATCH * CLASSES * sizeof(float));
    for (int i = 0; i < model.graph.n_params; i++) {
        const rq_tensor *tensor = &model.graph.params[i].tensor;
        const size_t size_bytes = rq_tensor_elems(tensor) * rq_dtype_size(tensor->dtype);
        append(bytes, &n, tensor->data, size_bytes);
        if (rq_optimizer_state(optimizer, i, 0))
            append(bytes, &n, rq_optimizer_state(optimizer, i, 0), size_bytes);
    }
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&model);
    return n;
}

static void check_same_bytes(void (*build)(rq_model *))
{
    static uint8_t first[MAX_BYTES], again[MAX_BYTES];
    const int usual = omp_get_max_threads();
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        const size_t n = train(build, n_threads, first);
        for (int run = 0; run < 3; run++) {
            assert_int_equal(train(build, n_threads, again), n);
            assert_memory_equal(first, again, n);
        }
    }
    omp_set_num_threads(usual);
}

static void test_training__same_bytes(void **state)
{
    (void)state;
    check_same_bytes(build_three_branches);
    check_same_bytes(build_deploy);
    check_same_bytes(build_withbn);
    check_same_bytes(build_qat);
}

/* Scratch memory and primitives are made for a number of threads: more of them are refused. */
static void test_step__more_threads_than_at_creation(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model model = RQ_MODEL_INIT;
    rq_trainer *trainer = NULL;
    rq_step_result result;
    const int usual = omp_get_max_threads();
    build_withbn(&model);
    omp_set_num_threads(2);
    const rq_trainer_options options = {.batch = BATCH};
    assert_ok(rq_trainer_create(&trainer, &model, &options, &err), &err);
    net_batch batch = net_random_batch(&model, BATCH, false, 1);
    omp_set_num_threads(3);
    assert_fails(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), RQ_ERR_ARG,
                 &err);
    assert_says(&err, "3 threads in a trainer that was made for 2");
    omp_set_num_threads(1);
    assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
    omp_set_num_threads(usual);
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training__same_bytes),
        cmocka_unit_test(test_step__more_threads_than_at_creation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
