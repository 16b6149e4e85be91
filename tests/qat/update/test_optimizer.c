/* Optimizers against PyTorch's, step by step: SGD and AdamW, decay groups, clipping, multipliers;
 * and what they refuse. */
#include "qat/update/optimizer.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "tests/qat/golden.h"
#include "tests/qat/net.h"
#include "tests/support/test.h"

/* An f32 step rounds some ten times; Adam divides by the root of a small number. */
#define ABS 2e-7
#define REL 2e-6

enum { SIDE = 4, CLASSES = 3, STEPS = 5 };

/* stem.weight [4, 3, 3, 3], stem.bias, linear.weight [3, 4], linear.bias: as in the golden file. */
typedef struct bench {
    net n;
    rq_trainer *trainer;
    rq_tensorfile *file;
} bench;

static const char *const names[] = {"stem.weight", "stem.bias", "linear.weight", "linear.bias"};
enum { N_NAMES = 4 };

static int param_of(const bench *b, const char *name)
{
    const int param = rq_graph_find_param(&b->n.model.graph, name);
    assert_true(param >= 0);
    return param;
}

static float *values_of(const bench *b, const char *name)
{
    return rq_tensor_f32(&b->n.model.graph.params[param_of(b, name)].tensor);
}

static size_t elems_of(const bench *b, const char *name)
{
    return rq_tensor_elems(&b->n.model.graph.params[param_of(b, name)].tensor);
}

static void start(bench *b)
{
    rq_error err = RQ_ERROR_INIT;
    const rq_trainer_options options = {.batch = 1};
    net_begin(&b->n, RQ_FORM_TRAIN, SIDE, CLASSES, 1);
    (void)net_head(&b->n, net_relu(&b->n, "relu", net_conv(&b->n, "stem", 0, 4, NET_K3, true)));
    assert_ok(rq_trainer_create(&b->trainer, &b->n.model, &options, &err), &err);
    b->file = golden_open("optimizers");
    for (int i = 0; i < N_NAMES; i++)
        memcpy(values_of(b, names[i]), golden_f32(b->file, "init", names[i]),
               elems_of(b, names[i]) * sizeof(float));
}

static void finish(bench *b)
{
    rq_tensorfile_close(b->file);
    rq_trainer_destroy(b->trainer);
    rq_model_deinit(&b->n.model);
}

static void set_gradients(bench *b, int step)
{
    for (int i = 0; i < N_NAMES; i++)
        memcpy(rq_trainer_gradient(b->trainer, param_of(b, names[i])),
               golden_f32(b->file, rq_test_path("g%d", step), names[i]),
               elems_of(b, names[i]) * sizeof(float));
}

static void take_steps(bench *b, rq_optimizer *optimizer)
{
    rq_error err = RQ_ERROR_INIT;
    const float *lrs = golden_f32(b->file, "", "lrs");
    for (int step = 1; step <= STEPS; step++) {
        set_gradients(b, step);
        assert_ok(rq_optimizer_step(optimizer, (double)lrs[step - 1], &err), &err);
    }
    assert_int_equal(rq_optimizer_steps(optimizer), STEPS);
}

static void check_case(const char *name, rq_optimizer_options options, bool multiplied)
{
    rq_error err = RQ_ERROR_INIT;
    rq_optimizer *optimizer = NULL;
    const float *multipliers[NET_NODES] = {NULL};
    bench b;
    start(&b);
    multipliers[param_of(&b, "stem.weight")] = golden_f32(b.file, "multiplier", "stem.weight");
    if (multiplied)
        options.multipliers = multipliers;
    assert_ok(rq_optimizer_create(&optimizer, b.trainer, &b.n.model, &options, &err), &err);
    take_steps(&b, optimizer);
    for (int i = 0; i < N_NAMES; i++) {
        const size_t n = elems_of(&b, names[i]);
        assert_all_close(values_of(&b, names[i]), golden_f32(b.file, name, names[i]), n, ABS, REL);
        for (int k = 0; k < rq_optimizer_n_states(optimizer); k++) {
            const char *state = rq_optimizer_state_name(optimizer, k);
            assert_all_close(rq_optimizer_state(optimizer, param_of(&b, names[i]), k),
                             golden_f32(b.file, rq_test_path("%s.%s", name, state), names[i]), n,
                             ABS, REL);
        }
    }
    rq_optimizer_destroy(optimizer);
    finish(&b);
}

static const rq_optimizer_options INIT = RQ_OPTIMIZER_OPTIONS_INIT;

static void test_sgd__equals_pytorch(void **state)
{
    (void)state;
    rq_optimizer_options options = INIT;
    options.weight_decay = 0.05;
    check_case("sgd", options, false);
    options.clip_grad = 3.0;
    check_case("clipped", options, false);
    options.clip_grad = 0.0;
    options.sgd.nesterov = true;
    check_case("nesterov", options, false);
    check_case("sgd_multiplied", options, true);
    options.rules.bias_lr = 2.0;
    check_case("bias2", options, false);
}

