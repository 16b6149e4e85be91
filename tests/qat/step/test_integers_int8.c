/* Training sees the deployed integers: with batch norm and ranges frozen, every quantized value of
 * a training step is, bit for bit, the one that a session computes, and so are the logits. On
 * random small networks: odd channels, groups, depthwise, strides, dilation, each choice of layers.
 * The networks are small enough for f32 sums to be exact (under 2^24), at any instruction set. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "qat/prepare.h"
#include "qat/update/optimizer.h"
#include "runtime/session/session.h"
#include "tests/qat/net.h"
#include "tests/support/test.h"

enum { CLASSES = 5, BATCH = 3, MAX_SIDE = 14, NETS = 24 };

static int64_t pick(rq_random *random, int64_t low, int64_t high)
{
    return low + (int64_t)rq_random_below(random, (uint64_t)(high - low + 1));
}

/* Two to four blocks; groups divide both sides' channels. Every third network has gates before its
 * relus, every third after them. */
static void random_net(net *n, uint64_t seed)
{
    const bool gated = seed % 3 > 0, before_relu = seed % 3 == 1;
    rq_random random = rq_random_stream(seed, 1, 2);
    net_begin(n, RQ_FORM_WITHBN, (int)pick(&random, 7, MAX_SIDE), CLASSES, seed);
    for (int c = 0; c < 3; c++) { /* zero points at the ends too */
        n->model.preprocess.mean[c] = (float)pick(&random, 0, 10) / 10.0f;
        n->model.preprocess.std[c] = (float)pick(&random, 2, 6) / 10.0f;
    }
    int node = 0;
    const int64_t n_blocks = pick(&random, 2, 4);
    for (int64_t i = 0; i < n_blocks; i++) {
        const int kernel = pick(&random, 0, 3) ? 3 : 1, dilation = pick(&random, 0, 4) ? 1 : 2;
        const int stride = pick(&random, 0, 2) ? 1 : 2;
        const int pad = kernel == 3 ? (int)pick(&random, dilation - 1, dilation) + 1 : 0;
        int64_t groups = 1, oc = pick(&random, 1, 13);
        if (i > 0 && pick(&random, 0, 1)) { /* grouped: as many groups as channels, or some */
            const int64_t ic = n->channels[node];
            groups = ic % 3 == 0 ? 3 : ic % 2 == 0 ? 2 : ic;
            oc = groups * pick(&random, 1, 3);
        }
        const rq_conv_attr conv = {
            {kernel, kernel}, {stride, stride}, {pad, pad}, {dilation, dilation}, (int)groups};
        const char *name = rq_test_path("stage%d", (int)i);
        node = gated ? net_gated_block(n, name, node, oc, conv, before_relu, pick(&random, 1, 4))
                     : net_block(n, name, node, oc, conv);
        if (pick(&random, 0, 2) == 0) {
            node = net_unary(n, RQ_OP_MAX_POOL, rq_test_path("pool%d", (int)i), node);
            n->model.graph.nodes[node].conv = (rq_conv_attr){{2, 2}, {1, 1}, {1, 1}, {1, 1}, 1};
        }
    }
    (void)net_head(n, node);
}

/* Values of a session by node. */
typedef struct values {
    float *data[NET_NODES];
    size_t n[NET_NODES];
} values;

static void keep_value(void *context, int node, const void *value, const rq_shape *shape)
{
    values *seen = context;
    seen->n[node] = rq_shape_elems(shape);
    seen->data[node] = rq_alloc(seen->n[node] * sizeof(float));
    assert_int_equal(shape->dtype, RQ_F32);
    memcpy(seen->data[node], value, seen->n[node] * sizeof(float));
}

static void run_session(const rq_model *model, const net_batch *batch, values *seen, float *logits)
{
    rq_error err = RQ_ERROR_INIT;
    rq_session *session = NULL;
    memset(seen, 0, sizeof *seen);
    const rq_session_options options = {
        .batch = BATCH, .observer = keep_value, .observer_context = seen};
    assert_ok(rq_session_create(&session, model, &options, &err), &err);
    assert_ok(rq_session_run(session, batch->pixels, BATCH, logits, &err), &err);
    rq_session_destroy(session);
}

/* Quantized values of a step next to those of a session. */
typedef struct tally {
    size_t n, positive, different, zero_points;
} tally;

