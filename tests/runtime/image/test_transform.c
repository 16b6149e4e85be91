/* Whole transforms: evaluation against torchvision, the random ones against their rules. */
#include "runtime/image/transform.h"

#include <math.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "runtime/image/color_jitter.h"
#include "runtime/image/randaug.h"
#include "tests/golden/images/photographs.h"
#include "tests/runtime/image/golden.h"

static size_t square_bytes(int size)
{
    return (size_t)size * (size_t)size * 3;
}

static void test_eval__equals_torchvision(void **state)
{
    (void)state;
    static const struct {
        const char *result, *source;
        int resize, size;
    } cases[] = {
#define X(...) {__VA_ARGS__},
        EVALUATION_CASES(X)
#undef X
    };
    rq_sampler sampler = {0};
    pixel_stats stats = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_error err = RQ_ERROR_INIT;
        const rq_transform transform = {
            .kind = RQ_TRANSFORM_EVAL, .resize = cases[i].resize, .size = cases[i].size};
        size_t size_bytes;
        uint8_t *data = golden_jpeg(cases[i].source, &size_bytes);
        uint8_t *got = rq_alloc(square_bytes(cases[i].size));
        memset(got, 0xa5, square_bytes(cases[i].size));
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &transform, NULL, got, &err), &err);
        golden_compare(cases[i].result, got, square_bytes(cases[i].size), &stats);
        rq_free(got);
        rq_free(data);
    }
    stats_print(&stats, "evaluation transform against torchvision");
    rq_sampler_deinit(&sampler);
}

static void test_eval__equals_torchvision_on_photographs(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        uint32_t crc;
    } photographs[] = {
#define X(...) {__VA_ARGS__},
        PHOTOGRAPHS(X)
#undef X
    };
    const char *shared = rq_test_shared();
    struct stat info;
    if (!shared || stat(rq_test_path("%s/data/imagenet-sample", shared), &info) != 0) {
        print_message("skipped: no data/imagenet-sample in $RQ_SHARED\n");
        skip();
    }
    static uint8_t pixels[224 * 224 * 3];
    const rq_transform transform = {.kind = RQ_TRANSFORM_EVAL, .resize = 256, .size = 224};
    const size_t n = sizeof photographs / sizeof *photographs;
    rq_sampler sampler = {0};
    size_t n_different = 0;
    for (size_t i = 0; i < n; i++) {
        rq_error err = RQ_ERROR_INIT;
        assert_ok(
            rq_sample_file(&sampler,
                           rq_test_path("%s/data/imagenet-sample/%s", shared, photographs[i].path),
                           &transform, NULL, pixels, &err),
            &err);
        n_different += crc32(0, pixels, sizeof pixels) != photographs[i].crc;
    }
    print_message("%zu of %zu photographs differ from torchvision's pixels\n", n_different, n);
    assert_int_equal(n_different, 0);
    rq_sampler_deinit(&sampler);
}

static void test_random_resized_crop__stays_inside_and_follows_its_distribution(void **state)
{
    (void)state;
    enum { N = 20000, W = 500, H = 375 };
    rq_random random = rq_random_stream(3, 1, 4);
    double area_sum = 0.0, log_ratio_sum = 0.0, x_sum = 0.0, smallest = 1.0, largest = 0.0;
    for (int i = 0; i < N; i++) {
        const rq_crop crop = rq_random_resized_crop(&random, W, H);
        assert_true(crop.x >= 0 && crop.y >= 0 && crop.w >= 1 && crop.h >= 1);
        assert_true(crop.x + crop.w <= W && crop.y + crop.h <= H);
        const double area = (double)crop.w * crop.h / ((double)W * H);
        const double ratio = (double)crop.w / crop.h;
        assert_true(ratio > 0.745 && ratio < 1.342);
        smallest = area < smallest ? area : smallest;
        largest = area > largest ? area : largest;
        area_sum += area;
        log_ratio_sum += log(ratio);
        x_sum += crop.x + 0.5 * crop.w;
    }
    assert_true(smallest >= 0.078 && smallest < 0.09 && largest > 0.95);
    /* torchvision 0.14.1 over 20000 draws at 500 x 375: area 0.432, log ratio 0.031 */
    assert_close(area_sum / N, 0.432, 0.008, 0.0);
    assert_close(log_ratio_sum / N, 0.031, 0.005, 0.0);
    assert_close(x_sum / N, W / 2.0, 2.0, 0.0);
}

