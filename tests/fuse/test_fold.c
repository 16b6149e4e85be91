/* Merged graphs against plain loops in double, and the refusals. */
#include "fuse/fold.h"

#include <stdio.h>
#include <string.h>

#include "fuse/linear_part.h"
#include "runtime/eval/difference.h"
#include "runtime/model/arch.h"
#include "tests/fuse/blocks.h"
#include "tests/fuse/merged.h"

enum { H = 7, W = 6 };

static rq_error err;
static net n;

static int setup(void **state)
{
    (void)state;
    net_init(&n, 20240607);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_model_deinit(&n.model);
    return 0;
}

static int repvgg(int x, int channels)
{
    const block b = {"RepVGG", build_repvgg, channels, channels, 3, 1, 1};
    return b.build(&n, x, &b);
}

static int add2(const char *name, int a, int b)
{
    const int inputs[2] = {a, b};
    return net_add(&n, RQ_OP_ADD, name, 2, inputs);
}

static void test_fuse__convolution_with_batch_norm(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    const int node = net_biased_conv(&n, "b.rbr_reparam.conv", x, 4, 8, square(3, 2, 1));
    (void)net_batch_norm(&n, "b.rbr_reparam.bn", node, 8);
    n.model.form = RQ_FORM_WITHBN;
    expect_merged(&n, "b.rbr_reparam", 4, H, W);
}

static void test_fuse__extreme_statistics(void **state)
{
    (void)state;
    (void)repvgg(net_stem(&n, 6), 6);
    /* dead channels: scales of 316; a scale of zero; large values that cancel */
    net_values(&n, "b.rbr_identity", RQ_SLOT_VAR)[0] = 0.0f;
    net_values(&n, "b.rbr_dense.bn", RQ_SLOT_VAR)[1] = 1e-38f;
    net_values(&n, "b.rbr_1x1.bn", RQ_SLOT_WEIGHT)[2] = 0.0f;
    net_values(&n, "b.rbr_dense.bn", RQ_SLOT_MEAN)[3] = 1e6f;
    net_values(&n, "b.rbr_dense.bn", RQ_SLOT_BIAS)[3] = 1e6f;
    net_values(&n, "b.rbr_identity", RQ_SLOT_VAR)[4] = 1e30f;
    net_values(&n, "b.rbr_identity", RQ_SLOT_WEIGHT)[5] = -1000.0f;
    expect_merged(&n, "b.rbr_reparam", 4, H, W);
}

static void test_fuse__asymmetric_kernels_cross(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    rq_conv_attr flat = square(5, 1, 1), tall = flat;
    flat.kernel[0] = tall.kernel[1] = 1;
    flat.pad[0] = tall.pad[1] = 0;
    const int branches[3] = {conv_bn(&n, "b.flat", x, 4, 4, flat),
                             conv_bn(&n, "b.tall", x, 4, 4, tall),
                             conv_bn(&n, "b.square", x, 4, 4, square(3, 1, 1))};
    (void)net_add(&n, RQ_OP_ADD, "b.add", 3, branches); /* none has 5x5 taps, the sum has */
    expect_merged(&n, "b.rbr_reparam", 4, H, W);
}

