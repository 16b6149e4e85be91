/* The resize against PIL's pixels and against a plain loop over many sizes. */
#include "runtime/image/resize.h"

#include <math.h>

#include "runtime/base/random.h"
#include "tests/runtime/image/golden.h"

static rq_status resize_all(rq_resizer *resizer, const uint8_t *src, int w, int h, int out_w,
                            int out_h, uint8_t *dst, rq_error *err)
{
    return rq_resize(resizer, src, w, h, (size_t)w * 3, (rq_box){0, 0, w, h}, out_w, out_h, 0, 0,
                     out_w, out_h, dst, (size_t)out_w * 3, err);
}

static void test_resize__equals_pil(void **state)
{
    (void)state;
    static const struct {
        const char *result, *source;
        rq_box box;
        int out_w, out_h, win_x, win_y, win_w, win_h;
    } cases[] = {
#define X(result, source, x0, y0, x1, y1, ...) {result, source, {x0, y0, x1, y1}, __VA_ARGS__},
        RESIZE_CASES(X)
#undef X
    };
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = NULL;
    rq_resizer resizer = {0};
    rq_image image = {0};
    pixel_stats stats = {0};
    assert_ok(rq_jpeg_decoder_create(&decoder, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size_bytes;
        uint8_t *data = golden_jpeg(cases[i].source, &size_bytes);
        assert_ok(rq_jpeg_decode(decoder, data, size_bytes, 1, &image, &err), &err);
        const size_t stride = (size_t)cases[i].win_w * 3;
        uint8_t *got = rq_alloc(stride * (size_t)cases[i].win_h);
        assert_ok(rq_resize(&resizer, image.pixels, image.w, image.h, (size_t)image.w * 3,
                            cases[i].box, cases[i].out_w, cases[i].out_h, cases[i].win_x,
                            cases[i].win_y, cases[i].win_w, cases[i].win_h, got, stride, &err),
                  &err);
        golden_compare(cases[i].result, got, stride * (size_t)cases[i].win_h, &stats);
        rq_free(got);
        rq_free(data);
    }
    stats_print(&stats, "resizing against PIL");
    rq_image_deinit(&image);
    rq_resizer_deinit(&resizer);
    rq_jpeg_decoder_destroy(decoder);
}

/* torchvision's resized_crop: the filter sees nothing outside the crop. */
static void test_resize__of_a_part_equals_torchvision(void **state)
{
    (void)state;
    static const struct {
        const char *result, *source;
        int x, y, w, h, size;
    } cases[] = {
#define X(...) {__VA_ARGS__},
        RESIZED_CROP_CASES(X)
#undef X
    };
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = NULL;
    rq_resizer resizer = {0};
    rq_image image = {0};
    pixel_stats stats = {0};
    assert_ok(rq_jpeg_decoder_create(&decoder, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size_bytes;
        uint8_t *data = golden_jpeg(cases[i].source, &size_bytes);
        assert_ok(rq_jpeg_decode(decoder, data, size_bytes, 1, &image, &err), &err);
        const int size = cases[i].size;
        const size_t stride = (size_t)image.w * 3, n_bytes = (size_t)size * (size_t)size * 3;
        const uint8_t *part = image.pixels + (size_t)cases[i].y * stride + (size_t)cases[i].x * 3;
        uint8_t *got = rq_alloc(n_bytes);
        assert_ok(rq_resize(&resizer, part, cases[i].w, cases[i].h, stride,
                            (rq_box){0, 0, cases[i].w, cases[i].h}, size, size, 0, 0, size, size,
                            got, (size_t)size * 3, &err),
                  &err);
        golden_compare(cases[i].result, got, n_bytes, &stats);
        rq_free(got);
        rq_free(data);
    }
    rq_image_deinit(&image);
    rq_resizer_deinit(&resizer);
    rq_jpeg_decoder_destroy(decoder);
}

/* One direction of one channel in the plainest form. */
static void reference_line(const uint8_t *src, size_t step, int n, float in0, float in1, int out,
                           uint8_t *dst, size_t dst_step)
{
    const double scale = (double)(in1 - in0) / out, support = scale > 1.0 ? scale : 1.0;
    for (int i = 0; i < out; i++) {
        const double center = (double)in0 + (i + 0.5) * scale;
        double sum = 0.0;
        int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
        first = first < 0 ? 0 : first;
        end = end > n ? n : end;
        for (int j = first; j < end; j++)
            sum += fmax(0.0, 1.0 - fabs((j - center + 0.5) * (1.0 / support)));
        int64_t total = 1 << 21;
        for (int j = first; j < end; j++) {
            const double weight = fmax(0.0, 1.0 - fabs((j - center + 0.5) * (1.0 / support)));
            total += src[(size_t)j * step] * (int64_t)(0.5 + weight / sum * (1 << 22));
        }
        total >>= 22;
        dst[(size_t)i * dst_step] = (uint8_t)(total > 255 ? 255 : total);
    }
}

static void reference_resize(const uint8_t *src, int w, int h, rq_box box, int out_w, int out_h,
                             uint8_t *dst)
{
    uint8_t *rows = rq_alloc((size_t)h * (size_t)out_w * 3);
    for (int y = 0; y < h; y++)
        for (int c = 0; c < 3; c++)
            reference_line(src + (size_t)y * (size_t)w * 3 + c, 3, w, (float)box.x0, (float)box.x1,
                           out_w, rows + (size_t)y * (size_t)out_w * 3 + c, 3);
    for (int x = 0; x < 3 * out_w; x++)
        reference_line(rows + x, (size_t)out_w * 3, h, (float)box.y0, (float)box.y1, out_h, dst + x,
                       (size_t)out_w * 3);
    rq_free(rows);
}

static uint8_t *noise(rq_random *random, size_t n)
{
    uint8_t *pixels = malloc(n); /* exactly n, for the address sanitizer */
    assert_non_null(pixels);
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)rq_random_u64(random);
    return pixels;
}

static void test_resize__equals_reference_at_many_sizes(void **state)
{
    (void)state;
    static const int sides[] = {1, 2, 3, 5, 17, 31, 64, 97};
    enum { N = sizeof sides / sizeof *sides };
    rq_error err = RQ_ERROR_INIT;
    rq_resizer resizer = {0};
    for (int trial = 0; trial < 400; trial++) {
        rq_random random = rq_random_stream(2024, 1, (uint64_t)trial);
        const int w = sides[rq_random_below(&random, N)], h = sides[rq_random_below(&random, N)];
        const int out_w = sides[rq_random_below(&random, N)];
        const int out_h = sides[rq_random_below(&random, N)];
        rq_box box = {0, 0, w, h};
        if (trial % 2) {
            box.x0 = 0.9 * w * rq_random_unit(&random);
            box.y0 = 0.9 * h * rq_random_unit(&random);
            box.x1 = box.x0 + (w - box.x0) * (0.05 + 0.95 * rq_random_unit(&random));
            box.y1 = box.y0 + (h - box.y0) * (0.05 + 0.95 * rq_random_unit(&random));
        }
        const int win_x = (int)rq_random_below(&random, (uint64_t)out_w);
        const int win_y = (int)rq_random_below(&random, (uint64_t)out_h);
        const int win_w = 1 + (int)rq_random_below(&random, (uint64_t)(out_w - win_x));
        const int win_h = 1 + (int)rq_random_below(&random, (uint64_t)(out_h - win_y));
        uint8_t *src = noise(&random, (size_t)w * (size_t)h * 3);
        uint8_t *want = rq_alloc((size_t)out_w * (size_t)out_h * 3);
        uint8_t *got = malloc((size_t)win_w * (size_t)win_h * 3);
        reference_resize(src, w, h, box, out_w, out_h, want);
        assert_ok(rq_resize(&resizer, src, w, h, (size_t)w * 3, box, out_w, out_h, win_x, win_y,
                            win_w, win_h, got, (size_t)win_w * 3, &err),
                  &err);
        for (int y = 0; y < win_h; y++) {
            const size_t at = ((size_t)(win_y + y) * (size_t)out_w + (size_t)win_x) * 3;
            if (memcmp(got + (size_t)y * (size_t)win_w * 3, want + at, (size_t)win_w * 3) != 0)
                fail_msg("trial %d: row %d of %d x %d -> %d x %d differs", trial, y, w, h, out_w,
                         out_h);
        }
        free(src);
        free(got);
        rq_free(want);
    }
    rq_resizer_deinit(&resizer);
}

static void test_resize__same_size_copies(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_random random = {5};
    rq_resizer resizer = {0};
    uint8_t *src = noise(&random, 37 * 11 * 3), got[37 * 11 * 3];
    assert_ok(resize_all(&resizer, src, 37, 11, 37, 11, got, &err), &err);
    assert_memory_equal(got, src, sizeof got);
    free(src);
    rq_resizer_deinit(&resizer);
}

static void test_resize__keeps_flat_colours(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_resizer resizer = {0};
    static uint8_t src[RQ_MAX_IMAGE_SIDE * 3], got[9 * 3];
    memset(src, 255, sizeof src); /* the most taps there can be, and rounding must not pass 255 */
    assert_ok(resize_all(&resizer, src, RQ_MAX_IMAGE_SIDE, 1, 3, 1, got, &err), &err);
    for (int i = 0; i < 9; i++)
        assert_int_equal(got[i], 255);
    assert_ok(resize_all(&resizer, src, 1, RQ_MAX_IMAGE_SIDE, 1, 3, got, &err), &err);
    for (int i = 0; i < 9; i++)
        assert_int_equal(got[i], 255);
    rq_resizer_deinit(&resizer);
}

static void test_resize__writes_only_its_window(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_random random = {6};
    rq_resizer resizer = {0};
    uint8_t *src = noise(&random, 20 * 20 * 3), dst[12][40];
    memset(dst, 0xa5, sizeof dst);
    assert_ok(rq_resize(&resizer, src, 20, 20, 60, (rq_box){0, 0, 20, 20}, 15, 15, 2, 3, 11, 10,
                        &dst[1][3], sizeof dst[0], &err),
              &err);
    for (int y = 0; y < 12; y++)
        for (int x = 0; x < 40; x++)
            if (y < 1 || y > 10 || x < 3 || x >= 3 + 33)
                assert_int_equal(dst[y][x], 0xa5);
    free(src);
    rq_resizer_deinit(&resizer);
}

static void test_resize__rejects_bad_boxes_and_windows(void **state)
{
    (void)state;
    static const struct {
        rq_box box;
        int out_w, out_h, win_x, win_y, win_w, win_h;
    } cases[] = {
        {{0, 0, 5, 5}, 4, 4, 0, 0, 4, 4},        /* past the right edge */
        {{0, 0, 4, 4.5}, 4, 4, 0, 0, 4, 4},      /* past the bottom */
        {{-0.5, 0, 4, 4}, 4, 4, 0, 0, 4, 4},     /* before the left edge */
        {{2, 0, 2, 4}, 4, 4, 0, 0, 4, 4},        /* empty */
        {{3, 0, 2, 4}, 4, 4, 0, 0, 4, 4},        /* reversed */
        {{NAN, 0, 4, 4}, 4, 4, 0, 0, 4, 4},      /* not a number */
        {{0, 0, 4, NAN}, 4, 4, 0, 0, 4, 4},      /* not a number */
        {{0, 0, 4, INFINITY}, 4, 4, 0, 0, 4, 4}, /* endless */
        {{0, 0, 4, 4}, 0, 4, 0, 0, 4, 4},        /* no output */
        {{0, 0, 4, 4}, 4, 4, 1, 0, 4, 4},        /* window past the output */
        {{0, 0, 4, 4}, 4, 4, 0, -1, 4, 4},       /* window before the output */
        {{0, 0, 4, 4}, 4, 4, 0, 0, 0, 4},        /* empty window */
        {{0, 0, 4, 4}, 4, 4, 0, 0, 4, -4},       /* negative window */
        {{0, 0, 4, 4}, 40000, 4, 0, 0, 40000, 4},
    };
    const uint8_t src[4 * 4 * 3] = {0};
    uint8_t dst[4 * 4 * 3];
    rq_resizer resizer = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_error err = RQ_ERROR_INIT;
        assert_fails(rq_resize(&resizer, src, 4, 4, 12, cases[i].box, cases[i].out_w,
                               cases[i].out_h, cases[i].win_x, cases[i].win_y, cases[i].win_w,
                               cases[i].win_h, dst, 12, &err),
                     RQ_ERR_ARG, &err);
        assert_says(&err, "cannot resize");
    }
    assert_null(resizer.memory);
}

