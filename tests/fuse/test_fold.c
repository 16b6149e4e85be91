/* Merged graphs against plain loops in double, and the refusals. */
#include "fuse/fold.h"

#include <stdio.h>

#include "fuse/equivalent.h"
#include "runtime/base/random.h"
#include "runtime/model/arch.h"
#include "tests/fuse/reference.h"

/* Merging is exact but for one rounding of each weight and bias to f32: at most half a unit in the
 * last place, 2^-24 of the merged values' magnitude, and double arithmetic's own errors, some 2^-50
 * of the unmerged terms (which may cancel). */
static const double ROUND_F32 = 0x1.01p-24, ROUND_F64 = 0x1p-46;

enum { H = 7, W = 6, MAX_INPUTS = RQ_MAX_INPUTS };

static rq_error err;
static rq_random random_stream;
static rq_model model;

static int setup(void **state)
{
    (void)state;
    model = (rq_model)RQ_MODEL_INIT;
    model.form = RQ_FORM_TRAIN;
    model.preprocess.crop = 32;
    model.arch = "test";
    random_stream = rq_random_stream(20240607, 0, 0);
    assert_ok(rq_graph_add_node(&model.graph, RQ_OP_INPUT, "input", 0, NULL, NULL, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_model_deinit(&model);
    return 0;
}

/* ---- building ---- */

static int add(rq_op op, const char *name, int n_inputs, const int *inputs)
{
    int node;
    assert_ok(rq_graph_add_node(&model.graph, op, name, n_inputs, inputs, &node, &err), &err);
    return node;
}

static float *param(int node, rq_slot slot, int rank, const int64_t *dims)
{
    assert_ok(rq_graph_add_param(&model.graph, node, slot, RQ_F32, rank, dims, &err), &err);
    rq_tensor *tensor = rq_graph_tensor(&model.graph, node, slot);
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
        rq_tensor_f32(tensor)[i] = (float)rq_random_normal(&random_stream);
    return rq_tensor_f32(tensor);
}

static int conv(const char *name, int input, int ic, int oc, int kh, int kw, int stride, int groups)
{
    const int64_t dims[4] = {oc, ic / groups, kh, kw};
    const int node = add(RQ_OP_CONV, name, 1, &input);
    (void)param(node, RQ_SLOT_WEIGHT, 4, dims);
    model.graph.nodes[node].conv =
        (rq_conv_attr){{kh, kw}, {stride, stride}, {kh / 2, kw / 2}, {1, 1}, groups};
    return node;
}

static int batch_norm(const char *name, int input, int channels)
{
    const int64_t dims[1] = {channels};
    const int node = add(RQ_OP_BATCH_NORM, name, 1, &input);
    for (rq_slot slot = RQ_SLOT_WEIGHT; slot <= RQ_SLOT_MEAN; slot++)
        (void)param(node, slot, 1, dims);
    float *var = param(node, RQ_SLOT_VAR, 1, dims);
    for (int c = 0; c < channels; c++)
        var[c] = (float)(0.01 + rq_random_unit(&random_stream));
    model.graph.nodes[node].eps = 1e-5f;
    return node;
}

static float *slot_values(const char *node, rq_slot slot)
{
    const int i = rq_graph_find_node(&model.graph, node);
    assert_true(i >= 0);
    return rq_tensor_f32(rq_graph_tensor(&model.graph, i, slot));
}

/* input -> stem (3 -> c channels) -> relu, so that branches read a value of c channels */
static int stem(int c)
{
    const int node = conv("stem", 0, 3, c, 1, 1, 1, 1);
    return add(RQ_OP_RELU, "stem.relu", 1, &node);
}

static int repvgg_block(int input, int ic, int oc, int stride, int groups, bool identity)
{
    int branches[3], n = 2;
    branches[0] = batch_norm("b.rbr_dense.bn",
                             conv("b.rbr_dense.conv", input, ic, oc, 3, 3, stride, groups), oc);
    branches[1] =
        batch_norm("b.rbr_1x1.bn", conv("b.rbr_1x1.conv", input, ic, oc, 1, 1, stride, groups), oc);
    if (identity)
        branches[n++] = batch_norm("b.rbr_identity", input, oc);
    return add(RQ_OP_ADD, "b.add", n, branches);
}

/* ---- comparing ---- */

/* Fuse, check that one conv of this name ends the graph, and compare all its values. */
static void expect_merged(const char *name, int n_nodes)
{
    rq_model fused;
    double x[H * W * 3];
    for (int i = 0; i < H * W * 3; i++)
        x[i] = rq_random_normal(&random_stream);
    assert_ok(rq_fuse(&fused, &model, &err), &err);
    const int last = fused.graph.n_nodes - 1, want_last = model.graph.n_nodes - 1;
    assert_int_equal(fused.graph.n_nodes, n_nodes);
    assert_string_equal(fused.graph.nodes[last].name, name);
    assert_int_equal(fused.graph.nodes[last].op, RQ_OP_CONV);

    reference want = reference_run(&model.graph, H, W, x, false);
    reference terms = reference_run(&model.graph, H, W, x, true);
    reference got = reference_run(&fused.graph, H, W, x, false);
    reference magnitude = reference_run(&fused.graph, H, W, x, true);
    assert_int_equal(rq_shape_elems(&want.shapes[want_last]), rq_shape_elems(&got.shapes[last]));
    double largest = 0.0;
    for (size_t i = 0; i < rq_shape_elems(&got.shapes[last]); i++) {
        const double bound =
            ROUND_F32 * magnitude.values[last][i] + ROUND_F64 * terms.values[want_last][i];
        const double delta = fabs(got.values[last][i] - want.values[want_last][i]);
        if (!(delta <= bound))
            fail_msg("value %zu: %.17g, want %.17g, |delta| %g over %g", i, got.values[last][i],
                     want.values[want_last][i], delta, bound);
        largest = fmax(largest, fabs(want.values[want_last][i]));
    }
    assert_true(largest > 0.1); /* the comparison is of something */
    reference_deinit(&want);
    reference_deinit(&terms);
    reference_deinit(&got);
    reference_deinit(&magnitude);
    rq_model_deinit(&fused);
}

static void test_fuse__repvgg_block(void **state)
{
    (void)state;
    (void)repvgg_block(stem(6), 6, 6, 1, 1, true);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__groups(void **state)
{
    (void)state;
    (void)repvgg_block(stem(6), 6, 6, 1, 3, true);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__depthwise(void **state)
{
    (void)state;
    (void)repvgg_block(stem(6), 6, 6, 1, 6, true);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__stride_without_identity(void **state)
{
    (void)state;
    (void)repvgg_block(stem(4), 4, 10, 2, 2, false);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__branches_of_different_groups(void **state)
{
    (void)state;
    const int x = stem(12);
    const int branches[3] = {conv("b.a", x, 12, 12, 3, 3, 1, 4), conv("b.b", x, 12, 12, 1, 1, 1, 6),
                             x};
    (void)add(RQ_OP_ADD, "b.add", 3, branches);
    rq_model fused;
    assert_ok(rq_fuse(&fused, &model, &err), &err);
    assert_int_equal(fused.graph.nodes[3].conv.groups, 2); /* the finest that holds both */
    rq_model_deinit(&fused);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__asymmetric_kernels(void **state)
{
    (void)state;
    const int x = stem(4);
    const int square = batch_norm("b.bn0", conv("b.c0", x, 4, 4, 3, 3, 1, 1), 4);
    const int branches[3] = {batch_norm("b.bn1", conv("b.c1", x, 4, 4, 1, 5, 1, 1), 4),
                             batch_norm("b.bn2", conv("b.c2", x, 4, 4, 5, 1, 1, 1), 4), square};
    (void)add(RQ_OP_ADD, "b.add", 3, branches);
    rq_model fused;
    assert_ok(rq_fuse(&fused, &model, &err), &err);
    assert_int_equal(fused.graph.nodes[3].conv.kernel[0], 5);
    assert_int_equal(fused.graph.nodes[3].conv.kernel[1], 5);
    rq_model_deinit(&fused);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__dilation(void **state)
{
    (void)state;
    const int x = stem(4);
    const int branches[2] = {conv("b.c3", x, 4, 4, 3, 3, 1, 1), conv("b.c1", x, 4, 4, 1, 1, 1, 1)};
    rq_conv_attr *wide = &model.graph.nodes[branches[0]].conv;
    wide->dilation[0] = wide->dilation[1] = wide->pad[0] = wide->pad[1] = 2;
    (void)add(RQ_OP_ADD, "b.add", 2, branches);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__batch_norm_behind_the_sum(void **state)
{
    (void)state;
    const int x = stem(5);
    const int branches[3] = {batch_norm("b.bn3", conv("b.c3", x, 5, 5, 3, 3, 1, 1), 5),
                             conv("b.c1", x, 5, 5, 1, 1, 1, 1), x};
    (void)batch_norm("b.bn", add(RQ_OP_ADD, "b.add", 3, branches), 5);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__sum_of_sums(void **state)
{
    (void)state;
    const int x = stem(3);
    const int inner[2] = {conv("b.c3", x, 3, 3, 3, 3, 1, 1), batch_norm("b.id", x, 3)};
    const int outer[2] = {add(RQ_OP_ADD, "b.inner", 2, inner), x};
    (void)add(RQ_OP_ADD, "b.add", 2, outer);
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__convolution_with_batch_norm(void **state)
{
    (void)state;
    const int x = stem(4);
    const int node = conv("b.rbr_reparam.conv", x, 4, 8, 3, 3, 2, 1);
    const int64_t dims[1] = {8};
    (void)param(node, RQ_SLOT_BIAS, 1, dims);
    (void)batch_norm("b.rbr_reparam.bn", node, 8);
    model.form = RQ_FORM_WITHBN;
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__extreme_statistics(void **state)
{
    (void)state;
    (void)repvgg_block(stem(6), 6, 6, 1, 1, true);
    /* dead channels: scales of 316; a scale of zero; large values that cancel */
    slot_values("b.rbr_identity", RQ_SLOT_VAR)[0] = 0.0f;
    slot_values("b.rbr_dense.bn", RQ_SLOT_VAR)[1] = 1e-38f;
    slot_values("b.rbr_1x1.bn", RQ_SLOT_WEIGHT)[2] = 0.0f;
    slot_values("b.rbr_dense.bn", RQ_SLOT_MEAN)[3] = 1e6f;
    slot_values("b.rbr_dense.bn", RQ_SLOT_BIAS)[3] = 1e6f;
    slot_values("b.rbr_identity", RQ_SLOT_VAR)[4] = 1e30f;
    slot_values("b.rbr_identity", RQ_SLOT_WEIGHT)[5] = -1000.0f;
    expect_merged("b.rbr_reparam", 4);
}

static void test_fuse__branch_read_elsewhere_is_kept(void **state)
{
    (void)state;
    const int x = stem(3);
    const int branches[2] = {conv("b.c3", x, 3, 3, 3, 3, 1, 1), conv("b.c1", x, 3, 3, 1, 1, 1, 1)};
    const int side = add(RQ_OP_RELU, "side", 1, &branches[1]);
    const int sum = add(RQ_OP_ADD, "b.add", 2, branches);
    const int relu = add(RQ_OP_RELU, "b.relu", 1, &sum);
    const int outputs[2] = {side, relu};
    const int last = add(RQ_OP_ADD, "out", 2, outputs);
    rq_model fused;
    /* the last sum is of two values: refused, with its name */
    assert_fails(rq_fuse(&fused, &model, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "b.relu: relu is not linear");
    model.graph.nodes[last].n_inputs = 1;
    model.graph.nodes[last].op = RQ_OP_RELU;
    assert_ok(rq_fuse(&fused, &model, &err), &err);
    assert_true(rq_graph_find_node(&fused.graph, "b.c1") > 0);
    rq_model_deinit(&fused);
}

/* ---- whole networks ---- */

static void test_fuse__twice_is_once(void **state)
{
    (void)state;
    rq_model train, once, twice;
    assert_ok(rq_arch_build(&train, "repvgg:depth=1,3;width=4,6;groups=2;classes=5", 0, &err),
              &err);
    rq_model_init_weights(&train, 3);
    train.preprocess.crop = 16;
    assert_ok(rq_fuse(&once, &train, &err), &err);
    assert_ok(rq_fuse(&twice, &once, &err), &err);
    assert_int_equal(once.graph.n_nodes, 1 + 2 * 4 + 2);
    assert_int_equal(twice.graph.n_nodes, once.graph.n_nodes);
    assert_int_equal(twice.graph.n_params, once.graph.n_params);
    assert_int_equal(twice.preprocess.crop, 16);
    assert_int_equal(twice.seed, 3);
    for (int i = 0; i < once.graph.n_nodes; i++)
        assert_string_equal(once.graph.nodes[i].name, twice.graph.nodes[i].name);
    for (int i = 0; i < once.graph.n_params; i++) {
        const rq_param *a = &once.graph.params[i], *b = &twice.graph.params[i];
        assert_string_equal(a->name, b->name);
        assert_memory_equal(a->tensor.data, b->tensor.data,
                            rq_tensor_elems(&a->tensor) * sizeof(float));
    }
    rq_model_deinit(&train);
    rq_model_deinit(&once);
    rq_model_deinit(&twice);
}

/* ---- refusals ---- */

static void expect_refused(const char *says)
{
    rq_model fused;
    assert_fails(rq_fuse(&fused, &model, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, says);
    assert_int_equal(fused.graph.n_nodes, 0);
}

static void test_fuse__rejects_other_forms(void **state)
{
    (void)state;
    (void)repvgg_block(stem(4), 4, 4, 1, 1, true);
    model.form = RQ_FORM_QAT;
    expect_refused("form is qat");
    model.form = RQ_FORM_INT8;
    expect_refused("form is int8");
}

static void test_fuse__rejects_what_is_not_linear(void **state)
{
    (void)state;
    const int x = stem(4);
    const int c = conv("b.c", x, 4, 4, 3, 3, 1, 1);
    const int branches[2] = {c, add(RQ_OP_RELU, "b.relu", 1, &c)};
    (void)add(RQ_OP_ADD, "b.add", 2, branches);
    expect_refused("b.relu: relu is not linear");
}

static void test_fuse__rejects_sequences(void **state)
{
    (void)state;
    const int x = stem(4);
    const int first = conv("b.first", x, 4, 4, 1, 1, 1, 1);
    const int branches[2] = {conv("b.other", x, 4, 4, 3, 3, 1, 1),
                             conv("b.second", first, 4, 4, 3, 3, 1, 1)};
    (void)add(RQ_OP_ADD, "b.add", 2, branches);
    expect_refused("b.second: it reads b.first, not stem.relu");
}

static void test_fuse__rejects_geometry(void **state)
{
    (void)state;
    const int x = stem(4);
    const int branches[2] = {conv("b.wide", x, 4, 4, 3, 3, 1, 1),
                             conv("b.small", x, 4, 4, 3, 3, 1, 1)};
    (void)add(RQ_OP_ADD, "b.add", 2, branches);
    rq_conv_attr *small = &model.graph.nodes[branches[1]].conv;
    rq_conv_attr *wide = &model.graph.nodes[branches[0]].conv;
    small->dilation[0] = small->pad[0] = 2;
    expect_refused("b.add: the branch b.small (kernel 3x3, stride 1, padding 2)");
    small->dilation[0] = small->pad[0] = 1;
    /* equal sizes at crop 32 by accident of rounding, but other pixels are read */
    wide->stride[0] = 2;
    small->stride[0] = 2;
    small->pad[0] = 0;
    model.preprocess.crop = 33;
    expect_refused("b.add: input 1 is 16x33");
    model.preprocess.crop = 32;
    small->pad[0] = 1;
    rq_model fused;
    assert_ok(rq_fuse(&fused, &model, &err), &err);
    rq_model_deinit(&fused);
    small->stride[0] = 1;
    small->pad[0] = 0;
    small->dilation[0] = 8; /* 32 - 16 = 16 rows, as with stride 2 */
    expect_refused("b.add: the branch b.small");
}

static void test_fuse__rejects_values(void **state)
{
    (void)state;
    (void)repvgg_block(stem(4), 4, 4, 1, 1, true);
    float *var = slot_values("b.rbr_1x1.bn", RQ_SLOT_VAR);
    const float bad[] = {-1e-3f, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        var[2] = bad[i];
        expect_refused("b.rbr_1x1.bn: running_var[2]");
    }
    var[2] = 1.0f;
    slot_values("b.rbr_dense.conv", RQ_SLOT_WEIGHT)[0] = NAN;
    expect_refused("b.rbr_reparam: merged value");
    slot_values("b.rbr_dense.conv", RQ_SLOT_WEIGHT)[0] = 3e38f;
    slot_values("b.rbr_dense.bn", RQ_SLOT_WEIGHT)[0] = 100.0f;
    expect_refused("not finite as f32");
    slot_values("b.rbr_dense.conv", RQ_SLOT_WEIGHT)[0] = 1.0f;
    slot_values("b.rbr_identity", RQ_SLOT_BIAS)[1] = INFINITY;
    expect_refused("b.rbr_reparam: merged value 1 is inf");
}

static void test_fuse__rejects_sums_without_end(void **state)
{
    (void)state;
    int last = conv("c", 0, 3, 3, 1, 1, 1, 1);
    for (int i = 0; i < 64; i++) { /* 2^64 branches */
        const int both[2] = {last, last};
        char name[16];
        (void)snprintf(name, sizeof name, "add%d", i);
        last = add(RQ_OP_ADD, name, 2, both);
    }
    expect_refused("its linear part has over 256 operators");
}

static void test_fuse__no_memory(void **state)
{
    (void)state;
    (void)repvgg_block(stem(2), 2, 2, 1, 1, true);
    for (long n = 0;; n++) {
        rq_model fused;
        rq_alloc_test_fail_after(n);
        const rq_status status = rq_fuse(&fused, &model, &err);
        rq_alloc_test_fail_after(-1);
        rq_model_deinit(&fused);
        if (!status)
            break;
        assert_int_equal(status, RQ_ERR_NOMEM);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fuse__repvgg_block),
        TEST(test_fuse__groups),
        TEST(test_fuse__depthwise),
        TEST(test_fuse__stride_without_identity),
        TEST(test_fuse__branches_of_different_groups),
        TEST(test_fuse__asymmetric_kernels),
        TEST(test_fuse__dilation),
        TEST(test_fuse__batch_norm_behind_the_sum),
        TEST(test_fuse__sum_of_sums),
        TEST(test_fuse__convolution_with_batch_norm),
        TEST(test_fuse__extreme_statistics),
        TEST(test_fuse__branch_read_elsewhere_is_kept),
        TEST(test_fuse__twice_is_once),
        TEST(test_fuse__rejects_other_forms),
        TEST(test_fuse__rejects_what_is_not_linear),
        TEST(test_fuse__rejects_sequences),
        TEST(test_fuse__rejects_geometry),
        TEST(test_fuse__rejects_values),
        TEST(test_fuse__rejects_sums_without_end),
        TEST(test_fuse__no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