static void test_random_resized_crop__falls_back_to_the_centre(void **state)
{
    (void)state;
    rq_random random = {1};
    const rq_crop wide = rq_random_resized_crop(&random, 700, 4);
    assert_int_equal(wide.w, 5); /* round(4 * 4/3) */
    assert_int_equal(wide.h, 4);
    assert_int_equal(wide.x, 347);
    assert_int_equal(wide.y, 0);
    const rq_crop tall = rq_random_resized_crop(&random, 3, 500);
    assert_int_equal(tall.w, 3);
    assert_int_equal(tall.h, 4); /* 3 / (3/4) */
    assert_int_equal(tall.y, 248);
    const rq_crop pixel = rq_random_resized_crop(&random, 1, 1);
    assert_int_equal(pixel.w, 1);
    assert_int_equal(pixel.h, 1);
}

static void flip_reference(uint8_t *pixels, int size)
{
    uint8_t *copy = rq_alloc(square_bytes(size));
    memcpy(copy, pixels, square_bytes(size));
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++)
            memcpy(pixels + 3 * (y * size + x), copy + 3 * (y * size + size - 1 - x), 3);
    rq_free(copy);
}

/* Made of the parts: crop, PIL resize of the crop alone, flip, with the same random stream. */
static void test_crop__is_a_resized_crop_and_a_flip(void **state)
{
    (void)state;
    enum { SIZE = 49, N = 40 };
    const rq_transform transform = {.kind = RQ_TRANSFORM_CROP, .size = SIZE};
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0};
    rq_resizer resizer = {0};
    rq_image image = {0};
    static uint8_t got[SIZE * SIZE * 3], want[SIZE * SIZE * 3];
    size_t size_bytes;
    uint8_t *data = golden_jpeg("portrait", &size_bytes); /* 90 x 121: too small to be reduced */
    int n_flipped = 0;
    for (uint64_t i = 0; i < N; i++) {
        rq_random random = rq_random_stream(11, 0, i), same = random;
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &transform, &random, got, &err),
                  &err);
        assert_ok(rq_jpeg_decode(sampler.decoder, data, size_bytes, 1, &image, &err), &err);
        const rq_crop crop = rq_random_resized_crop(&same, image.w, image.h);
        const size_t stride = (size_t)image.w * 3;
        assert_ok(rq_resize(&resizer, image.pixels + (size_t)crop.y * stride + (size_t)crop.x * 3,
                            crop.w, crop.h, stride, (rq_box){0, 0, crop.w, crop.h}, SIZE, SIZE, 0,
                            0, SIZE, SIZE, want, (size_t)SIZE * 3, &err),
                  &err);
        const bool flip = rq_random_unit(&same) < 0.5;
        if (flip)
            flip_reference(want, SIZE);
        n_flipped += flip;
        assert_memory_equal(got, want, sizeof got);
        assert_true(random.state == same.state);
    }
    assert_in_range(n_flipped, N / 4, 3 * N / 4);
    rq_free(data);
    rq_image_deinit(&image);
    rq_resizer_deinit(&resizer);
    rq_sampler_deinit(&sampler);
}

/* A decoder that shrinks by 2, 4 or 8 gives nearly the same pixels as decoding whole and
 * resizing. */
