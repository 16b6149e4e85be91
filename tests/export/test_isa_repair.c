/* Repairing pairs that could saturate 16 bits: what is changed, what is not, and that it is the
 * cheapest. */
#include <math.h>
#include <string.h>

#include "export/isa_repair.h"
#include "runtime/base/random.h"
#include "runtime/model/quant.h"
#include "runtime/reference/integer.h"
#include "tests/support/test.h"

enum { MAX_TAPS = 600, MANY_TAPS = 6000 };

static void test_isa_clip__leaves_safe_weights(void **state)
{
    (void)state;
    int8_t q[6] = {127, 1, 0, -64, -64, -3};
    const int8_t before[6] = {127, 1, 0, -64, -64, -3};
    rq_isa_clip(q, 6);
    assert_memory_equal(q, before, sizeof q);
}

static void test_isa_clip__hand_computed(void **state)
{
    (void)state;
    /* 127 + 11: cap 6 and 122 cost 25 + 25; every other split costs more */
    int8_t pair[2] = {127, 11};
    rq_isa_clip(pair, 2);
    assert_int_equal(pair[0] + pair[1], 128);
    assert_true(pair[0] == 122 && pair[1] == 6);
    /* many large ones: everything over 64 goes to 64 */
    int8_t many[5] = {-100, -100, -100, -20, 90};
    rq_isa_clip(many, 5);
    const int8_t want[5] = {-64, -64, -64, -20, 90};
    assert_memory_equal(many, want, sizeof want);
    int8_t zeros[3] = {0, 0, 0};
    rq_isa_clip(zeros, 3);
    assert_int_equal(zeros[0] + zeros[1] + zeros[2], 0);
}

/* Against trying every cap. */
static void test_isa_clip__is_the_cheapest(void **state)
{
    (void)state;
    rq_random random = {11};
    for (int round = 0; round < 300; round++) {
        int8_t q[9], before[9];
        for (int i = 0; i < 9; i++)
            before[i] = q[i] = (int8_t)rq_random_below(&random, 128);
        rq_isa_clip(q, 9);
        assert_true(rq_saturation_free(q, 9));
        int cost = 0, best = 1 << 30, top = 0;
        for (int i = 0; i < 9; i++) {
            assert_true(q[i] >= 0 && q[i] <= before[i]);
            cost += (before[i] - q[i]) * (before[i] - q[i]);
            top = before[i] > before[top] ? i : top;
        }
        for (int cap = 0; cap <= 64; cap++) {
            int sum = 0;
            for (int i = 0; i < 9; i++) {
                const int over = before[i] - (i == top ? 128 - cap : cap);
                sum += over > 0 ? over * over : 0;
            }
            best = sum < best ? sum : best;
        }
        assert_int_equal(cost, best);
    }
}

static double error_of(const float *folded, const int8_t *q, int n, float s_w)
{
    double error = 0.0;
    for (int i = 0; i < n; i++) {
        const double d = (double)folded[i] - (double)s_w * (double)q[i];
        error += d * d;
    }
    return error;
}

static void test_isa_repair__safe_channel_is_untouched(void **state)
{
    (void)state;
    const float folded[3] = {1.27f, -0.64f, 0.01f};
    int8_t q[3] = {127, -64, 1}, scratch[3];
    float s_w = 0.01f;
    rq_isa_repair_stats stats = {0};
    rq_isa_repair(folded, 3, &s_w, q, scratch, &stats);
    assert_true(s_w == 0.01f && q[0] == 127 && q[1] == -64 && q[2] == 1);
    assert_true(stats.n_channels == 0 && stats.n_weights == 0 && stats.max_change_steps == 0.0);
}

/* Normal weights: far better than clipping with the old scale, and near the rounding error of 7
 * bits. */
