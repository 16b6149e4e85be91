/* From form withbn to form qat: what is quantized under which name, that the function stays what it
 * was, and graphs that are refused. */
#include "qat/prepare.h"

#include <math.h>
#include <string.h>

#include "runtime/model/gate.h"
#include "runtime/model/quant.h"
#include "tests/qat/reference.h"
#include "tests/support/test.h"

enum { SIDE = 9, CLASSES = 3 };

static void build(net *n)
{
    static const char *names[CLASSES] = {"cat", "cow", "dog"};
    net_begin(n, RQ_FORM_WITHBN, SIDE, CLASSES, 1);
    n->model.class_names = names;
    n->model.parent = "crc32:0:1";
    n->model.seed = 77;
    const int a = net_block(n, "stage0", 0, 5, NET_K3_S2);
    const int b = net_block(n, "stage1.0", a, 6, NET_K3);
    (void)net_head(n, net_block(n, "stage1.1", b, 7, NET_K3));
}

static void prepare(rq_model *qat, const rq_model *withbn, rq_quant_layers layers)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_prepare_qat(qat, withbn, layers, &err), &err);
}

/* Which layers have weight scales, and which quantizers there are; NULL ends a list. A name
 * after "-" has a zero point, one after "*" is a gate's. */
static void check_graph(const rq_model *withbn, rq_quant_layers choice, const char *const *layers,
                        const char *const *quantizers)
{
    rq_model qat;
    prepare(&qat, withbn, choice);
    assert_int_equal(qat.form, RQ_FORM_QAT);
    int n_scales = 0, n_quantizers = 0, want = 0;
    for (int i = 0; i < qat.graph.n_nodes; i++) {
        n_scales += qat.graph.nodes[i].slot[RQ_SLOT_WEIGHT_SCALE] >= 0;
        n_quantizers += qat.graph.nodes[i].op == RQ_OP_FAKE_QUANT;
    }
    for (want = 0; layers[want]; want++) {
        const int node = net_find(&qat, layers[want]);
        const rq_tensor *scale = rq_graph_tensor(&qat.graph, node, RQ_SLOT_WEIGHT_SCALE);
        assert_non_null(scale);
        assert_int_equal(scale->dim[0], rq_graph_tensor(&qat.graph, node, RQ_SLOT_WEIGHT)->dim[0]);
        assert_non_null(
            strstr(qat.graph.params[qat.graph.nodes[node].slot[RQ_SLOT_WEIGHT_SCALE]].name,
                   ".weight_scale"));
    }
    assert_int_equal(n_scales, want);
    for (want = 0; quantizers[want]; want++) {
        const bool is_signed = quantizers[want][0] == '-', is_gate = quantizers[want][0] == '*';
        const char *name = quantizers[want] + (is_signed || is_gate);
        const rq_node *node = &qat.graph.nodes[net_find(&qat, name)];
        assert_int_equal(node->slot[RQ_SLOT_ZERO_POINT] >= 0, is_signed);
        assert_int_equal(rq_is_gate(&qat.graph, net_find(&qat, name)), is_gate);
        if (is_gate)
            assert_true(*net_values(&qat, name, RQ_SLOT_SCALE) == RQ_GATE_SCALE);
        else /* "not yet observed" */
            assert_close(*net_values(&qat, name, RQ_SLOT_MAX), 0.0, 0.0, 0.0);
    }
    assert_int_equal(n_quantizers, want);
    assert_int_equal(qat.graph.n_nodes, withbn->graph.n_nodes + n_quantizers);
    rq_model_deinit(&qat);
}

static void check_choice(rq_quant_layers choice, const char *const *layers,
                         const char *const *quantizers)
{
    net n;
    build(&n);
    check_graph(&n.model, choice, layers, quantizers);
    n.model.class_names = NULL;
    rq_model_deinit(&n.model);
}

