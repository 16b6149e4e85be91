/* Channel statistics against two passes in double; merging in any order; the moving average. */
#include "calib/channel_stats.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "runtime/base/random.h"
#include "tests/support/test.h"

enum { CHANNELS = 19, PIXELS = 3001 };

static rq_error err;
static float values[PIXELS * CHANNELS];

/* Channel c has mean 10 c - 50 and standard deviation 2^(c - 9); the last is constant. */
static void fill(uint64_t seed)
{
    rq_random random = rq_random_stream(seed, 0, 0);
    for (size_t i = 0; i < PIXELS * CHANNELS; i++) {
        const int c = (int)(i % CHANNELS);
        const double noise = rq_random_normal(&random) * ldexp(1.0, c - 9);
        values[i] = c == CHANNELS - 1 ? 0.1f : (float)(10.0 * c - 50.0 + noise);
    }
}

static void reference(const float *v, size_t n_pixels, size_t c, double *mean, double *variance)
{
    double sum = 0.0, squares = 0.0;
    for (size_t p = 0; p < n_pixels; p++)
        sum += (double)v[p * CHANNELS + c];
    *mean = sum / (double)n_pixels;
    for (size_t p = 0; p < n_pixels; p++)
        squares += pow((double)v[p * CHANNELS + c] - *mean, 2.0);
    *variance = squares / (double)n_pixels;
}

static void check_against_reference(const rq_channel_stats *stats, const float *v, size_t n_pixels,
                                    double rel)
{
    assert_close(stats->count, n_pixels, 0, 0);
    for (size_t c = 0; c < CHANNELS; c++) {
        double mean, variance;
        reference(v, n_pixels, c, &mean, &variance);
        assert_close(stats->mean[c], mean, rel * sqrt(variance) + 1e-15 * fabs(mean), 0);
        assert_close(rq_channel_variance(stats, c), variance, 0, rel);
    }
}

static void test_block_stats__equal_two_passes_in_double(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 63, 64, 65, 129, PIXELS};
    rq_arena arena = RQ_ARENA_INIT;
    rq_stats_scratch scratch;
    fill(1);
    assert_ok(rq_stats_scratch_init(&scratch, &arena, CHANNELS + 3, &err), &err);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        check_against_reference(rq_block_stats(&scratch, values, sizes[i], CHANNELS, NULL), values,
                                sizes[i], 1e-5);
    rq_arena_deinit(&arena);
}

static void test_block_stats__a_constant_channel_has_no_variance(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    rq_stats_scratch scratch;
    fill(2);
    assert_ok(rq_stats_scratch_init(&scratch, &arena, CHANNELS, &err), &err);
    const rq_channel_stats *stats = rq_block_stats(&scratch, values, PIXELS, CHANNELS, NULL);
    assert_true(stats->m2[CHANNELS - 1] == 0.0);
    assert_true(stats->mean[CHANNELS - 1] == (double)0.1f);
    rq_arena_deinit(&arena);
}

/* A bad guess costs digits, no more: 50 standard deviations away, 50^2 of the 2^24. */
static void test_block_stats__hardly_depends_on_the_guess(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    rq_stats_scratch scratch;
    double guess[CHANNELS];
    fill(3);
    for (int c = 0; c < CHANNELS; c++)
        guess[c] = 10.0 * c - 50.0 + 50.0 * ldexp(1.0, c - 9);
    assert_ok(rq_stats_scratch_init(&scratch, &arena, CHANNELS, &err), &err);
    const rq_channel_stats *stats = rq_block_stats(&scratch, values, PIXELS, CHANNELS - 1, NULL);
    assert_int_equal(stats->n_channels, CHANNELS - 1);
    stats = rq_block_stats(&scratch, values, PIXELS, CHANNELS, guess);
    for (size_t c = 0; c < CHANNELS - 1; c++) {
        double mean, variance;
        reference(values, PIXELS, c, &mean, &variance);
        assert_close(rq_channel_variance(stats, c), variance, 0, 2e-3);
    }
    rq_arena_deinit(&arena);
}

static void test_block_stats__repeat_bit_for_bit(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    rq_stats_scratch scratch;
    double first[2][CHANNELS];
    const int before = omp_get_max_threads();
    fill(4);
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        assert_ok(rq_stats_scratch_init(&scratch, &arena, CHANNELS, &err), &err);
        const rq_channel_stats *stats = rq_block_stats(&scratch, values, PIXELS, CHANNELS, NULL);
        memcpy(first[0], stats->mean, sizeof first[0]);
        memcpy(first[1], stats->m2, sizeof first[1]);
        for (int run = 0; run < 5; run++) {
            stats = rq_block_stats(&scratch, values, PIXELS, CHANNELS, NULL);
            assert_memory_equal(stats->mean, first[0], sizeof first[0]);
            assert_memory_equal(stats->m2, first[1], sizeof first[1]);
        }
    }
    omp_set_num_threads(before);
    rq_arena_deinit(&arena);
}