static void test_adamw__equals_pytorch(void **state)
{
    (void)state;
    rq_optimizer_options options = INIT;
    options.kind = RQ_OPTIMIZER_ADAMW;
    options.weight_decay = 0.1;
    check_case("adamw", options, false);
    check_case("adamw_multiplied", options, true);
    options.clip_grad = 3.0;
    check_case("adamw_clipped", options, false);
}

/* A multiplier of ones changes no bit; of zeros, SGD's decay alone is left. */
static void test_multiplier__ones_and_zeros(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    float ones[108], zeros[108] = {0.0f};
    for (size_t i = 0; i < 108; i++)
        ones[i] = 1.0f;
    for (int kind = 0; rq_optimizer_names[kind]; kind++) {
        bench b[3];
        rq_optimizer *optimizer[3];
        for (int k = 0; k < 3; k++) {
            const float *multipliers[NET_NODES] = {NULL};
            start(&b[k]);
            rq_optimizer_options options = INIT;
            options.kind = (rq_optimizer_kind)kind;
            options.weight_decay = 0.5;
            options.multipliers = multipliers;
            multipliers[param_of(&b[k], "stem.weight")] = k == 0 ? NULL : k == 1 ? ones : zeros;
            assert_ok(
                rq_optimizer_create(&optimizer[k], b[k].trainer, &b[k].n.model, &options, &err),
                &err);
            set_gradients(&b[k], 1);
            assert_ok(rq_optimizer_step(optimizer[k], 0.5, &err), &err);
        }
        const size_t size_bytes = sizeof ones;
        assert_memory_equal(values_of(&b[0], "stem.weight"), values_of(&b[1], "stem.weight"),
                            size_bytes);
        const float *init = golden_f32(b[2].file, "init", "stem.weight");
        for (size_t i = 0; i < 108; i++)
            assert_close(values_of(&b[2], "stem.weight")[i], 0.75f * init[i], 0.0, 1e-7);
        for (int k = 0; k < 3; k++) {
            rq_optimizer_destroy(optimizer[k]);
            finish(&b[k]);
        }
    }
}

static void test_multiplier__refused_with_clipping(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_optimizer *optimizer = NULL;
    const float *multipliers[NET_NODES] = {NULL};
    bench b;
    start(&b);
    rq_optimizer_options options = INIT;
    options.multipliers = multipliers;
    options.clip_grad = 1.0;
    assert_fails(rq_optimizer_create(&optimizer, b.trainer, &b.n.model, &options, &err),
                 RQ_ERR_USAGE, &err);
    assert_says(&err, "--clip-grad: ");
    assert_null(optimizer);
    finish(&b);
}

/* A gradient that is not finite is named, and nothing moves, when there is a norm to take. */
static void test_clip__gradient_that_is_not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY};
    for (size_t i = 0; i < 2; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_optimizer *optimizer = NULL;
        bench b;
        start(&b);
        rq_optimizer_options options = INIT;
        options.clip_grad = 1.0;
        assert_ok(rq_optimizer_create(&optimizer, b.trainer, &b.n.model, &options, &err), &err);
        set_gradients(&b, 1);
        rq_trainer_gradient(b.trainer, param_of(&b, "linear.weight"))[7] = bad[i];
        assert_fails(rq_optimizer_step(optimizer, 0.1, &err), RQ_ERR_RANGE, &err);
        assert_says(&err, "the gradient of linear.weight is not finite");
        assert_int_equal(rq_optimizer_steps(optimizer), 0);
        for (int k = 0; k < N_NAMES; k++)
            assert_memory_equal(values_of(&b, names[k]), golden_f32(b.file, "init", names[k]),
                                elems_of(&b, names[k]) * sizeof(float));
        rq_optimizer_destroy(optimizer);
        finish(&b);
    }
}

/* The norm is of all trained gradients together, whatever the number of threads: a tensor of more
 * than one chunk, with a rest. */