static void test_crop__decodes_reduced_without_visible_difference(void **state)
{
    (void)state;
    enum { SIDE = 256, N = 60 };
    static uint8_t source[SIDE * SIDE * 3], got[16 * 16 * 3], want[16 * 16 * 3];
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            uint8_t *pixel = source + 3 * (y * SIDE + x);
            pixel[0] = (uint8_t)(127.5 + 100 * sin(0.05 * x));
            pixel[1] = (uint8_t)(127.5 + 100 * cos(0.04 * y + 0.02 * x));
            pixel[2] = (uint8_t)((x + y) / 2);
        }
    const rq_transform transform = {.kind = RQ_TRANSFORM_CROP, .size = 16};
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0};
    rq_resizer resizer = {0};
    rq_image image = {0};
    pixel_stats stats = {0};
    uint8_t *data = NULL;
    size_t size_bytes;
    int n_reduced = 0;
    assert_ok(rq_jpeg_encode(source, SIDE, SIDE, 95, &data, &size_bytes, &err), &err);
    for (uint64_t i = 0; i < N; i++) {
        rq_random random = rq_random_stream(12, 0, i), same = random;
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &transform, &random, got, &err),
                  &err);
        n_reduced += sampler.photo.image.w < SIDE;
        const rq_crop crop = rq_random_resized_crop(&same, SIDE, SIDE);
        assert_true(crop.w * sampler.photo.image.w / SIDE >= 16 &&
                    crop.h * sampler.photo.image.h / SIDE >= 16);
        assert_ok(rq_jpeg_decode(sampler.decoder, data, size_bytes, 1, &image, &err), &err);
        const size_t stride = (size_t)SIDE * 3;
        assert_ok(rq_resize(&resizer, image.pixels + (size_t)crop.y * stride + (size_t)crop.x * 3,
                            crop.w, crop.h, stride, (rq_box){0, 0, crop.w, crop.h}, 16, 16, 0, 0,
                            16, 16, want, 48, &err),
                  &err);
        if (rq_random_unit(&same) < 0.5)
            flip_reference(want, 16);
        stats_add(&stats, got, want, sizeof got);
    }
    stats_print(&stats, "reduced decoding against whole decoding");
    assert_int_equal(n_reduced, N); /* every crop has 72 pixels at least: 1/4 and 1/8 */
    assert_true(stats.sum / (double)stats.n < 1.0);
    assert_in_range(stats.max, 1, 16);
    rq_free(data);
    rq_image_deinit(&image);
    rq_resizer_deinit(&resizer);
    rq_sampler_deinit(&sampler);
}

static void test_eval_and_flip__never_decode_reduced(void **state)
{
    (void)state;
    static const rq_transform_kind kinds[] = {RQ_TRANSFORM_EVAL, RQ_TRANSFORM_FLIP};
    rq_sampler sampler = {0};
    uint8_t got[8 * 8 * 3];
    size_t size_bytes;
    uint8_t *data = golden_jpeg("photo", &size_bytes);
    for (int i = 0; i < 2; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_random random = {9};
        const rq_transform transform = {.kind = kinds[i], .resize = 8, .size = 8};
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &transform, &random, got, &err),
                  &err);
        assert_int_equal(sampler.photo.image.w, 200);
    }
    rq_free(data);
    rq_sampler_deinit(&sampler);
}

static void test_flip__is_eval_or_its_mirror(void **state)
{
    (void)state;
    const rq_transform eval = {.kind = RQ_TRANSFORM_EVAL, .resize = 40, .size = 33},
                       flip = {.kind = RQ_TRANSFORM_FLIP, .resize = 40, .size = 33};
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0};
    static uint8_t plain[33 * 33 * 3], mirrored[33 * 33 * 3], got[33 * 33 * 3];
    size_t size_bytes;
    uint8_t *data = golden_jpeg("photo", &size_bytes);
    assert_ok(rq_sample_memory(&sampler, data, size_bytes, &eval, NULL, plain, &err), &err);
    memcpy(mirrored, plain, sizeof plain);
    flip_reference(mirrored, 33);
    int n_plain = 0, n_mirrored = 0;
    for (uint64_t i = 0; i < 64; i++) {
        rq_random random = rq_random_stream(1, 2, i);
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &flip, &random, got, &err), &err);
        n_plain += memcmp(got, plain, sizeof got) == 0;
        n_mirrored += memcmp(got, mirrored, sizeof got) == 0;
    }
    assert_int_equal(n_plain + n_mirrored, 64);
    assert_in_range(n_plain, 16, 48);
    rq_free(data);
    rq_sampler_deinit(&sampler);
}

