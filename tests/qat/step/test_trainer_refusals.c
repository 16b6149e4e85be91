/* Graphs that a trainer cannot train: refused at creation with the node's name and the rule, never
 * trained wrongly and never a crash. Bad labels and values are refused by the step. */
#include <math.h>

#include "qat/step/trainer.h"
#include "tests/qat/net.h"
#include "tests/support/test.h"

enum { SIDE = 6, CLASSES = 3, BATCH = 2 };

/* The message of the refusal names this part. */
static void check_refused(net *n, rq_status code, const char *part)
{
    rq_error err = RQ_ERROR_INIT;
    rq_trainer *trainer = NULL;
    const rq_trainer_options options = {.batch = BATCH};
    assert_fails(rq_trainer_create(&trainer, &n->model, &options, &err), code, &err);
    assert_says(&err, part);
    assert_null(trainer);
    rq_model_deinit(&n->model);
}

static void make_quantized(net *n, int node)
{
    const int64_t oc = n->channels[node];
    (void)net_param(n, node, RQ_SLOT_WEIGHT_SCALE, 1, &oc);
}

static int add_quant(net *n, const char *name, int input)
{
    static const rq_slot slots[] = {RQ_SLOT_SCALE, RQ_SLOT_MIN, RQ_SLOT_MAX};
    const int64_t one = 1;
    const int node = net_unary(n, RQ_OP_FAKE_QUANT, name, input);
    for (size_t k = 0; k < 3; k++)
        (void)net_param(n, node, slots[k], 1, &one);
    return node;
}

static void test_create__five_readers_of_a_value(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 1);
    const int a = net_relu(&n, "a.relu", net_conv(&n, "a", 0, 4, NET_K3, false));
    const int three = net_add3(&n, "three", a, a, a);
    (void)net_head(&n, net_add3(&n, "five", three, a, a));
    check_refused(&n, RQ_ERR_UNSUPPORTED, "five: a value is read by more than 4 operators");
}

static void test_create__value_that_nothing_reads(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 2);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, false);
    (void)net_conv(&n, "dead.conv", a, 4, NET_K3, false);
    (void)net_head(&n, net_relu(&n, "relu", a));
    check_refused(&n, RQ_ERR_UNSUPPORTED, "dead.conv: nothing reads its value");
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 2);
    const int b = net_conv(&n, "b", 0, 4, NET_K3, false);
    (void)net_relu(&n, "dead.relu", b);
    (void)net_head(&n, b);
    check_refused(&n, RQ_ERR_UNSUPPORTED, "dead.relu: nothing reads its value");
}

/* An auxiliary output is a row of logits, and only form train has some. */
static void test_create__outputs_that_are_no_logits(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++) {
        net n;
        net_begin(&n, k == 2 ? RQ_FORM_WITHBN : RQ_FORM_TRAIN, SIDE, CLASSES, 20);
        const int a = net_relu(&n, "relu", net_conv(&n, "a", 0, k ? CLASSES : 4, NET_K3, true));
        (void)net_unary(&n, RQ_OP_GLOBAL_AVG_POOL, "aux", a);
        if (k == 1)
            n.model.graph.nodes[3].op = RQ_OP_RELU; /* as many channels, but an image */
        (void)net_head(&n, a);
        check_refused(&n, RQ_ERR_UNSUPPORTED,
                      "aux: nothing reads its value, and it is no auxiliary output");
    }
}

/* A quantized sigmoid is computed by constants that hold for one scale, and in one with its
 * quantizer. */
static void test_create__gates_that_are_none(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        net n;
        net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 21);
        const int a = net_relu(&n, "relu", net_conv(&n, "a", 0, 4, NET_K3, true));
        const int pool = net_unary(&n, RQ_OP_GLOBAL_AVG_POOL, "pool", a);
        const int sigmoid = net_unary(&n, RQ_OP_SIGMOID, "sigmoid", pool);
        const int q = add_quant(&n, "q", sigmoid);
        *rq_tensor_f32(rq_graph_tensor(&n.model.graph, q, RQ_SLOT_SCALE)) =
            k ? 1.0f / 255.0f : 1.0f / 256.0f;
        const int mul = net_node(&n, RQ_OP_MUL, "mul", 2, (const int[]){a, q}, 4);
        (void)net_head(&n, k ? net_node(&n, RQ_OP_MUL, "mul2", 2, (const int[]){mul, sigmoid}, 4)
                             : mul);
        check_refused(&n, k ? RQ_ERR_UNSUPPORTED : RQ_ERR_MODEL,
                      k ? "q: sigmoid is read by others"
                        : "q: a quantized sigmoid has scale 1 / 255");
    }
}

