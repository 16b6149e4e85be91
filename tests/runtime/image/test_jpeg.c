/* Decoding against PIL, and what damaged, hostile and foreign files lead to. */
#include "runtime/image/jpeg.h"

#include "tests/runtime/image/golden.h"

static rq_jpeg_decoder *new_decoder(void)
{
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = NULL;
    assert_ok(rq_jpeg_decoder_create(&decoder, &err), &err);
    return decoder;
}

static void test_decode__equals_pil(void **state)
{
    (void)state;
    static const struct {
        const char *result, *source;
        int denominator, w, h;
    } cases[] = {
#define X(...) {__VA_ARGS__},
        DECODE_CASES(X)
#undef X
    };
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = new_decoder();
    rq_image image = {0};
    pixel_stats stats = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size_bytes;
        uint8_t *data = golden_jpeg(cases[i].source, &size_bytes);
        assert_ok(rq_jpeg_decode(decoder, data, size_bytes, cases[i].denominator, &image, &err),
                  &err);
        assert_int_equal(image.w, cases[i].w);
        assert_int_equal(image.h, cases[i].h);
        golden_compare(cases[i].result, image.pixels, (size_t)image.w * (size_t)image.h * 3,
                       &stats);
        int w, h;
        assert_ok(rq_jpeg_size(decoder, data, size_bytes, &w, &h, &err), &err);
        assert_int_equal((w + cases[i].denominator - 1) / cases[i].denominator, cases[i].w);
        assert_int_equal((h + cases[i].denominator - 1) / cases[i].denominator, cases[i].h);
        rq_free(data);
    }
    stats_print(&stats, "decoding against PIL");
    rq_image_deinit(&image);
    rq_jpeg_decoder_destroy(decoder);
}

static void test_decode__reuses_memory(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = new_decoder();
    rq_image image = {0};
    size_t photo_bytes, cmyk_bytes;
    uint8_t *photo = golden_jpeg("photo", &photo_bytes);
    uint8_t *cmyk = golden_jpeg("cmyk", &cmyk_bytes);
    assert_ok(rq_jpeg_decode(decoder, photo, photo_bytes, 1, &image, &err), &err);
    assert_ok(rq_jpeg_decode(decoder, cmyk, cmyk_bytes, 1, &image, &err), &err);
    const size_t n_allocs = rq_alloc_count();
    assert_ok(rq_jpeg_decode(decoder, photo, photo_bytes, 1, &image, &err), &err);
    assert_ok(rq_jpeg_decode(decoder, photo, photo_bytes, 2, &image, &err), &err);
    assert_ok(rq_jpeg_decode(decoder, cmyk, cmyk_bytes, 1, &image, &err), &err);
    assert_int_equal(rq_alloc_count(), n_allocs);
    rq_free(photo);
    rq_free(cmyk);
    rq_image_deinit(&image);
    rq_jpeg_decoder_destroy(decoder);
}

static void test_decode__says_what_else_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } cases[] = {
        {"", 0, "an empty file"},
        {"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16, "a PNG image"},
        {"GIF89a\x01\0\x01\0", 10, "a GIF image"},
        {"RIFF\x24\0\0\0WEBPVP8 ", 16, "a WebP image"},
        {"BM\x46\0\0\0", 6, "a BMP image"},
        {"P6\n2 2\n255\n", 11, "a PPM image"},
        {"II*\0\x08\0\0\0", 8, "a TIFF image"},
        {"\0\0\0\x18"
         "ftypheic",
         12, "a HEIC image"},
        {"<!DOCTYPE html>", 15, "a web page"},
        {"\0\0\0\0\0\0", 6, "zeros"},
        {"\xff\xd8", 2, "2 bytes"},
        {"\xff", 1, "1 bytes"},
        {"hello, world", 12, "do not begin with FF D8 FF"},
    };
    rq_jpeg_decoder *decoder = new_decoder();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_image image = {0};
        int w, h;
        uint8_t *data = rq_alloc(cases[i].n);
        memcpy(data, cases[i].bytes, cases[i].n);
        assert_fails(rq_jpeg_size(decoder, data, cases[i].n, &w, &h, &err), RQ_ERR_IMAGE, &err);
        assert_says(&err, "not a JPEG");
        assert_says(&err, cases[i].says);
        assert_fails(rq_jpeg_decode(decoder, data, cases[i].n, 1, &image, &err), RQ_ERR_IMAGE,
                     &err);
        rq_free(data);
    }
    rq_jpeg_decoder_destroy(decoder);
}

/* Each prefix is copied to memory of its own length, so that the address sanitizer sees any read
 * after it. */
