/* Squeeze-and-excitation lowered to integers: what it becomes, that the integers are what the
 * fake-quantized model computes, value by value and bit by bit, and what is refused. */
#include "export/lower.h"
#include "runtime/base/log.h"
#include "runtime/session/session.h"
#include "tests/export/trace.h"

/* Three blocks with gates, grouped in the middle, odd channels. */
static net_spec gated_spec(int gate)
{
    const net_spec spec = {
        .layers = {{"stage0", 6, 3, 2, 1, 1, true, true, gate},
                   {"stage1.0", 10, 3, 1, 2, 1, true, true, gate},
                   {"stage1.1", 7, 3, 1, 1, 1, true, true, gate}},
        .classes = 5,
        .linear_quantized = true,
        .pool_quantized = true,
    };
    return spec;
}

/* ---- the graph ---- */

static void expect_op(const rq_model *lowered, const char *name, rq_op op)
{
    const int node = rq_graph_find_node(&lowered->graph, name);
    if (node < 0)
        fail_msg("no node %s", name);
    assert_int_equal(lowered->graph.nodes[node].op, op);
}

static void check_zero_points(const rq_model *lowered, const char *name, int x, int y)
{
    const int node = rq_graph_find_node(&lowered->graph, name);
    const rq_tensor *tensor = rq_graph_tensor(&lowered->graph, node, RQ_SLOT_ZERO_POINT);
    if (!x && !y) {
        assert_null(tensor);
        return;
    }
    assert_non_null(tensor);
    assert_int_equal(((uint8_t *)tensor->data)[0], x);
    assert_int_equal(((uint8_t *)tensor->data)[1], y);
}

static void test_lower__operators_of_gates(void **state)
{
    (void)state;
    for (int gate = NET_GATE_BEFORE; gate <= NET_GATE_BEHIND; gate++) {
        rq_error err = RQ_ERROR_INIT;
        rq_model qat, lowered;
        rq_lower_report report;
        const rq_lower_options options = {.report = &report};
        const net_spec spec = gated_spec(gate);
        net_build(&qat, &spec);
        assert_ok(rq_lower(&lowered, &qat, &options, &err), &err);
        assert_int_equal(lowered.graph.n_nodes, 1 + 3 * 6 + 2); /* nothing stays in float */
        expect_op(&lowered, "stage1.0.rbr_reparam.conv", RQ_OP_QCONV);
        expect_op(&lowered, "stage1.0.se.gap", RQ_OP_QGLOBAL_AVG_POOL);
        expect_op(&lowered, "stage1.0.se.down", RQ_OP_QCONV);
        expect_op(&lowered, "stage1.0.se.up", RQ_OP_QLINEAR);
        expect_op(&lowered, "stage1.0.se.sigmoid", RQ_OP_QSIGMOID);
        expect_op(&lowered, "stage1.0.se.mul", RQ_OP_QMUL);
        const bool is_signed = gate == NET_GATE_BEFORE;
        check_zero_points(&lowered, "stage1.0.se.gap", is_signed ? 77 : 0, is_signed ? 90 : 0);
        check_zero_points(&lowered, "stage1.0.se.mul", is_signed ? 77 : 0, 0);
        check_zero_points(&lowered, "gap", 0, 0);
        const int up = rq_graph_find_node(&lowered.graph, "stage1.0.se.up");
        const rq_tensor *weight = rq_graph_tensor(&lowered.graph, up, RQ_SLOT_WEIGHT);
        assert_int_equal(weight->rank, 2);
        assert_int_equal(weight->dim[0] * 100 + weight->dim[1], 10 * 100 + 6);
        assert_int_equal(report.n_integer_layers, 3 * 3 + 1);
        assert_int_equal(report.n_float_layers, 0);
        rq_model_deinit(&lowered);
        rq_model_deinit(&qat);
    }
}

/* ---- the numbers ---- */

/* Where the values of a session stand that have a node of the same name in the lowered graph. */
typedef struct comparison {
    const rq_model *qat;
    const rq_model *lowered;
    const trace *seen;
    size_t n_values, n_different, n_nodes;
} comparison;

/* The lowered node that computes what a quantizer of the source ends: its chain's first
 * operator. */
static int lowered_node(const comparison *c, int quantizer)
{
    const rq_graph *graph = &c->qat->graph;
    for (int node = quantizer; graph->nodes[node].n_inputs > 0;
         node = graph->nodes[node].input[0]) {
        const int found = rq_graph_find_node(&c->lowered->graph, graph->nodes[node].name);
        if (found >= 0)
            return found;
    }
    return -1;
}

