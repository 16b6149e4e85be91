/* Architectures against the published parameter counts and names. */
#include "runtime/model/arch.h"

#include <math.h>
#include <string.h>

#include "tests/support/test.h"

static rq_error err;

/* Trainable parameters of the training form, 1000 classes (RepVGG, tables 2 to 5, and timm). */
static const struct {
    const char *name;
    size_t n_trainable;
} published[] = {
    {"RepVGG-A0", 9108968},    {"RepVGG-A1", 14092264},  {"RepVGG-A2", 28210600},
    {"RepVGG-B0", 15817960},   {"RepVGG-B1", 57415016},  {"RepVGG-B1g2", 45782376},
    {"RepVGG-B1g4", 39966056}, {"RepVGG-B2", 89022376},  {"RepVGG-B2g2", 70846376},
    {"RepVGG-B2g4", 61758376}, {"RepVGG-B3", 123085288}, {"RepVGG-B3g2", 96911848},
    {"RepVGG-B3g4", 83825128},
};

static size_t count_trainable(const rq_graph *graph)
{
    size_t total = 0;
    for (int i = 0; i < graph->n_nodes; i++)
        for (int slot = RQ_SLOT_WEIGHT; slot <= RQ_SLOT_BIAS; slot++) {
            const rq_tensor *tensor = rq_graph_tensor(graph, i, (rq_slot)slot);
            total += tensor ? rq_tensor_elems(tensor) : 0;
        }
    return total;
}

static void test_arch_build__published_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        rq_model model;
        assert_ok(rq_arch_build(&model, published[i].name, 0, &err), &err);
        assert_int_equal(count_trainable(&model.graph), published[i].n_trainable);
        assert_string_equal(model.arch, published[i].name);
        rq_shape shapes[RQ_MAX_NODES];
        assert_ok(rq_graph_shapes(&model.graph, 1, 224, 224, shapes, &err), &err);
        assert_int_equal(shapes[model.graph.n_nodes - 1].c, 1000);
        assert_int_equal(shapes[model.graph.n_nodes - 3].h, 7);
        rq_model_deinit(&model);
    }
}

static void expect_param(const rq_graph *graph, const char *name, rq_dtype dtype, int rank,
                         int64_t d0, int64_t d1)
{
    const int i = rq_graph_find_param(graph, name);
    if (i < 0)
        fail_msg("no parameter %s", name);
    const rq_tensor *tensor = &graph->params[i].tensor;
    assert_int_equal(tensor->dtype, dtype);
    assert_int_equal(tensor->rank, rank);
    if (rank > 0)
        assert_int_equal(tensor->dim[0], d0);
    if (rank > 1)
        assert_int_equal(tensor->dim[1], d1);
}

static void test_arch_build__state_dict_names(void **state)
{
    (void)state;
    rq_model model;
    assert_ok(rq_arch_build(&model, "RepVGG-B1g4", 7, &err), &err);
    const rq_graph *graph = &model.graph;
    expect_param(graph, "stage0.rbr_dense.conv.weight", RQ_F32, 4, 64, 3);
    expect_param(graph, "stage0.rbr_1x1.bn.num_batches_tracked", RQ_S64, 0, 0, 0);
    expect_param(graph, "stage1.0.rbr_1x1.conv.weight", RQ_F32, 4, 128, 64);
    expect_param(graph, "stage1.1.rbr_dense.conv.weight", RQ_F32, 4, 128, 32);
    expect_param(graph, "stage1.1.rbr_1x1.conv.weight", RQ_F32, 4, 128, 32);
    expect_param(graph, "stage1.1.rbr_identity.running_var", RQ_F32, 1, 128, 0);
    expect_param(graph, "stage1.1.rbr_dense.bn.bias", RQ_F32, 1, 128, 0);
    expect_param(graph, "stage1.2.rbr_dense.conv.weight", RQ_F32, 4, 128, 128);
    expect_param(graph, "stage3.15.rbr_dense.conv.weight", RQ_F32, 4, 512, 128);
    expect_param(graph, "stage4.0.rbr_dense.conv.weight", RQ_F32, 4, 2048, 512);
    expect_param(graph, "linear.weight", RQ_F32, 2, 7, 2048);
    expect_param(graph, "linear.bias", RQ_F32, 1, 7, 0);
    assert_int_equal(rq_graph_find_param(graph, "stage0.rbr_identity.weight"), -1);
    assert_int_equal(rq_graph_find_param(graph, "stage1.0.rbr_identity.weight"), -1);
    /* 28 blocks of 12, 23 identities of 5, linear */
    assert_int_equal(graph->n_params, 28 * 12 + 23 * 5 + 2);
    assert_int_equal(model.n_classes, 7);
    rq_model_deinit(&model);
}