static void compare(rq_trainer *trainer, const rq_model *model, const values *seen, tally *count)
{
    for (int i = 0; i < model->graph.n_nodes; i++) {
        if (model->graph.nodes[i].op != RQ_OP_FAKE_QUANT)
            continue;
        float scale;
        const float *q = rq_trainer_value(trainer, i, &scale);
        assert_non_null(q);
        assert_non_null(seen->data[i]);
        assert_close(scale, *rq_tensor_f32(rq_graph_tensor(&model->graph, i, RQ_SLOT_SCALE)), 0.0,
                     0.0);
        const rq_tensor *zero_point = rq_graph_tensor(&model->graph, i, RQ_SLOT_ZERO_POINT);
        const float z = zero_point ? (float)*(const uint8_t *)zero_point->data : 0.0f;
        count->zero_points += z > 0.0f && z < 255.0f;
        for (size_t k = 0; k < seen->n[i]; k++) { /* a trainer's numbers are less the zero point */
            const float number = q[k] + z;
            assert_true(number == rintf(number) && number >= 0.0f && number <= 255.0f);
            count->n++;
            count->positive += number > 0.0f;
            count->different += number != seen->data[i][k];
        }
    }
}

/* Some training, so that statistics and ranges mean something; then one frozen step. */
static rq_trainer *train(rq_model *model, const net_batch *last, rq_precision precision)
{
    rq_error err = RQ_ERROR_INIT;
    rq_trainer *trainer = NULL;
    rq_optimizer *optimizer = NULL;
    rq_step_result result;
    const rq_trainer_options options = {.batch = BATCH, .precision = precision};
    const rq_optimizer_options optimizer_options = RQ_OPTIMIZER_OPTIONS_INIT;
    assert_ok(rq_trainer_create(&trainer, model, &options, &err), &err);
    assert_ok(rq_optimizer_create(&optimizer, trainer, model, &optimizer_options, &err), &err);
    for (uint64_t step = 0; step < 5; step++) {
        net_batch batch = net_random_batch(model, BATCH, false, 100 + step);
        assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
        assert_ok(rq_optimizer_step(optimizer, 0.02, &err), &err);
        rq_free(batch.pixels);
    }
    rq_trainer_freeze_bn(trainer, true);
    rq_trainer_observe(trainer, false);
    assert_ok(rq_trainer_step(trainer, last->pixels, last->labels, &result, &err), &err);
    assert_ok(rq_trainer_settle(trainer, &err), &err);
    rq_optimizer_destroy(optimizer);
    return trainer;
}

static void check_net(uint64_t seed, rq_quant_layers layers, rq_precision precision, tally *count)
{
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_model qat;
    values seen;
    float logits[BATCH * CLASSES];
    random_net(&n, seed);
    assert_ok(rq_prepare_qat(&qat, &n.model, layers, &err), &err);
    const net_batch batch = net_random_batch(&qat, BATCH, false, seed);
    rq_trainer *trainer = train(&qat, &batch, precision);
    run_session(&qat, &batch, &seen, logits);
    if (layers == RQ_QUANT_ALL) {
        compare(trainer, &qat, &seen, count);
        if (count->different)
            fail_msg("seed %llu: %zu values differ", (unsigned long long)seed, count->different);
        assert_memory_equal(rq_trainer_logits(trainer), logits, sizeof logits);
    } else { /* float layers sum in another order: a value on the edge of a step may fall over it */
        assert_all_close(rq_trainer_logits(trainer), logits, BATCH * CLASSES, 0.05, 0.02);
    }
    for (int i = 0; i < NET_NODES; i++)
        rq_free(seen.data[i]);
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&qat);
    rq_model_deinit(&n.model);
}

static void test_frozen__the_session_computes_the_same_integers(void **state)
{
    (void)state;
    tally count = {0};
    for (uint64_t seed = 1; seed <= NETS; seed++)
        check_net(seed, RQ_QUANT_ALL, RQ_PRECISION_F32, &count);
    print_message("%zu values, %zu of them not 0, %zu zero points\n", count.n, count.positive,
                  count.zero_points);
    /* there was something to see */
    assert_true(count.n > 20000 && count.positive > count.n / 4 && count.zero_points > 20);
}

/* Integers up to 256 are exact in bf16, and so are the sums. */
static void test_frozen__bf16_operands_give_the_same_integers(void **state)
{
    (void)state;
    if (!rq_dnn_has_bf16()) {
        print_message("this CPU has no bf16\n");
        skip();
    }
    tally count = {0};
    for (uint64_t seed = 1; seed <= NETS; seed++)
        check_net(seed, RQ_QUANT_ALL, RQ_PRECISION_BF16, &count);
    assert_true(count.positive > count.n / 4);
}

