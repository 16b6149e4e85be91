/* Who is mixed with whom, and how much. */
#include "runtime/image/mixup.h"

#include <stdbool.h>

#include "tests/support/test.h"

enum { N = 7 };

static void test_draw__mirrors_the_batch(void **state)
{
    (void)state;
    static const int32_t labels[N] = {3, 0, 1, 2, 0, 5, 5};
    for (size_t n = 1; n <= N; n++) {
        rq_mix mix[N];
        rq_random random = rq_random_stream(2, 0, n), same = random;
        rq_mixup_draw(&random, 0.2, labels, n, mix);
        const float lambda = (float)rq_random_beta(&same, 0.2, 0.2);
        assert_true(random.state == same.state);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(mix[i].partner, n - 1 - i);
            assert_true(mix[i].lambda == lambda);
        }
    }
}

static void test_draw__leaves_alone_who_has_no_label_or_partner(void **state)
{
    (void)state;
    static const int32_t labels[N] = {3, -1, 1, 2, 0, 5, 5};
    rq_mix mix[N];
    rq_random random = rq_random_stream(2, 0, 0), same = random;
    rq_mixup_draw(&random, 1.0, labels, N, mix);
    const float lambda = (float)rq_random_beta(&same, 1.0, 1.0);
    assert_true(lambda > 0.0f && lambda < 1.0f);
    for (size_t i = 0; i < N; i++) {
        const bool alone = i == 1 || i == N - 2;
        assert_int_equal(mix[i].partner, alone ? i : N - 1 - i);
        assert_true(mix[i].lambda == (alone ? 1.0f : lambda));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draw__mirrors_the_batch),
        cmocka_unit_test(test_draw__leaves_alone_who_has_no_label_or_partner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