static void test_prepare__every_choice_of_layers(void **state)
{
    (void)state;
    assert_string_equal(rq_quant_layers_names[RQ_QUANT_ALL], "all");
    assert_string_equal(rq_quant_layers_names[RQ_QUANT_BUT_FIRST_AND_LINEAR],
                        "exclud_first_and_linear");
    assert_string_equal(rq_quant_layers_names[RQ_QUANT_BUT_FIRST_AND_LAST],
                        "exclud_first_and_last");
    assert_null(rq_quant_layers_names[3]);
    check_choice(
        RQ_QUANT_ALL,
        (const char *const[]){"stage0.conv", "stage1.0.conv", "stage1.1.conv", "linear", NULL},
        (const char *const[]){"stage0.quant", "stage1.0.quant", "stage1.1.quant", "gap.quant",
                              NULL});
    check_choice(RQ_QUANT_BUT_FIRST_AND_LINEAR,
                 (const char *const[]){"stage1.0.conv", "stage1.1.conv", NULL},
                 (const char *const[]){"stage0.quant", "stage1.0.quant", "stage1.1.quant", NULL});
    check_choice(RQ_QUANT_BUT_FIRST_AND_LAST, (const char *const[]){"stage1.0.conv", NULL},
                 (const char *const[]){"stage0.quant", "stage1.0.quant", NULL});
}

static void build_gated(net *n, bool before_relu)
{
    net_begin(n, RQ_FORM_WITHBN, SIDE, CLASSES, 9);
    const int a = net_gated_block(n, "a", 0, 4, NET_K3, before_relu, 2);
    const int b = net_gated_block(n, "b", a, 6, NET_K3, before_relu, 3);
    (void)net_head(n, net_gated_block(n, "c", b, 6, NET_K3, before_relu, 3));
}

/* A gate's layers are quantized as the block's convolution is; values before the relu are
 * signed. */
static void test_prepare__gates_before_relu(void **state)
{
    (void)state;
    net n;
    build_gated(&n, true);
    check_graph(&n.model, RQ_QUANT_ALL,
                (const char *const[]){"a.conv", "a.se.down", "a.se.up", "b.conv", "b.se.down",
                                      "b.se.up", "c.conv", "c.se.down", "c.se.up", "linear", NULL},
                (const char *const[]){
                    "-a.bn.quant", "-a.se.gap.quant", "a.se.relu.quant", "*a.se.sigmoid.quant",
                    "a.quant", "-b.bn.quant", "-b.se.gap.quant", "b.se.relu.quant",
                    "*b.se.sigmoid.quant", "b.quant", "-c.bn.quant", "-c.se.gap.quant",
                    "c.se.relu.quant", "*c.se.sigmoid.quant", "c.quant", "gap.quant", NULL});
    check_graph(&n.model, RQ_QUANT_BUT_FIRST_AND_LAST,
                (const char *const[]){"b.conv", "b.se.down", "b.se.up", NULL},
                (const char *const[]){"a.quant", "-b.bn.quant", "-b.se.gap.quant",
                                      "b.se.relu.quant", "*b.se.sigmoid.quant", "b.quant", NULL});
    rq_model_deinit(&n.model);
}

static void test_prepare__gates_behind_relu(void **state)
{
    (void)state;
    net n;
    build_gated(&n, false);
    check_graph(&n.model, RQ_QUANT_BUT_FIRST_AND_LINEAR,
                (const char *const[]){"b.conv", "b.post_se.down", "b.post_se.up", "c.conv",
                                      "c.post_se.down", "c.post_se.up", NULL},
                (const char *const[]){
                    "a.post_se.quant", "b.quant", "b.post_se.gap.quant", "b.post_se.relu.quant",
                    "*b.post_se.sigmoid.quant", "b.post_se.quant", "c.quant", "c.post_se.gap.quant",
                    "c.post_se.relu.quant", "*c.post_se.sigmoid.quant", "c.post_se.quant", NULL});
    rq_model_deinit(&n.model);
}

/* A batch norm without relu after it gives signed values, which pooling and the head can read. */
static void test_prepare__a_convolution_without_relu(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 3);
    const int a = net_block(&n, "a", 0, 4, NET_K3);
    (void)net_head(&n, net_bn(&n, "b.bn", net_conv(&n, "b", a, 4, NET_K3, false)));
    check_graph(&n.model, RQ_QUANT_ALL, (const char *const[]){"a.conv", "b", "linear", NULL},
                (const char *const[]){"a.quant", "-b.bn.quant", "-gap.quant", NULL});
    rq_model_deinit(&n.model);
}