static void test_fuse__branch_read_elsewhere_is_kept(void **state)
{
    (void)state;
    const int x = net_stem(&n, 3);
    const int small = net_conv(&n, "b.c1", x, 3, 3, square(1, 1, 1));
    const int side = net_relu(&n, "side", small);
    const int wide = net_conv(&n, "b.c3", x, 3, 3, square(3, 1, 1));
    const int relu = net_relu(&n, "b.relu", add2("b.add", wide, small));
    const int last = add2("out", side, relu);
    rq_model fused;
    /* the last sum is of two values: refused, with its name */
    assert_fails(rq_fuse(&fused, &n.model, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "b.relu: relu is not linear; the sum out");
    n.model.graph.nodes[last].n_inputs = 1;
    n.model.graph.nodes[last].op = RQ_OP_RELU;
    assert_ok(rq_fuse(&fused, &n.model, &err), &err);
    assert_true(rq_graph_find_node(&fused.graph, "b.c1") > 0);
    rq_model_deinit(&fused);
}

/* Layers that follow one another stay layers; only branches of a sum become one. */
static void test_fuse__keeps_layers(void **state)
{
    (void)state;
    const int first = conv_bn(&n, "a", net_stem(&n, 4), 4, 2, square(1, 1, 1));
    const int second = conv_bn(&n, "b", first, 2, 4, square(3, 1, 1));
    (void)net_avg_pool(&n, "pool", second, square(2, 2, 1));
    rq_model fused;
    assert_ok(rq_fuse(&fused, &n.model, &err), &err);
    static const char *const names[] = {"input",         "stem",          "stem.relu",
                                        "a.rbr_reparam", "b.rbr_reparam", "pool"};
    assert_int_equal(fused.graph.n_nodes, 6);
    for (int i = 0; i < 6; i++)
        assert_string_equal(fused.graph.nodes[i].name, names[i]);
    assert_int_equal(fused.graph.nodes[5].op, RQ_OP_AVG_POOL);
    rq_model_deinit(&fused);
}

/* A sum merges what lies after the nearest common value, though more is linear before it. */
static void test_fuse__sums_begin_at_the_nearest_value(void **state)
{
    (void)state;
    const int trunk = conv_bn(&n, "a", net_stem(&n, 4), 4, 4, square(3, 1, 1));
    const block b = {"RepVGG", build_repvgg, 4, 4, 3, 1, 1};
    const int sum = b.build(&n, trunk, &b);
    (void)add2("c.add", sum, net_scale(&n, "c.scale", sum, 4));
    rq_model fused;
    assert_ok(rq_fuse(&fused, &n.model, &err), &err);
    assert_int_equal(fused.graph.n_nodes, 6);
    assert_string_equal(fused.graph.nodes[3].name, "a.rbr_reparam");
    assert_string_equal(fused.graph.nodes[4].name, "b.rbr_reparam");
    assert_string_equal(fused.graph.nodes[5].name, "c.rbr_reparam");
    assert_int_equal(fused.graph.nodes[5].conv.kernel[0], 1);
    rq_model_deinit(&fused);
}

/* Two merged layers of one module are told apart. */
static void test_fuse__names_are_unique(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    int last = net_batch_norm(&n, "b.bn1", net_conv(&n, "b.conv1", x, 4, 4, square(3, 1, 1)), 4);
    last = net_relu(&n, "b.relu", last);
    (void)net_batch_norm(&n, "b.bn2", net_conv(&n, "b.conv2", last, 4, 4, square(3, 1, 1)), 4);
    expect_merged(&n, "b.bn2.rbr_reparam", 6, H, W);
}

/* ---- whole networks ---- */

/* Statistics, affine parameters and scales as training leaves them. */
static void randomise(rq_graph *graph, rq_random *random)
{
    for (int i = 0; i < graph->n_params; i++) {
        const rq_param *param = &graph->params[i];
        if (param->tensor.dtype != RQ_F32 || param->tensor.rank != 1)
            continue;
        const bool positive = strstr(param->name, "running_var") || strstr(param->name, "weight");
        for (size_t k = 0; k < rq_tensor_elems(&param->tensor); k++)
            rq_tensor_f32(&param->tensor)[k] =
                (float)((positive ? 0.5 : -0.5) + rq_random_unit(random));
    }
}

static void test_fuse__networks_of_all_blocks(void **state)
{
    (void)state;
    static const char *const suffixes[] = {
        "block=repvgg",
        "block=qarepvgg",
        "block=target",
        "block=hs",
        "block=csla",
        "block=repopt-repvgg",
        "se=pre/2",
        "se=post/2",
        "aux=0,1",
        "groups=2",
        "block=qarepvgg;se=pre/2",
    };
    rq_random random = rq_random_stream(11, 0, 0);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        rq_model train, deploy;
        rq_difference difference;
        char text[128];
        (void)snprintf(text, sizeof text, "repvgg:depth=1,3;width=8,8;classes=5;%s", suffixes[i]);
        assert_ok(rq_arch_build(&train, text, 0, &err), &err);
        rq_model_init_weights(&train, 3);
        randomise(&train.graph, &random);
        assert_ok(rq_fuse(&deploy, &train, &err), &err);
        for (int k = 0; k < deploy.graph.n_nodes; k++)
            if (rq_is_linear(deploy.graph.nodes[k].op))
                assert_int_equal(deploy.graph.nodes[k].op, RQ_OP_CONV);
        assert_ok(rq_difference_random(&difference, &train, &deploy, 20, 2, 1, &err), &err);
        assert_true(difference.max_abs_logit > 1e-3);
        assert_true(rq_difference_relative(&difference) < 1e-4);
        rq_model_deinit(&train);
        rq_model_deinit(&deploy);
    }
}

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
    assert_fails(rq_fuse(&fused, &n.model, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, says);
    assert_int_equal(fused.graph.n_nodes, 0);
}

static void test_fuse__rejects_other_forms(void **state)
{
    (void)state;
    (void)repvgg(net_stem(&n, 4), 4);
    n.model.form = RQ_FORM_QAT;
    expect_refused("form is qat");
    n.model.form = RQ_FORM_INT8;
    expect_refused("form is int8");
}

