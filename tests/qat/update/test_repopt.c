/* RepOptimizer against what it stands for: a network with scaled branches, trained branch by
 * branch; in double on one layer, and as whole networks by the trainer. Then files that are no
 * scales of the network. */
#include "qat/update/repopt.h"

#include <math.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/model/arch.h"
#include "runtime/modelfile/modelfile.h"
#include "tests/support/test.h"

/* ---- one layer in double: the check of the original repository ---- */

enum { BATCH = 4, SIDE = 8, C = 4, STEPS = 50, TAPS = 9, MID = 4, WEIGHTS = C * C * TAPS };

static double x[BATCH][C][SIDE + 2][SIDE + 2]; /* with a border of zeros */

static void draw_images(rq_random *random)
{
    memset(x, 0, sizeof x);
    for (int n = 0; n < BATCH; n++)
        for (int c = 0; c < C; c++)
            for (int i = 1; i <= SIDE; i++)
                for (int j = 1; j <= SIDE; j++)
                    x[n][c][i][j] = rq_random_unit(random) - 0.5;
}

static double output_at(const double *w, int n, int oc, int i, int j)
{
    double sum = 0.0;
    for (int ic = 0; ic < C; ic++)
        for (int k = 0; k < TAPS; k++)
            sum += w[(oc * C + ic) * TAPS + k] * x[n][ic][i + k / 3][j + k % 3];
    return sum;
}

/* The gradient, by the kernel, of the unbiased variance of all outputs. */
static void kernel_gradient(const double *w, double *gradient)
{
    enum { OUTPUTS = BATCH * C * SIDE * SIDE };
    static double y[OUTPUTS];
    double mean = 0.0;
    for (int o = 0; o < OUTPUTS; o++) {
        y[o] =
            output_at(w, o / (C * SIDE * SIDE), o / (SIDE * SIDE) % C, o / SIDE % SIDE, o % SIDE);
        mean += y[o] / OUTPUTS;
    }
    memset(gradient, 0, WEIGHTS * sizeof *gradient);
    for (int o = 0; o < OUTPUTS; o++) {
        const int n = o / (C * SIDE * SIDE), oc = o / (SIDE * SIDE) % C;
        const double dy = 2.0 * (y[o] - mean) / (OUTPUTS - 1);
        for (int ic = 0; ic < C; ic++)
            for (int k = 0; k < TAPS; k++)
                gradient[(oc * C + ic) * TAPS + k] +=
                    dy * x[n][ic][o / SIDE % SIDE + k / 3][o % SIDE + k % 3];
    }
}

/* A parameter under SGD with momentum, or AdamW without eps; the formulas of sgd.h and adamw.h. */
typedef struct param {
    double p, m, v;
} param;

typedef struct rule {
    rq_optimizer_kind kind;
    double lr, decay;
    bool nesterov;
} rule;

static void update(param *q, double gradient, double multiplier, const rule *r, int step)
{
    const double g = gradient * multiplier;
    if (r->kind == RQ_OPTIMIZER_SGD) {
        const double d = g + r->decay * q->p;
        q->m = 0.9 * q->m + d;
        q->p -= r->lr * (r->nesterov ? d + 0.9 * q->m : q->m);
        return;
    }
    q->m = 0.9 * q->m + 0.1 * g;
    q->v = 0.999 * q->v + 0.001 * g * g;
    q->p = q->p * (1.0 - r->lr * r->decay) - r->lr / (1.0 - pow(0.9, step)) * q->m * multiplier /
                                                 sqrt(q->v / (1.0 - pow(0.999, step)));
}

/* Three branches with their own parameters. */
typedef struct branches {
    param a[WEIGHTS], b[C * C], r[C];
} branches;

static void merge(const branches *net, const rq_repopt_scales *scales, double *w)
{
    for (int i = 0; i < WEIGHTS; i++) {
        const int oc = i / (C * TAPS), ic = i / TAPS % C, k = i % TAPS;
        w[i] = scales->s * net->a[i].p;
        if (k == MID)
            w[i] += scales->t * net->b[oc * C + ic].p;
        if (k == MID && oc == ic && scales->identity)
            w[i] += net->r[oc].p;
    }
}

static void update_branches(branches *net, const double *gradient, const rq_repopt_scales *scales,
                            const rule *r, int step)
{
    for (int i = 0; i < WEIGHTS; i++) {
        const int oc = i / (C * TAPS), ic = i / TAPS % C;
        update(&net->a[i], scales->s * gradient[i], 1.0, r, step);
        if (i % TAPS == MID)
            update(&net->b[oc * C + ic], scales->t * gradient[i], 1.0, r, step);
        if (i % TAPS == MID && oc == ic)
            update(&net->r[oc], gradient[i], 1.0, r, step);
    }
}