/* Integers go through max_pool as they are: the quantizer stands before it, also where a float
 * layer gave the values. */
static void test_prepare__max_pool(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 4);
    const int a = net_unary(&n, RQ_OP_MAX_POOL, "a.pool", net_block(&n, "a", 0, 4, NET_K3));
    const int b = net_unary(&n, RQ_OP_MAX_POOL, "b.pool", net_block(&n, "b", a, 5, NET_K3));
    n.model.graph.nodes[a].conv = n.model.graph.nodes[b].conv =
        (rq_conv_attr){{2, 2}, {2, 2}, {0, 0}, {1, 1}, 1};
    (void)net_head(&n, b);
    check_graph(&n.model, RQ_QUANT_ALL, (const char *const[]){"a.conv", "b.conv", "linear", NULL},
                (const char *const[]){"a.quant", "b.quant", "gap.quant", NULL});
    check_graph(&n.model, RQ_QUANT_BUT_FIRST_AND_LINEAR, (const char *const[]){"b.conv", NULL},
                (const char *const[]){"a.quant", "b.quant", NULL});
    rq_model_deinit(&n.model);
}

/* Everything that is not a scale is the base's: names, values, what the model says about itself. */
static void test_prepare__copies_the_rest(void **state)
{
    (void)state;
    net n;
    rq_model qat;
    build(&n);
    prepare(&qat, &n.model, RQ_QUANT_BUT_FIRST_AND_LAST); /* rounds no mean */
    for (int i = 0; i < n.model.graph.n_params; i++) {
        const rq_param *from = &n.model.graph.params[i];
        const int at = rq_graph_find_param(&qat.graph, from->name);
        assert_true(at >= 0);
        const rq_tensor *to = &qat.graph.params[at].tensor;
        assert_ptr_not_equal(to->data, from->tensor.data);
        assert_int_equal(to->rank, from->tensor.rank);
        assert_memory_equal(to->data, from->tensor.data,
                            rq_tensor_elems(to) * rq_dtype_size(to->dtype));
    }
    const rq_node *conv = &qat.graph.nodes[net_find(&qat, "stage0.conv")];
    assert_int_equal(conv->conv.stride[0], 2);
    assert_close(qat.graph.nodes[net_find(&qat, "stage1.1.bn")].eps, 1e-5f, 0.0, 0.0);
    assert_string_equal(qat.class_names[2], "dog");
    assert_string_equal(qat.arch, "test");
    assert_string_equal(qat.parent, "crc32:0:1");
    assert_int_equal(qat.seed, 77);
    assert_memory_equal(&qat.preprocess, &n.model.preprocess, sizeof qat.preprocess);
    n.model.class_names = NULL;
    rq_model_deinit(&qat);
    rq_model_deinit(&n.model);
}

/* stage0's values in double with running statistics, for a batch. */
static reference values_of(const rq_model *model, const net_batch *batch)
{
    reference r;
    reference_init(&r, model, batch, true, 0.0);
    (void)reference_forward(&r);
    return r;
}

/* The mean becomes whole pixel levels and the running mean takes up the difference: the same
 * values, but where the kernel reaches over the border. */
