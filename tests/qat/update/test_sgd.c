/* SGD step by step against torch.optim.SGD's update written down in double, and which tensors decay
 * or learn at another rate. */
#include "qat/update/optimizer.h"

#include <math.h>
#include <string.h>

#include "tests/qat/net.h"
#include "tests/support/test.h"

enum { SIDE = 4, CLASSES = 3, STEPS = 3 };

/* A weight tensor of more than one chunk of the update (16,384) and with a rest; RepVGG's names. */
static rq_trainer *build(net *n)
{
    rq_error err = RQ_ERROR_INIT;
    rq_trainer *trainer = NULL;
    net_begin(n, RQ_FORM_TRAIN, SIDE, CLASSES, 1);
    const int a = net_conv(n, "stem", 0, 45, NET_K3, true);
    const int b = net_conv(n, "rbr_dense", a, 45, NET_K3, false);
    const int sum =
        net_add2(n, "sum", net_bn(n, "rbr_dense.bn", b), net_bn(n, "stage1.0.rbr_identity", a));
    (void)net_head(n, net_relu(n, "relu", sum));
    const rq_trainer_options options = {.batch = 1};
    assert_ok(rq_trainer_create(&trainer, &n->model, &options, &err), &err);
    return trainer;
}

static int param_of(const rq_model *model, const char *name)
{
    const int param = rq_graph_find_param(&model->graph, name);
    if (param < 0)
        fail_msg("no parameter %s", name);
    return param;
}

typedef struct rule {
    const char *name;
    bool decays, is_bias;
} rule;

/* What each parameter's name and rank ask for. */
static const rule rules[] = {
    {"stem.weight", true, false},
    {"stem.bias", false, true},
    {"rbr_dense.weight", true, false},
    {"rbr_dense.bn.weight", false, false},
    {"rbr_dense.bn.bias", false, true},
    {"stage1.0.rbr_identity.weight", false, false}, /* decays with decay_identity */
    {"stage1.0.rbr_identity.bias", false, true},
    {"linear.weight", true, false},
    {"linear.bias", false, true},
};
enum { N_RULES = sizeof rules / sizeof rules[0] };

/* p and v of one parameter by the formula; f32 rounds each of some five operations. */
static void check_param(const rq_model *model, const rq_optimizer *optimizer, int param,
                        const double *p, const double *v)
{
    const rq_tensor *tensor = &model->graph.params[param].tensor;
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++) {
        assert_close(rq_optimizer_state(optimizer, param, 0)[i], v[i], 1e-6, 1e-6);
        assert_close(rq_tensor_f32(tensor)[i], p[i], 1e-6, 1e-6);
    }
}

static void check_options(const rq_optimizer_options *options)
{
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_optimizer *optimizer = NULL;
    rq_random random = {2};
    rq_trainer *trainer = build(&n);
    assert_ok(rq_optimizer_create(&optimizer, trainer, &n.model, options, &err), &err);
    static double p[N_RULES][20000], v[N_RULES][20000];
    memset(v, 0, sizeof v);
    for (size_t k = 0; k < N_RULES; k++) {
        const rq_tensor *tensor = &n.model.graph.params[param_of(&n.model, rules[k].name)].tensor;
        for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
            p[k][i] = (double)rq_tensor_f32(tensor)[i];
    }
    for (int step = 0; step < STEPS; step++) {
        const double lr = 0.1 / (step + 1);
        for (size_t k = 0; k < N_RULES; k++) {
            const int param = param_of(&n.model, rules[k].name);
            const bool identity = strstr(rules[k].name, "identity.weight") != NULL;
            const double decay = rules[k].decays || (identity && options->rules.decay_identity)
                                     ? options->weight_decay
                                     : 0;
            const double step_lr = lr * (rules[k].is_bias ? options->rules.bias_lr : 1.0);
            for (size_t i = 0; i < rq_tensor_elems(&n.model.graph.params[param].tensor); i++) {
                const float gradient = (float)rq_random_normal(&random);
                rq_trainer_gradient(trainer, param)[i] = gradient;
                const double d = (double)gradient + decay * p[k][i];
                v[k][i] = options->sgd.momentum * v[k][i] + d;
                p[k][i] -= step_lr *
                           (options->sgd.nesterov ? d + options->sgd.momentum * v[k][i] : v[k][i]);
            }
        }
        assert_ok(rq_optimizer_step(optimizer, lr, &err), &err);
        for (size_t k = 0; k < N_RULES; k++)
            check_param(&n.model, optimizer, param_of(&n.model, rules[k].name), p[k], v[k]);
    }
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
}

static void test_sgd__equals_the_formula(void **state)
{
    (void)state;
    rq_optimizer_options options = RQ_OPTIMIZER_OPTIONS_INIT;
    options.weight_decay = 0.3; /* large, so that a wrong rule shows */
    check_options(&options);
    options.sgd.nesterov = true;
    check_options(&options);
    options.rules.decay_identity = true;
    options.rules.bias_lr = 2.0;
    check_options(&options);
    options = (rq_optimizer_options){.rules = {.bias_lr = 1.0}};
    check_options(&options);
}

/* Buffers have no velocity and do not move; a rate of 0 moves velocities only, as in the first step
 * of a warm-up. */
static void test_sgd__what_stays(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_optimizer *optimizer = NULL;
    rq_trainer *trainer = build(&n);
    const rq_optimizer_options options = RQ_OPTIMIZER_OPTIONS_INIT;
    assert_ok(rq_optimizer_create(&optimizer, trainer, &n.model, &options, &err), &err);
    const int mean = param_of(&n.model, "rbr_dense.bn.running_mean");
    const int tracked = param_of(&n.model, "rbr_dense.bn.num_batches_tracked");
    assert_null(rq_optimizer_state(optimizer, mean, 0));
    assert_null(rq_optimizer_state(optimizer, tracked, 0));
    const int bias = param_of(&n.model, "linear.bias");
    float *p = rq_tensor_f32(&n.model.graph.params[bias].tensor);
    const float mean_before = *rq_tensor_f32(&n.model.graph.params[mean].tensor), p_before = *p;
    assert_close(*rq_optimizer_state(optimizer, bias, 0), 0.0, 0.0, 0.0);
    rq_trainer_gradient(trainer, bias)[0] = 3.0f;
    assert_ok(rq_optimizer_step(optimizer, 0.0, &err), &err);
    assert_close(*p, p_before, 0.0, 0.0);
    assert_close(*rq_optimizer_state(optimizer, bias, 0), 3.0, 0.0, 0.0);
    assert_ok(rq_optimizer_step(optimizer, 0.5, &err), &err);
    assert_close(*p, p_before - 0.5f * (0.9f * 3.0f + 3.0f), 1e-6, 0.0);
    assert_close(*rq_tensor_f32(&n.model.graph.params[mean].tensor), mean_before, 0.0, 0.0);
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
}

static void test_create__out_of_memory(void **state)
{
    (void)state;
    net n;
    rq_trainer *trainer = build(&n);
    const rq_optimizer_options options = RQ_OPTIMIZER_OPTIONS_INIT;
    rq_status status = RQ_ERR_NOMEM;
    for (long i = 0; status != RQ_OK; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_optimizer *optimizer = NULL;
        rq_alloc_test_fail_after(i);
        status = rq_optimizer_create(&optimizer, trainer, &n.model, &options, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK || status == RQ_ERR_NOMEM);
        assert_true(status == RQ_OK || !optimizer);
        rq_optimizer_destroy(optimizer);
    }
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd__equals_the_formula),
        cmocka_unit_test(test_sgd__what_stays),
        cmocka_unit_test(test_create__out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
