/* Zip archives: those that are read, and each rule that refuses one. */
#include "runtime/torch/zip.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "tests/runtime/torch/zip_builder.h"
#include "tests/support/test.h"

static rq_error err;
static zip_builder built;
static rq_zip *zip;

static const char text_a[] = "contents of the first entry", text_b[] = "the second";

static int setup(void **state)
{
    (void)state;
    built.n_bytes = 0;
    built.n_items = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_zip_close(zip);
    zip = NULL;
    return 0;
}

static rq_status open_built(void)
{
    rq_zip_close(zip);
    zip = NULL;
    return rq_zip_open(&zip, built.bytes, built.n_bytes, &err);
}

static void check_refused(rq_status code, const char *part)
{
    assert_fails(open_built(), code, &err);
    assert_null(zip);
    assert_says(&err, part);
}

static void check_contents(int i, const char *name, const char *text)
{
    const unsigned char *contents;
    const rq_zip_entry *entry = rq_zip_get_entry(zip, i);
    assert_string_equal(entry->name, name);
    assert_int_equal(rq_zip_find(zip, name), i);
    assert_int_equal(entry->size_bytes, strlen(text));
    assert_ok(rq_zip_read(zip, i, &contents, &err), &err);
    assert_memory_equal(contents, text, strlen(text));
}

/* Raw deflate data of n bytes of memory. */
static size_t deflate_raw(const void *src, size_t n, uint8_t *dst, size_t room)
{
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)src;
    stream.avail_in = (uInt)n;
    stream.next_out = dst;
    stream.avail_out = (uInt)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    const size_t size = stream.total_out;
    (void)deflateEnd(&stream);
    return size;
}

static zip_item deflated(const char *name, const void *src, size_t n, uint8_t *dst, size_t room)
{
    zip_item item = zip_stored(name, src, n);
    item.stored = (uint32_t)deflate_raw(src, n, dst, room);
    item.data = dst;
    item.method = 8;
    return item;
}

/* Two stored entries; local headers at 0 and second. */
static size_t build_two(void)
{
    (void)setup(NULL);
    (void)zip_add(&built, zip_stored("a/one", text_a, strlen(text_a)));
    const size_t second = built.n_bytes;
    (void)zip_add(&built, zip_stored("a/two", text_b, strlen(text_b)));
    zip_finish(&built, 0);
    return second;
}

/* ---- what is read ---- */

static void test_open__stored(void **state)
{
    (void)state;
    const unsigned char *contents;
    build_two();
    assert_ok(open_built(), &err);
    assert_int_equal(rq_zip_count(zip), 2);
    check_contents(0, "a/one", text_a);
    check_contents(1, "a/two", text_b);
    assert_int_equal(rq_zip_find(zip, "a/t"), -1);
    assert_ok(rq_zip_read(zip, 0, &contents, &err), &err);
    assert_true(contents > built.bytes && contents < built.bytes + built.n_bytes); /* no copy */
}

static void test_open__data_descriptors(void **state)
{
    (void)state;
    zip_item item = zip_stored("a", text_a, strlen(text_a));
    item.flags = 0x0808;
    (void)zip_add(&built, item);
    (void)zip_add(&built, zip_stored("empty", "", 0));
    zip_finish(&built, 0);
    assert_ok(open_built(), &err);
    check_contents(0, "a", text_a);
    check_contents(1, "empty", "");
}

static void test_open__zip64(void **state)
{
    (void)state;
    (void)zip_add(&built, zip_stored("a/one", text_a, strlen(text_a)));
    (void)zip_add(&built, zip_stored("a/two", text_b, strlen(text_b)));
    zip_finish(&built, 1);
    assert_ok(open_built(), &err);
    check_contents(1, "a/two", text_b);
}

static void test_open__comment(void **state)
{
    (void)state;
    build_two();
    zip_poke(&built, built.end + 20, 7, 2);
    zip_put_bytes(&built, "comment", 7);
    assert_ok(open_built(), &err);
    check_contents(1, "a/two", text_b);
}

static void test_open__empty_archive(void **state)
{
    (void)state;
    zip_finish(&built, 0);
    assert_ok(open_built(), &err);
    assert_int_equal(rq_zip_count(zip), 0);
    assert_int_equal(rq_zip_find(zip, "a"), -1);
}