static double distance(const param *target, const double *merged)
{
    double difference = 0.0, size = 0.0;
    for (int i = 0; i < WEIGHTS; i++) {
        difference += fabs(target[i].p - merged[i]);
        size += fabs(target[i].p);
    }
    return difference / size;
}

/* Sum of differences over sum of values between the merged kernel and the re-parameterized one. */
static double distance_after(rq_repopt_scales scales, const rule *r)
{
    static branches net;
    static param target[WEIGHTS];
    double w[WEIGHTS], gradient[WEIGHTS];
    rq_random random = {7};
    memset(&net, 0, sizeof net);
    memset(target, 0, sizeof target);
    for (int i = 0; i < WEIGHTS; i++)
        net.a[i].p = rq_random_unit(&random) - 0.5;
    for (int i = 0; i < C * C; i++)
        net.b[i].p = rq_random_unit(&random) - 0.5;
    for (int i = 0; i < C; i++)
        net.r[i].p = scales.r;
    merge(&net, &scales, w);
    for (int i = 0; i < WEIGHTS; i++)
        target[i].p = w[i];
    for (int step = 1; step <= STEPS; step++) {
        draw_images(&random);
        merge(&net, &scales, w);
        kernel_gradient(w, gradient);
        update_branches(&net, gradient, &scales, r, step);
        for (int i = 0; i < WEIGHTS; i++)
            w[i] = target[i].p;
        kernel_gradient(w, gradient);
        for (int i = 0; i < WEIGHTS; i++)
            update(&target[i], gradient[i],
                   rq_repopt_multiplier(&scales, r->kind, i % TAPS == MID,
                                        i / (C * TAPS) == i / TAPS % C),
                   r, step);
    }
    merge(&net, &scales, w);
    return distance(target, w);
}

static void test_sgd_equals_branches(void **state)
{
    (void)state;
    const rule plain = {RQ_OPTIMIZER_SGD, 0.1, 0.1, false};
    const rule nesterov = {RQ_OPTIMIZER_SGD, 0.1, 0.1, true};
    const rq_repopt_scales cases[] = {
        {.s = 0.233, .t = 0.555},
        {.s = 0.233, .t = 0.555, .r = 0.8, .identity = true},
        {.s = -0.233, .t = 1.4, .r = -0.3, .identity = true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_close(distance_after(cases[i], &plain), 0.0, 1e-12, 0.0);
        assert_close(distance_after(cases[i], &nesterov), 0.0, 1e-12, 0.0);
    }
}

/* Adam sees the gradient's direction only, and scales of both signs would need both directions. */
static void test_adamw_equals_branches_of_one_sign(void **state)
{
    (void)state;
    const rule adamw = {RQ_OPTIMIZER_ADAMW, 1e-3, 1e-2, false};
    const rq_repopt_scales same = {.s = 0.233, .t = 0.555, .r = 0.8, .identity = true};
    const rq_repopt_scales both = {.s = 0.233, .t = -0.555, .r = 0.8, .identity = true};
    assert_close(distance_after(same, &adamw), 0.0, 1e-11, 0.0);
    assert_true(distance_after(both, &adamw) > 1e-3);
}

static void test_multiplier_is_the_table(void **state)
{
    (void)state;
    const rq_repopt_scales with = {.s = 3.0, .t = -2.0, .r = 9.0, .identity = true};
    const rq_repopt_scales without = {.s = 3.0, .t = -2.0};
    assert_close(rq_repopt_multiplier(&with, RQ_OPTIMIZER_SGD, true, true), 14.0, 0.0, 0.0);
    assert_close(rq_repopt_multiplier(&with, RQ_OPTIMIZER_SGD, true, false), 13.0, 0.0, 0.0);
    assert_close(rq_repopt_multiplier(&with, RQ_OPTIMIZER_SGD, false, true), 9.0, 0.0, 0.0);
    assert_close(rq_repopt_multiplier(&without, RQ_OPTIMIZER_SGD, true, true), 13.0, 0.0, 0.0);
    assert_close(rq_repopt_multiplier(&with, RQ_OPTIMIZER_ADAMW, true, true), 2.0, 0.0, 0.0);
    assert_close(rq_repopt_multiplier(&with, RQ_OPTIMIZER_ADAMW, true, false), 1.0, 0.0, 0.0);
    assert_close(rq_repopt_multiplier(&with, RQ_OPTIMIZER_ADAMW, false, false), 3.0, 0.0, 0.0);
}

/* ---- whole networks ---- */

#define STAGES "repvgg:depth=1,3,2;width=8,16,16;groups=2;classes=3;block="

enum { IMAGE = 16, N_IMAGES = 8, N_STEPS = 20 };

static void build(rq_model *model, const char *arch, uint64_t seed)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_arch_build(model, arch, 0, &err), &err);
    rq_model_init_weights(model, seed);
    model->preprocess.resize = model->preprocess.crop = IMAGE;
}