static void test_block_stats__show_nan(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    rq_stats_scratch scratch;
    fill(5);
    values[777 * CHANNELS + 4] = NAN;
    values[778 * CHANNELS + 5] = INFINITY;
    assert_ok(rq_stats_scratch_init(&scratch, &arena, CHANNELS, &err), &err);
    const rq_channel_stats *stats = rq_block_stats(&scratch, values, PIXELS, CHANNELS, NULL);
    for (size_t c = 0; c < CHANNELS; c++)
        assert_int_equal(isfinite(stats->mean[c]) && isfinite(stats->m2[c]), c != 4 && c != 5);
    rq_arena_deinit(&arena);
}

/* Merge the blocks that start at the given pixels, in the given order. */
static void merge_blocks(rq_channel_stats *out, rq_arena *arena, const size_t *starts,
                         const int *order, int n)
{
    rq_stats_scratch scratch;
    assert_ok(rq_stats_scratch_init(&scratch, arena, CHANNELS, &err), &err);
    assert_ok(rq_channel_stats_init(out, arena, CHANNELS, &err), &err);
    for (int i = 0; i < n; i++) {
        const size_t first = starts[order[i]], end = starts[order[i] + 1];
        const double *guess = out->count > 0.0 ? out->mean : NULL;
        rq_channel_stats_merge(
            out, rq_block_stats(&scratch, values + first * CHANNELS, end - first, CHANNELS, guess));
    }
}

static void test_channel_stats_merge__order_does_not_matter(void **state)
{
    (void)state;
    static const size_t starts[] = {0, 5, 1000, 1001, 2500, PIXELS};
    static const int orders[][5] = {{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}};
    rq_arena arena = RQ_ARENA_INIT;
    rq_channel_stats stats[3];
    fill(6);
    for (int i = 0; i < 3; i++) {
        merge_blocks(&stats[i], &arena, starts, orders[i], 5);
        check_against_reference(&stats[i], values, PIXELS, 1e-5);
    }
    rq_arena_deinit(&arena);
}

/* Merging is exact in double: summaries of summaries equal one summary. */
static void test_channel_stats_merge__is_associative(void **state)
{
    (void)state;
    double mean[3] = {1.0, 5.0, -2.0}, m2[3] = {2.0, 0.0, 7.0};
    double left_mean = 0.0, left_m2 = 0.0, right_mean = 5.0, right_m2 = 0.0;
    const double counts[3] = {4.0, 1.0, 9.0};
    rq_channel_stats part[3];
    for (int i = 0; i < 3; i++)
        part[i] = (rq_channel_stats){1, counts[i], &mean[i], &m2[i]};
    rq_channel_stats left = {1, 0.0, &left_mean, &left_m2};
    for (int i = 0; i < 3; i++)
        rq_channel_stats_merge(&left, &part[i]);
    rq_channel_stats right = {1, 1.0, &right_mean, &right_m2};
    rq_channel_stats_merge(&right, &part[2]);
    rq_channel_stats_merge(&part[0], &right);
    assert_close(left.count, 14.0, 0, 0);
    assert_close(left_mean, (4.0 * 1.0 + 5.0 - 18.0) / 14.0, 1e-15, 0);
    assert_close(mean[0], left_mean, 1e-15, 0);
    assert_close(m2[0], left_m2, 1e-13, 0);
    const rq_channel_stats nothing = {1, 0.0, &right_mean, &right_m2};
    rq_channel_stats_merge(&left, &nothing);
    assert_close(left.count, 14.0, 0, 0);
}

static void test_channel_stats_average__as_the_original(void **state)
{
    (void)state;
    double mean[3] = {1.0, 2.0, 4.0}, m2[3] = {8.0, 30.0, 3.0};
    const double counts[3] = {8.0, 10.0, 1.0}; /* variances 1, 3, 3 */
    double got_mean = 99.0, got_m2 = 99.0;     /* overwritten by the first batch */
    rq_channel_stats got = {1, 0.0, &got_mean, &got_m2};
    double want_mean = 0.0, want_variance = 0.0;
    for (int i = 0; i < 3; i++) {
        const rq_channel_stats batch = {1, counts[i], &mean[i], &m2[i]};
        const double old = i ? 0.9 : 0.0, now = i ? 0.1 : 1.0;
        want_mean = old * want_mean + now * mean[i];
        want_variance = old * want_variance + now * m2[i] / counts[i];
        rq_channel_stats_average(&got, &batch);
        assert_close(got_mean, want_mean, 1e-15, 0);
        assert_close(rq_channel_variance(&got, 0), want_variance, 1e-15, 0);
    }
    assert_close(want_mean, 0.9 * (0.9 * 1.0 + 0.1 * 2.0) + 0.1 * 4.0, 1e-15, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_stats__equal_two_passes_in_double),
        cmocka_unit_test(test_block_stats__a_constant_channel_has_no_variance),
        cmocka_unit_test(test_block_stats__hardly_depends_on_the_guess),
        cmocka_unit_test(test_block_stats__repeat_bit_for_bit),
        cmocka_unit_test(test_block_stats__show_nan),
        cmocka_unit_test(test_channel_stats_merge__order_does_not_matter),
        cmocka_unit_test(test_channel_stats_merge__is_associative),
        cmocka_unit_test(test_channel_stats_average__as_the_original),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