static void test_read__deflated(void **state)
{
    (void)state;
    static char zeros[50000];
    static uint8_t packed[3][1000];
    const unsigned char *first, *again;
    (void)zip_add(&built, deflated("zeros", zeros, sizeof zeros, packed[0], sizeof packed[0]));
    (void)zip_add(&built, deflated("text", text_a, strlen(text_a), packed[1], sizeof packed[1]));
    (void)zip_add(&built, deflated("empty", "", 0, packed[2], sizeof packed[2]));
    zip_finish(&built, 0);
    assert_ok(open_built(), &err);
    check_contents(1, "text", text_a);
    check_contents(2, "empty", "");
    assert_ok(rq_zip_read(zip, 0, &first, &err), &err);
    assert_memory_equal(first, zeros, sizeof zeros);
    const size_t allocations = rq_alloc_count();
    assert_ok(rq_zip_read(zip, 0, &again, &err), &err);
    assert_ptr_equal(first, again);
    assert_int_equal(rq_alloc_count(), allocations); /* inflated once */
}

/* ---- what is refused ---- */

static void test_open__refuses_what_is_cut_off(void **state)
{
    (void)state;
    build_two();
    const size_t whole = built.n_bytes;
    for (built.n_bytes = 0; built.n_bytes < whole; built.n_bytes++)
        assert_fails(open_built(), RQ_ERR_FILE, &err);
    built.n_bytes = whole;
    zip_put(&built, 0, 1);
    check_refused(RQ_ERR_FILE, "the zip archive's end is missing");
}

static void test_open__refuses_a_wrong_end(void **state)
{
    (void)state;
    build_two();
    zip_poke(&built, built.end + 8, 3 | 3 << 16, 4);
    check_refused(RQ_ERR_FILE, "3 entries");
    build_two();
    zip_poke(&built, built.directory, 0, 4);
    check_refused(RQ_ERR_FILE, "not a row of the directory");
    build_two();
    zip_poke(&built, built.end + 8, 1 | 1 << 16, 4);
    check_refused(RQ_ERR_FILE, "bytes after its last row");
    build_two();
    zip_poke(&built, built.end + 8, 60000 | 60000u << 16, 4);
    check_refused(RQ_ERR_FILE, "60000 entries");
    build_two();
    zip_poke(&built, built.end + 16, built.directory - 1, 4);
    check_refused(RQ_ERR_FILE, "must end at byte");
    build_two();
    zip_poke(&built, built.end + 4, 1, 2);
    check_refused(RQ_ERR_UNSUPPORTED, "several parts");
}