static void test_fuse__rejects_what_is_not_linear(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    const int wide = net_conv(&n, "b.wide", x, 4, 4, square(3, 1, 1));
    const int relu = net_relu(&n, "b.relu", wide);
    (void)add2("b.add", wide, net_batch_norm(&n, "b.bn", relu, 4));
    expect_refused("b.relu: relu is not linear; the sum b.add cannot merge it with a branch of "
                   "b.wide");
}

static void test_fuse__rejects_strides(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    rq_conv_attr strided = square(3, 2, 1), wide = square(3, 1, 1);
    wide.pad[0] = wide.pad[1] = 0;
    wide.dilation[0] = wide.dilation[1] = 8; /* 32 - 16 = 16 rows, as with stride 2 */
    (void)add2("b.add", net_conv(&n, "b.strided", x, 4, 4, strided),
               net_conv(&n, "b.wide", x, 4, 4, wide));
    expect_refused("b.add: the branch b.strided (kernel 3x3, stride 2,2, padding 1,1, dilation "
                   "1,1) does not lie in a 3x3 kernel of stride 1,1, padding 0,0, dilation 8,8");
}

static void test_fuse__rejects_taps_that_do_not_align(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    (void)add2("b.add", net_conv(&n, "b.wide", x, 4, 4, square(3, 1, 1)),
               net_conv(&n, "b.small", x, 4, 4, square(3, 1, 1)));
    rq_conv_attr *wide = net_geometry(&n, "b.wide"), *small = net_geometry(&n, "b.small");
    wide->dilation[0] = wide->pad[0] = 2; /* rows 0, 2, 4 next to 1, 2, 3 */
    expect_refused("b.add: the branch b.small (kernel 3x3");
    wide->dilation[0] = 1;
    wide->kernel[0] = 5; /* now they are among 0 to 4, but the weight has 3 */
    expect_refused("b.wide: weight has 3");
    /* one pixel too far to the left, at equal sizes */
    wide->kernel[0] = 3;
    wide->pad[0] = small->pad[0] = 1;
    wide->stride[0] = small->stride[0] = 2;
    n.model.preprocess.crop = 33; /* (33 + 2 - 3) / 2 = (33 + 4 - 5) / 2 */
    small->dilation[0] = 2;
    small->pad[0] = 2;
    rq_model fused;
    assert_fails(rq_fuse(&fused, &n.model, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "b.add: the branch b.wide (kernel 3x3");
    small->dilation[0] = 1;
    small->pad[0] = 1;
    assert_ok(rq_fuse(&fused, &n.model, &err), &err);
    rq_model_deinit(&fused);
}

/* A 1x1 branch that is padded as the 3x3 is gives larger sizes; with stride 2 and odd sizes the
 * sizes can agree, but it reads other pixels. */
static void test_fuse__rejects_wrong_padding(void **state)
{
    (void)state;
    const int x = net_stem(&n, 4);
    (void)add2("b.add", net_conv(&n, "b.wide", x, 4, 4, square(3, 2, 1)),
               net_conv(&n, "b.point", x, 4, 4, square(1, 2, 1)));
    rq_conv_attr *wide = net_geometry(&n, "b.wide"), *point = net_geometry(&n, "b.point");
    point->pad[0] = point->pad[1] = 1;
    expect_refused("b.add: input 1 is 17x17");
    point->pad[0] = point->pad[1] = 0;
    wide->pad[0] = wide->pad[1] = 0;
    expect_refused("b.add: input 1 is 16x16");
    n.model.preprocess.crop = 33; /* 16 rows against 17 */
    expect_refused("b.add: input 1 is 17x17");
    wide->pad[0] = wide->pad[1] = 2;
    point->pad[0] = point->pad[1] = 1; /* 18 and 18; the centre of the 3x3 */
    rq_model fused;
    assert_ok(rq_fuse(&fused, &n.model, &err), &err);
    rq_model_deinit(&fused);
    point->pad[0] = point->pad[1] = 2; /* 35 + 2 rows */
    expect_refused("b.add: input 1 is 19x19");
    n.model.preprocess.crop = 30;
    wide->pad[0] = wide->pad[1] = point->pad[0] = point->pad[1] = 1;
    wide->stride[0] = wide->stride[1] = point->stride[0] = point->stride[1] = 7;
    rq_model same_size; /* 5 and 5 rows: tap 0 of the 3x3 */
    assert_ok(rq_fuse(&same_size, &n.model, &err), &err);
    const float *merged = rq_tensor_f32(rq_graph_tensor(&same_size.graph, 3, RQ_SLOT_WEIGHT));
    const float *own = net_values(&n, "b.wide", RQ_SLOT_WEIGHT);
    const float *first = net_values(&n, "b.point", RQ_SLOT_WEIGHT);
    assert_true(merged[0] == (float)((double)own[0] + (double)first[0]));
    assert_true(merged[4] == own[4]);
    rq_model_deinit(&same_size);
    point->pad[0] = 2; /* 5 rows still, but before the first row of the 3x3 */
    expect_refused("b.add: the branch b.point (kernel 1x1, stride 7,7, padding 2,1");
}

static void test_fuse__rejects_values(void **state)
{
    (void)state;
    (void)repvgg(net_stem(&n, 4), 4);
    float *var = net_values(&n, "b.rbr_1x1.bn", RQ_SLOT_VAR);
    const float bad[] = {-1e-3f, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        var[2] = bad[i];
        expect_refused("b.rbr_1x1.bn: running_var[2]");
    }
    var[2] = 1.0f;
    net_values(&n, "b.rbr_dense.conv", RQ_SLOT_WEIGHT)[0] = NAN;
    expect_refused("b.rbr_reparam: merged value");
    net_values(&n, "b.rbr_dense.conv", RQ_SLOT_WEIGHT)[0] = 3e38f;
    net_values(&n, "b.rbr_dense.bn", RQ_SLOT_WEIGHT)[0] = 100.0f;
    expect_refused("not finite as f32");
    net_values(&n, "b.rbr_dense.conv", RQ_SLOT_WEIGHT)[0] = 1.0f;
    net_values(&n, "b.rbr_identity", RQ_SLOT_BIAS)[1] = INFINITY;
    expect_refused("b.rbr_reparam: merged value 1 is inf");
}

/* Two values, each made of both before them: 2^64 ways, and no nearer common value. */
static void test_fuse__rejects_sums_without_end(void **state)
{
    (void)state;
    int a = net_stem(&n, 4), b = net_scale(&n, "b", a, 4);
    for (int i = 0; i < 64; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "a%d", i);
        const int sum = add2(name, a, b);
        (void)snprintf(name, sizeof name, "b%d", i);
        b = net_scale(&n, name, a, 4);
        a = sum;
    }
    (void)add2("last", a, b);
    expect_refused("its linear part has over 256 operators");
}