static void test_arch_build__equal_width_with_stride_has_no_identity(void **state)
{
    (void)state;
    rq_model model;
    assert_ok(rq_arch_build(&model, "RepVGG-A0", 0, &err), &err);
    assert_int_equal(rq_graph_find_node(&model.graph, "stage1.0.rbr_identity"), -1);
    const int node = rq_graph_find_node(&model.graph, "stage1.1.rbr_identity");
    assert_true(node > 0);
    assert_int_equal(model.graph.nodes[node].op, RQ_OP_BATCH_NORM);
    assert_close(model.graph.nodes[node].eps, 1e-5f, 0, 0);
    assert_int_equal(rq_graph_find_node(&model.graph, "input"), 0);
    assert_int_equal(rq_graph_find_node(&model.graph, "linear"), model.graph.n_nodes - 1);
    assert_int_equal(rq_graph_find_node(&model.graph, "gap"), model.graph.n_nodes - 2);
    rq_model_deinit(&model);
}

static void test_arch_parse__description(void **state)
{
    (void)state;
    rq_arch arch;
    assert_ok(rq_arch_parse(&arch, "repvgg:width=16,32;depth=1,3", &err), &err);
    assert_int_equal(arch.n_stages, 2);
    assert_int_equal(arch.depth[1], 3);
    assert_int_equal(arch.width[0], 16);
    assert_int_equal(arch.stride[1], 2);
    assert_int_equal(arch.groups, 1);
    assert_int_equal(arch.classes, 1000);
    assert_ok(rq_arch_parse(&arch, "repvgg:depth=1;width=8;stride=1;groups=2;classes=10", &err),
              &err);
    assert_int_equal(arch.stride[0], 1);
    assert_int_equal(arch.classes, 10);
}

static void test_arch_describe__round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        rq_arch arch, again;
        char text[256];
        assert_ok(rq_arch_parse(&arch, published[i].name, &err), &err);
        rq_arch_describe(&arch, text, sizeof text);
        assert_ok(rq_arch_parse(&again, text, &err), &err);
        assert_memory_equal(&arch, &again, sizeof arch);
    }
    rq_arch arch;
    char text[256];
    assert_ok(rq_arch_parse(&arch, "RepVGG-A0", &err), &err);
    rq_arch_describe(&arch, text, sizeof text);
    assert_string_equal(text, "repvgg:depth=1,2,4,14,1;width=48,48,96,192,1280;stride=2,2,2,2,2;"
                              "groups=1;classes=1000");
}

static void test_arch_parse__rejects(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "unknown architecture ''"},
        {"RepVGG-A9", "RepVGG-B3g4"},
        {"repvgg-a0", "unknown"},
        {"RepVGG-A0 ", "unknown"},
        {"repvgg:", "does not begin with"},
        {"repvgg:depth=1", "width is missing"},
        {"repvgg:width=8", "depth is missing"},
        {"repvgg:depth=1,2;width=8", "width has 1 values, depth has 2"},
        {"repvgg:depth=1;width=8;stride=1,2", "stride has 2 values"},
        {"repvgg:depth=2;width=8", "begin with 1"},
        {"repvgg:depth=1;depth=1;width=8", "depth stands twice"},
        {"repvgg:depth=1;width=8;", "does not begin with"},
        {"repvgg:depth=1;width=8;;classes=3", "does not begin with"},
        {"repvgg:depth=1;width=8;colour=3", "colour"},
        {"repvgg:depths=1;width=8", "depths"},
        {"repvgg:depth;width=8", "depth"},
        {"repvgg:depth=1,;width=8", "depth: ';width"},
        {"repvgg:depth=,1;width=8", "depth: ',1"},
        {"repvgg:depth=1x;width=8", "unexpected 'x"},
        {"repvgg:depth=1;width=0", "width"},
        {"repvgg:depth=1;width=-8", "width"},
        {"repvgg:depth=1;width=99999999999999999999", "width"},
        {"repvgg:depth=1;width=1048577", "width"},
        {"repvgg:depth=1;width=8;stride=9", "stride"},
        {"repvgg:depth=1,257;width=8,8", "depth"},
        {"repvgg:depth=1,200,200;width=8,8,8", "sums to 401"},
        {"repvgg:depth=1,1,1,1,1,1,1,1,1;width=1,1,1,1,1,1,1,1,1", "more than 8"},
        {"repvgg:depth=1;width=8;groups=1,2", "more than 1"},
        {"repvgg:depth=1,2;width=8,9;groups=2", "groups: 2 does not divide the 9 to 9"},
        {"repvgg:depth=1;width=8;classes=0", "classes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_arch arch;
        rq_model model;
        assert_fails(rq_arch_parse(&arch, cases[i].text, &err), RQ_ERR_USAGE, &err);
        assert_says(&err, cases[i].says);
        assert_fails(rq_arch_build(&model, cases[i].text, 0, &err), RQ_ERR_USAGE, &err);
        rq_model_deinit(&model);
    }
    rq_model model;
    assert_fails(rq_arch_build(&model, "RepVGG-A0", -1, &err), RQ_ERR_USAGE, &err);
    assert_fails(rq_arch_build(&model, "RepVGG-A0", RQ_MAX_CHANNELS + 1, &err), RQ_ERR_USAGE, &err);
}

