/* RandAugment's operations against PIL, and its draws against their distribution. */
#include "runtime/image/randaug.h"

#include <zlib.h>

#include "tests/golden/augment/cases.h"
#include "tests/runtime/image/golden.h"

typedef struct golden_case {
    const char *source; /* below tests/golden */
    int w, h;
    rq_randaug_op op;
    uint32_t crc[RQ_RANDAUG_MAGNITUDES];
} golden_case;

static const golden_case cases[] = {
#define X(source, w, h, op, ...) {source, w, h, RQ_RANDAUG_##op, {__VA_ARGS__}},
    AUGMENT_CASES(X)
#undef X
};
enum { N_CASES = sizeof cases / sizeof *cases, MOST_BYTES = 64 * 64 * 3 };

static bool is_move(rq_randaug_op op)
{
    return op == RQ_RANDAUG_ROTATE || op == RQ_RANDAUG_SHEAR_X || op == RQ_RANDAUG_SHEAR_Y ||
           op == RQ_RANDAUG_TRANSLATE_X || op == RQ_RANDAUG_TRANSLATE_Y;
}

/* Both signs with both interpolations; three centres; or just one. */
static int n_variants(rq_randaug_op op)
{
    return is_move(op) ? 4 : op == RQ_RANDAUG_CUTOUT ? 3 : 1;
}

static rq_randaug_step variant(const golden_case *c, int magnitude, int i)
{
    const int x[] = {0, c->w - 1, c->w / 2, 0}, y[] = {0, c->h - 1, c->h / 3, 0};
    return (rq_randaug_step){.op = c->op,
                             .magnitude = magnitude,
                             .negative = i >= 2,
                             .interpolation = i % 2 ? RQ_BICUBIC : RQ_BILINEAR,
                             .x = x[i],
                             .y = y[i]};
}

static uint8_t *read_source(const golden_case *c, size_t *size_bytes)
{
    uint8_t *source = rq_test_read_file(
        rq_test_path("%s/tests/golden/%s.rgb", RQ_SOURCE_DIR, c->source), size_bytes);
    assert_int_equal(*size_bytes, (size_t)c->w * (size_t)c->h * 3);
    assert_in_range(*size_bytes, 1, MOST_BYTES);
    return source;
}

static void test_apply__equals_pil(void **state)
{
    (void)state;
    int n = 0;
    for (int k = 0; k < N_CASES; k++) {
        const golden_case *c = &cases[k];
        size_t size_bytes;
        uint8_t *source = read_source(c, &size_bytes);
        uint8_t *scratch = rq_alloc(rq_randaug_scratch_bytes(c->w, c->h));
        uint8_t *pixels = rq_alloc(size_bytes); /* exactly: a sanitizer sees what goes beyond */
        for (int m = 0; m < RQ_RANDAUG_MAGNITUDES; m++) {
            uLong crc = 0;
            for (int i = 0; i < n_variants(c->op); i++, n++) {
                const rq_randaug_step step = variant(c, m, i);
                memcpy(pixels, source, size_bytes);
                rq_randaug_apply(&step, pixels, c->w, c->h, scratch);
                crc = crc32_z(crc, pixels, size_bytes);
            }
            if (crc != c->crc[m])
                fail_msg("%s of %s at magnitude %d differs from PIL", rq_randaug_name(c->op),
                         c->source, m);
        }
        rq_free(pixels);
        rq_free(scratch);
        rq_free(source);
    }
    print_message("%d results equal PIL's\n", n);
}

/* The check above can fail: every operation changes a picture at most magnitudes. */
static void test_apply__changes_pictures(void **state)
{
    (void)state;
    int n_changed[RQ_RANDAUG_N_OPS] = {0}, n_magnitudes[RQ_RANDAUG_N_OPS] = {0};
    for (int k = 0; k < N_CASES; k++) {
        const golden_case *c = &cases[k];
        size_t size_bytes;
        uint8_t *source = read_source(c, &size_bytes);
        uLong unchanged = 0;
        for (int i = 0; i < n_variants(c->op); i++)
            unchanged = crc32_z(unchanged, source, size_bytes);
        for (int m = 0; m < RQ_RANDAUG_MAGNITUDES; m++)
            n_changed[c->op] += c->crc[m] != unchanged;
        n_magnitudes[c->op] += RQ_RANDAUG_MAGNITUDES;
        rq_free(source);
    }
    for (int op = 0; op < RQ_RANDAUG_N_OPS; op++)
        assert_in_range(n_changed[op], n_magnitudes[op] / 2, n_magnitudes[op]);
}