/* As told, and nothing else changes: where and how the image is cropped stays. */
static void test_flip__as_told_leaves_the_other_choices(void **state)
{
    (void)state;
    enum { SIDE = 33 };
    rq_transform transforms[3] = {{.kind = RQ_TRANSFORM_PAD_CROP, .padding = 4},
                                  {.kind = RQ_TRANSFORM_CROP},
                                  {.kind = RQ_TRANSFORM_FLIP}};
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0};
    static uint8_t got[3][SIDE * SIDE * 3];
    size_t size_bytes;
    uint8_t *data = golden_jpeg("photo", &size_bytes);
    for (int t = 0; t < 3; t++)
        for (uint64_t i = 0; i < 16; i++) {
            transforms[t].resize = transforms[t].size = SIDE;
            for (int flip = RQ_FLIP_BY_CHANCE; flip <= RQ_FLIP_NEVER; flip++) {
                rq_random random = rq_random_stream(7, 0, i);
                transforms[t].flip = (rq_flip)flip;
                assert_ok(rq_sample_memory(&sampler, data, size_bytes, &transforms[t], &random,
                                           got[flip], &err),
                          &err);
            }
            const bool is_mirrored =
                memcmp(got[RQ_FLIP_BY_CHANCE], got[RQ_FLIP_ALWAYS], sizeof *got) == 0;
            const bool is_plain =
                memcmp(got[RQ_FLIP_BY_CHANCE], got[RQ_FLIP_NEVER], sizeof *got) == 0;
            assert_true(is_mirrored != is_plain);
            flip_reference(got[RQ_FLIP_ALWAYS], SIDE);
            assert_memory_equal(got[RQ_FLIP_ALWAYS], got[RQ_FLIP_NEVER], sizeof *got);
        }
    rq_free(data);
    rq_sampler_deinit(&sampler);
}

/* numpy.pad's "reflect" */
static int reflected(int at, int size)
{
    return at < 0 ? -at : at >= size ? 2 * (size - 1) - at : at;
}

/* The result is one of the shifts of the padded square, mirrored or not; all shifts occur in
 * each direction. */
static void check_pad_crop(const char *source, int side, int size, int padding,
                           rq_padding_mode mode)
{
    const rq_transform pad_crop = {.kind = RQ_TRANSFORM_PAD_CROP,
                                   .resize = side,
                                   .size = size,
                                   .padding = padding,
                                   .padding_mode = mode};
    const rq_transform square = {.kind = RQ_TRANSFORM_EVAL, .resize = side, .size = side};
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0};
    size_t size_bytes;
    uint8_t *data = golden_jpeg(source, &size_bytes);
    uint8_t *plain = rq_alloc(square_bytes(side)), *want = rq_alloc(square_bytes(size));
    uint8_t *got = rq_alloc(square_bytes(size));
    unsigned seen_x = 0, seen_y = 0;
    assert_ok(rq_sample_memory(&sampler, data, size_bytes, &square, NULL, plain, &err), &err);
    for (uint64_t i = 0; i < 100; i++) {
        rq_random random = rq_random_stream(5, 6, i), same = random;
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &pad_crop, &random, got, &err),
                  &err);
        const int n = side - size + 2 * padding + 1;
        const int dx = (int)rq_random_below(&same, (uint64_t)n);
        const int dy = (int)rq_random_below(&same, (uint64_t)n);
        seen_x |= 1u << dx;
        seen_y |= 1u << dy;
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++) {
                int from_x = x + dx - padding, from_y = y + dy - padding;
                if (mode == RQ_PADDING_REFLECT) {
                    from_x = reflected(from_x, side);
                    from_y = reflected(from_y, side);
                }
                const bool inside = from_x >= 0 && from_x < side && from_y >= 0 && from_y < side;
                for (int c = 0; c < 3; c++)
                    want[3 * (y * size + x) + c] =
                        inside ? plain[3 * (from_y * side + from_x) + c] : 0;
            }
        if (rq_random_unit(&same) < 0.5)
            flip_reference(want, size);
        assert_memory_equal(got, want, square_bytes(size));
    }
    assert_int_equal(seen_x, (2u << (side - size + 2 * padding)) - 1);
    assert_int_equal(seen_y, (2u << (side - size + 2 * padding)) - 1);
    rq_free(plain);
    rq_free(want);
    rq_free(got);
    rq_free(data);
    rq_sampler_deinit(&sampler);
}