static void test_frozen__float_layers_stay_close(void **state)
{
    (void)state;
    tally count = {0};
    for (uint64_t seed = 1; seed <= NETS / 4; seed++) {
        check_net(seed, RQ_QUANT_BUT_FIRST_AND_LINEAR, RQ_PRECISION_F32, &count);
        check_net(seed, RQ_QUANT_BUT_FIRST_AND_LAST, RQ_PRECISION_F32, &count);
    }
}

/* A channel without weights before a gate: its bias is its zero point alone, for which its weights'
 * scale makes room once the range is known. The first step, in which it is not, is computed in real
 * numbers. */
static void test_frozen__dead_channel_with_zero_point(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_model qat;
    rq_trainer *trainer = NULL;
    rq_step_result result;
    values seen;
    float logits[BATCH * CLASSES];
    net_begin(&n, RQ_FORM_WITHBN, 9, CLASSES, 31);
    (void)net_head(&n, net_gated_block(&n, "a", 0, 4, NET_K3, true, 2));
    for (int i = 0; i < 27; i++)
        net_values(&n.model, "a.conv", RQ_SLOT_WEIGHT)[i] = 0.0f;
    *net_values(&n.model, "a.bn", RQ_SLOT_BIAS) = 0.0f;
    *net_values(&n.model, "a.bn", RQ_SLOT_MEAN) = 0.0f;
    assert_ok(rq_prepare_qat(&qat, &n.model, RQ_QUANT_ALL, &err), &err);
    const int bn =
        net_find(&qat, "a.bn"); /* the mean of the image is shifted, the channel is not */
    assert_close(*rq_tensor_f32(rq_graph_tensor(&qat.graph, bn, RQ_SLOT_MEAN)), 0.0, 0.0, 0.0);
    const net_batch batch = net_random_batch(&qat, BATCH, false, 31);
    const rq_trainer_options options = {.batch = BATCH};
    assert_ok(rq_trainer_create(&trainer, &qat, &options, &err), &err);
    rq_trainer_freeze_bn(trainer, true);
    const int quantizer = net_find(&qat, "a.bn.quant");
    const float *q = NULL;
    for (int step = 0; step < 3; step++) {
        float scale;
        rq_trainer_observe(trainer, step < 2);
        assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
        q = rq_trainer_value(trainer, quantizer, &scale);
        for (int i = 0; i < BATCH * 81; i++)
            assert_close(q[4 * i], 0.0, 0.0, 0.0); /* real 0 in every step */
    }
    assert_ok(rq_trainer_settle(trainer, &err), &err);
    run_session(&qat, &batch, &seen, logits);
    tally count = {0};
    compare(trainer, &qat, &seen, &count);
    assert_int_equal(count.different, 0);
    assert_memory_equal(rq_trainer_logits(trainer), logits, sizeof logits);
    for (int i = 0; i < NET_NODES; i++)
        rq_free(seen.data[i]);
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&qat);
    rq_model_deinit(&n.model);
}

/* Batch statistics give other values than the session's: the comparison above can fail. */
static void test_live__differs(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_model qat;
    values seen;
    rq_step_result result;
    float logits[BATCH * CLASSES];
    random_net(&n, 3);
    assert_ok(rq_prepare_qat(&qat, &n.model, RQ_QUANT_ALL, &err), &err);
    const net_batch batch = net_random_batch(&qat, BATCH, false, 3);
    rq_trainer *trainer = train(&qat, &batch, RQ_PRECISION_F32);
    rq_trainer_freeze_bn(trainer, false);
    assert_ok(rq_trainer_step(trainer, batch.pixels, batch.labels, &result, &err), &err);
    assert_ok(rq_trainer_settle(trainer, &err), &err);
    run_session(&qat, &batch, &seen, logits);
    tally count = {0};
    compare(trainer, &qat, &seen, &count);
    assert_true(count.different > count.n / 20);
    for (int i = 0; i < NET_NODES; i++)
        rq_free(seen.data[i]);
    rq_free(batch.pixels);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&qat);
    rq_model_deinit(&n.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen__the_session_computes_the_same_integers),
        cmocka_unit_test(test_frozen__bf16_operands_give_the_same_integers),
        cmocka_unit_test(test_frozen__float_layers_stay_close),
        cmocka_unit_test(test_frozen__dead_channel_with_zero_point),
        cmocka_unit_test(test_live__differs),
    };
    omp_set_num_threads(1); /* the networks are tiny */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
