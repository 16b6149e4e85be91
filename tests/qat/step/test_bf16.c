/* A step with bf16 operands: the passes write what they write in f32, rounded; and whole networks'
 * gradients are those of f32 but for that rounding, whoever reads a value and in whatever type. */
#include <math.h>
#include <string.h>

#include "qat/step/eltwise_passes.h"
#include "qat/step/trainer.h"
#include "runtime/base/bf16.h"
#include "runtime/dnn/dnn.h"
#include "runtime/model/arch.h"
#include "tests/qat/forms.h"
#include "tests/qat/net.h"
#include "tests/support/test.h"

/* ---- passes ---- */

enum { PIXELS = 5, CHANNELS = 37, N = PIXELS * CHANNELS, MOST_TERMS = 4 };

typedef struct pass {
    float u[MOST_TERMS][N], a[MOST_TERMS][CHANNELS], c[CHANNELS], pivot[CHANNELS];
    float g[N]; /* numbers that bf16 holds */
    tr_pass_args args;
} pass;

static void random_floats(rq_random *random, float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = (float)rq_random_normal(random);
}

static void setup(pass *p, int n_terms, bool relu, bool quantize)
{
    rq_random random = rq_random_stream(5, (uint64_t)n_terms, relu + 2U * quantize);
    p->args = (tr_pass_args){.n_terms = n_terms,
                             .c = p->c,
                             .relu = relu,
                             .quantize = quantize,
                             .inverse_scale = 60.0f,
                             .high = 255.0f,
                             .pixels = PIXELS,
                             .channels = CHANNELS};
    for (int k = 0; k < n_terms; k++) {
        random_floats(&random, p->u[k], N);
        random_floats(&random, p->a[k], CHANNELS);
        p->args.u[k] = p->u[k];
        p->args.a[k] = p->a[k];
    }
    random_floats(&random, p->c, CHANNELS);
    random_floats(&random, p->pivot, CHANNELS);
    random_floats(&random, p->g, N);
    for (size_t i = 0; i < N; i++)
        p->g[i] = rq_from_bf16(rq_to_bf16(p->g[i]));
}

static void to_bf16(uint16_t *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = rq_to_bf16(src[i]);
}

static void check_apply(const pass *p)
{
    float y[N];
    uint16_t y16[N], want[N];
    tr_pass_apply(&p->args, y, TR_F32);
    tr_pass_apply(&p->args, y16, TR_BF16);
    to_bf16(want, y, N);
    assert_memory_equal(y16, want, sizeof want);
}

typedef struct sums {
    float dz[CHANNELS], dzu[MOST_TERMS][CHANNELS];
} sums;

static sums reduce(const pass *p, void *g, tr_number_type type)
{
    sums out = {{0.0f}, {{0.0f}}};
    const float *pivot[TR_MAX_TERMS] = {NULL};
    float *dzu[TR_MAX_TERMS] = {NULL};
    for (int k = 0; k < p->args.n_terms; k++) {
        pivot[k] = p->pivot;
        dzu[k] = out.dzu[k];
    }
    const tr_pass_gradients from = {{g}, 1, type};
    tr_pass_reduce(&p->args, &from, 0.3f, pivot, out.dz, dzu);
    return out;
}

/* The gradient is masked where it stands, bit for bit; sums are the same. */
static void check_reduce(const pass *p)
{
    float g[N];
    uint16_t g16[N], want[N];
    memcpy(g, p->g, sizeof g);
    to_bf16(g16, p->g, N);
    const sums f32 = reduce(p, g, TR_F32), bf16 = reduce(p, g16, TR_BF16);
    to_bf16(want, g, N);
    assert_memory_equal(g16, want, sizeof want);
    assert_memory_equal(&bf16, &f32, sizeof f32);
}

/* Where du stands apart from g, and in its place. */
static void check_gradient(const pass *p, bool live)
{
    float du[N];
    uint16_t g16[N], want[N], apart[N];
    tr_pass_gradient_args args = {
        .g = p->g,
        .g_type = TR_F32,
        .factor = 0.3f,
        .u = live ? p->u[0] : NULL,
        .pivot = p->pivot,
        .da = p->a[0],
        .db = p->c,
        .dc = p->pivot,
        .pixels = PIXELS,
        .channels = CHANNELS,
    };
    tr_pass_gradient(&args, du, TR_F32);
    to_bf16(want, du, N);
    tr_pass_gradient(&args, apart, TR_BF16);
    assert_memory_equal(apart, want, sizeof want);
    to_bf16(g16, p->g, N);
    args.g = g16;
    args.g_type = TR_BF16;
    float from16[N];
    tr_pass_gradient(&args, from16, TR_F32);
    assert_memory_equal(from16, du, sizeof du);
    tr_pass_gradient(&args, g16, TR_BF16);
    assert_memory_equal(g16, want, sizeof want);
}

static void test_passes__write_the_rounded_numbers(void **state)
{
    (void)state;
    pass p;
    for (int n_terms = 1; n_terms <= MOST_TERMS; n_terms++)
        for (int act = 0; act < 4; act++) {
            setup(&p, n_terms, act & 1, act & 2);
            check_apply(&p);
            check_reduce(&p);
            check_gradient(&p, true);
            check_gradient(&p, false);
        }
}

