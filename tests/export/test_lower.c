/* The lowered graph: names, operators that stay in float, proofs and repairs, refusals. Its numbers
 * are checked in test_lower_numerics.c. */
#include "export/lower.h"

#include <math.h>
#include <string.h>

#include "runtime/base/log.h"
#include "tests/export/trace.h"

/* Names, slots and copied facts of the lowered graph. */
static void test_lower__keeps_names(void **state)
{
    (void)state;
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    net_build(&qat, &net_all_quantized);
    assert_ok(rq_lower(&lowered, &qat, NULL, &err), &err);
    static const char *const names[] = {"input",
                                        "stage0.rbr_reparam.conv",
                                        "stage1.0.rbr_reparam.conv",
                                        "stage1.1.rbr_reparam.conv",
                                        "stage2.0.rbr_reparam.conv",
                                        "gap",
                                        "linear"};
    assert_int_equal(lowered.graph.n_nodes, 7);
    for (int i = 0; i < 7; i++)
        assert_string_equal(lowered.graph.nodes[i].name, names[i]);
    assert_true(rq_graph_find_param(&lowered.graph, "stage0.rbr_reparam.conv.zero_point") >= 0);
    assert_true(rq_graph_find_param(&lowered.graph, "stage1.0.rbr_reparam.conv.zero_point") < 0);
    assert_true(rq_graph_find_param(&lowered.graph, "linear.acc_max") >= 0);
    assert_memory_equal(&lowered.preprocess, &qat.preprocess, sizeof qat.preprocess);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

/* m = f32(s_x * s_w / s_y), the product and quotient in double. */
static void check_multipliers(const rq_model *qat, const rq_model *lowered, const char *layer,
                              float s_x, float s_y)
{
    const float *s_w = net_values(qat, layer, RQ_SLOT_WEIGHT_SCALE);
    const float *m = net_values(lowered, layer, RQ_SLOT_MULTIPLIER);
    const int node = rq_graph_find_node(&lowered->graph, layer);
    const int64_t n = rq_graph_tensor(&lowered->graph, node, RQ_SLOT_MULTIPLIER)->dim[0];
    for (int64_t i = 0; i < n; i++)
        assert_true(m[i] == (float)((double)s_x * (double)s_w[i] / (double)s_y));
}

static void test_lower__rounds_multipliers_once(void **state)
{
    (void)state;
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    net_build(&qat, &net_all_quantized);
    assert_ok(rq_lower(&lowered, &qat, NULL, &err), &err);
    const float s0 = quant_scale(&qat, "stage0.quant"), s1 = quant_scale(&qat, "stage1.0.quant");
    check_multipliers(&qat, &lowered, "stage0.rbr_reparam.conv", 1.0f, s0);
    check_multipliers(&qat, &lowered, "stage1.0.rbr_reparam.conv", s0, s1);
    check_multipliers(&qat, &lowered, "stage1.1.rbr_reparam.conv", s1,
                      quant_scale(&qat, "stage1.1.quant"));
    check_multipliers(&qat, &lowered, "linear", quant_scale(&qat, "gap.quant"), 1.0f);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

/* ---- other graphs ---- */

/* relu and pooling need no integers of their own; values read in two ways; operators kept in
 * float. */
static void test_lower__float_operators_behind_quantized_values(void **state)
{
    (void)state;
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    const net_spec spec = {.layers = {{"stage0", 4, 3, 2, 1, 1, true, true}}, .classes = 3};
    net_build(&qat, &spec);
    qat.graph.n_nodes -= 2; /* without pool and linear */
    const int quant = qat.graph.n_nodes - 1;
    const int same = net_fake_quant(&qat.graph, "same", quant, quant_scale(&qat, "stage0.quant"));
    const int relu = net_add(&qat.graph, RQ_OP_RELU, "relu", same);
    const int other = net_fake_quant(&qat.graph, "other", relu, 0.05f);
    const int both[2] = {quant, other};
    int add = 0;
    assert_ok(rq_graph_add_node(&qat.graph, RQ_OP_ADD, "add", 2, both, &add, &err), &err);
    (void)net_add(&qat.graph, RQ_OP_GLOBAL_AVG_POOL, "pool", add);
    qat.n_classes = 4;
    assert_ok(rq_lower(&lowered, &qat, NULL, &err), &err);
    static const char *const names[] = {"input",
                                        "stage0.rbr_reparam.conv",
                                        "relu.dequantize",
                                        "other",
                                        "stage0.quant.dequantize",
                                        "other.dequantize",
                                        "add",
                                        "pool"};
    assert_int_equal(lowered.graph.n_nodes, 8);
    for (int i = 0; i < 8; i++)
        assert_string_equal(lowered.graph.nodes[i].name, names[i]);
    trace seen;
    run_lowered(&lowered, &seen);
    const source_value q = traced(&lowered, &seen, "stage0.rbr_reparam.conv", 0.0f);
    const source_value sum = traced(&lowered, &seen, "add", 0.0f);
    const double s = (double)quant_scale(&qat, "stage0.quant");
    for (size_t i = 0; i < rq_shape_elems(&sum.shape); i++) {
        const double requantized = fmin(rint(s * q.values[i] / (double)0.05f), 255.0);
        assert_close(sum.values[i], s * q.values[i] + (double)0.05f * requantized, 0.0501, 0.0);
    }
    free_trace(&seen);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

/* Of integers it is qmax_pool, with what they stand for; of real values it stays. */
static void test_lower__max_pool(void **state)
{
    (void)state;
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    const net_spec spec = {.layers = {{"stage0", 4, 3, 1, 1, 1, true, true}}, .classes = 3};
    const rq_conv_attr window = {{3, 2}, {2, 1}, {1, 0}, {1, 1}, 1};
    net_build(&qat, &spec);
    qat.graph.n_nodes -= 2; /* without pool and linear */
    const int first = net_add(&qat.graph, RQ_OP_MAX_POOL, "first", qat.graph.n_nodes - 1);
    const int scaled = net_add(&qat.graph, RQ_OP_RELU, "relu", first);
    const int second = net_add(&qat.graph, RQ_OP_MAX_POOL, "second", scaled);
    const int mean = net_add(&qat.graph, RQ_OP_GLOBAL_AVG_POOL, "mean", second);
    const int third = net_add(&qat.graph, RQ_OP_MAX_POOL, "third", mean);
    qat.graph.nodes[first].conv = qat.graph.nodes[second].conv = window;
    qat.graph.nodes[third].conv = (rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    qat.n_classes = 4;
    assert_ok(rq_lower(&lowered, &qat, NULL, &err), &err);
    static const struct {
        const char *name;
        rq_op op;
    } nodes[] = {{"input", RQ_OP_INPUT},
                 {"stage0.rbr_reparam.conv", RQ_OP_QCONV},
                 {"first", RQ_OP_QMAX_POOL},
                 {"second", RQ_OP_QMAX_POOL},
                 {"second.dequantize", RQ_OP_DEQUANTIZE},
                 {"mean", RQ_OP_GLOBAL_AVG_POOL},
                 {"third", RQ_OP_MAX_POOL}};
    assert_int_equal(lowered.graph.n_nodes, 7);
    for (int i = 0; i < 7; i++) {
        assert_string_equal(lowered.graph.nodes[i].name, nodes[i].name);
        assert_int_equal(lowered.graph.nodes[i].op, nodes[i].op);
    }
    assert_memory_equal(&lowered.graph.nodes[2].conv, &window, sizeof window);
    assert_true(*net_values(&lowered, "second.dequantize", RQ_SLOT_SCALE) ==
                quant_scale(&qat, "stage0.quant"));
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

/* A batch norm that is not after a layer stays an operator. */
static void test_lower__keeps_a_lone_batch_norm(void **state)
{
    (void)state;
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    qat = (rq_model)RQ_MODEL_INIT;
    qat.form = RQ_FORM_QAT;
    qat.n_classes = 3;
    const int64_t three[1] = {3};
    const int bn =
        net_add(&qat.graph, RQ_OP_BATCH_NORM, "bn", net_add(&qat.graph, RQ_OP_INPUT, "input", 0));
    qat.graph.nodes[bn].eps = 1e-5f;
    net_param(&qat.graph, bn, RQ_SLOT_WEIGHT, 1, three)[0] = 1.0f;
    (void)net_param(&qat.graph, bn, RQ_SLOT_BIAS, 1, three);
    (void)net_param(&qat.graph, bn, RQ_SLOT_MEAN, 1, three);
    (void)net_param(&qat.graph, bn, RQ_SLOT_VAR, 1, three);
    (void)net_add(&qat.graph, RQ_OP_GLOBAL_AVG_POOL, "gap", bn);
    assert_ok(rq_lower(&lowered, &qat, NULL, &err), &err);
    assert_int_equal(lowered.graph.nodes[1].op, RQ_OP_BATCH_NORM);
    assert_true(net_values(&lowered, "bn", RQ_SLOT_WEIGHT)[0] == 1.0f);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

/* ---- proofs ---- */

static int n_logged;

static void count_lines(void *context, rq_log_level level, const char *line)
{
    (void)context;
    if (level == RQ_LOG_INFO && strstr(line, "2^24"))
        n_logged++;
}

/* 1x1 kernels over many channels, all weights at one end: 255 * 127 * channels. */
static void wide_net(rq_model *qat, int channels)
{
    const net_spec spec = {
        .layers = {{"stage0", channels, 1, 12, 1, 1, false, true},
                   {"stage1.0", 2, 1, 1, 1, 1, false, true}},
        .classes = 2,
        .linear_quantized = true,
        .pool_quantized = true,
    };
    net_build(qat, &spec);
    const char *conv = "stage1.0.rbr_reparam.conv";
    for (int i = 0; i < channels; i++)
        net_values(qat, conv, RQ_SLOT_WEIGHT)[i] = 0.5f;
    net_set_weight_scale(qat, rq_graph_find_node(&qat->graph, conv),
                         quant_scale(qat, "stage0.quant"));
}

static void test_lower__reports_accumulators_over_2_24(void **state)
{
    (void)state;
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    rq_lower_report report;
    const rq_lower_options options = {.report = &report};
    wide_net(&qat, 600);
    n_logged = 0;
    rq_log_set_sink(count_lines, NULL);
    assert_ok(rq_lower(&lowered, &qat, &options, &err), &err);
    rq_log_set_sink(NULL, NULL);
    assert_int_equal(report.n_wide_layers, 1);
    assert_int_equal(n_logged, 1);
    const int conv = rq_graph_find_node(&lowered.graph, "stage1.0.rbr_reparam.conv");
    const int64_t *acc_max = rq_graph_tensor(&lowered.graph, conv, RQ_SLOT_ACC_MAX)->data;
    assert_int_equal(acc_max[0], (int64_t)600 * 255 * 127);
    assert_true(report.acc_max >= acc_max[0]);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
}

static void test_lower__refuses_accumulators_over_s32(void **state)
{
    (void)state;
    rq_model qat, lowered;
    rq_error err = RQ_ERROR_INIT;
    wide_net(&qat, 70000);
    assert_fails(rq_lower(&lowered, &qat, NULL, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "stage1.0.rbr_reparam.conv: channel 0 can reach");
    assert_int_equal(lowered.graph.n_nodes, 0);
    rq_model_deinit(&qat);
}

static void test_lower__repairs_for_old_cpus(void **state)
{
    (void)state;
    rq_model qat, plain, repaired;
    rq_error err = RQ_ERROR_INIT;
    rq_lower_report report;
    rq_lower_options options = {.report = &report};
    net_build(&qat, &net_all_quantized);
    assert_ok(rq_lower(&plain, &qat, &options, &err), &err);
    assert_false(plain.isa_proof);
    assert_true(report.n_unsafe_channels > 10 && report.repair.n_channels == 0);
    const int64_t n_unsafe = report.n_unsafe_channels;

    options.isa_repair = true;
    assert_ok(rq_lower(&repaired, &qat, &options, &err), &err);
    assert_true(repaired.isa_proof);
    assert_int_equal(report.n_unsafe_channels, 0);
    assert_int_equal(report.repair.n_channels, n_unsafe);
    assert_true(report.repair.n_weights > 0 && report.repair.max_change_steps > 0.0);
    assert_ok(rq_integer_check(&repaired, &err), &err); /* proves the claim again */

    trace a, b;
    run_lowered(&plain, &a);
    run_lowered(&repaired, &b);
    double worst = 0.0, largest = 0.0;
    for (int i = 0; i < BATCH * 5; i++) {
        worst = fmax(worst, fabs((double)a.logits[i] - (double)b.logits[i]));
        largest = fmax(largest, fabs((double)a.logits[i]));
    }
    assert_true(worst > 0.0 && worst < 0.1 * largest); /* another function, but near */
    free_trace(&a);
    free_trace(&b);
    rq_model_deinit(&plain);
    rq_model_deinit(&repaired);
    rq_model_deinit(&qat);
}

/* ---- refusals ---- */

static void expect_refusal(rq_model *qat, rq_status code, const char *part)
{
    rq_model lowered;
    rq_error err = RQ_ERROR_INIT;
    assert_fails(rq_lower(&lowered, qat, NULL, &err), code, &err);
    assert_says(&err, part);
    assert_int_equal(lowered.graph.n_nodes, 0);
    rq_model_deinit(qat);
}

static void test_lower__refuses_scales_and_forms(void **state)
{
    (void)state;
    rq_model qat;
    net_build(&qat, &net_all_quantized);
    qat.form = RQ_FORM_WITHBN;
    expect_refusal(&qat, RQ_ERR_MODEL, "form is withbn, only qat");

    net_build(&qat, &net_all_quantized);
    qat.preprocess.mean[1] = 0.456f;
    expect_refusal(&qat, RQ_ERR_MODEL, "mean 1 of the preprocessing");

    net_build(&qat, &net_all_quantized);
    net_values(&qat, "stage1.0.rbr_reparam.conv", RQ_SLOT_WEIGHT_SCALE)[3] = 0.0f;
    expect_refusal(&qat, RQ_ERR_MODEL, "stage1.0.rbr_reparam.conv: weight scale 3 is 0");

    net_build(&qat, &net_all_quantized);
    net_values(&qat, "gap.quant", RQ_SLOT_SCALE)[0] = NAN;
    expect_refusal(&qat, RQ_ERR_MODEL, "gap.quant: scale 0 is nan");

    net_build(&qat, &net_all_quantized);
    net_values(&qat, "stage1.0.rbr_reparam.conv", RQ_SLOT_WEIGHT)[0] = INFINITY;
    expect_refusal(&qat, RQ_ERR_MODEL, "stage1.0.rbr_reparam.conv: weight 0 is inf");

    net_build(&qat, &net_all_quantized);
    net_values(&qat, "stage1.0.rbr_reparam.bn", RQ_SLOT_BIAS)[2] =
        1e30f; /* behind the scale's back */
    expect_refusal(&qat, RQ_ERR_RANGE, "stage1.0.rbr_reparam.conv: channel 2: bias");

    net_build(&qat, &net_all_quantized);
    net_values(&qat, "stage1.0.quant", RQ_SLOT_SCALE)[0] = 3e38f; /* the multiplier vanishes */
    net_values(&qat, "stage0.quant", RQ_SLOT_SCALE)[0] = 1e-11f;
    expect_refusal(&qat, RQ_ERR_RANGE, "stage1.0.rbr_reparam.conv: channel");
}

/* A net whose conv is read in other ways than through relu and fake_quant. */
static int net_up_to_conv(rq_model *qat)
{
    const net_spec spec = {.layers = {{"stage0", 4, 3, 1, 1, 1, false, true}}, .classes = 4};
    net_build(qat, &spec);
    const int conv = rq_graph_find_node(&qat->graph, "stage0.rbr_reparam.conv");
    qat->graph.n_nodes = conv + 1;
    return conv;
}

static void test_lower__refuses_graphs_without_integers(void **state)
{
    (void)state;
    rq_model qat;
    int conv = net_up_to_conv(&qat);
    (void)net_add(&qat.graph, RQ_OP_GLOBAL_AVG_POOL, "pool", conv);
    expect_refusal(&qat, RQ_ERR_MODEL,
                   "stage0.rbr_reparam.conv: its weights are quantized but its output");

    conv = net_up_to_conv(&qat);
    const int first = net_fake_quant(&qat.graph, "first", conv, 0.1f);
    const int second = net_fake_quant(&qat.graph, "second", conv, 0.2f);
    const int both[2] = {first, second};
    rq_error err = RQ_ERROR_INIT;
    int add = 0;
    assert_ok(rq_graph_add_node(&qat.graph, RQ_OP_ADD, "add", 2, both, &add, &err), &err);
    expect_refusal(&qat, RQ_ERR_MODEL, "stage0.rbr_reparam.conv: its result is quantized twice");

    net_spec spec = net_all_quantized;
    spec.pool_quantized = false;
    net_build(&qat, &spec);
    expect_refusal(&qat, RQ_ERR_MODEL,
                   "linear: its weights are quantized but its input gap is not");

    conv = net_up_to_conv(&qat);
    const int64_t one[1] = {1};
    const int quantize = net_add(&qat.graph, RQ_OP_QUANTIZE, "quantize", conv);
    net_param(&qat.graph, quantize, RQ_SLOT_SCALE, 1, one)[0] = 1.0f;
    expect_refusal(&qat, RQ_ERR_MODEL, "quantize: quantize is an integer operator");

    net_build(&qat, &net_all_quantized);
    qat.graph.n_nodes = 0;
    expect_refusal(&qat, RQ_ERR_MODEL, "first node");
}

static void test_lower__survives_without_memory(void **state)
{
    (void)state;
    rq_model qat;
    net_build(&qat, &net_all_quantized);
    const rq_lower_options options = {.isa_repair = true};
    rq_error err = RQ_ERROR_INIT;
    int n_failed = 0;
    for (rq_status status = RQ_ERR_NOMEM; status; n_failed++) {
        rq_model lowered;
        rq_alloc_test_fail_after(n_failed);
        status = rq_lower(&lowered, &qat, &options, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK || status == RQ_ERR_NOMEM);
        assert_in_range(n_failed, 0, 1000);
        rq_model_deinit(&lowered);
    }
    assert_true(n_failed > 5);
    rq_model_deinit(&qat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lower__keeps_names),
        cmocka_unit_test(test_lower__rounds_multipliers_once),
        cmocka_unit_test(test_lower__float_operators_behind_quantized_values),
        cmocka_unit_test(test_lower__max_pool),
        cmocka_unit_test(test_lower__keeps_a_lone_batch_norm),
        cmocka_unit_test(test_lower__reports_accumulators_over_2_24),
        cmocka_unit_test(test_lower__refuses_accumulators_over_s32),
        cmocka_unit_test(test_lower__repairs_for_old_cpus),
        cmocka_unit_test(test_lower__refuses_scales_and_forms),
        cmocka_unit_test(test_lower__refuses_graphs_without_integers),
        cmocka_unit_test(test_lower__survives_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
