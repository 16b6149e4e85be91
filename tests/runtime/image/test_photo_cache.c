/* What is kept, and within which bounds. */
#include "runtime/image/photo_cache.h"

#include <string.h>

#include "runtime/base/memory.h"
#include "tests/support/test.h"

enum { N = 10 };

static rq_photo photo_of(int w, int h, uint8_t level)
{
    rq_error err = RQ_ERROR_INIT;
    rq_photo photo = {.w = 2 * w, .h = 2 * h, .denominator = 2};
    assert_ok(rq_image_reserve(&photo.image, w, h, &err), &err);
    memset(photo.image.pixels, level, (size_t)w * (size_t)h * 3);
    return photo;
}

static rq_photo_cache new_cache(size_t budget_bytes)
{
    rq_error err = RQ_ERROR_INIT;
    rq_photo_cache cache;
    assert_ok(rq_photo_cache_init(&cache, N, budget_bytes, &err), &err);
    return cache;
}

static void test_find__gives_what_was_kept(void **state)
{
    (void)state;
    rq_photo_cache cache = new_cache(1 << 20);
    for (int i = 0; i < N; i++)
        assert_null(rq_photo_cache_find(&cache, (size_t)i));
    for (int i = 0; i < N; i += 2) {
        rq_photo photo = photo_of(5 + i, 3, (uint8_t)i);
        rq_photo_cache_keep(&cache, (size_t)i, &photo);
        memset(photo.image.pixels, 99, (size_t)(5 + i) * 9); /* it is a copy */
        rq_image_deinit(&photo.image);
    }
    for (int i = 0; i < N; i++) {
        const rq_photo *kept = rq_photo_cache_find(&cache, (size_t)i);
        assert_int_equal(kept == NULL, i % 2);
        if (!kept)
            continue;
        assert_true(kept->w == 2 * (5 + i) && kept->h == 6 && kept->denominator == 2);
        assert_true(kept->image.w == 5 + i && kept->image.h == 3);
        for (int p = 0; p < (5 + i) * 9; p++)
            assert_int_equal(kept->image.pixels[p], i);
    }
    assert_null(rq_photo_cache_find(&cache, N));
    rq_photo_cache_deinit(&cache);
}

/* Every photograph takes the most that is kept: table and pixels stay within the budget. */
static void test_keep__stays_within_the_budget(void **state)
{
    (void)state;
    static const size_t budgets[] = {
        0,   1, N * sizeof(rq_photo), N * (sizeof(rq_photo) + 2), 1000, N * (sizeof(rq_photo) + 27),
        5000};
    for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
        rq_photo_cache cache = new_cache(budgets[b]);
        size_t used = cache.n * sizeof(rq_photo);
        for (int side = 1; side < 20; side++) /* the smallest first: those stay */
            for (size_t i = 0; i < N; i++) {
                if (rq_photo_cache_find(&cache, i))
                    continue;
                rq_photo photo = photo_of(side + (int)i, side, 1);
                rq_photo_cache_keep(&cache, i, &photo);
                const bool is_kept = rq_photo_cache_find(&cache, i) != NULL;
                const size_t size_bytes = (size_t)(side + (int)i) * (size_t)side * 3;
                assert_int_equal(is_kept, size_bytes + sizeof(rq_photo) <= budgets[b] / N);
                used += is_kept ? size_bytes : 0;
                rq_image_deinit(&photo.image);
            }
        assert_true(used <= budgets[b]);
        rq_photo_cache_deinit(&cache);
    }
}

static void test_keep__does_without_memory(void **state)
{
    (void)state;
    rq_photo_cache cache = new_cache(1 << 20);
    rq_photo photo = photo_of(4, 4, 7);
    rq_alloc_test_fail_after(0);
    rq_photo_cache_keep(&cache, 3, &photo);
    rq_alloc_test_fail_after(-1);
    assert_null(rq_photo_cache_find(&cache, 3));
    rq_photo_cache_keep(&cache, 3, &photo);
    assert_non_null(rq_photo_cache_find(&cache, 3));
    rq_photo_cache_deinit(&cache);
    rq_image_deinit(&photo.image);
    rq_error err = RQ_ERROR_INIT;
    rq_alloc_test_fail_after(0);
    const rq_status status = rq_photo_cache_init(&cache, N, 1 << 20, &err);
    rq_alloc_test_fail_after(-1);
    assert_fails(status, RQ_ERR_NOMEM, &err);
    rq_photo_cache_deinit(&cache);
    rq_photo_cache_deinit(&(rq_photo_cache){0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find__gives_what_was_kept),
        cmocka_unit_test(test_keep__stays_within_the_budget),
        cmocka_unit_test(test_keep__does_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