static void test_decode__rejects_every_truncation(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny", "progressive", "cmyk", "grey"};
    rq_jpeg_decoder *decoder = new_decoder();
    rq_image image = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size_bytes;
        uint8_t *data = golden_jpeg(names[i], &size_bytes);
        for (size_t n = 0; n < size_bytes; n++) {
            rq_error err = RQ_ERROR_INIT;
            uint8_t *prefix = malloc(n + 1);
            assert_non_null(prefix);
            memcpy(prefix + 1, data, n); /* ends where the block ends */
            assert_fails(rq_jpeg_decode(decoder, prefix + 1, n, 1, &image, &err), RQ_ERR_IMAGE,
                         &err);
            free(prefix);
        }
        rq_free(data);
    }
    rq_image_deinit(&image);
    rq_jpeg_decoder_destroy(decoder);
}

static void test_decode__survives_every_damaged_byte(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny", "progressive", "ycck"};
    rq_jpeg_decoder *decoder = new_decoder();
    rq_image image = {0};
    size_t n_rejected = 0, n_tried = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size_bytes;
        uint8_t *data = golden_jpeg(names[i], &size_bytes);
        for (size_t n = 0; n < size_bytes; n++) {
            rq_error err = RQ_ERROR_INIT;
            data[n] ^= 0xff;
            const rq_status status = rq_jpeg_decode(decoder, data, size_bytes, 1, &image, &err);
            assert_true(status == RQ_OK || status == RQ_ERR_IMAGE);
            data[n] ^= 0xff;
            n_rejected += status != RQ_OK;
            n_tried++;
        }
        rq_free(data);
    }
    print_message("%zu of %zu damaged files rejected\n", n_rejected, n_tried);
    assert_in_range(n_rejected, n_tried / 10, n_tried - 1);
    rq_image_deinit(&image);
    rq_jpeg_decoder_destroy(decoder);
}

static void test_decode__takes_warnings_as_errors(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = new_decoder();
    rq_image image = {0};
    size_t size_bytes;
    uint8_t *data = golden_jpeg("full_chroma", &size_bytes);
    static const uint8_t end[] = {0x12, 0x34, 0x56, 0x78, 0xff, 0xd9}; /* bytes before the marker */
    uint8_t *longer = rq_alloc(size_bytes + 4);
    memcpy(longer, data, size_bytes - 2);
    memcpy(longer + size_bytes - 2, end, sizeof end);
    assert_fails(rq_jpeg_decode(decoder, longer, size_bytes + 4, 1, &image, &err), RQ_ERR_IMAGE,
                 &err);
    assert_says(&err, "damaged JPEG");
    assert_says(&err, "extraneous");
    rq_free(longer);
    rq_free(data);
    rq_image_deinit(&image);
    rq_jpeg_decoder_destroy(decoder);
}

/* Where the payload of the first segment with this marker begins. */
static size_t find_segment(const uint8_t *data, size_t size_bytes, uint8_t marker)
{
    size_t at = 2;
    while (at + 4 < size_bytes && data[at + 1] != marker)
        at += 2u + ((size_t)data[at + 2] << 8 | data[at + 3]);
    assert_true(at + 4 < size_bytes);
    return at + 4;
}

static void put_sides(uint8_t *jpeg, size_t size_bytes, unsigned w, unsigned h)
{
    const size_t sof = find_segment(jpeg, size_bytes, 0xc0);
    const uint8_t sides[4] = {(uint8_t)(h >> 8), (uint8_t)h, (uint8_t)(w >> 8), (uint8_t)w};
    memcpy(jpeg + sof + 1, sides, sizeof sides);
}

static void test_decode__checks_sides_before_memory(void **state)
{
    (void)state;
    static const struct {
        unsigned w, h;
        const char *says;
    } cases[] = {
        {0, 10, "damaged JPEG"},
        {10, 0, "damaged JPEG"},
        {0, 0, "damaged JPEG"},
        {65500, 16, "sides may have up to 32768"},
        {16, 65500, "sides may have up to 32768"},
        {65535, 65535, "damaged JPEG"},
        {32768, 32768, "images may have up to 178956970"},
        {30000, 5000, "30000 x 5000 pixels in"},
    };
    rq_jpeg_decoder *decoder = new_decoder();
    size_t size_bytes;
    uint8_t *data = golden_jpeg("photo", &size_bytes);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_image image = {0};
        put_sides(data, size_bytes, cases[i].w, cases[i].h);
        const size_t n_allocs = rq_alloc_count();
        assert_fails(rq_jpeg_decode(decoder, data, size_bytes, 1, &image, &err), RQ_ERR_IMAGE,
                     &err);
        assert_says(&err, cases[i].says);
        assert_int_equal(rq_alloc_count(), n_allocs);
    }
    rq_free(data);
    rq_jpeg_decoder_destroy(decoder);
}