static void test_open__refuses_a_wrong_zip64_record(void **state)
{
    (void)state;
    (void)zip_add(&built, zip_stored("a", text_a, strlen(text_a)));
    zip_finish(&built, 1);
    assert_ok(open_built(), &err);
    const size_t record = built.end - 20 - 56;
    static const struct {
        size_t at;
        uint64_t value;
        int n;
        const char *part;
    } changes[] = {
        {56 + 8, UINT64_MAX, 8, "zip64 record cannot be at byte 18446744073709551615"},
        {56 + 8, 0, 8, "not a zip64 record"},
        {4, 45, 8, "not a zip64 record"},
        {24, 2, 8, "several parts"},
        {40, UINT64_MAX, 8, "must end at byte"},
        {48, UINT64_MAX - 3, 8, "must end at byte"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        uint8_t before[8];
        memcpy(before, built.bytes + record + changes[i].at, 8);
        zip_poke(&built, record + changes[i].at, changes[i].value, changes[i].n);
        assert_true(open_built() != RQ_OK);
        assert_says(&err, changes[i].part);
        memcpy(built.bytes + record + changes[i].at, before, 8);
    }
    zip_poke(&built, built.end + 8, 9 | 9 << 16, 4);
    check_refused(RQ_ERR_FILE, "do not agree");
    zip_poke(&built, built.end + 8, 1 | 1 << 16, 4);
    zip_poke(&built, built.directory + 46 + 1 + 6 + 2, 20, 2); /* the zip64 field: 20 of 24 bytes */
    check_refused(RQ_ERR_FILE, "zip64 field is too short");
    zip_poke(&built, built.directory + 46 + 1 + 6, 2, 2); /* another field */
    check_refused(RQ_ERR_FILE, "zip64 field is missing");
}

static void test_open__refuses_a_row_that_does_not_fit_its_local_header(void **state)
{
    (void)state;
    const size_t second = build_two();
    zip_poke(&built, built.directory + 46, 'b', 1);
    check_refused(RQ_ERR_FILE, "the local header has another name");
    build_two();
    zip_poke(&built, built.directory + 16, 1, 4);
    check_refused(RQ_ERR_FILE, "another checksum or size");
    build_two();
    zip_poke(&built, 8, 8, 2);
    check_refused(RQ_ERR_FILE, "another method");
    build_two();
    zip_poke(&built, 6, 8, 2);
    check_refused(RQ_ERR_FILE, "other flags");
    build_two();
    zip_poke(&built, second, 0, 4);
    check_refused(RQ_ERR_FILE, "not a local header");
    build_two();
    zip_poke(&built, built.directory + 42, UINT32_MAX - 1, 4);
    check_refused(RQ_ERR_FILE, "do not lie before the directory");
    build_two();
    zip_poke(&built, 28, 60000, 2); /* a long extra field */
    check_refused(RQ_ERR_FILE, "the local header has another name");
}

static void test_open__refuses_sizes_beyond_the_directory(void **state)
{
    (void)state;
    const size_t second = build_two();
    const size_t row = built.directory + 46 + 5;
    for (int i = 0; i < 2; i++) { /* both sizes, in both headers */
        zip_poke(&built, row + 20 + 4 * (size_t)i, strlen(text_b) + 1, 4);
        zip_poke(&built, second + 18 + 4 * (size_t)i, strlen(text_b) + 1, 4);
    }
    check_refused(RQ_ERR_FILE, "do not lie before the directory");
}

static void test_open__refuses_overlaps(void **state)
{
    (void)state;
    /* the second entry lies within the first one's contents */
    static zip_builder inner;
    inner.n_bytes = 0;
    inner.n_items = 0;
    (void)zip_add(&inner, zip_stored("inner", text_b, strlen(text_b)));
    (void)zip_add(&built, zip_stored("outer", inner.bytes, inner.n_bytes));
    zip_item item = inner.items[0];
    item.header = 30 + 5;
    built.items[built.n_items++] = item;
    zip_finish(&built, 0);
    check_refused(RQ_ERR_FILE, "inner overlaps outer");
}

static void test_open__refuses_one_place_for_two_entries(void **state)
{
    (void)state;
    (void)zip_add(&built, zip_stored("a", text_a, strlen(text_a)));
    built.items[built.n_items++] = built.items[0];
    zip_finish(&built, 0);
    check_refused(RQ_ERR_FILE, "overlaps");
}

static void test_open__refuses_a_name_twice(void **state)
{
    (void)state;
    (void)zip_add(&built, zip_stored("a/b", text_a, strlen(text_a)));
    (void)zip_add(&built, zip_stored("a/b", text_b, strlen(text_b)));
    zip_finish(&built, 0);
    check_refused(RQ_ERR_FILE, "the name a/b is given twice");
}

static void test_open__refuses_bytes_in_front(void **state)
{
    (void)state;
    zip_put_bytes(&built, "#!", 2);
    (void)zip_add(&built, zip_stored("a", text_a, strlen(text_a)));
    zip_finish(&built, 0);
    check_refused(RQ_ERR_FILE, "byte 0: no entry begins here");
}

static void test_open__refuses_encryption_and_other_methods(void **state)
{
    (void)state;
    zip_item item = zip_stored("a", text_a, strlen(text_a));
    item.flags = 1;
    (void)zip_add(&built, item);
    zip_finish(&built, 0);
    check_refused(RQ_ERR_UNSUPPORTED, "a: encrypted");
    (void)setup(NULL);
    item.flags = 0;
    item.method = 14;
    (void)zip_add(&built, item);
    zip_finish(&built, 0);
    check_refused(RQ_ERR_UNSUPPORTED, "a: compression method 14");
}

static void test_open__refuses_bad_names(void **state)
{
    (void)state;
    static char name[RQ_ZIP_MAX_NAME + 2];
    memset(name, 'x', sizeof name - 1);
    (void)zip_add(&built, zip_stored(name, text_a, strlen(text_a)));
    zip_finish(&built, 0);
    check_refused(RQ_ERR_FILE, "over 1024 bytes");
    build_two();
    zip_poke(&built, built.directory + 46 + 2, 0, 1);
    check_refused(RQ_ERR_FILE, "a NUL");
}

/* A few hundred bytes that claim to be 4 GB: refused before anything is inflated. */
static void test_open__refuses_an_impossible_ratio(void **state)
{
    (void)state;
    static uint8_t packed[100];
    zip_item item = deflated("bomb", text_a, strlen(text_a), packed, sizeof packed);
    item.size = UINT32_MAX - 1;
    (void)zip_add(&built, item);
    zip_finish(&built, 0);
    check_refused(RQ_ERR_FILE, "bomb: 4294967294 bytes cannot be deflated to");
}

/* Possible sizes, but too large together; what is over the limit is refused before memory is asked
 * for. */
static void test_read__refuses_more_than_the_limit(void **state)
{
    (void)state;
    enum { PACKED = (1 << 21) + (1 << 16) };
    static uint8_t noise[PACKED];
    const unsigned char *contents;
    zip_item item = zip_stored("small", noise, 1 << 10);
    item.method = 8;
    item.size = 1 << 20;
    (void)zip_add(&built, item);
    item = zip_stored("large", noise, PACKED);
    item.method = 8;
    item.size = (uint32_t)RQ_ZIP_MAX_INFLATED - (1 << 20) + 1;
    (void)zip_add(&built, item);
    zip_finish(&built, 0);
    assert_ok(open_built(), &err);
    assert_fails(rq_zip_read(zip, 0, &contents, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "small: its deflate data are damaged");
    rq_alloc_test_fail_after(0);
    assert_fails(rq_zip_read(zip, 1, &contents, &err), RQ_ERR_FILE, &err);
    rq_alloc_test_fail_after(-1);
    assert_says(&err, "large: 1048576 bytes inflated so far and 2146435073 more");
}

static void test_read__refuses_damaged_contents(void **state)
{
    (void)state;
    static uint8_t packed[100];
    const unsigned char *contents;
    build_two();
    built.bytes[30 + 5 + 3] ^= 1;
    assert_ok(open_built(), &err);
    assert_fails(rq_zip_read(zip, 0, &contents, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "a/one: damaged: the checksum is");
    assert_ok(rq_zip_read(zip, 1, &contents, &err), &err); /* each entry by itself */

    for (int change = -1; change <= 1; change += 2) { /* one byte less or more than there is */
        (void)setup(NULL);
        zip_item item = deflated("a", text_a, strlen(text_a), packed, sizeof packed);
        item.size = (uint32_t)((int)item.size + change);
        (void)zip_add(&built, item);
        zip_finish(&built, 0);
        assert_ok(open_built(), &err);
        assert_fails(rq_zip_read(zip, 0, &contents, &err), RQ_ERR_FILE, &err);
        assert_says(&err, "its deflate data are damaged, or not of");
    }
    (void)setup(NULL);
    zip_item item = deflated("a", text_a, strlen(text_a), packed, sizeof packed);
    item.stored++; /* a byte after the deflate stream */
    (void)zip_add(&built, item);
    zip_finish(&built, 0);
    assert_ok(open_built(), &err);
    assert_fails(rq_zip_read(zip, 0, &contents, &err), RQ_ERR_FILE, &err);
}

static void test_open__out_of_memory(void **state)
{
    (void)state;
    build_two();
    for (int n = 0;; n++) {
        rq_alloc_test_fail_after(n);
        const rq_status status = open_built();
        rq_alloc_test_fail_after(-1);
        if (!status)
            break;
        assert_int_equal(status, RQ_ERR_NOMEM);
        assert_true(n < 100);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open__stored),
        TEST(test_open__data_descriptors),
        TEST(test_open__zip64),
        TEST(test_open__comment),
        TEST(test_open__empty_archive),
        TEST(test_read__deflated),
        TEST(test_open__refuses_what_is_cut_off),
        TEST(test_open__refuses_a_wrong_end),
        TEST(test_open__refuses_a_wrong_zip64_record),
        TEST(test_open__refuses_a_row_that_does_not_fit_its_local_header),
        TEST(test_open__refuses_sizes_beyond_the_directory),
        TEST(test_open__refuses_overlaps),
        TEST(test_open__refuses_one_place_for_two_entries),
        TEST(test_open__refuses_a_name_twice),
        TEST(test_open__refuses_bytes_in_front),
        TEST(test_open__refuses_encryption_and_other_methods),
        TEST(test_open__refuses_bad_names),
        TEST(test_open__refuses_an_impossible_ratio),
        TEST(test_read__refuses_more_than_the_limit),
        TEST(test_read__refuses_damaged_contents),
        TEST(test_open__out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
