/* The pass to form withbn: names, values, the function, and what it refuses. */
#include "calib/insert_bn.h"

#include <math.h>
#include <string.h>

#include "calib/bn_recorder.h"
#include "runtime/model/arch.h"
#include "runtime/session/session.h"
#include "tests/calib/small_net.h"

enum { N = 3, IMAGE_BYTES = NET_SIDE * NET_SIDE * 3 };

static rq_error err;
static rq_model base, withbn;
static rq_bn_recorder recorder;

static int setup(void **state)
{
    (void)state;
    net_make(&base, 1);
    return rq_bn_recorder_init(&recorder, &base.graph, RQ_STAT_EXACT, &err);
}

static int teardown(void **state)
{
    (void)state;
    rq_bn_recorder_deinit(&recorder);
    rq_model_deinit(&base);
    rq_model_deinit(&withbn);
    return 0;
}

static void run(const rq_model *model, uint64_t seed, bool is_recording, float *logits)
{
    uint8_t pixels[N * IMAGE_BYTES];
    rq_session *session;
    const rq_session_options options = {
        .batch = N,
        .observer = is_recording ? rq_bn_recorder_observe : NULL,
        .observer_context = &recorder,
    };
    net_pixels(pixels, sizeof pixels, seed);
    assert_ok(rq_session_create(&session, model, &options, &err), &err);
    recorder.n_images = N;
    assert_ok(rq_session_run(session, pixels, N, logits, &err), &err);
    rq_session_destroy(session);
}

static void insert(void)
{
    float logits[N * NET_CLASSES];
    run(&base, 1, true, logits);
    assert_ok(rq_insert_bn(&withbn, &base, recorder.stats, &err), &err);
}

static void test_insert_bn__keeps_the_function(void **state)
{
    (void)state;
    float want[N * NET_CLASSES], got[N * NET_CLASSES];
    insert();
    run(&base, 2, false, want);
    run(&withbn, 2, false, got);
    assert_all_close(got, want, N * NET_CLASSES, 1e-5, 1e-5);
    assert_int_equal(rq_first_far(got, want, 1, 0.1, 0.0), 1);
    want[0] += 1.0f; /* the comparison can fail */
    assert_int_equal(rq_first_far(got, want, 1, 0.1, 0.0), 0);
}

static void test_insert_bn__names_and_order_are_the_originals(void **state)
{
    (void)state;
    static const char *const nodes[] = {"input",
                                        "stage0.rbr_reparam.conv",
                                        "stage0.rbr_reparam.bn",
                                        "stage0.nonlinearity",
                                        "stage1.0.rbr_reparam.conv",
                                        "stage1.0.rbr_reparam.bn",
                                        "stage1.0.nonlinearity",
                                        "gap",
                                        "linear"};
    static const char *const params[] = {"conv.weight",    "bn.weight",
                                         "bn.bias",        "bn.running_mean",
                                         "bn.running_var", "bn.num_batches_tracked"};
    insert();
    const rq_graph *graph = &withbn.graph;
    assert_int_equal(withbn.form, RQ_FORM_WITHBN);
    assert_int_equal(graph->n_nodes, sizeof nodes / sizeof nodes[0]);
    for (int i = 0; i < graph->n_nodes; i++)
        assert_string_equal(graph->nodes[i].name, nodes[i]);
    assert_int_equal(graph->n_params, 2 * 6 + 2);
    for (size_t i = 0; i < 6; i++)
        assert_true(
            rq_graph_find_param(graph, rq_test_path("stage1.0.rbr_reparam.%s", params[i])) >= 0);
    assert_true(rq_graph_find_param(graph, "stage0.rbr_reparam.bias") < 0);
    assert_int_equal(graph->nodes[4].conv.groups, NET_GROUPS);
    assert_int_equal(graph->nodes[4].conv.stride[0], 2);
    const rq_tensor *tracked = rq_graph_tensor(graph, 2, RQ_SLOT_TRACKED);
    assert_int_equal(tracked->rank, 0);
    assert_int_equal(*(int64_t *)tracked->data, 0);
    assert_true(graph->nodes[2].eps == 1e-5f);
}