static void test_prepare__rounded_mean_keeps_the_function(void **state)
{
    (void)state;
    net n, rounded;
    rq_model qat;
    build(&n);
    build(&rounded);
    prepare(&qat, &n.model, RQ_QUANT_ALL);
    for (int c = 0; c < 3; c++) {
        const double level = 255.0 * (double)n.model.preprocess.mean[c];
        const double z = 255.0 * (double)qat.preprocess.mean[c];
        assert_close(z, rint(level), 1e-5, 0.0);
        assert_true(fabs(level - rint(level)) > 0.01); /* there is something to round */
        assert_int_equal(rq_pixel_zero_point(qat.preprocess.mean[c]), (int)rint(level));
    }
    rounded.model.preprocess = qat.preprocess;
    memcpy(net_values(&rounded.model, "stage0.bn", RQ_SLOT_MEAN),
           net_values(&qat, "stage0.bn", RQ_SLOT_MEAN), 5 * sizeof(float));
    const net_batch batch = net_random_batch(&n.model, 2, false, 3);
    reference a = values_of(&n.model, &batch), b = values_of(&rounded.model, &batch);
    const int node = net_find(&n.model, "stage0.bn");
    const rq_shape *shape = &a.shapes[node];
    double at_border = 0.0;
    for (size_t i = 0; i < rq_shape_elems(shape); i++) {
        const int64_t p = (int64_t)i / shape->c, x = p % shape->w, y = p / shape->w % shape->h;
        const bool border = x == 0 || y == 0 || x == shape->w - 1 || y == shape->h - 1;
        const double difference = fabs(a.values[node][i] - b.values[node][i]);
        if (border)
            at_border = fmax(at_border, difference);
        else
            assert_close(difference, 0.0, 2e-6, 0.0); /* the mean is rounded to f32 */
    }
    assert_true(at_border > 1e-4 && at_border < 0.1);
    reference_deinit(&a);
    reference_deinit(&b);
    rq_free(batch.pixels);
    n.model.class_names = rounded.model.class_names = NULL;
    rq_model_deinit(&qat);
    rq_model_deinit(&n.model);
    rq_model_deinit(&rounded.model);
}

/* Two convolutions read the image, one of them in groups. */
static void test_prepare__rounded_mean_with_several_readers(void **state)
{
    (void)state;
    net n;
    rq_model qat;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 7);
    const int a = net_block(&n, "a", 0, 6, NET_K1);
    const int b = net_block(&n, "b", 0, 6, (rq_conv_attr){{1, 1}, {1, 1}, {0, 0}, {1, 1}, 3});
    (void)net_head(&n, net_add2(&n, "sum", a, b));
    prepare(&qat, &n.model, RQ_QUANT_ALL);
    const net_batch batch = net_random_batch(&n.model, 2, false, 3);
    reference want = values_of(&n.model, &batch);
    n.model.preprocess = qat.preprocess;
    static const char *const bns[] = {"a.bn", "b.bn"};
    for (int k = 0; k < 2; k++)
        memcpy(net_values(&n.model, bns[k], RQ_SLOT_MEAN), net_values(&qat, bns[k], RQ_SLOT_MEAN),
               6 * sizeof(float));
    reference got = values_of(&n.model, &batch);
    const int sum = net_find(&n.model, "sum");
    for (size_t i = 0; i < rq_shape_elems(&got.shapes[sum]); i++)
        assert_close(got.values[sum][i], want.values[sum][i], 5e-6, 0.0);
    reference_deinit(&want);
    reference_deinit(&got);
    rq_free(batch.pixels);
    rq_model_deinit(&qat);
    rq_model_deinit(&n.model);
}

/* Nothing reads pixels: the mean stays. */
static void test_prepare__mean_stays_where_no_layer_reads_pixels(void **state)
{
    (void)state;
    net n;
    rq_model qat;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 8);
    (void)net_head(&n, 0); /* the image, pooled */
    prepare(&qat, &n.model, RQ_QUANT_ALL);
    assert_memory_equal(&qat.preprocess, &n.model.preprocess, sizeof qat.preprocess);
    rq_model_deinit(&qat);
    rq_model_deinit(&n.model);
}

/* ---- refusals ---- */

