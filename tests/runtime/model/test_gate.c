/* The quantized sigmoid against its definition in extended precision, and gates found in graphs. */
#include "runtime/model/gate.h"

#include <math.h>
#include <string.h>

#include "runtime/base/random.h"
#include "tests/support/test.h"

/* ---- levels ---- */

/* The x from which 255 * sigmoid(x) is k - 1/2 or more, to some 19 digits. */
static long double threshold(int k)
{
    const long double p = ((long double)k - 0.5L) / 255.0L;
    return logl(p / (1.0L - p));
}

static float smallest_not_below(long double x)
{
    float f = (float)x;
    while ((long double)f < x)
        f = nextafterf(f, INFINITY);
    while ((long double)nextafterf(f, -INFINITY) >= x)
        f = nextafterf(f, -INFINITY);
    return f;
}

/* No threshold lies so near to an f32 that the precision of the definition could matter. */
static void test_gate_level__changes_exactly_at_the_thresholds(void **state)
{
    (void)state;
    for (int k = 1; k <= 255; k++) {
        const float x = k == 128 ? 0.0f : smallest_not_below(threshold(k));
        const float before = nextafterf(x, -INFINITY);
        assert_int_equal(rq_gate_level(x), k);
        assert_int_equal(rq_gate_level(before), k - 1);
        const long double step = (long double)x - (long double)before;
        const long double above = ((long double)x - threshold(k)) / step;
        if (k != 128)
            assert_true(above > 1e-3L && above < 1.0L - 1e-3L);
    }
}

static void test_gate_level__is_the_rounded_sigmoid(void **state)
{
    (void)state;
    rq_random random = {1};
    for (int i = 0; i < 200000; i++) {
        const float x = (float)(20.0 * (rq_random_unit(&random) - 0.5));
        const double y = 255.0 / (1.0 + exp(-(double)x));
        const double to_tie = fabs(y - floor(y) - 0.5);
        if (to_tie > 1e-9)
            assert_int_equal(rq_gate_level(x), (int)rint(y));
        assert_true(fabs((double)rq_gate_level(x) - y) <= 0.5 + 1e-9); /* half a level */
        assert_int_equal(rq_gate_level(x) + rq_gate_level(-x), 255);
    }
}

static void test_gate_level__ends(void **state)
{
    (void)state;
    assert_int_equal(rq_gate_level(0.0f), 128); /* 127.5, half to even */
    assert_int_equal(rq_gate_level(-0.0f), 128);
    assert_int_equal(rq_gate_level(-3e38f), 0);
    assert_int_equal(rq_gate_level(3e38f), 255);
    assert_int_equal(rq_gate_level(-INFINITY), 0);
    assert_int_equal(rq_gate_level(INFINITY), 255);
    assert_int_equal(rq_gate_level(NAN), 0);
    assert_true(RQ_GATE_SCALE == (float)(1.0 / 255.0));
}

/* ---- gates in graphs ---- */

typedef struct gated {
    rq_graph graph;
    int conv, relu, pool, down, down_relu, up, sigmoid, mul, classifier;
} gated;

static int add(gated *g, rq_op op, const char *name, int n_inputs, const int *inputs)
{
    rq_error err = RQ_ERROR_INIT;
    int node;
    assert_ok(rq_graph_add_node(&g->graph, op, name, n_inputs, inputs, &node, &err), &err);
    return node;
}

/* conv, relu, squeeze-and-excitation, relu, pooling, and a convolution as classifier. */
static void build(gated *g)
{
    *g = (gated){.graph = RQ_GRAPH_INIT};
    const int input = add(g, RQ_OP_INPUT, "input", 0, NULL);
    g->conv = add(g, RQ_OP_CONV, "conv", 1, &input);
    g->relu = add(g, RQ_OP_RELU, "relu", 1, &g->conv);
    g->pool = add(g, RQ_OP_GLOBAL_AVG_POOL, "pool", 1, &g->relu);
    g->down = add(g, RQ_OP_CONV, "down", 1, &g->pool);
    g->down_relu = add(g, RQ_OP_RELU, "down.relu", 1, &g->down);
    g->up = add(g, RQ_OP_CONV, "up", 1, &g->down_relu);
    g->sigmoid = add(g, RQ_OP_SIGMOID, "sigmoid", 1, &g->up);
    const int both[2] = {g->relu, g->sigmoid};
    g->mul = add(g, RQ_OP_MUL, "mul", 2, both);
    const int gap = add(g, RQ_OP_GLOBAL_AVG_POOL, "gap", 1, &g->mul);
    g->classifier = add(g, RQ_OP_CONV, "classifier", 1, &gap);
}

static void test_gate_source__of_every_node(void **state)
{
    (void)state;
    gated g;
    build(&g);
    const int in_gate[] = {g.pool, g.down, g.down_relu, g.up, g.sigmoid};
    for (size_t i = 0; i < sizeof in_gate / sizeof in_gate[0]; i++)
        assert_int_equal(rq_gate_source(&g.graph, in_gate[i]), g.relu);
    const int outside[] = {0, g.conv, g.relu, g.mul, g.classifier};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++)
        assert_int_equal(rq_gate_source(&g.graph, outside[i]), -1);
    rq_graph_deinit(&g.graph);
}

/* A gate that is not computed from a pooled value has no source. */
static void test_gate_source__of_other_products(void **state)
{
    (void)state;
    gated g;
    build(&g);
    g.graph.nodes[g.pool].op = RQ_OP_AVG_POOL;
    assert_int_equal(rq_gate_source(&g.graph, g.down), -1);
    g.graph.nodes[g.pool].op = RQ_OP_ADD;
    g.graph.nodes[g.pool].n_inputs = 2;
    assert_int_equal(rq_gate_source(&g.graph, g.down), -1);
    rq_graph_deinit(&g.graph);
}

static void test_gate_check__scale(void **state)
{
    (void)state;
    gated g;
    rq_error err = RQ_ERROR_INIT;
    const int64_t one = 1;
    build(&g);
    const int quantizer = add(&g, RQ_OP_FAKE_QUANT, "gate.quant", 1, &g.sigmoid);
    const int other = add(&g, RQ_OP_FAKE_QUANT, "other", 1, &g.relu);
    assert_ok(rq_graph_add_param(&g.graph, quantizer, RQ_SLOT_SCALE, RQ_F32, 1, &one, &err), &err);
    float *scale = rq_tensor_f32(rq_graph_tensor(&g.graph, quantizer, RQ_SLOT_SCALE));
    assert_true(rq_is_gate(&g.graph, quantizer));
    assert_false(rq_is_gate(&g.graph, other));
    assert_false(rq_is_gate(&g.graph, g.sigmoid));
    *scale = RQ_GATE_SCALE;
    assert_ok(rq_gate_check(&g.graph, quantizer, &err), &err);
    *scale = 1.0f / 256.0f;
    assert_fails(rq_gate_check(&g.graph, quantizer, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "gate.quant: a quantized sigmoid has scale 1 / 255");
    rq_graph_deinit(&g.graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gate_level__changes_exactly_at_the_thresholds),
        cmocka_unit_test(test_gate_level__is_the_rounded_sigmoid),
        cmocka_unit_test(test_gate_level__ends),
        cmocka_unit_test(test_gate_source__of_every_node),
        cmocka_unit_test(test_gate_source__of_other_products),
        cmocka_unit_test(test_gate_check__scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