/* The marker becomes a comment, so the decoder does not see the segment. */
static void hide_segments(uint8_t *jpeg, size_t size_bytes, uint8_t marker)
{
    for (size_t at = 2; jpeg[at + 1] != 0xda && at + 4 < size_bytes;) {
        if (jpeg[at + 1] == marker)
            jpeg[at + 1] = 0xfe;
        at += 2u + ((size_t)jpeg[at + 2] << 8 | jpeg[at + 3]);
    }
}

static void test_decode__forgets_the_image_before(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *used = new_decoder(), *fresh = new_decoder();
    rq_image a = {0}, b = {0};
    size_t before_bytes, size_bytes;
    uint8_t *before = golden_jpeg("optimized", &before_bytes); /* with Huffman tables of its own */
    uint8_t *data = golden_jpeg("photo", &size_bytes);

    hide_segments(data, size_bytes, 0xc4); /* without Huffman tables: the standard ones */
    assert_ok(rq_jpeg_decode(used, before, before_bytes, 1, &a, &err), &err);
    assert_ok(rq_jpeg_decode(used, data, size_bytes, 1, &a, &err), &err);
    assert_ok(rq_jpeg_decode(fresh, data, size_bytes, 1, &b, &err), &err);
    assert_memory_equal(a.pixels, b.pixels, (size_t)a.w * (size_t)a.h * 3);

    hide_segments(data, size_bytes, 0xdb); /* without quantization tables: not an image */
    assert_ok(rq_jpeg_decode(used, before, before_bytes, 1, &a, &err), &err);
    assert_fails(rq_jpeg_decode(used, data, size_bytes, 1, &a, &err), RQ_ERR_IMAGE, &err);
    assert_says(&err, "damaged JPEG");
    rq_free(before);
    rq_free(data);
    rq_image_deinit(&a);
    rq_image_deinit(&b);
    rq_jpeg_decoder_destroy(used);
    rq_jpeg_decoder_destroy(fresh);
}

static void test_decode__rejects_tables_without_image(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = new_decoder();
    static const uint8_t data[] = {0xff, 0xd8, 0xff, 0xfe, 0, 4, 'h', 'i', 0xff, 0xd9};
    int w, h;
    assert_fails(rq_jpeg_size(decoder, data, sizeof data, &w, &h, &err), RQ_ERR_IMAGE, &err);
    assert_says(&err, "no image in it");
    rq_jpeg_decoder_destroy(decoder);
}

/* A progressive grey 8x8 image that sends its DC coefficient n_scans times. */
static size_t repeated_scans(uint8_t *out, int n_scans)
{
    static const uint8_t head[] = {
        0xff, 0xd8, 0xff, 0xc2, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0, /* SOF2 8x8 */
        0xff, 0xc4, 0,    20,   0, 1,  0, 0, 0, 0, 0, 0, 0, 0,    0,
        0,    0,    0,    0,    0, 0,  0, /* one DC code */
        0xff, 0xdb, 0,    67,   0};
    static const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0, 0x7f};
    size_t n = sizeof head;
    memcpy(out, head, n);
    memset(out + n, 1, 64);
    n += 64;
    for (int i = 0; i < n_scans; i++, n += sizeof scan)
        memcpy(out + n, scan, sizeof scan);
    out[n++] = 0xff;
    out[n++] = 0xd9;
    return n;
}

static void test_decode__limits_progressive_scans(void **state)
{
    (void)state;
    static uint8_t data[65536];
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = new_decoder();
    rq_image image = {0};
    assert_ok(rq_jpeg_decode(decoder, data, repeated_scans(data, 3), 1, &image, &err), &err);
    assert_int_equal(image.pixels[0], 128);
    assert_fails(rq_jpeg_decode(decoder, data, repeated_scans(data, 2000), 1, &image, &err),
                 RQ_ERR_IMAGE, &err);
    assert_says(&err, "scans");
    rq_image_deinit(&image);
    rq_jpeg_decoder_destroy(decoder);
}

