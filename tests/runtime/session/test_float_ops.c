/* Float operators, one by one and in networks: the session and the reference's plain loops against
 * values computed by hand, and against each other. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/model/arch.h"
#include "runtime/reference/integer.h"
#include "runtime/session/session.h"
#include "tests/support/test.h"

enum { MAX_NODES = 16, MAX_ELEMS = 4096 };

static rq_error err;
static rq_model model;

/* What an observer saw: the values of nodes that exist apart from others. */
typedef struct record {
    float values[MAX_NODES][MAX_ELEMS];
    size_t n_elems[MAX_NODES]; /* 0: not seen */
} record;

static record by_session, by_reference;

static void observe(void *context, int node, const void *value, const rq_shape *shape)
{
    record *seen = context;
    seen->n_elems[node] = rq_shape_elems(shape);
    assert_true(shape->dtype == RQ_F32 && seen->n_elems[node] <= MAX_ELEMS);
    memcpy(seen->values[node], value, seen->n_elems[node] * sizeof(float));
}

/* A model that reads pixels p as the numbers p. */
static int setup(void **state)
{
    (void)state;
    model = (rq_model)RQ_MODEL_INIT;
    model.form = RQ_FORM_INT8; /* of float operators alone: the reference walks no other form */
    for (int c = 0; c < 3; c++) {
        model.preprocess.mean[c] = 0.0f;
        model.preprocess.std[c] = 1.0f / 255.0f;
    }
    assert_ok(rq_graph_add_node(&model.graph, RQ_OP_INPUT, "input", 0, NULL, NULL, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_model_deinit(&model);
    return 0;
}

static int add(rq_op op, const char *name, int a, int b)
{
    const int inputs[2] = {a, b};
    int node;
    assert_ok(rq_graph_add_node(&model.graph, op, name, b < 0 ? 1 : 2, inputs, &node, &err), &err);
    return node;
}

static void set_param(int node, rq_slot slot, int rank, const int64_t *dims, const float *values)
{
    assert_ok(rq_graph_add_param(&model.graph, node, slot, RQ_F32, rank, dims, &err), &err);
    rq_tensor *tensor = rq_graph_tensor(&model.graph, node, slot);
    memcpy(tensor->data, values, rq_tensor_elems(tensor) * sizeof(float));
}

static int add_scale(int x, float r, float g, float b)
{
    const int node = add(RQ_OP_SCALE, "scale", x, -1);
    set_param(node, RQ_SLOT_WEIGHT, 1, (const int64_t[]){3}, (const float[]){r, g, b});
    return node;
}

/* Close the model and run it both ways; their values agree. */
static void run(int last, const uint8_t *pixels, int n, int h, int w)
{
    static const float weight[3] = {1.0f, 2.0f, 4.0f}, bias[1] = {0.5f};
    const int pool = add(RQ_OP_GLOBAL_AVG_POOL, "gap", last, -1);
    const int linear = add(RQ_OP_LINEAR, "linear", pool, -1);
    set_param(linear, RQ_SLOT_WEIGHT, 2, (const int64_t[]){1, 3}, weight);
    set_param(linear, RQ_SLOT_BIAS, 1, (const int64_t[]){1}, bias);
    model.n_classes = 1;
    float got[8], want[8];
    memset(&by_session, 0, sizeof by_session);
    memset(&by_reference, 0, sizeof by_reference);
    assert_ok(rq_integer_run_ref(&model, pixels, n, h, w, want, observe, &by_reference, &err),
              &err);
    const rq_session_options options = {
        .batch = n, .height = h, .width = w, .observer = observe, .observer_context = &by_session};
    rq_session *session;
    assert_ok(rq_session_create(&session, &model, &options, &err), &err);
    assert_ok(rq_session_run(session, pixels, n, got, &err), &err);
    rq_session_destroy(session);
    assert_all_close(got, want, (size_t)n, 1e-5, 1e-5);
    for (int i = 1; i <= linear; i++) {
        assert_int_equal(by_session.n_elems[i], by_reference.n_elems[i]);
        assert_true(by_session.n_elems[i] > 0);
        assert_all_close(by_session.values[i], by_reference.values[i], by_session.n_elems[i], 1e-5,
                         1e-5);
    }
}

static void check(int node, const float *want, size_t n_elems)
{
    assert_int_equal(by_reference.n_elems[node], n_elems);
    assert_all_close(by_reference.values[node], want, n_elems, 1e-5, 1e-5);
    assert_all_close(by_session.values[node], want, n_elems, 1e-5, 1e-5);
}

/* 2 x 2 pixels, the channels 100 apart. */
static const uint8_t small[12] = {1, 101, 201, 2, 102, 202, 3, 103, 203, 4, 104, 204};

static void test_scale__hand_computed(void **state)
{
    (void)state;
    const int scale = add_scale(0, 2.0f, -0.5f, 0.0f);
    run(scale, small, 1, 2, 2);
    check(scale, (const float[]){2, -50.5f, 0, 4, -51, 0, 6, -51.5f, 0, 8, -52, 0}, 12);
}

static void test_avg_pool__counts_padding_as_zeros(void **state)
{
    (void)state;
    const int pool = add(RQ_OP_AVG_POOL, "pool", 0, -1);
    model.graph.nodes[pool].conv = (rq_conv_attr){{3, 2}, {1, 2}, {1, 1}, {1, 1}, 1};
    run(pool, small, 1, 2, 2);
    /* two rows of windows that see both rows; two columns: border and column 0, column 1 and
     * border; 6 pixels each */
    const float left[3] = {4 / 6.0f, 204 / 6.0f, 404 / 6.0f};
    const float right[3] = {1.0f, 206 / 6.0f, 406 / 6.0f};
    float want[12];
    for (size_t i = 0; i < 12; i++)
        want[i] = (i / 3 % 2 ? right : left)[i % 3];
    check(pool, want, 12);
}

/* Negative values beat the border, which does not count. */
static void test_max_pool__ignores_padding(void **state)
{
    (void)state;
    const int scale = add_scale(0, 1.0f, -1.0f, 2.0f);
    const int pool = add(RQ_OP_MAX_POOL, "pool", scale, -1);
    model.graph.nodes[pool].conv = (rq_conv_attr){{2, 2}, {1, 2}, {1, 1}, {1, 1}, 1};
    run(pool, small, 1, 2, 2);
    /* rows: border and row 0, rows 0 and 1, row 1 and border; columns: border and column 0, column
     * 1 and border */
    check(pool,
          (const float[]){1, -101, 402, 2, -102, 404, 3, -101, 406, 4, -102, 408, 3, -103, 406, 4,
                          -104, 408},
          18);
}

static void test_sigmoid__hand_computed(void **state)
{
    (void)state;
    static const uint8_t pixels[6] = {0, 0, 0, 1, 255, 255};
    const int scale = add_scale(0, 1.0f, 1.0f, -1.0f);
    const int sigmoid = add(RQ_OP_SIGMOID, "sigmoid", scale, -1);
    run(sigmoid, pixels, 1, 1, 2);
    check(sigmoid, (const float[]){0.5f, 0.5f, 0.5f, 0.731058578630005f, 1.0f, 0.0f}, 6);
}

/* The gate is per image and channel. */
static void test_mul__hand_computed(void **state)
{
    (void)state;
    uint8_t pixels[24];
    for (int i = 0; i < 12; i++) {
        pixels[i] = small[i];
        pixels[12 + i] = 10;
    }
    const int pool = add(RQ_OP_GLOBAL_AVG_POOL, "pool", 0, -1);
    const int mul = add(RQ_OP_MUL, "mul", 0, pool);
    run(mul, pixels, 2, 2, 2);
    const float means[3] = {2.5f, 102.5f, 202.5f};
    float want[24];
    for (int i = 0; i < 24; i++)
        want[i] = i < 12 ? (float)small[i] * means[i % 3] : 100.0f;
    check(mul, want, 24);
}

static void test_add__of_four(void **state)
{
    (void)state;
    const int a = add_scale(0, 1.0f, 2.0f, 3.0f);
    const int inputs[4] = {0, a, 0, a};
    int sum;
    assert_ok(rq_graph_add_node(&model.graph, RQ_OP_ADD, "add", 4, inputs, &sum, &err), &err);
    run(sum, small, 1, 2, 2);
    float want[12];
    for (int i = 0; i < 12; i++)
        want[i] = (float)small[i] * (float)(2 * (i % 3 + 2));
    check(sum, want, 12);
}

/* Odd sizes, several images, windows of all kinds: both executions agree. */
static void test_float_ops__random(void **state)
{
    (void)state;
    enum { N = 3, SIDE_H = 7, SIDE_W = 9 };
    static const rq_conv_attr windows[] = {
        {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}, {{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1},
        {{2, 5}, {2, 3}, {1, 4}, {1, 1}, 1}, {{1, 1}, {3, 1}, {0, 0}, {1, 1}, 1},
        {{7, 9}, {1, 1}, {0, 0}, {1, 1}, 1},
    };
    uint8_t pixels[N * SIDE_H * SIDE_W * 3];
    rq_random random = {17};
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)rq_random_below(&random, 256);
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        if (i > 0) {
            (void)teardown(state);
            (void)setup(state);
        }
        const int scaled = add_scale(0, 0.1f, -0.2f, 0.05f);
        const int average = add(RQ_OP_AVG_POOL, "average", scaled, -1);
        const int largest = add(RQ_OP_MAX_POOL, "largest", scaled, -1);
        model.graph.nodes[average].conv = model.graph.nodes[largest].conv = windows[i];
        const int scale = add(RQ_OP_ADD, "sum", average, largest);
        const int mean = add(RQ_OP_GLOBAL_AVG_POOL, "mean", scale, -1);
        const int gate = add(RQ_OP_SIGMOID, "gate", mean, -1);
        run(add(RQ_OP_MUL, "mul", scale, gate), pixels, N, SIDE_H, SIDE_W);
    }
}

/* ---- networks ---- */

enum { SIDE = 17, BATCH = 2, CLASSES = 6 };

/* Parameters that all matter: batch statistics and scales too, and weights so large that an image's
 * brightness is not lost on the way. */
static void build(rq_model *out, const char *arch)
{
    assert_ok(rq_arch_build(out, arch, CLASSES, &err), &err);
    rq_model_init_weights(out, 3);
    out->preprocess.crop = out->preprocess.resize = SIDE;
    rq_random random = {5};
    for (int i = 0; i < out->graph.n_nodes; i++) {
        const rq_op op = out->graph.nodes[i].op;
        const rq_tensor *weight = rq_graph_tensor(&out->graph, i, RQ_SLOT_WEIGHT);
        for (size_t k = 0; op == RQ_OP_CONV && k < rq_tensor_elems(weight); k++)
            rq_tensor_f32(weight)[k] *= 3.0f;
        if (op != RQ_OP_BATCH_NORM && op != RQ_OP_SCALE)
            continue;
        for (int slot = 0; slot <= RQ_SLOT_VAR; slot++) {
            const rq_tensor *tensor = rq_graph_tensor(&out->graph, i, (rq_slot)slot);
            for (size_t c = 0; tensor && c < rq_tensor_elems(tensor); c++)
                rq_tensor_f32(tensor)[c] = (float)(0.2 + rq_random_unit(&random));
        }
    }
}

/* Two images: a dark one and a bright one. */
static void draw(uint8_t *pixels, size_t n)
{
    rq_random random = {11};
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)(rq_random_below(&random, 128) + (i < n / 2 ? 0 : 128));
}