static void test_arch_build__no_memory(void **state)
{
    (void)state;
    for (long n = 0;; n++) {
        rq_model model;
        rq_alloc_test_fail_after(n);
        const rq_status status = rq_arch_build(&model, "repvgg:depth=1;width=2", 3, &err);
        rq_alloc_test_fail_after(-1);
        rq_model_deinit(&model);
        if (!status)
            break;
        assert_int_equal(status, RQ_ERR_NOMEM);
    }
}

static void test_model_init_weights__distribution_and_seed(void **state)
{
    (void)state;
    static const char text[] = "repvgg:depth=1,2;width=16,32;classes=10";
    rq_model a, b;
    assert_ok(rq_arch_build(&a, text, 0, &err), &err);
    assert_ok(rq_arch_build(&b, text, 0, &err), &err);
    rq_model_init_weights(&a, 7);
    rq_model_init_weights(&b, 7);
    const int i = rq_graph_find_param(&a.graph, "stage1.1.rbr_dense.conv.weight");
    const rq_tensor *weight = &a.graph.params[i].tensor;
    const size_t n = rq_tensor_elems(weight); /* 9216 */
    const double bound = 1.0 / sqrt(32.0 * 9.0);
    double sum = 0.0, squares = 0.0, largest = 0.0;
    for (size_t k = 0; k < n; k++) {
        const double x = (double)rq_tensor_f32(weight)[k];
        sum += x;
        squares += x * x;
        largest = fmax(largest, fabs(x));
    }
    assert_true(largest <= bound && largest > 0.99 * bound);
    assert_close(sum / (double)n, 0.0, 5.0 * bound / sqrt(3.0 * (double)n), 0.0);
    assert_close(squares / (double)n, bound * bound / 3.0, 0.0, 0.05);
    assert_memory_equal(weight->data, b.graph.params[i].tensor.data, n * sizeof(float));
    rq_model_init_weights(&b, 8);
    assert_memory_not_equal(weight->data, b.graph.params[i].tensor.data, n * sizeof(float));
    assert_int_equal(b.seed, 8);
    const int var = rq_graph_find_param(&a.graph, "stage0.rbr_dense.bn.running_var");
    assert_close(rq_tensor_f32(&a.graph.params[var].tensor)[15], 1.0, 0, 0);
    assert_ok(rq_model_check_finite(&a, &err), &err);
    rq_tensor_f32(weight)[5] = NAN;
    assert_fails(rq_model_check_finite(&a, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "stage1.1.rbr_dense.conv.weight: value 5");
    rq_model_deinit(&a);
    rq_model_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arch_build__published_counts),
        cmocka_unit_test(test_arch_build__state_dict_names),
        cmocka_unit_test(test_arch_build__equal_width_with_stride_has_no_identity),
        cmocka_unit_test(test_arch_parse__description),
        cmocka_unit_test(test_arch_describe__round_trip),
        cmocka_unit_test(test_arch_parse__rejects),
        cmocka_unit_test(test_arch_build__no_memory),
        cmocka_unit_test(test_model_init_weights__distribution_and_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
