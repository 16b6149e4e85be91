/* Colour jitter's draws, and that it does what it draws. The enhancements themselves are compared
 * with PIL's by the tests of RandAugment, which has them too. */
#include "runtime/image/color_jitter.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/image/enhance.h"
#include "tests/support/test.h"

enum { N_PIXELS = 7 * 5 };

static void fill(uint8_t *pixels)
{
    for (size_t i = 0; i < (size_t)N_PIXELS * 3; i++)
        pixels[i] = (uint8_t)(i * 89 % 251);
}

/* The order as digits: 0 brightness, 1 contrast, 2 colour. */
static int order_of(const rq_color_jitter_step *steps)
{
    int order = 0;
    for (int i = 0; i < RQ_COLOR_JITTER_STEPS; i++) {
        const bool is_color = steps[i].enhance == rq_enhance_color;
        const bool is_contrast = steps[i].enhance == rq_enhance_contrast;
        assert_true(is_color || is_contrast || steps[i].enhance == rq_enhance_brightness);
        order = 3 * order + (is_color ? 2 : is_contrast ? 1 : 0);
    }
    return order;
}

static void test_draw__is_uniform(void **state)
{
    (void)state;
    enum { N = 6000 };
    rq_random random = rq_random_stream(1, 2, 3);
    int seen[27] = {0}, n_orders = 0;
    double sum = 0.0, least = 2.0, most = 0.0;
    for (int i = 0; i < N; i++) {
        rq_color_jitter_step steps[RQ_COLOR_JITTER_STEPS];
        rq_color_jitter_draw(&random, 0.4, steps);
        seen[order_of(steps)]++;
        for (int k = 0; k < RQ_COLOR_JITTER_STEPS; k++) {
            const double factor = (double)steps[k].factor;
            sum += factor;
            least = factor < least ? factor : least;
            most = factor > most ? factor : most;
        }
    }
    for (int i = 0; i < 27; i++) {
        if (!seen[i])
            continue;
        n_orders++;
        assert_in_range(seen[i], 850, 1150); /* 1000, standard deviation 29 */
    }
    assert_int_equal(n_orders, 6);
    assert_close(sum / (3.0 * N), 1.0, 0.0, 0.009); /* standard deviation 0.0017 */
    assert_true(least >= 0.6 - 1e-6 && least < 0.605);
    assert_true(most <= 1.4 + 1e-6 && most > 1.395);
}

static void test_jitter__does_the_steps_in_their_order(void **state)
{
    (void)state;
    uint8_t got[N_PIXELS * 3], want[N_PIXELS * 3], source[N_PIXELS * 3];
    fill(source);
    for (uint64_t i = 0; i < 50; i++) {
        rq_random random = rq_random_stream(4, 5, i), same = random;
        rq_color_jitter_step steps[RQ_COLOR_JITTER_STEPS];
        memcpy(got, source, sizeof got);
        memcpy(want, source, sizeof want);
        rq_color_jitter(&random, 0.8, got, N_PIXELS);
        rq_color_jitter_draw(&same, 0.8, steps);
        for (int k = 0; k < RQ_COLOR_JITTER_STEPS; k++)
            steps[k].enhance(want, N_PIXELS, steps[k].factor);
        assert_memory_equal(got, want, sizeof got);
        assert_memory_not_equal(got, source, sizeof got);
        assert_true(random.state == same.state);
    }
}

static void test_jitter__of_nothing_changes_nothing(void **state)
{
    (void)state;
    uint8_t got[N_PIXELS * 3], source[N_PIXELS * 3];
    fill(source);
    memcpy(got, source, sizeof got);
    rq_random random = rq_random_stream(6, 0, 0);
    for (int i = 0; i < 10; i++)
        rq_color_jitter(&random, 0.0, got, N_PIXELS);
    assert_memory_equal(got, source, sizeof got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draw__is_uniform),
        cmocka_unit_test(test_jitter__does_the_steps_in_their_order),
        cmocka_unit_test(test_jitter__of_nothing_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