/* ---- whole networks ---- */

enum { BATCH = 8, SIDE = 16, CLASSES = 5 };

/* Operands of 8 significant bits, a few layers deep; batch norms leave small differences of large
 * numbers. Measured: 0.006 to 0.23. A reader that is forgotten, or taken twice, is at 0.5 or
 * more. */
#define MOST_DISTANCE 0.25

/* Of two gradients, as a share of the length of the second. */
static double distance(const float *a, const float *b, size_t n)
{
    double difference = 0.0, length = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        difference += d * d;
        length += (double)b[i] * (double)b[i];
    }
    return length > 0.0 ? sqrt(difference / length) : difference;
}

static rq_trainer *step(rq_model *model, rq_precision precision, const net_batch *batch)
{
    rq_error err = RQ_ERROR_INIT;
    rq_trainer *trainer;
    rq_step_result result;
    const rq_trainer_options options = {.batch = BATCH, .precision = precision};
    assert_ok(rq_trainer_create(&trainer, model, &options, &err), &err);
    assert_ok(rq_trainer_step(trainer, batch->pixels, batch->labels, &result, &err), &err);
    return trainer;
}

static void check_network(const char *name, void (*build)(rq_model *))
{
    rq_model models[2];
    build(&models[0]);
    build(&models[1]);
    const net_batch batch = net_random_batch(&models[0], BATCH, false, 3);
    rq_trainer *f32 = step(&models[0], RQ_PRECISION_F32, &batch);
    rq_trainer *bf16 = step(&models[1], RQ_PRECISION_BF16, &batch);
    const rq_graph *graph = &models[0].graph;
    double worst = 0.0;
    for (int i = 0; i < graph->n_params; i++) {
        const float *want = rq_trainer_gradient(f32, i), *got = rq_trainer_gradient(bf16, i);
        if (!want)
            continue;
        const double d = distance(got, want, rq_tensor_elems(&graph->params[i].tensor));
        if (!(d < MOST_DISTANCE))
            fail_msg("%s: the gradient of %s is %.3f away", name, graph->params[i].name, d);
        worst = d > worst ? d : worst;
    }
    print_message("%s: at most %.4f\n", name, worst);
    assert_true(worst > 0.0); /* it was not f32 after all */
    rq_free(batch.pixels);
    rq_trainer_destroy(f32);
    rq_trainer_destroy(bf16);
    rq_model_deinit(&models[0]);
    rq_model_deinit(&models[1]);
}

static void build_arch(rq_model *model, const char *arch)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_arch_build(model, arch, 0, &err), &err);
    model->preprocess.crop = model->preprocess.resize = SIDE;
    rq_model_init_weights(model, 1);
}

/* Ends at 2x2 pixels, where layers compute in f32. */
static void build_three_branches(rq_model *model)
{
    build_arch(model, "repvgg:depth=1,2,1,2;width=16,24,33,20;stride=1,2,2,2;classes=5");
}

/* Of convolutions that are Winograd's. */
static void build_plain(rq_model *model)
{
    build_arch(model, "repvgg:depth=1,2;width=32,48;stride=1,2;pool=max;block=target;classes=5");
}

static void build_gates_and_heads(rq_model *model)
{
    build_arch(model, "repvgg:depth=1,2,1;width=16,16,20;stride=1,1,2;groups=2;se=post/4;"
                      "aux=0,1;classes=5");
}

static void build_deploy(rq_model *model)
{
    forms_deploy(model, build_three_branches);
}

static void build_withbn(rq_model *model)
{
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 2);
    const int a = net_block(&n, "a", 0, 17, NET_K3);
    const int b = net_block(&n, "b", a, 24, NET_K3_S2);
    const int c = net_gated_block(&n, "c", b, 24, NET_K3, true, 6);
    (void)net_head(&n, net_block(&n, "d", c, 32, NET_K1));
    *model = n.model;
}

static void build_qat(rq_model *model)
{
    forms_qat(model, build_withbn);
}

/* Bare sums of a convolution that a convolution, a batch norm and an addition read: their gradients
 * are added up in f32 before they are rounded. */
static void build_bare_sums(rq_model *model)
{
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 4);
    const int a = net_conv(&n, "a", 0, 16, NET_K3, false);
    const int b = net_conv(&n, "b", a, 16, NET_K1, false);
    const int c = net_add3(&n, "add", net_bn(&n, "bn_a", a), net_bn(&n, "bn_b", b), a);
    (void)net_head(&n, net_relu(&n, "relu", c));
    *model = n.model;
}

static void test_step__gradients_are_near_those_of_f32(void **state)
{
    (void)state;
    if (!rq_dnn_has_bf16()) {
        print_message("this CPU has no bf16\n");
        skip();
    }
    check_network("three branches", build_three_branches);
    check_network("plain", build_plain);
    check_network("gates and auxiliary heads", build_gates_and_heads);
    check_network("deploy", build_deploy);
    check_network("with batch norm", build_withbn);
    check_network("qat", build_qat);
    check_network("bare sums", build_bare_sums);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes__write_the_rounded_numbers),
        cmocka_unit_test(test_step__gradients_are_near_those_of_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