static void test_decode__rejects_other_scales(void **state)
{
    (void)state;
    rq_jpeg_decoder *decoder = new_decoder();
    rq_image image = {0};
    size_t size_bytes;
    uint8_t *data = golden_jpeg("tiny", &size_bytes);
    static const int denominators[] = {0, -1, 3, 16};
    for (size_t i = 0; i < sizeof denominators / sizeof *denominators; i++) {
        rq_error err = RQ_ERROR_INIT;
        assert_fails(rq_jpeg_decode(decoder, data, size_bytes, denominators[i], &image, &err),
                     RQ_ERR_ARG, &err);
    }
    rq_free(data);
    rq_jpeg_decoder_destroy(decoder);
}

static void test_decode__reports_missing_memory(void **state)
{
    (void)state;
    size_t size_bytes;
    uint8_t *data = golden_jpeg("cmyk", &size_bytes);
    rq_status status = RQ_ERR_NOMEM;
    long n_failed = 0;
    for (; status != RQ_OK; n_failed++) {
        rq_error err = RQ_ERROR_INIT;
        rq_jpeg_decoder *decoder = NULL;
        rq_image image = {0};
        rq_alloc_test_fail_after(n_failed);
        status = rq_jpeg_decoder_create(&decoder, &err);
        if (status == RQ_OK)
            status = rq_jpeg_decode(decoder, data, size_bytes, 1, &image, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK || status == RQ_ERR_NOMEM);
        rq_image_deinit(&image);
        rq_jpeg_decoder_destroy(decoder);
    }
    assert_int_equal(n_failed, 4); /* decoder, image, CMYK rows; then it works */
    rq_free(data);
}

static void test_encode__comes_back(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_jpeg_decoder *decoder = new_decoder();
    rq_image image = {0};
    uint8_t pixels[19 * 13 * 3], *jpeg = NULL;
    size_t size_bytes;
    for (int i = 0; i < 19 * 13; i++) {
        pixels[3 * i] = (uint8_t)(10 * (i % 19));
        pixels[3 * i + 1] = (uint8_t)(15 * (i / 19));
        pixels[3 * i + 2] = 77;
    }
    assert_ok(rq_jpeg_encode(pixels, 19, 13, 95, &jpeg, &size_bytes, &err), &err);
    assert_ok(rq_jpeg_decode(decoder, jpeg, size_bytes, 1, &image, &err), &err);
    assert_int_equal(image.w, 19);
    assert_int_equal(image.h, 13);
    pixel_stats stats = {0};
    stats_add(&stats, image.pixels, pixels, sizeof pixels);
    assert_in_range(stats.max, 1, 8);
    rq_free(jpeg);
    rq_image_deinit(&image);
    rq_jpeg_decoder_destroy(decoder);
}

static void test_encode__rejects_bad_arguments(void **state)
{
    (void)state;
    static const int cases[][3] = {{0, 1, 90}, {1, 0, 90},  {-1, 1, 90},
                                   {1, 1, 0},  {1, 1, 101}, {RQ_MAX_IMAGE_SIDE + 1, 1, 90}};
    const uint8_t pixel[3] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rq_error err = RQ_ERROR_INIT;
        uint8_t *jpeg = NULL;
        size_t size_bytes;
        assert_fails(
            rq_jpeg_encode(pixel, cases[i][0], cases[i][1], cases[i][2], &jpeg, &size_bytes, &err),
            RQ_ERR_ARG, &err);
        assert_null(jpeg);
    }
}

static void test_reserve__rejects_empty_sizes(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_image image = {0};
    assert_fails(rq_image_reserve(&image, 0, 5, &err), RQ_ERR_ARG, &err);
    assert_fails(rq_image_reserve(&image, 5, -5, &err), RQ_ERR_ARG, &err);
    assert_ok(rq_image_reserve(&image, 4, 3, &err), &err);
    assert_int_equal(image.capacity_bytes, 36);
    rq_image_deinit(&image);
    rq_image_deinit(&image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode__equals_pil),
        cmocka_unit_test(test_decode__reuses_memory),
        cmocka_unit_test(test_decode__says_what_else_it_is),
        cmocka_unit_test(test_decode__rejects_every_truncation),
        cmocka_unit_test(test_decode__survives_every_damaged_byte),
        cmocka_unit_test(test_decode__takes_warnings_as_errors),
        cmocka_unit_test(test_decode__checks_sides_before_memory),
        cmocka_unit_test(test_decode__forgets_the_image_before),
        cmocka_unit_test(test_decode__rejects_tables_without_image),
        cmocka_unit_test(test_decode__limits_progressive_scans),
        cmocka_unit_test(test_decode__rejects_other_scales),
        cmocka_unit_test(test_decode__reports_missing_memory),
        cmocka_unit_test(test_encode__comes_back),
        cmocka_unit_test(test_encode__rejects_bad_arguments),
        cmocka_unit_test(test_reserve__rejects_empty_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
