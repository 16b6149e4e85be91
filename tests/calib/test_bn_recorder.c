/* Recorded statistics against a convolution in double, over several batches of different size. */
#include "calib/bn_recorder.h"

#include <math.h>
#include <string.h>

#include "runtime/session/session.h"
#include "tests/calib/small_net.h"

enum { BATCH = 4, N_BATCHES = 3, IMAGE_BYTES = NET_SIDE * NET_SIDE * 3, OUT = NET_SIDE / 2 };

static const int batch_sizes[N_BATCHES] = {4, 2, 1};
static rq_error err;

/* Value of channel oc at one pixel of the first convolution, bias included. */
static double first_conv(const rq_model *model, const uint8_t *image, int oy, int ox, int oc)
{
    const float *wei = rq_tensor_f32(rq_graph_tensor(&model->graph, 1, RQ_SLOT_WEIGHT));
    const float *bias = rq_tensor_f32(rq_graph_tensor(&model->graph, 1, RQ_SLOT_BIAS));
    double sum = (double)bias[oc];
    for (int ic = 0; ic < 3; ic++)
        for (int ky = 0; ky < 3; ky++)
            for (int kx = 0; kx < 3; kx++) {
                const int y = 2 * oy - 1 + ky, x = 2 * ox - 1 + kx;
                if (y < 0 || x < 0 || y >= NET_SIDE || x >= NET_SIDE)
                    continue;
                const double p = image[(y * NET_SIDE + x) * 3 + ic] / 255.0;
                const double mean = (double)model->preprocess.mean[ic];
                const double std = (double)model->preprocess.std[ic];
                sum += (p - mean) / std * (double)wei[((oc * 3 + ic) * 3 + ky) * 3 + kx];
            }
    return sum;
}

typedef struct moments {
    double n, sum, squares;
} moments;

static void add_images(moments *m, const rq_model *model, const uint8_t *pixels, int n, int oc)
{
    for (int i = 0; i < n; i++)
        for (int y = 0; y < OUT; y++)
            for (int x = 0; x < OUT; x++) {
                const double v = first_conv(model, pixels + i * IMAGE_BYTES, y, x, oc);
                m->n += 1.0;
                m->sum += v;
                m->squares += v * v;
            }
}

static double mean_of(const moments *m)
{
    return m->sum / m->n;
}

static double variance_of(const moments *m)
{
    return m->squares / m->n - mean_of(m) * mean_of(m);
}

/* Feed the batches; pixels of batch b: net_pixels(…, b). */
static void record(rq_bn_recorder *recorder, const rq_model *model, uint8_t *pixels)
{
    float logits[BATCH * NET_CLASSES];
    rq_session *session;
    const rq_session_options options = {
        .batch = BATCH, .observer = rq_bn_recorder_observe, .observer_context = recorder};
    assert_ok(rq_session_create(&session, model, &options, &err), &err);
    for (int b = 0; b < N_BATCHES; b++) {
        net_pixels(pixels, (size_t)batch_sizes[b] * IMAGE_BYTES, (uint64_t)b);
        recorder->n_images = batch_sizes[b];
        assert_ok(rq_session_run(session, pixels, batch_sizes[b], logits, &err), &err);
    }
    rq_session_destroy(session);
}

static void check(rq_stat_kind kind)
{
    rq_model model;
    rq_bn_recorder recorder;
    uint8_t pixels[BATCH * IMAGE_BYTES];
    net_make(&model, 7);
    assert_ok(rq_bn_recorder_init(&recorder, &model.graph, kind, &err), &err);
    record(&recorder, &model, pixels);
    const rq_channel_stats *stats = &recorder.stats[1];
    assert_int_equal(recorder.stats[0].n_channels, 0);
    assert_int_equal(stats->n_channels, NET_CHANNELS);
    for (int c = 0; c < NET_CHANNELS; c++) {
        moments all = {0.0, 0.0, 0.0};
        double mean = 0.0, variance = 0.0;
        for (int b = 0; b < N_BATCHES; b++) {
            moments one = {0.0, 0.0, 0.0};
            net_pixels(pixels, (size_t)batch_sizes[b] * IMAGE_BYTES, (uint64_t)b);
            add_images(&all, &model, pixels, batch_sizes[b], c);
            add_images(&one, &model, pixels, batch_sizes[b], c);
            mean = b ? 0.9 * mean + 0.1 * mean_of(&one) : mean_of(&one);
            variance = b ? 0.9 * variance + 0.1 * variance_of(&one) : variance_of(&one);
        }
        if (kind == RQ_STAT_EXACT) {
            mean = mean_of(&all);
            variance = variance_of(&all);
            assert_close(stats->count, 7 * OUT * OUT, 0, 0);
        }
        assert_close(stats->mean[c], mean, 1e-5, 0);
        assert_close(rq_channel_variance(stats, (size_t)c), variance, 0, 1e-5);
    }
    rq_bn_recorder_deinit(&recorder);
    rq_model_deinit(&model);
}

static void test_bn_recorder__exact_over_all_images(void **state)
{
    (void)state;
    check(RQ_STAT_EXACT);
}

static void test_bn_recorder__moving_average_over_batches(void **state)
{
    (void)state;
    check(RQ_STAT_EMA);
}

/* However many images: recording allocates nothing. */
static void test_bn_recorder__needs_constant_memory(void **state)
{
    (void)state;
    rq_model model;
    rq_bn_recorder recorder;
    rq_session *session;
    uint8_t pixels[BATCH * IMAGE_BYTES];
    float logits[BATCH * NET_CLASSES];
    net_make(&model, 7);
    assert_ok(rq_bn_recorder_init(&recorder, &model.graph, RQ_STAT_EXACT, &err), &err);
    const rq_session_options options = {
        .batch = BATCH, .observer = rq_bn_recorder_observe, .observer_context = &recorder};
    assert_ok(rq_session_create(&session, &model, &options, &err), &err);
    net_pixels(pixels, sizeof pixels, 1);
    recorder.n_images = BATCH;
    const size_t before = rq_alloc_count();
    for (int i = 0; i < 5; i++)
        assert_ok(rq_session_run(session, pixels, BATCH, logits, &err), &err);
    assert_int_equal(rq_alloc_count(), before);
    recorder.n_images = 0;
    const double count = recorder.stats[1].count;
    assert_ok(rq_session_run(session, pixels, BATCH, logits, &err), &err);
    assert_true(recorder.stats[1].count == count);
    rq_session_destroy(session);
    rq_bn_recorder_deinit(&recorder);
    rq_model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bn_recorder__exact_over_all_images),
        cmocka_unit_test(test_bn_recorder__moving_average_over_batches),
        cmocka_unit_test(test_bn_recorder__needs_constant_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