static void test_isa_repair__beats_clipping(void **state)
{
    (void)state;
    static float folded[MAX_TAPS];
    static int8_t q[MAX_TAPS], clipped[MAX_TAPS], scratch[MAX_TAPS];
    rq_random random = {21};
    float max = 0.0f;
    for (int i = 0; i < MAX_TAPS; i++) {
        folded[i] = (float)rq_random_normal(&random);
        max = fmaxf(max, fabsf(folded[i]));
    }
    const float old_scale = rq_weight_scale(max, 0.0, 1.0);
    float s_w = old_scale;
    for (int i = 0; i < MAX_TAPS; i++)
        clipped[i] = q[i] = rq_quantize_weight(folded[i], 1.0f / s_w);
    rq_isa_clip(clipped, MAX_TAPS);
    rq_isa_repair_stats stats = {0};
    rq_isa_repair(folded, MAX_TAPS, &s_w, q, scratch, &stats);
    assert_true(rq_saturation_free(q, MAX_TAPS));
    assert_int_equal(stats.n_channels, 1);
    assert_in_range(stats.n_weights, MAX_TAPS / 2, MAX_TAPS);
    const double error = error_of(folded, q, MAX_TAPS, s_w);
    const double rounding = MAX_TAPS * (2.0 * (double)old_scale) * (2.0 * (double)old_scale) / 12.0;
    assert_true(error < 1.2 * rounding);
    assert_true(error < 0.05 * error_of(folded, clipped, MAX_TAPS, old_scale));
    assert_true(stats.max_change_steps < 4.0);
}

/* An outlier next to very many small weights: clipping a little is cheaper than coarser steps for
 * all. */
static void test_isa_repair__clips_an_outlier(void **state)
{
    (void)state;
    static float folded[MANY_TAPS];
    static int8_t q[MANY_TAPS], scratch[MANY_TAPS];
    rq_random random = {22};
    for (int i = 0; i < MANY_TAPS; i++)
        folded[i] = (float)(4.0 * rq_random_unit(&random) - 2.0);
    folded[5] = 127.0f;
    folded[6] = 3.0f;
    float s_w = 1.0f;
    for (int i = 0; i < MANY_TAPS; i++)
        q[i] = rq_quantize_weight(folded[i], 1.0f);
    const double before = error_of(folded, q, MANY_TAPS, s_w);
    rq_isa_repair_stats stats = {0};
    rq_isa_repair(folded, MANY_TAPS, &s_w, q, scratch, &stats);
    assert_true(rq_saturation_free(q, MANY_TAPS));
    assert_close(s_w, 1.0, 0.004, 0.0); /* 130 / 128 needs no clipping */
    assert_true(q[5] + q[6] == 128);
    assert_true(error_of(folded, q, MANY_TAPS, s_w) <= before + 2.0); /* 126 and 2: 1 + 1 */
}

static void test_isa_repair__any_weights_become_safe(void **state)
{
    (void)state;
    rq_random random = {23};
    for (int round = 0; round < 200; round++) {
        const int n = 1 + (int)rq_random_below(&random, 40);
        float folded[40], s_w = (float)(0.001 + rq_random_unit(&random));
        int8_t q[40], scratch[40];
        for (int i = 0; i < n; i++) /* heavy tails, beyond the scale too */
            folded[i] = s_w * (float)(127.0 * pow(2.0 * rq_random_unit(&random) - 1.0, 3.0) * 1.5);
        for (int i = 0; i < n; i++)
            q[i] = rq_quantize_weight(folded[i], 1.0f / s_w);
        rq_isa_repair_stats stats = {0};
        const double before = error_of(folded, q, n, s_w);
        rq_isa_repair(folded, (size_t)n, &s_w, q, scratch, &stats);
        assert_true(rq_saturation_free(q, (size_t)n));
        assert_true(isfinite(before) && s_w > 0.0f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_isa_clip__leaves_safe_weights),
        cmocka_unit_test(test_isa_clip__hand_computed),
        cmocka_unit_test(test_isa_clip__is_the_cheapest),
        cmocka_unit_test(test_isa_repair__safe_channel_is_untouched),
        cmocka_unit_test(test_isa_repair__beats_clipping),
        cmocka_unit_test(test_isa_repair__clips_an_outlier),
        cmocka_unit_test(test_isa_repair__any_weights_become_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