/* A csla network with scales of both signs around 1, in a file. */
static void write_scales(rq_model *csla, const char *path)
{
    rq_error err = RQ_ERROR_INIT;
    rq_random random = {11};
    for (int i = 0; i < csla->graph.n_nodes; i++) {
        if (csla->graph.nodes[i].op != RQ_OP_SCALE)
            continue;
        const rq_tensor *scale = rq_graph_tensor(&csla->graph, i, RQ_SLOT_WEIGHT);
        for (size_t k = 0; k < rq_tensor_elems(scale); k++)
            rq_tensor_f32(scale)[k] = (float)(1.5 * rq_random_unit(&random) - 0.3);
    }
    assert_ok(rq_model_save(csla, path, &err), &err);
}

static void draw_batch(rq_random *random, uint8_t *pixels, int32_t *labels)
{
    for (size_t i = 0; i < (size_t)N_IMAGES * IMAGE * IMAGE * 3; i++)
        pixels[i] = (uint8_t)(256.0 * rq_random_unit(random));
    for (int i = 0; i < N_IMAGES; i++)
        labels[i] = (int32_t)(3.0 * rq_random_unit(random));
}

/* Losses of training from fixed batches. */
static void train(rq_model *model, const rq_optimizer_options *options, double *losses)
{
    rq_error err = RQ_ERROR_INIT;
    rq_trainer *trainer = NULL;
    rq_optimizer *optimizer = NULL;
    rq_random random = {13};
    const rq_trainer_options trainer_options = {.batch = N_IMAGES};
    assert_ok(rq_trainer_create(&trainer, model, &trainer_options, &err), &err);
    assert_ok(rq_optimizer_create(&optimizer, trainer, model, options, &err), &err);
    for (int step = 0; step < N_STEPS; step++) {
        static uint8_t pixels[N_IMAGES * IMAGE * IMAGE * 3];
        int32_t labels[N_IMAGES];
        rq_step_result result;
        draw_batch(&random, pixels, labels);
        assert_ok(rq_trainer_step(trainer, pixels, labels, &result, &err), &err);
        assert_ok(rq_optimizer_step(optimizer, 0.02, &err), &err);
        losses[step] = result.loss;
    }
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
}

static void test_network_trains_as_its_branches(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model csla, target;
    rq_repopt *repopt = NULL;
    double branch_losses[N_STEPS], losses[N_STEPS];
    const char *dir = rq_test_mkdir();
    const char *scales = rq_test_path("%s/scales.bin", dir);
    build(&csla, STAGES "csla", 3);
    build(&target, STAGES "target", 3);
    write_scales(&csla, scales);
    const rq_repopt_options options = {.scales = scales};
    assert_ok(rq_repopt_create(&repopt, &target, &options, &err), &err);
    rq_optimizer_options sgd = RQ_OPTIMIZER_OPTIONS_INIT;
    sgd.sgd.nesterov = true;
    sgd.weight_decay = 1e-2;
    sgd.rules.decay_identity = true;
    train(&csla, &sgd, branch_losses);
    sgd.multipliers = rq_repopt_multipliers(repopt);
    train(&target, &sgd, losses);
    for (int i = 0; i < N_STEPS; i++)
        assert_close(losses[i], branch_losses[i], 0.0, 1e-4); /* f32 sums in other orders */
    assert_true(fabs(losses[N_STEPS - 1] - losses[0]) > 1e-2);
    rq_repopt_destroy(repopt);
    rq_model_deinit(&csla);
    rq_model_deinit(&target);
    rq_test_rmdir(dir);
}

/* Weights that are there already stay; the multipliers are the same. */
static void test_trained_weights_are_kept(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model csla, target, before;
    rq_repopt *repopt = NULL;
    const char *dir = rq_test_mkdir();
    const char *scales = rq_test_path("%s/scales.bin", dir);
    build(&csla, STAGES "csla", 3);
    build(&target, STAGES "target", 4);
    build(&before, STAGES "target", 4);
    write_scales(&csla, scales);
    const rq_repopt_options options = {.scales = scales, .keep_weights = true};
    assert_ok(rq_repopt_create(&repopt, &target, &options, &err), &err);
    int n_multiplied = 0;
    for (int i = 0; i < target.graph.n_params; i++) {
        const rq_tensor *now = &target.graph.params[i].tensor;
        assert_memory_equal(now->data, before.graph.params[i].tensor.data,
                            rq_tensor_elems(now) * rq_dtype_size(now->dtype));
        n_multiplied += rq_repopt_multipliers(repopt)[i] != NULL;
    }
    assert_int_equal(n_multiplied, 6);
    rq_repopt_destroy(repopt);
    rq_model_deinit(&csla);
    rq_model_deinit(&target);
    rq_model_deinit(&before);
    rq_test_rmdir(dir);
}