static void logits_of(const rq_model *network, const uint8_t *pixels, float *logits)
{
    const rq_session_options options = {.batch = BATCH};
    rq_session *session;
    assert_ok(rq_session_create(&session, network, &options, &err), &err);
    assert_ok(rq_session_run(session, pixels, BATCH, logits, &err), &err);
    rq_session_destroy(session);
}

/* Every kind of block, with and without SE, at both places. */
static void test_session__runs_every_architecture(void **state)
{
    (void)state;
    static const char *const ses[] = {"none", "pre/2", "post/4"};
    static const char *const blocks[] = {
#define X(code, function, word, activation) word,
        RQ_BLOCK_LIST(X)
#undef X
    };
    uint8_t pixels[BATCH * SIDE * SIDE * 3];
    draw(pixels, sizeof pixels);
    for (size_t i = 0; i < RQ_N_BLOCKS; i++)
        for (size_t k = 0; k < 3; k++) {
            rq_model network;
            float got[BATCH * CLASSES], want[BATCH * CLASSES];
            build(&network, rq_test_path("repvgg:depth=1,3,2;width=8,12,20;stride=2,1,2;groups=2;"
                                         "block=%s;se=%s",
                                         blocks[i], ses[k]));
            logits_of(&network, pixels, got);
            network.form = RQ_FORM_INT8;
            assert_ok(
                rq_integer_run_ref(&network, pixels, BATCH, SIDE, SIDE, want, NULL, NULL, &err),
                &err);
            assert_all_close(got, want, BATCH * CLASSES, 1e-4, 1e-4);
            assert_true(rq_first_far(want, want + CLASSES, CLASSES, 1e-2, 0.0) < CLASSES);
            rq_model_deinit(&network);
        }
}