static void test_pad_crop__shifts_the_square(void **state)
{
    (void)state;
    check_pad_crop("optimized", 40, 40, 4, RQ_PADDING_CONSTANT); /* 40 x 41: no resizing */
    check_pad_crop("grey", 24, 24, 0, RQ_PADDING_CONSTANT);
    check_pad_crop("tiny", 2, 2, 4, RQ_PADDING_CONSTANT); /* shifted out of sight now and then */
    check_pad_crop("wide", 3, 3, 4, RQ_PADDING_CONSTANT);
    check_pad_crop("optimized", 40, 40, 2, RQ_PADDING_REFLECT);
    check_pad_crop("grey", 24, 24, 7, RQ_PADDING_REFLECT);
    check_pad_crop("wide", 9, 9, 4, RQ_PADDING_REFLECT);
    check_pad_crop("optimized", 40, 33, 0, RQ_PADDING_CONSTANT);
    check_pad_crop("grey", 24, 19, 2, RQ_PADDING_CONSTANT);
    check_pad_crop("grey", 24, 19, 3, RQ_PADDING_REFLECT);
}

/* RandAugment works on the crop that the same stream gives without it. */
static void test_randaug__follows_the_flip(void **state)
{
    (void)state;
    enum { SIZE = 31, N = 40 };
    const rq_transform weak = {.kind = RQ_TRANSFORM_CROP, .size = SIZE};
    const rq_transform raug15 = {.kind = RQ_TRANSFORM_CROP, .size = SIZE, .randaug = true};
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0};
    static uint8_t got[SIZE * SIZE * 3], want[SIZE * SIZE * 3], scratch[SIZE * SIZE * 3 + 1];
    size_t size_bytes;
    uint8_t *data = golden_jpeg("portrait", &size_bytes);
    for (uint64_t i = 0; i < N; i++) {
        rq_random random = rq_random_stream(21, 0, i), same = random;
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &raug15, &random, got, &err), &err);
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &weak, &same, want, &err), &err);
        rq_randaug(&same, want, SIZE, SIZE, scratch);
        assert_memory_equal(got, want, sizeof got);
        assert_true(random.state == same.state);
    }
    rq_free(data);
    rq_sampler_deinit(&sampler);
}