static void test_clip__norm_over_large_tensors(void **state)
{
    (void)state;
    static float once[3][20000];
    const int usual = omp_get_max_threads();
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        rq_error err = RQ_ERROR_INIT;
        rq_optimizer *optimizer = NULL;
        rq_trainer *trainer = NULL;
        net n;
        net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 3);
        const int a = net_relu(&n, "relu", net_conv(&n, "a", 0, 45, NET_K3, false));
        (void)net_head(&n, net_conv(&n, "b", a, 45, NET_K3, false)); /* 18,225 weights */
        const rq_trainer_options trainer_options = {.batch = 1};
        rq_optimizer_options options = INIT;
        options.sgd.momentum = options.weight_decay = 0.0;
        options.clip_grad = 2.0;
        options.rules.freeze = "a";
        omp_set_num_threads(n_threads);
        assert_ok(rq_trainer_create(&trainer, &n.model, &trainer_options, &err), &err);
        assert_ok(rq_optimizer_create(&optimizer, trainer, &n.model, &options, &err), &err);
        rq_random random = {4};
        double sum = 0.0;
        for (int i = 0; i < n.model.graph.n_params; i++)
            for (size_t k = 0; k < rq_tensor_elems(&n.model.graph.params[i].tensor); k++) {
                const float g = (float)rq_random_normal(&random);
                rq_trainer_gradient(trainer, i)[k] = g;
                if (strcmp(n.model.graph.params[i].name, "a.weight") != 0)
                    sum += (double)g * (double)g;
            }
        const int b = rq_graph_find_param(&n.model.graph, "b.weight");
        const size_t elems = rq_tensor_elems(&n.model.graph.params[b].tensor);
        float *p = rq_tensor_f32(&n.model.graph.params[b].tensor);
        memcpy(once[0], p, elems * sizeof *p);
        assert_ok(rq_optimizer_step(optimizer, 1.0, &err), &err);
        for (size_t k = 0; k < elems; k++)
            assert_close(p[k],
                         (double)once[0][k] -
                             2.0 / sqrt(sum) * (double)rq_trainer_gradient(trainer, b)[k],
                         1e-7, 1e-6);
        memcpy(once[n_threads == 1 ? 1 : 2], p, elems * sizeof *p);
        if (n_threads > 1)
            assert_memory_equal(once[1], once[2], elems * sizeof *p);
        rq_optimizer_destroy(optimizer);
        rq_trainer_destroy(trainer);
        rq_model_deinit(&n.model);
    }
    omp_set_num_threads(usual);
}

/* Frozen parameters have no state and do not move; prefixes have rates of their own. */
static void test_rules__frozen_and_scaled(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_optimizer *optimizer = NULL;
    bench b;
    start(&b);
    rq_optimizer_options options = INIT;
    options.rules.freeze = "stem";
    options.rules.lr_scales = "linear=0.5,linear.bias=4";
    assert_ok(rq_optimizer_create(&optimizer, b.trainer, &b.n.model, &options, &err), &err);
    set_gradients(&b, 1);
    assert_ok(rq_optimizer_step(optimizer, 0.1, &err), &err);
    assert_null(rq_optimizer_state(optimizer, param_of(&b, "stem.weight"), 0));
    assert_memory_equal(values_of(&b, "stem.weight"), golden_f32(b.file, "init", "stem.weight"),
                        elems_of(&b, "stem.weight") * sizeof(float));
    const float *g = golden_f32(b.file, "g1", "linear.bias");
    const float *init = golden_f32(b.file, "init", "linear.bias");
    for (size_t i = 0; i < 3; i++)
        assert_close(values_of(&b, "linear.bias")[i], init[i] - 0.4f * g[i], 1e-7, 1e-6);
    g = golden_f32(b.file, "g1", "linear.weight");
    init = golden_f32(b.file, "init", "linear.weight");
    for (size_t i = 0; i < 12; i++)
        assert_close(values_of(&b, "linear.weight")[i], init[i] - 0.05f * (g[i] + 1e-4f * init[i]),
                     1e-7, 1e-6);
    rq_optimizer_destroy(optimizer);
    options.rules.freeze = "stme";
    optimizer = NULL;
    assert_fails(rq_optimizer_create(&optimizer, b.trainer, &b.n.model, &options, &err),
                 RQ_ERR_USAGE, &err);
    assert_null(optimizer);
    finish(&b);
}

static void test_create__out_of_memory(void **state)
{
    (void)state;
    bench b;
    start(&b);
    rq_optimizer_options options = INIT;
    options.kind = RQ_OPTIMIZER_ADAMW;
    rq_status status = RQ_ERR_NOMEM;
    for (long i = 0; status != RQ_OK; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_optimizer *optimizer = NULL;
        rq_alloc_test_fail_after(i);
        status = rq_optimizer_create(&optimizer, b.trainer, &b.n.model, &options, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK || status == RQ_ERR_NOMEM);
        assert_true(status == RQ_OK || !optimizer);
        rq_optimizer_destroy(optimizer);
    }
    finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd__equals_pytorch),
        cmocka_unit_test(test_adamw__equals_pytorch),
        cmocka_unit_test(test_multiplier__ones_and_zeros),
        cmocka_unit_test(test_multiplier__refused_with_clipping),
        cmocka_unit_test(test_clip__gradient_that_is_not_finite),
        cmocka_unit_test(test_clip__norm_over_large_tensors),
        cmocka_unit_test(test_rules__frozen_and_scaled),
        cmocka_unit_test(test_create__out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