static void forbid_aux(void *context, int node, const void *value, const rq_shape *shape)
{
    (void)value;
    (void)shape;
    const rq_model *network = context;
    if (strstr(network->graph.nodes[node].name, "_aux"))
        fail_msg("%s was computed", network->graph.nodes[node].name);
}

/* Auxiliary heads are for training: nothing of them runs, and the logits stay what they are. */
static void test_session__leaves_auxiliary_outputs_out(void **state)
{
    (void)state;
    rq_model with, without;
    uint8_t pixels[BATCH * SIDE * SIDE * 3];
    float got[BATCH * CLASSES], want[BATCH * CLASSES];
    draw(pixels, sizeof pixels);
    assert_ok(rq_arch_build(&with, "repvgg:depth=1,2;width=8,8;aux=0,1", CLASSES, &err), &err);
    assert_ok(rq_arch_build(&without, "repvgg:depth=1,2;width=8,8", CLASSES, &err), &err);
    rq_model_init_weights(&with, 1);
    rq_model_init_weights(&without, 1);
    with.preprocess.crop = without.preprocess.crop = SIDE;
    logits_of(&with, pixels, got);
    logits_of(&without, pixels, want);
    assert_memory_equal(got, want, sizeof want);

    const rq_session_options options = {.batch = BATCH,
                                        .height = SIDE,
                                        .width = SIDE,
                                        .observer = forbid_aux,
                                        .observer_context = &with};
    rq_session *session, *plain;
    assert_ok(rq_session_create(&session, &with, &options, &err), &err);
    assert_ok(rq_session_create(&plain, &without, &options, &err), &err);
    assert_int_equal(rq_session_n_steps(session), rq_session_n_steps(plain));
    assert_int_equal(rq_session_get_info(session).weight_bytes,
                     rq_session_get_info(plain).weight_bytes);
    assert_ok(rq_session_run(session, pixels, BATCH, got, &err), &err);
    rq_session_destroy(session);
    rq_session_destroy(plain);
    rq_model_deinit(&with);
    rq_model_deinit(&without);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_scale__hand_computed),
        TEST(test_avg_pool__counts_padding_as_zeros),
        TEST(test_max_pool__ignores_padding),
        TEST(test_sigmoid__hand_computed),
        TEST(test_mul__hand_computed),
        TEST(test_add__of_four),
        TEST(test_float_ops__random),
        cmocka_unit_test(test_session__runs_every_architecture),
        cmocka_unit_test(test_session__leaves_auxiliary_outputs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