static void check_refused(net *n, rq_quant_layers layers, const char *part)
{
    rq_error err = RQ_ERROR_INIT;
    rq_model qat = RQ_MODEL_INIT;
    assert_fails(rq_prepare_qat(&qat, &n->model, layers, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, part);
    assert_int_equal(qat.graph.n_nodes, 0);
    rq_model_deinit(&n->model);
}

static void test_prepare__refuses_convolutions_without_batch_norm(void **state)
{
    (void)state;
    static const char *const culprit[] = {"a: ", "b: ", "b: "};
    for (int layers = 0; layers < 3; layers++) {
        net n;
        net_begin(&n, RQ_FORM_DEPLOY, SIDE, CLASSES, 2);
        int x = net_relu(&n, "a.relu", net_conv(&n, "a", 0, 4, NET_K3, true));
        x = net_relu(&n, "b.relu", net_conv(&n, "b", x, 4, NET_K3, true));
        (void)net_head(&n, net_relu(&n, "c.relu", net_conv(&n, "c", x, 4, NET_K3, true)));
        check_refused(&n, (rq_quant_layers)layers, culprit[layers]);
    }
}

/* The border of signed values would have to be their zero point. */
static void test_prepare__refuses_padding_of_signed_values(void **state)
{
    (void)state;
    for (int layers = 0; layers < 2; layers++) {
        net n;
        net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 3);
        const int a = net_block(&n, "a", 0, 4, NET_K3);
        const int b = net_bn(&n, "b.bn", net_conv(&n, "b", a, 4, NET_K3, false));
        (void)net_head(&n, net_block(&n, "c", b, 4, NET_K3));
        check_refused(&n, (rq_quant_layers)layers, "c.conv: pads b.bn, which can be negative");
    }
}

static void test_prepare__refuses_other_readers(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 4);
    const int conv = net_conv(&n, "a", 0, 4, NET_K3, false);
    const int relu = net_relu(&n, "a.relu", net_bn(&n, "a.bn", conv));
    (void)net_head(&n, net_add2(&n, "sum", relu, conv));
    check_refused(&n, RQ_QUANT_ALL, "a: ");
}

static void test_prepare__refuses_three_branches(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 5);
    const int a = net_bn(&n, "a.bn", net_conv(&n, "a", 0, 4, NET_K3, false));
    const int b = net_bn(&n, "b.bn", net_conv(&n, "b", 0, 4, NET_K1, false));
    (void)net_head(&n, net_relu(&n, "relu", net_add2(&n, "sum", a, b)));
    check_refused(&n, RQ_QUANT_ALL, "a: ");
}

/* A quantized layer needs quantized input: a sum of two quantized values is none. */
static void test_prepare__refuses_real_input(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 6);
    const int a = net_block(&n, "a", 0, 4, NET_K3);
    const int b = net_block(&n, "b", a, 4, NET_K3);
    const int c = net_block(&n, "c", net_add2(&n, "sum", a, b), 4, NET_K3);
    (void)net_head(&n, c);
    check_refused(&n, RQ_QUANT_ALL, "c.conv: reads sum, which is not quantized");
}

static void test_prepare__out_of_memory(void **state)
{
    (void)state;
    net n;
    rq_status status = RQ_ERR_NOMEM;
    build(&n);
    for (long i = 0; status != RQ_OK; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_model qat = RQ_MODEL_INIT;
        rq_alloc_test_fail_after(i);
        status = rq_prepare_qat(&qat, &n.model, RQ_QUANT_ALL, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK || status == RQ_ERR_NOMEM);
        rq_model_deinit(&qat);
    }
    n.model.class_names = NULL;
    rq_model_deinit(&n.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prepare__every_choice_of_layers),
        cmocka_unit_test(test_prepare__gates_before_relu),
        cmocka_unit_test(test_prepare__gates_behind_relu),
        cmocka_unit_test(test_prepare__a_convolution_without_relu),
        cmocka_unit_test(test_prepare__max_pool),
        cmocka_unit_test(test_prepare__copies_the_rest),
        cmocka_unit_test(test_prepare__rounded_mean_keeps_the_function),
        cmocka_unit_test(test_prepare__rounded_mean_with_several_readers),
        cmocka_unit_test(test_prepare__mean_stays_where_no_layer_reads_pixels),
        cmocka_unit_test(test_prepare__refuses_convolutions_without_batch_norm),
        cmocka_unit_test(test_prepare__refuses_padding_of_signed_values),
        cmocka_unit_test(test_prepare__refuses_other_readers),
        cmocka_unit_test(test_prepare__refuses_three_branches),
        cmocka_unit_test(test_prepare__refuses_real_input),
        cmocka_unit_test(test_prepare__out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