/* The same sum of itself over and over: each is a part of its own. */
static void test_fuse__doubles(void **state)
{
    (void)state;
    int last = net_stem(&n, 4);
    for (int i = 0; i < 8; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "b%d.add", i);
        last = add2(name, last, last);
    }
    expect_merged(&n, "b7.rbr_reparam", 3 + 8, H, W);
}

/* A narrow sequence whose merged convolution no machine holds. */
static void test_fuse__rejects_kernels_without_end(void **state)
{
    (void)state;
    enum { WIDE = 1 << 15 };
    const int x = net_relu(&n, "x", net_conv(&n, "stem", 0, 3, WIDE, square(1, 1, 1)));
    const int narrow = net_conv(&n, "b.narrow", x, WIDE, 1, square(1, 1, 1));
    (void)add2("b.add", x, net_conv(&n, "b.wide", narrow, 1, WIDE, square(1, 1, 1)));
    n.model.preprocess.crop = 1;
    expect_refused("b.wide: merging takes more than 268435456 numbers");
}

static void test_fuse__no_memory(void **state)
{
    (void)state;
    (void)repvgg(net_stem(&n, 2), 2);
    for (long k = 0;; k++) {
        rq_model fused;
        rq_alloc_test_fail_after(k);
        const rq_status status = rq_fuse(&fused, &n.model, &err);
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
        TEST(test_fuse__convolution_with_batch_norm),
        TEST(test_fuse__extreme_statistics),
        TEST(test_fuse__asymmetric_kernels_cross),
        TEST(test_fuse__branch_read_elsewhere_is_kept),
        TEST(test_fuse__keeps_layers),
        TEST(test_fuse__sums_begin_at_the_nearest_value),
        TEST(test_fuse__names_are_unique),
        TEST(test_fuse__networks_of_all_blocks),
        TEST(test_fuse__twice_is_once),
        TEST(test_fuse__rejects_other_forms),
        TEST(test_fuse__rejects_what_is_not_linear),
        TEST(test_fuse__rejects_strides),
        TEST(test_fuse__rejects_taps_that_do_not_align),
        TEST(test_fuse__rejects_wrong_padding),
        TEST(test_fuse__rejects_values),
        TEST(test_fuse__rejects_sums_without_end),
        TEST(test_fuse__doubles),
        TEST(test_fuse__rejects_kernels_without_end),
        TEST(test_fuse__no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