static void test_cutout__is_centred_at_any_pixel(void **state)
{
    (void)state;
    enum { SIZE = 9, N = 400 };
    const rq_transform plain = {
        .kind = RQ_TRANSFORM_PAD_CROP, .resize = SIZE, .size = SIZE, .padding = 4};
    const rq_transform cut = {.kind = RQ_TRANSFORM_PAD_CROP,
                              .resize = SIZE,
                              .size = SIZE,
                              .padding = 4,
                              .cutout = {4, {200, 100, 50}}};
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0};
    uint8_t got[SIZE * SIZE * 3], want[SIZE * SIZE * 3];
    unsigned seen_x = 0, seen_y = 0;
    size_t size_bytes;
    uint8_t *data = golden_jpeg("grey", &size_bytes);
    for (uint64_t i = 0; i < N; i++) {
        rq_random random = rq_random_stream(22, 0, i), same = random;
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &cut, &random, got, &err), &err);
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &plain, &same, want, &err), &err);
        const int x = (int)rq_random_below(&same, SIZE), y = (int)rq_random_below(&same, SIZE);
        rq_cutout_apply(&cut.cutout, want, SIZE, SIZE, x, y);
        seen_x |= 1u << x;
        seen_y |= 1u << y;
        assert_memory_equal(got, want, sizeof got);
        assert_true(random.state == same.state);
    }
    assert_int_equal(seen_x, 0x1ff);
    assert_int_equal(seen_y, 0x1ff);
    rq_free(data);
    rq_sampler_deinit(&sampler);
}

static void test_color_jitter__comes_behind_the_flip(void **state)
{
    (void)state;
    enum { SIZE = 9, N = 20 };
    const rq_transform plain = {
        .kind = RQ_TRANSFORM_PAD_CROP, .resize = SIZE, .size = SIZE, .padding = 4};
    const rq_transform jittered = {.kind = RQ_TRANSFORM_PAD_CROP,
                                   .resize = SIZE,
                                   .size = SIZE,
                                   .padding = 4,
                                   .color_jitter = 0.5};
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0};
    uint8_t got[SIZE * SIZE * 3], want[SIZE * SIZE * 3];
    size_t size_bytes;
    uint8_t *data = golden_jpeg("photo", &size_bytes);
    for (uint64_t i = 0; i < N; i++) {
        rq_random random = rq_random_stream(23, 0, i), same = random;
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &jittered, &random, got, &err),
                  &err);
        assert_ok(rq_sample_memory(&sampler, data, size_bytes, &plain, &same, want, &err), &err);
        rq_color_jitter(&same, 0.5, want, (size_t)SIZE * SIZE);
        assert_memory_equal(got, want, sizeof got);
        assert_true(random.state == same.state);
    }
    rq_free(data);
    rq_sampler_deinit(&sampler);
}

/* A decoded photograph gives what its file gives, shrunk by the decoder or not. */
static void test_sample_photo__gives_the_files_sample(void **state)
{
    (void)state;
    static const char *const sources[] = {"photo", "cmyk", "optimized", "wide", "tiny"};
    static const rq_transform transforms[] = {
        {.kind = RQ_TRANSFORM_EVAL, .resize = 20, .size = 17},
        {.kind = RQ_TRANSFORM_FLIP, .resize = 17, .size = 17},
        {.kind = RQ_TRANSFORM_PAD_CROP,
         .resize = 17,
         .size = 17,
         .padding = 4,
         .randaug = true,
         .cutout = {4, {1, 2, 3}}},
    };
    rq_error err = RQ_ERROR_INIT;
    rq_sampler sampler = {0}, other = {0};
    static uint8_t got[17 * 17 * 3], want[17 * 17 * 3];
    int n_shrunk = 0;
    for (size_t s = 0; s < sizeof sources / sizeof *sources; s++) {
        size_t size_bytes;
        uint8_t *data = golden_jpeg(sources[s], &size_bytes);
        for (size_t t = 0; t < sizeof transforms / sizeof *transforms; t++) {
            assert_true(rq_transform_is_whole(&transforms[t]));
            for (uint64_t i = 0; i < 8; i++) {
                rq_random random = rq_random_stream(30, t, i), same = random;
                assert_ok(rq_sample_memory(&sampler, data, size_bytes, &transforms[t], &random,
                                           want, &err),
                          &err);
                memset(got, 0xa5, sizeof got);
                assert_ok(rq_sample_photo(&other, &sampler.photo, &transforms[t], &same, got, &err),
                          &err);
                assert_memory_equal(got, want, sizeof got);
                assert_true(random.state == same.state);
                n_shrunk += sampler.photo.denominator > 1;
            }
        }
        rq_free(data);
    }
    assert_int_equal(n_shrunk, 2 * 8); /* pad-crop of the photo and the 40 x 41 one */
    const rq_transform crop = {.kind = RQ_TRANSFORM_CROP, .size = 17};
    rq_random random = {1};
    assert_false(rq_transform_is_whole(&crop));
    assert_fails(rq_sample_photo(&other, &sampler.photo, &crop, &random, got, &err), RQ_ERR_ARG,
                 &err);
    rq_sampler_deinit(&sampler);
    rq_sampler_deinit(&other);
}