static void test_create__padding_of_signed_values(void **state)
{
    (void)state;
    net n;
    const int64_t one = 1;
    rq_error err = RQ_ERROR_INIT;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 22);
    const int a = add_quant(&n, "q", net_bn(&n, "bn", net_conv(&n, "a", 0, 4, NET_K3, false)));
    assert_ok(rq_graph_add_param(&n.model.graph, a, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &one, &err),
              &err);
    const int b = net_conv(&n, "b", a, 4, NET_K3, true);
    make_quantized(&n, b);
    (void)net_head(&n, add_quant(&n, "q2", net_relu(&n, "b.relu", b)));
    check_refused(&n, RQ_ERR_MODEL, "b: pads q, which has a zero point");
}

static void test_create__nothing_to_train(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, 1, 3, 3); /* an image of one pixel is a row of three logits */
    check_refused(&n, RQ_ERR_UNSUPPORTED, "no operator to train");
}

static void test_create__integer_operators(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_INT8, SIDE, CLASSES, 4);
    const int64_t one = 1;
    const int q = net_unary(&n, RQ_OP_QUANTIZE, "quantize", 0);
    (void)net_param(&n, q, RQ_SLOT_SCALE, 1, &one);
    check_refused(&n, RQ_ERR_UNSUPPORTED,
                  "quantize: quantize has no gradient: an integer model is not trained");
}

static void test_create__image_read_as_levels_and_as_numbers(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 5);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, false);
    const int b = net_conv(&n, "b", 0, 4, NET_K3, false);
    make_quantized(&n, a);
    (void)net_head(&n, net_add2(&n, "sum", net_bn(&n, "a.bn", a), net_bn(&n, "b.bn", b)));
    check_refused(&n, RQ_ERR_UNSUPPORTED,
                  "input: the image is read by a quantized and by a float operator");
}

static void test_create__quantized_layer_over_real_values(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 6);
    const int a = net_relu(&n, "relu", net_conv(&n, "a", 0, 4, NET_K3, true));
    const int b = net_conv(&n, "b", a, 4, NET_K3, false);
    make_quantized(&n, b);
    (void)net_head(&n, add_quant(&n, "q", net_relu(&n, "b.relu", net_bn(&n, "b.bn", b))));
    check_refused(&n, RQ_ERR_UNSUPPORTED, "b: quantized weights, but the input is not quantized");
}

/* The folded batch norm would be applied twice. */
static void test_create__quantized_bias_before_batch_norm(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 7);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, true);
    make_quantized(&n, a);
    (void)net_head(&n, add_quant(&n, "q", net_relu(&n, "a.relu", net_bn(&n, "a.bn", a))));
    check_refused(&n, RQ_ERR_UNSUPPORTED, "a: a quantized convolution has a bias and a batch norm");
}

static void test_create__bare_sums(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 8);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, false);
    make_quantized(&n, a);
    (void)net_head(&n, a); /* pooled before a batch norm, a relu or a quantizer */
    check_refused(&n, RQ_ERR_UNSUPPORTED, "gap: reads a quantized convolution's bare sums");
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 8);
    const int b = net_conv(&n, "b", 0, 4, NET_K3, false);
    make_quantized(&n, b);
    (void)net_head(&n, net_conv(&n, "c", b, 4, NET_K1, false));
    check_refused(&n, RQ_ERR_UNSUPPORTED, "c: reads a quantized convolution's bare sums");
}

static void test_create__damaged_batch_norm(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 9);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, false);
    make_quantized(&n, a);
    const int bn = net_bn(&n, "a.bn", a);
    rq_tensor_f32(rq_graph_tensor(&n.model.graph, bn, RQ_SLOT_VAR))[2] = -0.5f;
    (void)net_head(&n, add_quant(&n, "q", net_relu(&n, "a.relu", bn)));
    check_refused(&n, RQ_ERR_MODEL, "a: batch norm variance 2 is -0.5");
}

static void test_create__batch_of_nothing(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_trainer *trainer = NULL;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 10);
    (void)net_head(&n, net_conv(&n, "a", 0, 4, NET_K3, false));
    const rq_trainer_options none = {.batch = 0}, small = {.batch = 1, .height = 1, .width = 1};
    assert_fails(rq_trainer_create(&trainer, &n.model, &none, &err), RQ_ERR_ARG, &err);
    n.model.graph.nodes[1].conv.pad[0] = 0; /* the kernel is then larger than the image */
    assert_fails(rq_trainer_create(&trainer, &n.model, &small, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "a: the kernel reaches over 3 pixels");
    rq_model_deinit(&n.model);
}