/* The formulas, from statistics chosen by hand. */
static void test_insert_bn__computes_the_parameters(void **state)
{
    (void)state;
    rq_channel_stats *stats = &recorder.stats[1];
    stats->count = 8.0;
    float *bias = rq_tensor_f32(rq_graph_tensor(&base.graph, 1, RQ_SLOT_BIAS));
    for (int c = 0; c < NET_CHANNELS; c++) {
        stats->mean[c] = 0.25 * c - 0.5;
        stats->m2[c] = c == 2 ? 0.0 : 4.0 * c + 1.0; /* channel 2 is dead */
        bias[c] = 0.125f * (float)c;
    }
    recorder.stats[3].n_channels = 0; /* left as it is */
    assert_ok(rq_insert_bn(&withbn, &base, recorder.stats, &err), &err);
    const rq_graph *graph = &withbn.graph;
    const float *gamma = rq_tensor_f32(rq_graph_tensor(graph, 2, RQ_SLOT_WEIGHT));
    const float *beta = rq_tensor_f32(rq_graph_tensor(graph, 2, RQ_SLOT_BIAS));
    const float *mean = rq_tensor_f32(rq_graph_tensor(graph, 2, RQ_SLOT_MEAN));
    const float *var = rq_tensor_f32(rq_graph_tensor(graph, 2, RQ_SLOT_VAR));
    for (int c = 0; c < NET_CHANNELS; c++) {
        const float want_var = c == 2 ? 0.0f : (float)(0.5 * c + 0.125);
        assert_true(var[c] == want_var);
        assert_true(mean[c] == (float)(0.25 * c - 0.5 - 0.125 * c)); /* before the bias */
        assert_true(gamma[c] == (float)sqrt((double)want_var + (double)1e-5f));
        assert_true(beta[c] == bias[c] + mean[c]);
    }
    assert_true(rq_graph_find_node(graph, "stage1.0.rbr_reparam") >= 0);
    assert_true(rq_graph_find_param(graph, "stage1.0.rbr_reparam.bias") >= 0);
}

static void test_insert_bn__a_dead_channel_keeps_the_function(void **state)
{
    (void)state;
    float want[N * NET_CLASSES], got[N * NET_CLASSES];
    float *weight = rq_tensor_f32(rq_graph_tensor(&base.graph, 1, RQ_SLOT_WEIGHT));
    memset(weight + 2 * 27, 0, 27 * sizeof *weight);
    insert();
    assert_true(rq_tensor_f32(rq_graph_tensor(&withbn.graph, 2, RQ_SLOT_VAR))[2] == 0.0f);
    assert_true(rq_tensor_f32(rq_graph_tensor(&withbn.graph, 2, RQ_SLOT_MEAN))[2] == 0.0f);
    run(&base, 2, false, want);
    run(&withbn, 2, false, got);
    assert_all_close(got, want, N * NET_CLASSES, 1e-5, 1e-5);
}

/* What the output is not made from is neither recorded nor copied. */
static void test_insert_bn__drops_what_nothing_needs(void **state)
{
    (void)state;
    rq_model whole = base; /* its graph goes, its names are constants */
    const int last = base.graph.n_nodes - 1;
    int conv, linear;
    base.graph = (rq_graph)RQ_GRAPH_INIT;
    for (int i = 0; i < last; i++)
        assert_ok(rq_graph_copy_node(&base.graph, &whole.graph, i, whole.graph.nodes[i].input, NULL,
                                     &err),
                  &err);
    assert_ok(
        rq_graph_add_node(&base.graph, RQ_OP_CONV, "unread.conv", 1, (const int[]){0}, &conv, &err),
        &err);
    for (rq_slot slot = RQ_SLOT_WEIGHT; slot <= RQ_SLOT_BIAS; slot++)
        assert_ok(rq_graph_copy_param(&base.graph, conv, slot, NULL,
                                      rq_graph_tensor(&whole.graph, 1, slot), &err),
                  &err);
    base.graph.nodes[conv].conv = whole.graph.nodes[1].conv;
    assert_ok(rq_graph_add_node(&base.graph, RQ_OP_RELU, "unread.relu", 1, &conv, NULL, &err),
              &err);
    assert_ok(
        rq_graph_copy_node(&base.graph, &whole.graph, last, (const int[]){last - 1}, &linear, &err),
        &err);
    rq_model_deinit(&whole);
    rq_bn_recorder_deinit(&recorder);
    assert_ok(rq_bn_recorder_init(&recorder, &base.graph, RQ_STAT_EXACT, &err), &err);
    assert_int_equal(recorder.stats[conv].n_channels, 0);
    insert();
    assert_int_equal(rq_graph_find_node(&withbn.graph, "unread.conv"), -1);
    assert_int_equal(rq_graph_find_node(&withbn.graph, "unread.relu"), -1);
    assert_int_equal(rq_graph_find_node(&withbn.graph, "linear"), withbn.graph.n_nodes - 1);
    float want[N * NET_CLASSES], got[N * NET_CLASSES];
    run(&base, 2, false, want);
    run(&withbn, 2, false, got);
    assert_all_close(got, want, N * NET_CLASSES, 1e-5, 1e-5);
}