static void test_check__rejects_bad_transforms(void **state)
{
    (void)state;
    static const rq_transform cases[] = {
        {.kind = RQ_TRANSFORM_EVAL, .resize = 256, .size = 0},
        {.kind = RQ_TRANSFORM_EVAL, .size = 224},
        {.kind = RQ_TRANSFORM_FLIP, .resize = -1, .size = 224},
        {.kind = RQ_TRANSFORM_CROP, .size = -1},
        {.kind = RQ_TRANSFORM_CROP, .size = 1 << 20},
        {.kind = (rq_transform_kind)4, .resize = 256, .size = 224},
        {.kind = RQ_TRANSFORM_EVAL, .resize = 1 << 20, .size = 224},
        {.kind = RQ_TRANSFORM_EVAL, .resize = 256, .size = 224, .randaug = true},
        {.kind = RQ_TRANSFORM_EVAL, .resize = 256, .size = 224, .cutout = {8, {0}}},
        {.kind = RQ_TRANSFORM_EVAL, .resize = 256, .size = 224, .color_jitter = 0.1},
        {.kind = RQ_TRANSFORM_CROP, .size = 224, .padding_mode = RQ_PADDING_REFLECT},
        {.kind = RQ_TRANSFORM_PAD_CROP,
         .resize = 8,
         .size = 8,
         .padding = 4,
         .padding_mode = RQ_PADDING_REFLECT},
        {.kind = RQ_TRANSFORM_PAD_CROP, .resize = 8, .size = 8, .padding = -1},
        {.kind = RQ_TRANSFORM_PAD_CROP, .resize = 8, .size = 8, .padding = RQ_MAX_PADDING + 1},
        {.kind = RQ_TRANSFORM_PAD_CROP, .size = 8},
        {.kind = RQ_TRANSFORM_PAD_CROP, .resize = 7, .size = 8},
        {.kind = RQ_TRANSFORM_CROP, .size = 224, .color_jitter = -0.1},
        {.kind = RQ_TRANSFORM_CROP, .size = 224, .color_jitter = 1.1},
        {.kind = RQ_TRANSFORM_CROP, .size = 224, .color_jitter = (double)NAN},
        {.kind = RQ_TRANSFORM_CROP, .size = 224, .cutout = {-1, {0}}},
        {.kind = RQ_TRANSFORM_CROP, .size = 224, .cutout = {1 << 20, {0}}},
    };
    rq_error err = RQ_ERROR_INIT;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_fails(rq_transform_check(&cases[i], &err), RQ_ERR_ARG, &err);
    const rq_transform good = {.kind = RQ_TRANSFORM_CROP,
                               .size = 224}; /* resize is not looked at */
    assert_ok(rq_transform_check(&good, &err), &err);
}