/* Every allocation of ours may fail: a message, no leak, no crash. */
static void test_create__out_of_memory(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 11);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, false);
    make_quantized(&n, a);
    (void)net_head(&n, add_quant(&n, "q", net_relu(&n, "a.relu", net_bn(&n, "a.bn", a))));
    const rq_trainer_options options = {.batch = BATCH};
    rq_status status = RQ_ERR_NOMEM;
    int failures = 0;
    for (long i = 0; status != RQ_OK; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_trainer *trainer = NULL;
        rq_alloc_test_fail_after(i);
        status = rq_trainer_create(&trainer, &n.model, &options, &err);
        rq_alloc_test_fail_after(-1);
        if (status != RQ_OK) {
            assert_int_equal(status, RQ_ERR_NOMEM);
            assert_says(&err, "out of memory");
            failures++;
        }
        rq_trainer_destroy(trainer);
    }
    assert_true(failures > 10);
    rq_model_deinit(&n.model);
}

/* Graphs that are unusual, but fine: nothing stands between the image and the operator. */
static void test_step__operators_on_the_image(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    for (int k = 0; k < 3; k++) {
        net n;
        rq_step_result result;
        rq_trainer *trainer = NULL;
        net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 12);
        (void)net_head(&n, k == 0   ? 0
                           : k == 1 ? net_relu(&n, "relu", 0)
                                    : net_add2(&n, "sum", 0, net_bn(&n, "bn", 0)));
        const rq_trainer_options options = {.batch = BATCH};
        assert_ok(rq_trainer_create(&trainer, &n.model, &options, &err), &err);
        net_batch batch = net_random_batch(&n.model, BATCH, false, 1);
        assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
        assert_true(isfinite(result.loss));
        rq_free(batch.pixels);
        rq_trainer_destroy(trainer);
        rq_model_deinit(&n.model);
    }
}

static void test_step__bad_labels_and_values(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_step_result result;
    rq_trainer *trainer = NULL;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 13);
    (void)net_head(&n, net_relu(&n, "relu", net_conv(&n, "a", 0, 4, NET_K3, false)));
    const rq_trainer_options options = {.batch = BATCH};
    assert_ok(rq_trainer_create(&trainer, &n.model, &options, &err), &err);
    net_batch batch = net_random_batch(&n.model, BATCH, false, 1);
    const int32_t wrong[] = {CLASSES, -2, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        batch.labels[1] = wrong[i];
        assert_fails(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err),
                     RQ_ERR_RANGE, &err);
        assert_says(&err, rq_test_path("label %d: the model has 3 classes", wrong[i]));
    }
    batch.labels[1] = 0;
    const float bad[] = {NAN, INFINITY};
    float *bias = net_values(&n.model, "linear", RQ_SLOT_BIAS);
    for (size_t i = 0; i < 2; i++) {
        bias[2] = bad[i];
        assert_fails(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err),
                     RQ_ERR_RANGE, &err);
        assert_says(&err, "the loss is not finite");
    }
    bias[2] = 0.0f; /* and it goes on */
    assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
}

/* Ranges that were never observed cannot be frozen. */
static void test_step__ranges_not_observed(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_step_result result;
    rq_trainer *trainer = NULL;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 14);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, false);
    (void)net_head(&n, add_quant(&n, "q", net_relu(&n, "a.relu", net_bn(&n, "a.bn", a))));
    const rq_trainer_options options = {.batch = BATCH};
    assert_ok(rq_trainer_create(&trainer, &n.model, &options, &err), &err);
    net_batch batch = net_random_batch(&n.model, BATCH, false, 1);
    rq_trainer_observe(trainer, false);
    assert_fails(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), RQ_ERR_RANGE,
                 &err);
    assert_says(&err, "q: the range has not been observed yet");
    rq_trainer_observe(trainer, true);
    assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&n.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create__five_readers_of_a_value),
        cmocka_unit_test(test_create__value_that_nothing_reads),
        cmocka_unit_test(test_create__outputs_that_are_no_logits),
        cmocka_unit_test(test_create__gates_that_are_none),
        cmocka_unit_test(test_create__padding_of_signed_values),
        cmocka_unit_test(test_create__nothing_to_train),
        cmocka_unit_test(test_create__integer_operators),
        cmocka_unit_test(test_create__image_read_as_levels_and_as_numbers),
        cmocka_unit_test(test_create__quantized_layer_over_real_values),
        cmocka_unit_test(test_create__quantized_bias_before_batch_norm),
        cmocka_unit_test(test_create__bare_sums),
        cmocka_unit_test(test_create__damaged_batch_norm),
        cmocka_unit_test(test_create__batch_of_nothing),
        cmocka_unit_test(test_create__out_of_memory),
        cmocka_unit_test(test_step__operators_on_the_image),
        cmocka_unit_test(test_step__bad_labels_and_values),
        cmocka_unit_test(test_step__ranges_not_observed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