static void compare_value(void *context, int node, const void *value, const rq_shape *shape)
{
    comparison *c = context;
    if (c->qat->graph.nodes[node].op != RQ_OP_FAKE_QUANT)
        return;
    const int lowered = lowered_node(c, node);
    assert_true(lowered >= 0 && c->seen->shapes[lowered].dtype == RQ_U8);
    for (size_t i = 0; i < rq_shape_elems(shape); i++)
        c->n_different += (double)((const float *)value)[i] != c->seen->values[lowered][i];
    c->n_values += rq_shape_elems(shape);
    c->n_nodes++;
}

/* The fake-quantized session's integers, the reference's, and both sessions' logits. */
static void check_numbers(const net_spec *spec)
{
    rq_error err = RQ_ERROR_INIT;
    rq_model qat, lowered;
    trace seen;
    float logits[BATCH * MAX_CLASSES];
    net_build(&qat, spec);
    assert_ok(rq_lower(&lowered, &qat, NULL, &err), &err);
    run_lowered(&lowered, &seen);
    comparison c = {&qat, &lowered, &seen, 0, 0, 0};
    for (int form = 0; form < 2; form++) {
        rq_session *session = NULL;
        rq_session_options options = RQ_SESSION_OPTIONS_INIT;
        options.batch = BATCH;
        if (form == 0) {
            options.observer = compare_value;
            options.observer_context = &c;
        }
        assert_ok(rq_session_create(&session, form ? &lowered : &qat, &options, &err), &err);
        assert_ok(rq_session_run(session, seen.pixels, BATCH, logits, &err), &err);
        assert_memory_equal(logits, seen.logits, sizeof(float) * BATCH * (size_t)spec->classes);
        rq_session_destroy(session);
    }
    assert_int_equal(c.n_different, 0);
    assert_true(c.n_nodes >= 4 && c.n_values > 1000);
    free_trace(&seen);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

static void test_lower__integers_of_the_fake_quantized_model(void **state)
{
    (void)state;
    for (int gate = NET_NO_GATE; gate <= NET_GATE_BEHIND; gate++) {
        net_spec spec = gated_spec(gate);
        check_numbers(&spec);
        spec.layers[1].groups = 1; /* one gate of three */
        spec.layers[0].gate = spec.layers[2].gate = NET_NO_GATE;
        check_numbers(&spec);
    }
}

/* Groups as in RepVGG's g2 and g4, and groups that oneDNN has no kernel for. */
static void test_lower__grouped(void **state)
{
    (void)state;
    static const int groups[] = {2, 4};
    for (size_t i = 0; i < 2; i++) {
        const net_spec spec = {
            .layers = {{"stage0", 24, 3, 1, 1, 1, true, true, NET_NO_GATE},
                       {"stage1.0", 24, 3, 1, 1, 1, true, true, NET_NO_GATE},
                       {"stage1.1", 24, 3, 1, groups[i], 1, true, true, NET_NO_GATE},
                       {"stage2.0", 40, 3, 2, groups[i], 1, true, true, NET_GATE_BEHIND}},
            .classes = 4,
            .linear_quantized = true,
            .pool_quantized = true,
        };
        check_numbers(&spec);
    }
}

/* ---- reports and refusals ---- */

static int n_logged;

static void count_lines(void *context, rq_log_level level, const char *line)
{
    (void)context;
    if (level == RQ_LOG_INFO && strstr(line, "stage0.se.gap: could exceed 2^24"))
        n_logged++;
}

/* A pool over more than 65,793 pixels may exceed 2^24. */
static void test_lower__reports_pools_over_2_24(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model qat, lowered;
    rq_lower_report report;
    const rq_lower_options options = {.report = &report};
    net_spec spec = gated_spec(NET_GATE_BEHIND);
    spec.layers[0].stride = 1;
    spec.layers[1].stride = 2;
    spec.layers[1].gate = spec.layers[2].gate = NET_NO_GATE;
    net_build(&qat, &spec);
    for (int large = 0; large < 2; large++) {
        qat.preprocess.crop = 256 + large;
        n_logged = 0;
        rq_log_set_sink(count_lines, NULL);
        assert_ok(rq_lower(&lowered, &qat, &options, &err), &err);
        rq_log_set_sink(NULL, NULL);
        assert_int_equal(n_logged, large);
        assert_int_equal(report.n_wide_layers, large);
        const int64_t side = qat.preprocess.crop;
        assert_int_equal(report.acc_max, 255 * side * side);
        rq_model_deinit(&lowered);
    }
    rq_model_deinit(&qat);
}

static void expect_refusal(rq_model *qat, rq_status code, const char *part)
{
    rq_error err = RQ_ERROR_INIT;
    rq_model lowered;
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    assert_fails(rq_lower(&lowered, qat, NULL, &err), code, &err);
    assert_says(&err, part);
    assert_int_equal(lowered.graph.n_nodes, 0);
    assert_fails(rq_session_create(&session, qat, &options, &err), code, &err); /* nor is it run */
    assert_says(&err, part);
    rq_model_deinit(qat);
}

static void test_lower__refuses_gates_without_table(void **state)
{
    (void)state;
    rq_model qat;
    const net_spec spec = gated_spec(NET_GATE_BEHIND);
    net_build(&qat, &spec);
    net_values(&qat, "stage0.se.sigmoid.quant", RQ_SLOT_SCALE)[0] = 1.0f / 256.0f;
    expect_refusal(&qat, RQ_ERR_MODEL,
                   "stage0.se.sigmoid.quant: a quantized sigmoid has scale 1 / 255");
}

static void test_lower__refuses_padding_of_zero_points(void **state)
{
    (void)state;
    rq_model qat;
    const net_spec spec = gated_spec(NET_GATE_BEFORE);
    net_build(&qat, &spec);
    const int down = rq_graph_find_node(&qat.graph, "stage0.se.down");
    qat.graph.nodes[down].conv.pad[0] = 1;
    qat.graph.nodes[down].conv.stride[0] = 3; /* one pixel still */
    expect_refusal(&qat, RQ_ERR_MODEL, "stage0.se.down: pads stage0.se.gap.quant");
}

/* A zero point after relu would make the clamp at 0 another function. */
static void test_lower__refuses_zero_points_behind_relu(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model qat;
    const int64_t one = 1;
    const net_spec spec = gated_spec(NET_GATE_BEFORE);
    net_build(&qat, &spec);
    const int quant = rq_graph_find_node(&qat.graph, "stage0.quant");
    assert_ok(rq_graph_add_param(&qat.graph, quant, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &one, &err),
              &err);
    expect_refusal(&qat, RQ_ERR_MODEL, "stage0.quant: zero_point after relu");
}

static void test_lower__refuses_scales_that_leave_s32(void **state)
{
    (void)state;
    rq_model qat;
    const net_spec spec = gated_spec(NET_GATE_BEFORE);
    net_build(&qat, &spec);
    net_values(&qat, "stage1.0.se.gap.quant", RQ_SLOT_SCALE)[0] = 1e30f;
    expect_refusal(&qat, RQ_ERR_RANGE, "stage1.0.se.gap: ");
}

/* A sigmoid that is read both with and without its quantizer, a product that is quantized twice. */
static void test_lower__refuses_two_forms_of_one_value(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    static const char *const values[] = {"stage0.se.sigmoid", "stage0.se.mul"};
    for (int k = 0; k < 2; k++) {
        rq_model qat, lowered;
        const net_spec spec = gated_spec(NET_GATE_BEHIND);
        net_build(&qat, &spec);
        rq_graph *graph = &qat.graph;
        const int value = rq_graph_find_node(graph, values[k]);
        const int other = k ? net_fake_quant(graph, "other", value, 0.3f)
                            : net_add(graph, RQ_OP_RELU, "other", value);
        (void)net_add(graph, RQ_OP_GLOBAL_AVG_POOL, "end", other);
        assert_fails(rq_lower(&lowered, &qat, NULL, &err), RQ_ERR_MODEL, &err);
        assert_says(&err,
                    rq_test_path("%s: its result is quantized twice, or read both", values[k]));
        rq_model_deinit(&qat);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lower__operators_of_gates),
        cmocka_unit_test(test_lower__integers_of_the_fake_quantized_model),
        cmocka_unit_test(test_lower__grouped),
        cmocka_unit_test(test_lower__reports_pools_over_2_24),
        cmocka_unit_test(test_lower__refuses_gates_without_table),
        cmocka_unit_test(test_lower__refuses_padding_of_zero_points),
        cmocka_unit_test(test_lower__refuses_zero_points_behind_relu),
        cmocka_unit_test(test_lower__refuses_scales_that_leave_s32),
        cmocka_unit_test(test_lower__refuses_two_forms_of_one_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