static void test_resize__reports_missing_memory_and_reuses_it(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_random random = {7};
    rq_resizer resizer = {0};
    uint8_t *src = noise(&random, 30 * 30 * 3), dst[20 * 20 * 3];
    rq_alloc_test_fail_after(0);
    const rq_status status = resize_all(&resizer, src, 30, 30, 20, 20, dst, &err);
    rq_alloc_test_fail_after(-1);
    assert_fails(status, RQ_ERR_NOMEM, &err);
    assert_ok(resize_all(&resizer, src, 30, 30, 20, 20, dst, &err), &err);
    const size_t n_allocs = rq_alloc_count();
    assert_ok(resize_all(&resizer, src, 30, 30, 20, 20, dst, &err), &err);
    assert_ok(resize_all(&resizer, src, 15, 30, 20, 9, dst, &err), &err);
    assert_int_equal(rq_alloc_count(), n_allocs);
    free(src);
    rq_resizer_deinit(&resizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize__equals_pil),
        cmocka_unit_test(test_resize__of_a_part_equals_torchvision),
        cmocka_unit_test(test_resize__equals_reference_at_many_sizes),
        cmocka_unit_test(test_resize__same_size_copies),
        cmocka_unit_test(test_resize__keeps_flat_colours),
        cmocka_unit_test(test_resize__writes_only_its_window),
        cmocka_unit_test(test_resize__rejects_bad_boxes_and_windows),
        cmocka_unit_test(test_resize__reports_missing_memory_and_reuses_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
