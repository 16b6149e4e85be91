/* The allocator and its failure injection, arenas, checked sizes. */
#include <stdint.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/base/size.h"
#include "tests/support/test.h"

static void assert_fresh(const void *memory, size_t size_bytes)
{
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % RQ_ALIGNMENT, 0);
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < size_bytes; i++)
        assert_int_equal(bytes[i], 0);
}

static void test_alloc__is_aligned_and_zeroed(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4097};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const size_t before = rq_alloc_count();
        void *memory = rq_alloc(sizes[i]);
        assert_int_equal(rq_alloc_count(), before + 1);
        assert_fresh(memory, sizes[i]);
        if (sizes[i])
            memset(memory, 0xff, sizes[i]);
        rq_free(memory);
    }
    rq_free(NULL);
}

static void test_alloc__impossible_sizes(void **state)
{
    (void)state;
    assert_null(rq_alloc(SIZE_MAX));
    assert_null(rq_alloc_array(double, SIZE_MAX / 4));
    rq_arena arena = RQ_ARENA_INIT;
    assert_null(rq_arena_alloc(&arena, SIZE_MAX));
    assert_null(rq_arena_array(&arena, uint16_t, SIZE_MAX));
    rq_arena_deinit(&arena);
}

typedef struct odd {
    unsigned char bytes[3];
} odd;

/* The result has the type that was asked for, whatever integer type n is of. */
static void test_array__is_typed_aligned_and_zeroed(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    const int n = 5;
    const int64_t n_wide = 7;
    odd *a = rq_alloc_array(odd, n), *b = rq_arena_array(&arena, odd, n_wide);
    double *none = rq_alloc_array(double, 0);
    assert_fresh(a, (size_t)n * sizeof(odd));
    assert_fresh(b, (size_t)n_wide * sizeof(odd));
    assert_fresh(none, 0);
    _Static_assert(_Generic(rq_alloc_array(odd, 1), odd * : 1, default : 0), "");
    _Static_assert(_Generic(rq_arena_array(&arena, odd, 1), odd * : 1, default : 0), "");
    rq_free(a);
    rq_free(none);
    rq_arena_deinit(&arena);
}

static void test_array__refuses_overflow_and_negative_numbers(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    const int minus_one = -1;
    const int64_t least = INT64_MIN;
    assert_null(rq_alloc_array(double, SIZE_MAX / 4));
    assert_null(rq_alloc_array(double, minus_one));
    assert_null(rq_alloc_array(char, minus_one));
    assert_null(rq_alloc_array(odd, least));
    assert_null(rq_arena_array(&arena, double, SIZE_MAX / 4));
    assert_null(rq_arena_array(&arena, double, minus_one));
    assert_null(rq_arena_array(&arena, char, minus_one));
    assert_int_equal(arena.total_bytes, 0);
    rq_arena_deinit(&arena);
}

static void test_grow__only_when_too_small(void **state)
{
    (void)state;
    uint8_t *memory = NULL;
    size_t capacity_bytes = 0;
    assert_true(rq_grow(&memory, &capacity_bytes, 0));
    assert_null(memory);
    assert_true(rq_grow(&memory, &capacity_bytes, 10));
    assert_fresh(memory, 10);
    assert_int_equal(capacity_bytes, 10);
    const uint8_t *before = memory;
    memory[9] = 7;
    assert_true(rq_grow(&memory, &capacity_bytes, 10));
    assert_ptr_equal(memory, before);
    assert_int_equal(memory[9], 7);
    assert_true(rq_grow(&memory, &capacity_bytes, 1000));
    assert_fresh(memory, 1000);
    assert_false(rq_grow(&memory, &capacity_bytes, SIZE_MAX));
    assert_null(memory);
    assert_int_equal(capacity_bytes, 0);
}

static void test_alloc__fails_on_request(void **state)
{
    (void)state;
    rq_alloc_test_fail_after(1);
    void *first = rq_alloc(1), *second = rq_alloc(1), *third = rq_alloc(1);
    rq_alloc_test_fail_after(-1);
    void *fourth = rq_alloc(1);
    assert_true(first && !second && !third && fourth);
    rq_free(first);
    rq_free(fourth);
}

static void test_arena__keeps_requests_apart(void **state)
{
    (void)state;
    enum { N = 200 };
    rq_arena arena = RQ_ARENA_INIT;
    unsigned char *memory[N];
    for (size_t i = 0; i < N; i++) {
        const size_t size_bytes = i * i; /* beyond a block as well */
        memory[i] = rq_arena_alloc(&arena, size_bytes);
        assert_fresh(memory[i], size_bytes);
        memset(memory[i], (int)i, size_bytes);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < i * i; k++)
            assert_int_equal(memory[i][k], i);
    assert_true(arena.total_bytes >= N * (N - 1) * (2 * N - 1) / 6);
    rq_arena_deinit(&arena);
    assert_int_equal(arena.total_bytes, 0);
    assert_non_null(rq_arena_alloc(&arena, 1)); /* usable again */
    rq_arena_deinit(&arena);
}

static void test_arena__strings(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    assert_string_equal(rq_arena_strdup(&arena, "text"), "text");
    assert_string_equal(rq_arena_printf(&arena, "%s.%d", "a", 7), "a.7");
    rq_arena_deinit(&arena);
}

static void test_arena__without_memory(void **state)
{
    (void)state;
    for (long n = 0; n < 2; n++) { /* the block's record, the block's data */
        rq_arena arena = RQ_ARENA_INIT;
        rq_alloc_test_fail_after(n);
        void *memory = rq_arena_alloc(&arena, 100);
        char *copy = rq_arena_strdup(&arena, "a"), *text = rq_arena_printf(&arena, "%d", 1);
        rq_alloc_test_fail_after(-1);
        assert_true(!memory && !copy && !text);
        rq_arena_deinit(&arena);
    }
}

static void test_size__refuses_overflow(void **state)
{
    (void)state;
    size_t out = 42;
    assert_false(rq_add_size(SIZE_MAX, 1, &out));
    assert_false(rq_mul_size(SIZE_MAX / 2 + 1, 2, &out));
    assert_false(rq_dims_elems((const int64_t[]){2, -1}, 2, &out));
    assert_false(rq_dims_elems((const int64_t[]){INT64_MAX, 3}, 2, &out));
    assert_int_equal(out, 42);
    assert_true(rq_add_size(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    assert_true(rq_mul_size(3, 5, &out) && out == 15);
    assert_true(rq_dims_elems(NULL, 0, &out) && out == 1);
    assert_true(rq_dims_elems((const int64_t[]){2, 0, 7}, 3, &out) && out == 0);
    assert_true(rq_dims_elems((const int64_t[]){2, 3, 7}, 3, &out) && out == 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc__is_aligned_and_zeroed),
        cmocka_unit_test(test_alloc__impossible_sizes),
        cmocka_unit_test(test_array__is_typed_aligned_and_zeroed),
        cmocka_unit_test(test_array__refuses_overflow_and_negative_numbers),
        cmocka_unit_test(test_grow__only_when_too_small),
        cmocka_unit_test(test_alloc__fails_on_request),
        cmocka_unit_test(test_arena__keeps_requests_apart),
        cmocka_unit_test(test_arena__strings),
        cmocka_unit_test(test_arena__without_memory),
        cmocka_unit_test(test_size__refuses_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
