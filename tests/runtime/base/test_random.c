/* The stream is the published generator, streams differ, and draws have the moments they should
 * have. */
#include <math.h>
#include <stdbool.h>

#include "runtime/base/random.h"
#include "tests/support/test.h"

static void test_u64__is_splitmix64(void **state)
{
    (void)state;
    /* first values for seed 1234567, as published with the reference code
     * (prng.di.unimi.it/splitmix64.c) */
    static const uint64_t want[] = {6457827717110365317u, 3203168211198807973u,
                                    9817491932198370423u, 4593380528125082431u,
                                    16408922859458223821u};
    rq_random random = {1234567};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_true(rq_random_u64(&random) == want[i]);
}

static void test_stream__depends_on_all_three(void **state)
{
    (void)state;
    rq_random a = rq_random_stream(1, 2, 3), again = rq_random_stream(1, 2, 3);
    assert_true(rq_random_u64(&a) == rq_random_u64(&again));
    const rq_random b = rq_random_stream(1, 3, 2), c = rq_random_stream(2, 2, 3),
                    d = rq_random_stream(1, 2, 4);
    const rq_random base = rq_random_stream(1, 2, 3);
    assert_true(base.state != b.state && base.state != c.state && base.state != d.state);
    assert_true(b.state != c.state && b.state != d.state && c.state != d.state);
}

enum { N_DRAWS = 100000 };

static void test_unit__mean_and_range(void **state)
{
    (void)state;
    rq_random random = rq_random_stream(7, 0, 0);
    double sum = 0.0;
    for (int i = 0; i < N_DRAWS; i++) {
        const double x = rq_random_unit(&random);
        assert_true(x >= 0.0 && x < 1.0);
        sum += x;
    }
    /* 5 standard deviations of the mean: sqrt(1/12/N) = 0.00091 */
    assert_close(sum / N_DRAWS, 0.5, 0.0046, 0.0);
}

static void test_below__hits_all_values_evenly(void **state)
{
    (void)state;
    rq_random random = rq_random_stream(7, 0, 1);
    int count[7] = {0};
    for (int i = 0; i < N_DRAWS; i++)
        count[rq_random_below(&random, 7)]++;
    for (int i = 0; i < 7; i++) /* 5 standard deviations: sqrt(N/7 * 6/7) = 111 */
        assert_close(count[i], N_DRAWS / 7.0, 555.0, 0.0);
    assert_int_equal(rq_random_below(&random, 1), 0);
}

static void test_normal__moments(void **state)
{
    (void)state;
    rq_random random = rq_random_stream(7, 0, 2);
    double sum = 0.0, square = 0.0;
    for (int i = 0; i < N_DRAWS; i++) {
        const double x = rq_random_normal(&random);
        sum += x;
        square += x * x;
    }
    assert_close(sum / N_DRAWS, 0.0, 0.016, 0.0);    /* 5 / sqrt(N) */
    assert_close(square / N_DRAWS, 1.0, 0.023, 0.0); /* 5 * sqrt(2/N) */
}

/* Mean a / (a + b), variance a b / ((a + b)^2 (a + b + 1)), and the share below a few points
 * against the distribution function (mpmath.betainc), all within 5 standard deviations. */
static void test_beta__follows_its_distribution(void **state)
{
    (void)state;
    enum { N_POINTS = 4 };
    static const double points[N_POINTS] = {0.01, 0.1, 0.5, 0.9};
    static const struct {
        double a, b, below[N_POINTS];
    } cases[] = {
        {0.2, 0.2, {0.2097777, 0.3366898, 0.5, 0.6633102}},
        {1.0, 1.0, {0.01, 0.1, 0.5, 0.9}},
        {0.01, 0.01, {0.4776208, 0.4892025, 0.5, 0.5107975}},
        {2.0, 5.0, {0.001460448, 0.114265, 0.890625, 0.999945}},
        {0.5, 3.0, {0.1862537, 0.5545844, 0.9501747, 0.999675}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const double a = cases[i].a, b = cases[i].b, n = N_DRAWS;
        rq_random random = rq_random_stream(7, 1, i);
        double sum = 0.0, square = 0.0;
        int below[N_POINTS] = {0};
        for (int k = 0; k < N_DRAWS; k++) {
            const double x = rq_random_beta(&random, a, b);
            assert_true(x >= 0.0 && x <= 1.0);
            sum += x;
            square += x * x;
            for (int p = 0; p < N_POINTS; p++)
                below[p] += x < points[p];
        }
        const double mean = a / (a + b);
        const double variance = a * b / ((a + b) * (a + b) * (a + b + 1.0));
        assert_close(sum / n, mean, 5.0 * sqrt(variance / n), 0.0);
        assert_close(square / n - mean * mean, variance, 5.0 * 0.5 / sqrt(n), 0.0);
        for (int p = 0; p < N_POINTS; p++) {
            const double share = cases[i].below[p];
            assert_close(below[p] / n, share, 5.0 * sqrt(share * (1.0 - share) / n) + 1e-9, 0.0);
        }
    }
}

static void test_shuffle__is_a_permutation(void **state)
{
    (void)state;
    enum { N = 100 };
    uint32_t index[N];
    bool seen[N] = {false};
    for (uint32_t i = 0; i < N; i++)
        index[i] = i;
    rq_random random = rq_random_stream(7, 0, 3);
    rq_random_shuffle(&random, index, N);
    int n_moved = 0;
    for (uint32_t i = 0; i < N; i++) {
        assert_true(index[i] < N && !seen[index[i]]);
        seen[index[i]] = true;
        n_moved += index[i] != i;
    }
    assert_true(n_moved > N / 2);
    rq_random_shuffle(&random, index, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u64__is_splitmix64),
        cmocka_unit_test(test_stream__depends_on_all_three),
        cmocka_unit_test(test_unit__mean_and_range),
        cmocka_unit_test(test_below__hits_all_values_evenly),
        cmocka_unit_test(test_normal__moments),
        cmocka_unit_test(test_beta__follows_its_distribution),
        cmocka_unit_test(test_shuffle__is_a_permutation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