static void test_apply__allocates_nothing(void **state)
{
    (void)state;
    enum { W = 20, H = 12 };
    static uint8_t pixels[W * H * 3], scratch[W * H * 3 + 1];
    assert_int_equal(rq_randaug_scratch_bytes(W, H), sizeof scratch);
    rq_random random = rq_random_stream(1, 0, 0);
    const size_t before = rq_alloc_count();
    for (int i = 0; i < 500; i++)
        rq_randaug(&random, pixels, W, H, scratch);
    assert_int_equal(rq_alloc_count(), before);
}

enum { N_DRAWS = 60000, W = 13, H = 7 };

/* Within 5 standard deviations of n equally likely values. */
static void assert_even(const int *count, int n)
{
    const double p = 1.0 / n;
    for (int i = 0; i < n; i++)
        assert_close(count[i], N_DRAWS * p, 5.0 * sqrt(N_DRAWS * p * (1.0 - p)), 0.0);
}

static void test_draw__is_uniform(void **state)
{
    (void)state;
    int op[RQ_RANDAUG_N_OPS] = {0}, magnitude[RQ_RANDAUG_MAGNITUDES] = {0}, x[W] = {0}, y[H] = {0};
    int variant_of_op[RQ_RANDAUG_N_OPS * 4] = {0};
    rq_random random = rq_random_stream(5, 0, 0);
    for (int i = 0; i < N_DRAWS; i++) {
        const rq_randaug_step step = rq_randaug_draw(&random, W, H);
        assert_true(step.op < RQ_RANDAUG_N_OPS && step.magnitude >= 0 &&
                    step.magnitude < RQ_RANDAUG_MAGNITUDES && step.x >= 0 && step.x < W &&
                    step.y >= 0 && step.y < H);
        op[step.op]++;
        magnitude[step.magnitude]++;
        x[step.x]++;
        y[step.y]++;
        variant_of_op[4 * (int)step.op + 2 * step.negative + (step.interpolation == RQ_BICUBIC)]++;
    }
    assert_int_equal(RQ_RANDAUG_N_OPS, 16);
    assert_even(op, RQ_RANDAUG_N_OPS);
    assert_even(magnitude, RQ_RANDAUG_MAGNITUDES);
    assert_even(x, W);
    assert_even(y, H);
    assert_even(variant_of_op, RQ_RANDAUG_N_OPS * 4);
}

static void test_randaug__draws_and_applies_twice(void **state)
{
    (void)state;
    const golden_case *c = &cases[0];
    size_t size_bytes;
    uint8_t *source = read_source(c, &size_bytes);
    static uint8_t got[MOST_BYTES], want[MOST_BYTES], scratch[MOST_BYTES + 1];
    int n_changed = 0;
    for (uint64_t i = 0; i < 50; i++) {
        rq_random random = rq_random_stream(8, 1, i), same = random;
        memcpy(got, source, size_bytes);
        memcpy(want, source, size_bytes);
        rq_randaug(&random, got, c->w, c->h, scratch);
        const rq_randaug_step first = rq_randaug_draw(&same, c->w, c->h);
        const rq_randaug_step second = rq_randaug_draw(&same, c->w, c->h);
        rq_randaug_apply(&first, want, c->w, c->h, scratch);
        rq_randaug_apply(&second, want, c->w, c->h, scratch);
        assert_memory_equal(got, want, size_bytes);
        assert_true(random.state == same.state);
        n_changed += memcmp(got, source, size_bytes) != 0;
    }
    assert_in_range(n_changed, 40, 50);
    rq_free(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply__equals_pil),
        cmocka_unit_test(test_apply__changes_pictures),
        cmocka_unit_test(test_apply__allocates_nothing),
        cmocka_unit_test(test_draw__is_uniform),
        cmocka_unit_test(test_randaug__draws_and_applies_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
