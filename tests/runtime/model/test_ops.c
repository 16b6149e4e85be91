/* The shape rule of every operator, and every way to break one. */
#include <math.h>
#include <string.h>

#include "runtime/model/graph.h"
#include "tests/support/test.h"

enum { H = 9, W = 11 };

static rq_error err;
static rq_graph graph;
static rq_shape shapes[16];

static int setup(void **state)
{
    (void)state;
    graph = (rq_graph)RQ_GRAPH_INIT;
    assert_ok(rq_graph_add_node(&graph, RQ_OP_INPUT, "input", 0, NULL, NULL, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_graph_deinit(&graph);
    return 0;
}

static int add(rq_op op, const char *name, int input)
{
    int node;
    assert_ok(rq_graph_add_node(&graph, op, name, op != RQ_OP_INPUT, &input, &node, &err), &err);
    return node;
}

static void param(int node, rq_slot slot, rq_dtype dtype, int rank, int64_t d0, int64_t d1,
                  int64_t d2, int64_t d3)
{
    const int64_t dims[4] = {d0, d1, d2, d3};
    assert_ok(rq_graph_add_param(&graph, node, slot, dtype, rank, dims, &err), &err);
}

static int add_conv(const char *name, int input, int64_t oc, int64_t ic, int k, int groups)
{
    const int node = add(RQ_OP_CONV, name, input);
    param(node, RQ_SLOT_WEIGHT, RQ_F32, 4, oc, ic, k, k);
    graph.nodes[node].conv = (rq_conv_attr){{k, k}, {1, 1}, {k / 2, k / 2}, {1, 1}, groups};
    return node;
}

static int add_qconv(const char *name, int input, int64_t oc, int64_t ic, bool pixels)
{
    const int node = add(RQ_OP_QCONV, name, input);
    param(node, RQ_SLOT_WEIGHT, RQ_S8, 4, oc, ic, 3, 3);
    param(node, RQ_SLOT_BIAS, RQ_S32, 1, oc, 0, 0, 0);
    param(node, RQ_SLOT_MULTIPLIER, RQ_F32, 1, oc, 0, 0, 0);
    param(node, RQ_SLOT_ACC_MAX, RQ_S64, 2, oc, 2, 0, 0);
    if (pixels)
        param(node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, ic, 0, 0, 0);
    graph.nodes[node].conv = (rq_conv_attr){{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1};
    return node;
}

static void expect_shape(int node, int64_t h, int64_t w, int64_t c, rq_dtype dtype)
{
    assert_ok(rq_graph_shapes(&graph, 2, H, W, shapes, &err), &err);
    assert_int_equal(shapes[node].n, 2);
    assert_int_equal(shapes[node].h, h);
    assert_int_equal(shapes[node].w, w);
    assert_int_equal(shapes[node].c, c);
    assert_int_equal(shapes[node].dtype, dtype);
}

static void expect_refusal(const char *node, const char *rule)
{
    assert_fails(rq_graph_shapes(&graph, 2, H, W, shapes, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, node);
    assert_says(&err, rule);
}

static void test_shapes__names(void **state)
{
    (void)state;
    assert_string_equal(rq_op_name(RQ_OP_INPUT), "input");
    assert_string_equal(rq_op_name(RQ_OP_QLINEAR), "qlinear");
    assert_string_equal(rq_slot_name(RQ_SLOT_MEAN), "running_mean");
}

static void test_shapes__conv_geometry(void **state)
{
    (void)state;
    const int node = add_conv("c", 0, 8, 3, 3, 1);
    expect_shape(node, H, W, 8, RQ_F32);
    rq_conv_attr *conv = &graph.nodes[node].conv;
    conv->stride[0] = conv->stride[1] = 2;
    expect_shape(node, 5, 6, 8, RQ_F32);
    conv->pad[0] = conv->pad[1] = 0;
    expect_shape(node, 4, 5, 8, RQ_F32);
    conv->dilation[0] = 4; /* reach 9 = all rows */
    expect_shape(node, 1, 5, 8, RQ_F32);
    conv->dilation[0] = 5;
    expect_refusal("c:", "reaches over 11 pixels, the padded input has 9");
}

static void test_shapes__conv_attributes(void **state)
{
    (void)state;
    rq_conv_attr *conv = &graph.nodes[add_conv("c", 0, 8, 3, 3, 1)].conv;
    const rq_conv_attr good = *conv;
    const struct {
        int *field;
        int value;
        const char *rule;
    } cases[] = {
        {&conv->kernel[0], 0, "kernel 0"},
        {&conv->kernel[1], 5, "weight has 3 in dimension 3"},
        {&conv->stride[0], 0, "stride 0"},
        {&conv->stride[1], -1, "stride -1"},
        {&conv->stride[0], RQ_MAX_SIDE + 1, "stride"},
        {&conv->pad[0], -1, "padding -1"},
        {&conv->pad[1], RQ_MAX_SIDE, "beyond the limits"},
        {&conv->dilation[0], 0, "dilation 0"},
        {&conv->groups, 0, "0 groups"},
        {&conv->groups, -3, "-3 groups"},
        {&conv->groups, 2, "2 groups do not divide 3 input and 8 output"},
        {&conv->groups, 3, "3 groups do not divide 3 input and 8 output"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        *conv = good;
        *cases[i].field = cases[i].value;
        expect_refusal("c:", cases[i].rule);
    }
    *conv = good;
    assert_ok(rq_graph_shapes(&graph, 1, H, W, shapes, &err), &err);
}

static void test_shapes__conv_groups(void **state)
{
    (void)state;
    const int first = add_conv("a", 0, 8, 3, 3, 1);
    const int node = add_conv("b", first, 12, 2, 1, 4);
    expect_shape(node, H, W, 12, RQ_F32);
    graph.nodes[node].conv.groups = 2;
    expect_refusal("b:", "weight has 2 in dimension 1, it must have 4");
}

static void test_shapes__conv_parameters(void **state)
{
    (void)state;
    const int node = add_conv("c", 0, 8, 3, 3, 1);
    param(node, RQ_SLOT_BIAS, RQ_F32, 1, 7, 0, 0, 0);
    expect_refusal("c:", "bias has 7 in dimension 0, it must have 8");
    rq_tensor *bias = rq_graph_tensor(&graph, node, RQ_SLOT_BIAS);
    bias->dim[0] = 8;
    expect_shape(node, H, W, 8, RQ_F32);
    bias->dtype = RQ_S32;
    expect_refusal("c:", "bias is I32, it must be F32");
    bias->dtype = RQ_F32;
    bias->rank = 2;
    expect_refusal("c:", "bias has 2 dimensions, it must have 1");
    bias->rank = 1;
    param(node, RQ_SLOT_MEAN, RQ_F32, 1, 8, 0, 0, 0);
    expect_refusal("c:", "conv has no running_mean");
    graph.nodes[node].slot[RQ_SLOT_MEAN] = -1;
    graph.nodes[node].slot[RQ_SLOT_BIAS] = 99;
    expect_refusal("c:", "parameter 99 of 3");
    graph.nodes[node].slot[RQ_SLOT_BIAS] = -1;
    graph.nodes[node].slot[RQ_SLOT_WEIGHT] = -1;
    expect_refusal("c:", "weight is missing");
}

static void test_shapes__batch_norm(void **state)
{
    (void)state;
    const int node = add(RQ_OP_BATCH_NORM, "bn", 0);
    param(node, RQ_SLOT_WEIGHT, RQ_F32, 1, 3, 0, 0, 0);
    param(node, RQ_SLOT_BIAS, RQ_F32, 1, 3, 0, 0, 0);
    param(node, RQ_SLOT_MEAN, RQ_F32, 1, 3, 0, 0, 0);
    graph.nodes[node].eps = 1e-5f;
    expect_refusal("bn:", "running_var is missing");
    param(node, RQ_SLOT_VAR, RQ_F32, 1, 3, 0, 0, 0);
    expect_shape(node, H, W, 3, RQ_F32);
    param(node, RQ_SLOT_TRACKED, RQ_S64, 0, 0, 0, 0, 0);
    expect_shape(node, H, W, 3, RQ_F32);
    rq_graph_tensor(&graph, node, RQ_SLOT_VAR)->dim[0] = 4;
    expect_refusal("bn:", "running_var has 4");
    rq_graph_tensor(&graph, node, RQ_SLOT_VAR)->dim[0] = 3;
    const float bad[] = {0.0f, -1.0f, NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        graph.nodes[node].eps = bad[i];
        expect_refusal("bn:", "eps");
    }
}

static void test_shapes__add(void **state)
{
    (void)state;
    const int a = add_conv("a", 0, 4, 3, 3, 1), b = add_conv("b", 0, 4, 3, 1, 1);
    const int inputs[3] = {a, b, a};
    int node;
    assert_ok(rq_graph_add_node(&graph, RQ_OP_ADD, "add", 3, inputs, &node, &err), &err);
    expect_shape(node, H, W, 4, RQ_F32);
    graph.nodes[b].conv.stride[1] = 2;
    expect_refusal("add:", "input 1 is 9x6x4 (HxWxC), input 0 is 9x11x4");
    graph.nodes[b].conv.stride[1] = 1;
    graph.nodes[node].n_inputs = 1;
    expect_refusal("add:", "takes 2 to 4 inputs, this has 1");
    graph.nodes[node].n_inputs = 2;
    graph.nodes[node].input[1] = node;
    expect_refusal("add:", "input 1 is not an earlier node");
}

static void test_shapes__scale(void **state)
{
    (void)state;
    const int node = add(RQ_OP_SCALE, "s", 0);
    expect_refusal("s:", "weight is missing");
    param(node, RQ_SLOT_WEIGHT, RQ_F32, 1, 3, 0, 0, 0);
    expect_shape(node, H, W, 3, RQ_F32);
    rq_graph_tensor(&graph, node, RQ_SLOT_WEIGHT)->dim[0] = 4;
    expect_refusal("s:", "weight has 4 in dimension 0, it must have 3");
    rq_graph_tensor(&graph, node, RQ_SLOT_WEIGHT)->dim[0] = 3;
    param(node, RQ_SLOT_BIAS, RQ_F32, 1, 3, 0, 0, 0);
    expect_refusal("s:", "scale has no bias");
}

static void check_window_pool(rq_op op, rq_dtype dtype, int input)
{
    const int node = add(op, "p", input);
    rq_conv_attr *window = &graph.nodes[node].conv;
    const rq_conv_attr good = {{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1};
    *window = good;
    expect_shape(node, 5, 6, 3, dtype);
    *window = (rq_conv_attr){{2, 4}, {1, 3}, {0, 1}, {1, 1}, 1};
    expect_shape(node, 8, 4, 3, dtype);
    *window = (rq_conv_attr){{H, W}, {1, 1}, {0, 0}, {1, 1}, 1};
    expect_shape(node, 1, 1, 3, dtype);
    const struct {
        rq_conv_attr window;
        const char *rule;
    } cases[] = {
        {{{0, 3}, {1, 1}, {0, 0}, {1, 1}, 1}, "kernel 0"},
        {{{3, 3}, {1, 0}, {0, 0}, {1, 1}, 1}, "stride 0"},
        {{{3, 3}, {1, 1}, {-1, 0}, {1, 1}, 1}, "padding -1"},
        {{{3, 3}, {1, 1}, {0, 3}, {1, 1}, 1}, "less padding than its size"},
        {{{3, 3}, {1, 1}, {0, 0}, {2, 1}, 1}, "no dilation"},
        {{{3, 3}, {1, 1}, {0, 0}, {1, 1}, 3}, "no groups"},
        {{{H + 1, 3}, {1, 1}, {0, 0}, {1, 1}, 1}, "reaches over 10 pixels"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        *window = cases[i].window;
        expect_refusal("p:", cases[i].rule);
    }
    *window = good;
    param(node, RQ_SLOT_WEIGHT, RQ_F32, 4, 3, 1, 3, 3);
    expect_refusal("p:", "pool has no weight");
}

static void test_shapes__avg_pool(void **state)
{
    (void)state;
    check_window_pool(RQ_OP_AVG_POOL, RQ_F32, 0);
}

static void test_shapes__max_pool(void **state)
{
    (void)state;
    check_window_pool(RQ_OP_MAX_POOL, RQ_F32, 0);
}

static void test_shapes__qmax_pool(void **state)
{
    (void)state;
    const int quantize = add(RQ_OP_QUANTIZE, "q", 0);
    param(quantize, RQ_SLOT_SCALE, RQ_F32, 1, 1, 0, 0, 0);
    *rq_tensor_f32(rq_graph_tensor(&graph, quantize, RQ_SLOT_SCALE)) = 1.0f;
    check_window_pool(RQ_OP_QMAX_POOL, RQ_U8, quantize);
}

static void test_shapes__squeeze_and_excitation(void **state)
{
    (void)state;
    const int body = add_conv("body", 0, 8, 3, 3, 1);
    const int pool = add(RQ_OP_GLOBAL_AVG_POOL, "pool", body);
    const int up = add_conv("up", pool, 8, 8, 1, 1);
    const int sigmoid = add(RQ_OP_SIGMOID, "sigmoid", up);
    const int inputs[3] = {body, sigmoid, sigmoid};
    int mul;
    assert_ok(rq_graph_add_node(&graph, RQ_OP_MUL, "mul", 2, inputs, &mul, &err), &err);
    expect_shape(sigmoid, 1, 1, 8, RQ_F32);
    expect_shape(mul, H, W, 8, RQ_F32);
    graph.nodes[mul].input[1] = body;
    expect_refusal("mul:", "the gate is 9x11x8 (HxWxC), it must be 1x1x8");
    graph.nodes[mul].input[1] = pool;
    expect_shape(mul, H, W, 8, RQ_F32);
    graph.nodes[mul].input[0] = 0;
    expect_refusal("mul:", "the gate is 1x1x8 (HxWxC), it must be 1x1x3");
    graph.nodes[mul].n_inputs = 1;
    expect_refusal("mul:", "takes 2 to 2 inputs, this has 1");
    graph.nodes[mul].n_inputs = 2;
    graph.nodes[mul].input[0] = body;
    graph.nodes[sigmoid].n_inputs = 0;
    expect_refusal("sigmoid:", "takes 1 to 1 inputs, this has 0");
    graph.nodes[sigmoid].n_inputs = 1;
    param(sigmoid, RQ_SLOT_SCALE, RQ_F32, 1, 1, 0, 0, 0);
    expect_refusal("sigmoid:", "sigmoid has no scale");
}

static void test_shapes__head(void **state)
{
    (void)state;
    const int relu = add(RQ_OP_RELU, "relu", 0);
    const int gap = add(RQ_OP_GLOBAL_AVG_POOL, "gap", relu);
    const int linear = add(RQ_OP_LINEAR, "linear", gap);
    param(linear, RQ_SLOT_WEIGHT, RQ_F32, 2, 10, 3, 0, 0);
    expect_refusal("linear:", "bias is missing");
    param(linear, RQ_SLOT_BIAS, RQ_F32, 1, 10, 0, 0, 0);
    expect_shape(relu, H, W, 3, RQ_F32);
    expect_shape(gap, 1, 1, 3, RQ_F32);
    expect_shape(linear, 1, 1, 10, RQ_F32);
    rq_graph_tensor(&graph, linear, RQ_SLOT_WEIGHT)->dim[1] = 4;
    expect_refusal("linear:", "weight has 4 in dimension 1, it must have 3");
    graph.nodes[linear].input[0] = relu;
    expect_refusal("linear:", "9x11 pixels, a linear layer takes 1x1");
}

static void test_shapes__fake_quant(void **state)
{
    (void)state;
    const int node = add(RQ_OP_FAKE_QUANT, "fq", 0);
    param(node, RQ_SLOT_SCALE, RQ_F32, 1, 1, 0, 0, 0);
    param(node, RQ_SLOT_MIN, RQ_F32, 1, 1, 0, 0, 0);
    param(node, RQ_SLOT_MAX, RQ_F32, 1, 1, 0, 0, 0);
    expect_shape(node, H, W, 3, RQ_F32);
    param(node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, 1, 0, 0, 0);
    expect_shape(node, H, W, 3, RQ_F32);
    rq_graph_tensor(&graph, node, RQ_SLOT_ZERO_POINT)->dim[0] = 2;
    expect_refusal("fq:", "zero_point has 2");
    rq_graph_tensor(&graph, node, RQ_SLOT_ZERO_POINT)->dim[0] = 1;
    rq_graph_tensor(&graph, node, RQ_SLOT_MAX)->dim[0] = 2;
    expect_refusal("fq:", "max_val has 2");
}

/* What is never negative has no zero point. */
static void test_shapes__zero_point_behind_relu_or_sigmoid(void **state)
{
    (void)state;
    const int before = add(RQ_OP_RELU, "before", 0), node = add(RQ_OP_FAKE_QUANT, "fq", before);
    param(node, RQ_SLOT_SCALE, RQ_F32, 1, 1, 0, 0, 0);
    param(node, RQ_SLOT_MIN, RQ_F32, 1, 1, 0, 0, 0);
    param(node, RQ_SLOT_MAX, RQ_F32, 1, 1, 0, 0, 0);
    expect_shape(node, H, W, 3, RQ_F32);
    param(node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, 1, 0, 0, 0);
    expect_refusal("fq:", "zero_point after relu");
    graph.nodes[before].op = RQ_OP_SIGMOID;
    expect_refusal("fq:", "zero_point after sigmoid");
}

/* quantize, qglobal_avg_pool, qmul with zero points; qsigmoid between. */
static void test_shapes__integer_gate(void **state)
{
    (void)state;
    const int x = add(RQ_OP_QUANTIZE, "x", 0);
    param(x, RQ_SLOT_SCALE, RQ_F32, 1, 1, 0, 0, 0);
    param(x, RQ_SLOT_ZERO_POINT, RQ_U8, 1, 1, 0, 0, 0);
    const int pool = add(RQ_OP_QGLOBAL_AVG_POOL, "pool", x);
    param(pool, RQ_SLOT_SCALE, RQ_F32, 1, 2, 0, 0, 0);
    param(pool, RQ_SLOT_ZERO_POINT, RQ_U8, 1, 2, 0, 0, 0);
    const int real = add(RQ_OP_DEQUANTIZE, "real", pool);
    param(real, RQ_SLOT_SCALE, RQ_F32, 1, 1, 0, 0, 0);
    param(real, RQ_SLOT_ZERO_POINT, RQ_U8, 1, 1, 0, 0, 0);
    const int gate = add(RQ_OP_QSIGMOID, "gate", real);
    const int both[2] = {x, gate};
    int mul;
    assert_ok(rq_graph_add_node(&graph, RQ_OP_QMUL, "mul", 2, both, &mul, &err), &err);
    param(mul, RQ_SLOT_SCALE, RQ_F32, 1, 2, 0, 0, 0);
    param(mul, RQ_SLOT_ZERO_POINT, RQ_U8, 1, 2, 0, 0, 0);
    expect_shape(pool, 1, 1, 3, RQ_U8);
    expect_shape(gate, 1, 1, 3, RQ_U8);
    expect_shape(mul, H, W, 3, RQ_U8);
    static const char *const names[] = {"mul:", "real:", "pool:", "x:"};
    const int nodes[] = {mul, real, pool, x};
    for (size_t i = 0; i < 4; i++) {
        rq_graph_tensor(&graph, nodes[i], RQ_SLOT_ZERO_POINT)->dim[0]++;
        expect_refusal(names[i], "zero_point has ");
        rq_graph_tensor(&graph, nodes[i], RQ_SLOT_ZERO_POINT)->dim[0]--;
    }
    rq_graph_tensor(&graph, mul, RQ_SLOT_SCALE)->dim[0] = 1;
    expect_refusal("mul:", "scale has 1 in dimension 0, it must have 2");
    rq_graph_tensor(&graph, mul, RQ_SLOT_SCALE)->dim[0] = 2;
    graph.nodes[mul].input[1] = x;
    expect_refusal("mul:", "the gate is 9x11x3 (HxWxC), it must be 1x1x3");
    graph.nodes[mul].input[1] = real;
    expect_refusal("mul:", "qmul takes U8, real gives F32");
    graph.nodes[mul].input[1] = gate;
    graph.nodes[gate].input[0] = pool;
    expect_refusal("gate:", "qsigmoid takes F32, pool gives U8");
}

static void test_shapes__integer_chain(void **state)
{
    (void)state;
    const int a = add_qconv("qa", 0, 8, 3, true);
    const int b = add_qconv("qb", a, 16, 8, false);
    const int gap = add(RQ_OP_QGLOBAL_AVG_POOL, "qgap", b);
    param(gap, RQ_SLOT_SCALE, RQ_F32, 1, 2, 0, 0, 0);
    const int linear = add(RQ_OP_QLINEAR, "qlinear", gap);
    param(linear, RQ_SLOT_WEIGHT, RQ_S8, 2, 5, 16, 0, 0);
    param(linear, RQ_SLOT_BIAS, RQ_S32, 1, 5, 0, 0, 0);
    param(linear, RQ_SLOT_MULTIPLIER, RQ_F32, 1, 5, 0, 0, 0);
    param(linear, RQ_SLOT_ACC_MAX, RQ_S64, 2, 5, 2, 0, 0);
    expect_shape(a, 5, 6, 8, RQ_U8);
    expect_shape(b, 3, 3, 16, RQ_U8);
    expect_shape(gap, 1, 1, 16, RQ_U8);
    expect_shape(linear, 1, 1, 5, RQ_F32);
    rq_graph_tensor(&graph, linear, RQ_SLOT_ACC_MAX)->dim[1] = 3;
    expect_refusal("qlinear:", "acc_max has 3 in dimension 1");
    rq_graph_tensor(&graph, gap, RQ_SLOT_SCALE)->dim[0] = 1;
    expect_refusal("qgap:", "scale has 1 in dimension 0, it must have 2");
    rq_graph_tensor(&graph, b, RQ_SLOT_ACC_MAX)->dim[1] = 1;
    expect_refusal("qb:", "acc_max has 1 in dimension 1");
    graph.nodes[a].slot[RQ_SLOT_ZERO_POINT] = -1;
    expect_refusal("qa:", "zero_point");
}

static void test_shapes__dtypes_of_values(void **state)
{
    (void)state;
    const int q = add(RQ_OP_QUANTIZE, "q", 0);
    param(q, RQ_SLOT_SCALE, RQ_F32, 1, 1, 0, 0, 0);
    expect_shape(q, H, W, 3, RQ_U8);
    const int d = add(RQ_OP_DEQUANTIZE, "d", q);
    param(d, RQ_SLOT_SCALE, RQ_F32, 1, 1, 0, 0, 0);
    expect_shape(d, H, W, 3, RQ_F32);
    graph.nodes[d].input[0] = 0;
    expect_refusal("d:", "dequantize takes U8, input gives F32");
    graph.nodes[d].input[0] = q;
    const int relu = add(RQ_OP_RELU, "relu", q);
    expect_refusal("relu:", "relu takes F32, q gives U8");
    graph.nodes[relu].input[0] = d;
    (void)add_qconv("qc", relu, 8, 3, false);
    expect_refusal("qc:", "qconv takes U8, relu gives F32");
}

static void test_shapes__whole_graph(void **state)
{
    (void)state;
    const int second = add(RQ_OP_INPUT, "second", 0);
    expect_refusal("second:", "only the first");
    graph.nodes[second].op = RQ_OP_RELU;
    graph.nodes[second].n_inputs = 1;
    expect_shape(second, H, W, 3, RQ_F32);
    const int64_t sizes[][3] = {{0, 8, 8},         {1, 0, 8},
                                {1, 8, -1},        {1, 8, RQ_MAX_SIDE + 1},
                                {INT64_MAX, 8, 8}, {1, RQ_MAX_SIDE, RQ_MAX_SIDE}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_fails(rq_graph_shapes(&graph, sizes[i][0], sizes[i][1], sizes[i][2], shapes, &err),
                     RQ_ERR_MODEL, &err);
        assert_says(&err, "input:");
    }
    graph.nodes[0].op = RQ_OP_RELU;
    expect_refusal("first node", "must be its input");
    const rq_graph empty = RQ_GRAPH_INIT;
    assert_fails(rq_graph_shapes(&empty, 1, 8, 8, shapes, &err), RQ_ERR_MODEL, &err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_shapes__names),
        TEST(test_shapes__conv_geometry),
        TEST(test_shapes__conv_attributes),
        TEST(test_shapes__conv_groups),
        TEST(test_shapes__conv_parameters),
        TEST(test_shapes__batch_norm),
        TEST(test_shapes__add),
        TEST(test_shapes__scale),
        TEST(test_shapes__avg_pool),
        TEST(test_shapes__max_pool),
        TEST(test_shapes__qmax_pool),
        TEST(test_shapes__squeeze_and_excitation),
        TEST(test_shapes__head),
        TEST(test_shapes__fake_quant),
        TEST(test_shapes__zero_point_behind_relu_or_sigmoid),
        TEST(test_shapes__integer_chain),
        TEST(test_shapes__integer_gate),
        TEST(test_shapes__dtypes_of_values),
        TEST(test_shapes__whole_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