static void test_insert_bn__refuses_bad_statistics(void **state)
{
    (void)state;
    assert_fails(rq_insert_bn(&withbn, &base, recorder.stats, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "stage0.rbr_reparam: no values were recorded");
    insert();
    rq_model_deinit(&withbn);
    recorder.stats[3].m2[4] = NAN;
    assert_fails(rq_insert_bn(&withbn, &base, recorder.stats, &err), RQ_ERR_RANGE, &err);
    assert_says(&err, "stage1.0.rbr_reparam: channel 4 has");
    recorder.stats[3].m2[4] = 1e300; /* finite in double only */
    assert_fails(rq_insert_bn(&withbn, &base, recorder.stats, &err), RQ_ERR_RANGE, &err);
    recorder.stats[3].n_channels = NET_CHANNELS - 1;
    assert_fails(rq_insert_bn(&withbn, &base, recorder.stats, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "statistics of 5 channels, but it has 6");
    recorder.stats[3].n_channels = 0;
    recorder.stats[6] = recorder.stats[1];
    assert_fails(rq_insert_bn(&withbn, &base, recorder.stats, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "linear: not a convolution");
    assert_int_equal(withbn.graph.n_nodes, 0);
}

static void test_insert_bn__takes_form_deploy_only(void **state)
{
    (void)state;
    base.form = RQ_FORM_TRAIN;
    assert_fails(rq_insert_bn(&withbn, &base, recorder.stats, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "form is train");
}

static void test_insert_bn__survives_lack_of_memory(void **state)
{
    (void)state;
    rq_status status = RQ_ERR_NOMEM;
    insert();
    rq_model_deinit(&withbn);
    for (long n = 0; status == RQ_ERR_NOMEM; n++) {
        assert_true(n < 1000);
        rq_alloc_test_fail_after(n);
        status = rq_insert_bn(&withbn, &base, recorder.stats, &err);
        rq_alloc_test_fail_after(-1);
    }
    assert_int_equal(status, RQ_OK);
}

static void test_takes_bn__needs_bias_and_one_relu(void **state)
{
    (void)state;
    for (int node = 0; node < base.graph.n_nodes; node++)
        assert_int_equal(rq_takes_bn(&base.graph, node), node == 1 || node == 3);
    base.graph.nodes[2].op = RQ_OP_GLOBAL_AVG_POOL; /* read by another operator */
    assert_false(rq_takes_bn(&base.graph, 1));
    base.graph.nodes[2].op = RQ_OP_RELU;
    base.graph.nodes[5].input[0] = 3; /* read twice */
    assert_false(rq_takes_bn(&base.graph, 3));
    base.graph.nodes[1].slot[RQ_SLOT_BIAS] = -1;
    assert_false(rq_takes_bn(&base.graph, 1));
    rq_bn_recorder none;
    assert_fails(rq_bn_recorder_init(&none, &base.graph, RQ_STAT_EXACT, &err), RQ_ERR_MODEL, &err);
    rq_bn_recorder_deinit(&none);
}

/* Squeeze-and-excitation before the ReLU and after it: batch norms after the blocks' convolutions
 * alone, before the gate, and the function stays. */
static void test_insert_bn__leaves_gates_as_they_are(void **state)
{
    (void)state;
    static const char *const archs[] = {
        "repvgg:depth=1,2;width=6,8;stride=2,1;se=pre/2;classes=5",
        "repvgg:depth=1,2;width=6,8;stride=2,1;se=post/4;classes=5",
    };
    for (int k = 0; k < 2; k++) {
        float want[N * NET_CLASSES], got[N * NET_CLASSES];
        rq_bn_recorder_deinit(&recorder);
        rq_model_deinit(&base);
        assert_ok(rq_arch_build_deploy(&base, archs[k], 0, &err), &err);
        base.preprocess.resize = base.preprocess.crop = NET_SIDE;
        rq_model_init_weights(&base, 7);
        const rq_graph *graph = &base.graph;
        int n_taken = 0;
        for (int node = 0; node < graph->n_nodes; node++) {
            const bool is_block = strstr(graph->nodes[node].name, ".rbr_reparam") != NULL;
            assert_int_equal(rq_takes_bn(graph, node), is_block);
            n_taken += is_block;
        }
        assert_int_equal(n_taken, 3);
        assert_ok(rq_bn_recorder_init(&recorder, graph, RQ_STAT_EXACT, &err), &err);
        insert();
        const int bn = rq_graph_find_node(&withbn.graph, "stage1.1.rbr_reparam.bn");
        const int gap =
            rq_graph_find_node(&withbn.graph, k ? "stage1.1.post_se.gap" : "stage1.1.se.gap");
        assert_true(bn >= 0 && gap > bn);
        const int value = withbn.graph.nodes[gap].input[0];
        assert_int_equal(k ? withbn.graph.nodes[value].input[0] : value, bn);
        assert_true(rq_graph_find_param(&withbn.graph, k ? "stage0.post_se.down.bias"
                                                         : "stage0.se.down.bias") >= 0);
        run(&base, 2, false, want);
        run(&withbn, 2, false, got);
        assert_all_close(got, want, N * NET_CLASSES, 1e-5, 1e-5);
        rq_model_deinit(&withbn);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_insert_bn__keeps_the_function),
        TEST(test_insert_bn__names_and_order_are_the_originals),
        TEST(test_insert_bn__computes_the_parameters),
        TEST(test_insert_bn__a_dead_channel_keeps_the_function),
        TEST(test_insert_bn__drops_what_nothing_needs),
        TEST(test_insert_bn__leaves_gates_as_they_are),
        TEST(test_insert_bn__refuses_bad_statistics),
        TEST(test_insert_bn__takes_form_deploy_only),
        TEST(test_insert_bn__survives_lack_of_memory),
        TEST(test_takes_bn__needs_bias_and_one_relu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