static void test_sample_file__names_the_path(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    const char *png = rq_test_path("%s/photo.JPEG", dir);
    const char *empty = rq_test_path("%s/empty.jpg", dir);
    const char *pipe = rq_test_path("%s/pipe.jpg", dir);
    const char *missing = rq_test_path("%s/missing.jpg", dir);
    rq_test_write_file(png, "\x89PNG\r\n\x1a\n rest", 13);
    rq_test_write_file(empty, "", 0);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    const struct {
        const char *path;
        rq_status status;
        const char *says;
    } cases[] = {
        {png, RQ_ERR_IMAGE, "photo.JPEG: not a JPEG: looks like a PNG image"},
        {empty, RQ_ERR_IMAGE, "empty.jpg: not a JPEG: an empty file"},
        {pipe, RQ_ERR_IO, "pipe.jpg: not a regular file"},
        {missing, RQ_ERR_IO, "missing.jpg: cannot open: No such file"},
        {dir, RQ_ERR_IO, "not a regular file"},
    };
    const rq_transform transform = {.kind = RQ_TRANSFORM_EVAL, .resize = 8, .size = 8};
    rq_sampler sampler = {0};
    uint8_t got[8 * 8 * 3];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_error err = RQ_ERROR_INIT;
        assert_fails(rq_sample_file(&sampler, cases[i].path, &transform, NULL, got, &err),
                     cases[i].status, &err);
        assert_says(&err, cases[i].says);
        assert_memory_equal(err.text, dir, strlen(dir));
    }
    rq_sampler_deinit(&sampler);
    rq_test_rmdir(dir);
}

static void test_sample_file__reports_missing_memory(void **state)
{
    (void)state;
    const char *path = rq_test_path("%s/tests/golden/images/cmyk.jpg", RQ_SOURCE_DIR);
    static const rq_transform transforms[] = {
        {.kind = RQ_TRANSFORM_EVAL, .resize = 12, .size = 8},
        {.kind = RQ_TRANSFORM_FLIP, .resize = 12, .size = 8, .randaug = true},
    };
    uint8_t got[8 * 8 * 3];
    for (int t = 0; t < 2; t++) {
        rq_status status = RQ_ERR_NOMEM;
        long n_failed = 0;
        for (; status != RQ_OK; n_failed++) {
            rq_error err = RQ_ERROR_INIT;
            rq_sampler sampler = {0};
            rq_random random = {3};
            rq_alloc_test_fail_after(n_failed);
            status = rq_sample_file(&sampler, path, &transforms[t], &random, got, &err);
            rq_alloc_test_fail_after(-1);
            if (status != RQ_OK) {
                assert_int_equal(status, RQ_ERR_NOMEM);
                assert_says(&err, "cmyk.jpg");
            }
            rq_sampler_deinit(&sampler);
        }
        /* file, decoder, image, CMYK, resizer, RandAugment's scratch; then it works */
        assert_int_equal(n_failed, 6 + t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eval__equals_torchvision),
        cmocka_unit_test(test_eval__equals_torchvision_on_photographs),
        cmocka_unit_test(test_random_resized_crop__stays_inside_and_follows_its_distribution),
        cmocka_unit_test(test_random_resized_crop__falls_back_to_the_centre),
        cmocka_unit_test(test_crop__is_a_resized_crop_and_a_flip),
        cmocka_unit_test(test_crop__decodes_reduced_without_visible_difference),
        cmocka_unit_test(test_eval_and_flip__never_decode_reduced),
        cmocka_unit_test(test_flip__is_eval_or_its_mirror),
        cmocka_unit_test(test_flip__as_told_leaves_the_other_choices),
        cmocka_unit_test(test_pad_crop__shifts_the_square),
        cmocka_unit_test(test_randaug__follows_the_flip),
        cmocka_unit_test(test_cutout__is_centred_at_any_pixel),
        cmocka_unit_test(test_color_jitter__comes_behind_the_flip),
        cmocka_unit_test(test_sample_photo__gives_the_files_sample),
        cmocka_unit_test(test_check__rejects_bad_transforms),
        cmocka_unit_test(test_sample_file__names_the_path),
        cmocka_unit_test(test_sample_file__reports_missing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