/* The published scales of RepOpt-VGG-B1, and no other network's. */
static void test_published_scales(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model target;
    rq_repopt *repopt = NULL;
    if (!rq_test_shared()) {
        print_message("the published scales are not here\n");
        skip();
    }
    const char *path = rq_test_path("%s/data/pth/RepOpt-VGG-B1-scales.pth", rq_test_shared());
    const rq_repopt_options options = {.scales = path, .keep_weights = true};
    build(&target, "RepOpt-VGG-B1-target", 3);
    assert_ok(rq_repopt_create(&repopt, &target, &options, &err), &err);
    int n_multiplied = 0;
    for (int i = 0; i < target.graph.n_params; i++)
        n_multiplied += rq_repopt_multipliers(repopt)[i] != NULL;
    assert_int_equal(n_multiplied, 28);
    rq_repopt_destroy(repopt);
    rq_model_deinit(&target);
    build(&target, "RepOpt-VGG-B2-target", 3);
    assert_int_equal(rq_repopt_create(&repopt, &target, &options, &err), RQ_ERR_MODEL);
    assert_says(&err, "has not the 160 values");
    rq_model_deinit(&target);
}

/* ---- what is no file of the network's scales ---- */

static void check_refused(const char *scales_arch, float first_scale, const char *target_arch,
                          rq_status expected, const char *message)
{
    rq_error err = RQ_ERROR_INIT;
    rq_model csla, target;
    rq_repopt *repopt = NULL;
    const char *dir = rq_test_mkdir();
    const char *scales = rq_test_path("%s/scales.bin", dir);
    build(&csla, scales_arch, 3);
    build(&target, target_arch, 3);
    for (int i = 0; i < csla.graph.n_nodes; i++)
        if (csla.graph.nodes[i].op == RQ_OP_SCALE)
            rq_tensor_f32(rq_graph_tensor(&csla.graph, i, RQ_SLOT_WEIGHT))[0] = first_scale;
    assert_ok(rq_model_save(&csla, scales, &err), &err);
    const rq_repopt_options options = {.scales = scales};
    assert_int_equal(rq_repopt_create(&repopt, &target, &options, &err), expected);
    assert_says(&err, message);
    rq_model_deinit(&csla);
    rq_model_deinit(&target);
    rq_test_rmdir(dir);
}

static void test_other_scales_are_refused(void **state)
{
    (void)state;
    const char *const target = STAGES "target";
    check_refused("repvgg:depth=1,2,2;width=8,16,16;groups=2;block=hs", 1.0f, target, RQ_ERR_MODEL,
                  "scales.bin: stage1.2.scale_conv.weight is missing");
    check_refused("repvgg:depth=1,3,3;width=8,16,16;groups=2;block=hs", 1.0f, target, RQ_ERR_MODEL,
                  "stage2.2.scale_conv.weight is of a layer that the network has not");
    check_refused("repvgg:depth=1,3,2;width=8,16,32;groups=2;block=hs", 1.0f, target, RQ_ERR_MODEL,
                  "stage2.0.scale_conv.weight has not the 16 values");
    check_refused(STAGES "repvgg", 1.0f, target, RQ_ERR_MODEL, "scale_conv.weight is missing");
    check_refused(STAGES "hs", INFINITY, target, RQ_ERR_MODEL, "weight[0] is not finite");
    check_refused(STAGES "hs", 1.0f, STAGES "repvgg", RQ_ERR_USAGE, "block=target");
}

static void test_clipping_is_refused(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model target;
    rq_trainer *trainer = NULL;
    rq_optimizer *optimizer = NULL;
    build(&target, STAGES "target", 3);
    static const float *const multipliers[64];
    assert_true(target.graph.n_params <= 64);
    const rq_trainer_options trainer_options = {.batch = N_IMAGES};
    assert_ok(rq_trainer_create(&trainer, &target, &trainer_options, &err), &err);
    rq_optimizer_options options = RQ_OPTIMIZER_OPTIONS_INIT;
    options.clip_grad = 1.0;
    options.multipliers = multipliers;
    assert_int_equal(rq_optimizer_create(&optimizer, trainer, &target, &options, &err),
                     RQ_ERR_USAGE);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multiplier_is_the_table),
        cmocka_unit_test(test_sgd_equals_branches),
        cmocka_unit_test(test_adamw_equals_branches_of_one_sign),
        cmocka_unit_test(test_network_trains_as_its_branches),
        cmocka_unit_test(test_trained_weights_are_kept),
        cmocka_unit_test(test_published_scales),
        cmocka_unit_test(test_other_scales_are_refused),
        cmocka_unit_test(test_clipping_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
