/* The safetensors container: our own files, other programs' files, and broken ones. */
#include "runtime/modelfile/tensorfile.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/memory.h"
#include "tests/support/test.h"

static rq_error err;
static const char *dir;

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_test_rmdir(dir);
    return 0;
}

/* A file made by hand: header text and data bytes. Returns its path. */
static const char *write_raw(const char *header, const void *data, size_t data_bytes)
{
    const char *path = rq_test_path("%s/raw.safetensors", dir);
    const size_t n = strlen(header);
    uint8_t *bytes = rq_alloc(8 + n + data_bytes);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(n >> (8 * i));
    memcpy(bytes + 8, header, n); /* NOLINT(bugprone-not-null-terminated-result): a file */
    if (data_bytes > 0)
        memcpy(bytes + 8 + n, data, data_bytes);
    rq_test_write_file(path, bytes, 8 + n + data_bytes);
    rq_free(bytes);
    return path;
}

static void expect_open_fails(const char *path, const char *says)
{
    rq_tensorfile *file;
    assert_fails(rq_tensorfile_open(&file, path, &err), RQ_ERR_FILE, &err);
    assert_null(file);
    assert_says(&err, path);
    assert_says(&err, says);
}

static void test_open__foreign_file(void **state)
{
    (void)state;
    /* one more byte in the header than alignment wants: "b" is unaligned */
    const float b[2] = {1.5f, -2.0f};
    uint8_t data[12] = {7, 8};
    memcpy(data + 2, b, 8);
    data[10] = 1;
    const char *path =
        write_raw("{\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[2,10]},"
                  "\"h\":{\"shape\":[1],\"dtype\":\"BF16\",\"data_offsets\":[10,12]},"
                  "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                  "\"e\":{\"dtype\":\"I64\",\"shape\":[0,3],\"data_offsets\":[12,12]},"
                  "\"__metadata__\":{\"format\":\"pt\"}}   ",
                  data, sizeof data);
    rq_tensorfile *file;
    rq_tensor tensor;
    assert_ok(rq_tensorfile_open(&file, path, &err), &err);
    assert_false(rq_tensorfile_is_guarded(file));
    assert_string_equal(rq_tensorfile_metadata(file, "format"), "pt");
    assert_null(rq_tensorfile_metadata(file, "version"));
    assert_int_equal(rq_tensorfile_count(file), 4);
    assert_string_equal(rq_tensorfile_get_entry(file, 1)->dtype_name, "BF16");
    assert_ok(rq_tensorfile_find(file, "b", &tensor, &err), &err);
    assert_int_equal(tensor.rank, 2);
    assert_int_equal(tensor.dim[0], 2);
    assert_int_equal((uintptr_t)tensor.data % sizeof(float), 0);
    assert_all_close(rq_tensor_f32(&tensor), b, 2, 0, 0);
    assert_ok(rq_tensorfile_find(file, "a", &tensor, &err), &err);
    assert_int_equal(((const uint8_t *)tensor.data)[1], 8);
    assert_ok(rq_tensorfile_find(file, "e", &tensor, &err), &err);
    assert_int_equal(rq_tensor_elems(&tensor), 0);
    assert_fails(rq_tensorfile_find(file, "h", &tensor, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "h: elements of type 'BF16'");
    assert_fails(rq_tensorfile_find(file, "c", &tensor, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "c: the file has no such tensor");
    rq_tensorfile_close(file);
}

static void test_open__no_tensors(void **state)
{
    (void)state;
    rq_tensorfile *file;
    assert_ok(rq_tensorfile_open(&file, write_raw("{}", NULL, 0), &err), &err);
    assert_int_equal(rq_tensorfile_count(file), 0);
    assert_null(rq_tensorfile_metadata(file, "x"));
    rq_tensorfile_close(file);
}

#define ENTRY(name, dtype, shape, offsets)                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_open__rejects_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *says;
    } cases[] = {
        {"", 4, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"[]", 0, "does not begin with '{'"},
        {"{", 0, "JSON"},
        {"{} x", 0, "JSON"},
        {"{}", 1, "end at data byte 0, the file has 1"},
        {"{" ENTRY("a", "U8", "[2]", "[0,2]") "}", 3, "end at data byte 2, the file has 3"},
        {"{" ENTRY("a", "U8", "[2]", "[0,2]") "}", 1, "not within the 1 data bytes"},
        {"{" ENTRY("a", "U8", "[2]", "[1,3]") "}", 3, "begin at 1, what is before ends at 0"},
        {"{" ENTRY("a", "U8", "[2]", "[0,2]") "," ENTRY("b", "U8", "[2]", "[1,3]") "}", 3,
         "tensor 'b': its data begin at 1, what is before ends at 2"},
        {"{" ENTRY("a", "U8", "[2]", "[0,2]") "," ENTRY("b", "U8", "[2]", "[0,2]") "}", 2,
         "what is before ends at 2"},
        {"{" ENTRY("a", "U8", "[2]", "[0,2]") "," ENTRY("a", "U8", "[1]", "[2,3]") "}", 3,
         "duplicate"},
        {"{" ENTRY("a", "U8", "[2]", "[2,0]") "}", 2, "not within"},
        {"{" ENTRY("a", "U8", "[3]", "[0,2]") "}", 2, "shape takes 3 bytes"},
        {"{" ENTRY("a", "F32", "[1]", "[0,3]") "}", 3, "shape takes 4 bytes"},
        {"{" ENTRY("a", "F64", "[1]", "[0,4]") "}", 4, "shape takes 8 bytes"},
        {"{" ENTRY("a", "F32", "[4611686018427387904,4]", "[0,4]") "}", 4, "too large"},
        {"{" ENTRY("a", "I64", "[4611686018427387904]", "[0,4]") "}", 4, "too large"},
        {"{" ENTRY("a", "U8", "[-1]", "[0,1]") "}", 1, "shape"},
        {"{" ENTRY("a", "U8", "[1.5]", "[0,1]") "}", 1, "shape"},
        {"{" ENTRY("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, "shape"},
        {"{" ENTRY("a", "U8", "1", "[0,1]") "}", 1, "shape"},
        {"{" ENTRY("a", "U8", "[1]", "[0]") "}", 1, "data_offsets"},
        {"{" ENTRY("a", "U8", "[1]", "[-1,0]") "}", 1, "data_offsets"},
        {"{" ENTRY("a", "U8", "[1]", "[0,99999999999999999999]") "}", 1, "JSON"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "tensor 'a'"},
        {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1,
         "tensor 'a'"},
        {"{\"a\":[]}", 0, "tensor 'a'"},
        {"{\"__metadata__\":[]}", 0, "not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "'a' is not a string"},
        {"{\"__metadata__\":{\"header_crc32\":\"00000000\"}}", 0, "checksum"},
        {"{\"__metadata__\":{\"header_crc32\":\"", 0, "JSON"},
    };
    const uint8_t data[8] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_open_fails(write_raw(cases[i].header, data, cases[i].data_bytes), cases[i].says);
}

static void test_open__rejects_sizes(void **state)
{
    (void)state;
    const char *path = rq_test_path("%s/raw", dir);
    static const struct {
        uint8_t bytes[16];
        size_t size_bytes;
        const char *says;
    } cases[] = {
        {{0}, 0, "0 bytes"},
        {{2}, 7, "7 bytes"},
        {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "the header has 3 bytes"},
        {{2, 0, 0, 0, 0, 0, 0, 128, '{', '}'}, 10, "byte 0"},
        {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'}, 10, "byte 0"},
        {{0, 0, 0, 0, 0, 0, 0, 0}, 8, "byte 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_test_write_file(path, cases[i].bytes, cases[i].size_bytes);
        expect_open_fails(path, cases[i].says);
    }
    rq_tensorfile *file;
    assert_fails(rq_tensorfile_open(&file, rq_test_path("%s/none", dir), &err), RQ_ERR_IO, &err);
    assert_says(&err, "none");
    assert_fails(rq_tensorfile_open(&file, dir, &err), RQ_ERR_IO, &err);
    rq_tensorfile_close(NULL);
}

/* Odd sizes first, so that only sorting by element size aligns the rest. */
static uint8_t bytes_[3] = {1, 2, 255};
static float floats_[2][2] = {{0.5f, -0.25f}, {1e-30f, 3e30f}};
static int64_t wide_[1] = {-5000000000};
static int8_t small_[1] = {-128};
static const rq_param tensors[] = {
    {"bytes", {RQ_U8, 1, {3}, bytes_}},   {"floats", {RQ_F32, 2, {2, 2}, floats_}},
    {"wide", {RQ_S64, 0, {0}, wide_}},    {"small", {RQ_S8, 1, {1}, small_}},
    {"empty", {RQ_S32, 2, {0, 3}, NULL}},
};
enum { N_TENSORS = sizeof tensors / sizeof tensors[0] };
static const rq_text_pair pairs[] = {{"greeting", "na\xc3\xafve \"q\" \\ \n"}, {"empty", ""}};

static const char *write_ours(void)
{
    const char *path = rq_test_path("%s/ours.bin", dir);
    assert_ok(rq_tensorfile_write(path, tensors, N_TENSORS, pairs, 2, &err), &err);
    return path;
}

static void test_write__round_trip(void **state)
{
    (void)state;
    rq_tensorfile *file;
    assert_ok(rq_tensorfile_open(&file, write_ours(), &err), &err);
    assert_true(rq_tensorfile_is_guarded(file));
    assert_string_equal(rq_tensorfile_metadata(file, "greeting"), pairs[0].value);
    assert_string_equal(rq_tensorfile_metadata(file, "empty"), "");
    assert_int_equal(rq_tensorfile_count(file), N_TENSORS);
    for (int i = 0; i < N_TENSORS; i++) {
        rq_tensor got;
        assert_ok(rq_tensorfile_find(file, tensors[i].name, &got, &err), &err);
        const rq_tensor *want = &tensors[i].tensor;
        assert_int_equal(got.dtype, want->dtype);
        assert_int_equal(got.rank, want->rank);
        assert_memory_equal(got.dim, want->dim, sizeof got.dim);
        const size_t size_bytes = rq_tensor_elems(want) * rq_dtype_size(want->dtype);
        if (size_bytes > 0)
            assert_memory_equal(got.data, want->data, size_bytes);
    }
    assert_int_equal(rq_tensorfile_get_entry(file, 0)->begin, 0);
    assert_string_equal(rq_tensorfile_get_entry(file, 0)->name, "wide");
    rq_tensorfile_close(file);
}

static void test_write__bytes_are_reproducible_and_data_aligned(void **state)
{
    (void)state;
    size_t n, again;
    uint8_t *a = rq_test_read_file(write_ours(), &n);
    uint8_t *b = rq_test_read_file(write_ours(), &again);
    assert_int_equal(n, again);
    assert_memory_equal(a, b, n);
    const size_t header_bytes = (size_t)a[0] | (size_t)a[1] << 8;
    assert_int_equal((8 + header_bytes) % 64, 0);
    assert_int_equal(8 + header_bytes + 8 + 16 + 3 + 1, n);
    rq_free(a);
    rq_free(b);
}

/* Read everything. */
static rq_status read_all(const char *path)
{
    rq_tensorfile *file;
    rq_status status = rq_tensorfile_open(&file, path, &err);
    for (int i = 0; i < N_TENSORS && !status; i++) {
        rq_tensor tensor;
        status = rq_tensorfile_find(file, tensors[i].name, &tensor, &err);
    }
    rq_tensorfile_close(file);
    return status;
}

/* One byte of a file, in place. */
static void poke(const char *path, size_t at, uint8_t byte)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc(byte, file), byte);
    assert_int_equal(fclose(file), 0);
}

static void test_guard__every_bit_and_every_cut(void **state)
{
    (void)state;
    size_t n;
    uint8_t *bytes = rq_test_read_file(write_ours(), &n);
    const char *path = rq_test_path("%s/broken.bin", dir);
    rq_test_write_file(path, bytes, n);
    assert_int_equal(read_all(path), RQ_OK);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        const size_t at = bit / 8;
        poke(path, at, bytes[at] ^ (uint8_t)(1u << bit % 8));
        const rq_status status = read_all(path);
        /* A flip in the guard's key makes it another program's file; the caller must notice. */
        if (!status) {
            rq_tensorfile *file;
            assert_ok(rq_tensorfile_open(&file, path, &err), &err);
            assert_false(rq_tensorfile_is_guarded(file));
            assert_true(at >= 8 && at < 8 + strlen("{'__metadata__':{'header_crc32':'"));
            rq_tensorfile_close(file);
        }
        poke(path, at, bytes[at]);
    }
    for (size_t cut = n; cut-- > 0;) {
        assert_int_equal(truncate(path, (off_t)cut), 0);
        assert_fails(read_all(path), RQ_ERR_FILE, &err);
        assert_says(&err, path);
    }
    rq_free(bytes);
}

static void test_write__rejects(void **state)
{
    (void)state;
    const char *path = write_ours();
    size_t n, after;
    uint8_t *before = rq_test_read_file(path, &n);
    const rq_param twice[] = {tensors[0], tensors[0]},
                   reserved[] = {{"__metadata__", tensors[0].tensor}};
    const rq_text_pair guard[] = {{"header_crc32", "x"}}, crcs[] = {{"crc32", "x"}};
    assert_fails(rq_tensorfile_write(path, twice, 2, NULL, 0, &err), RQ_ERR_ARG, &err);
    assert_says(&err, "'bytes' is given twice");
    assert_fails(rq_tensorfile_write(path, reserved, 1, NULL, 0, &err), RQ_ERR_ARG, &err);
    assert_fails(rq_tensorfile_write(path, tensors, 1, guard, 1, &err), RQ_ERR_ARG, &err);
    assert_fails(rq_tensorfile_write(path, tensors, 1, crcs, 1, &err), RQ_ERR_ARG, &err);
    assert_fails(rq_tensorfile_write(rq_test_path("%s/no/file", dir), tensors, 1, NULL, 0, &err),
                 RQ_ERR_IO, &err);
    assert_says(&err, "no/file");
    uint8_t *now = rq_test_read_file(path, &after);
    assert_int_equal(after, n);
    assert_memory_equal(now, before, n);
    rq_free(now);
    rq_free(before);
}

static void test_write__text_that_is_not_utf8(void **state)
{
    (void)state;
    const rq_text_pair latin[] = {{"name", "caf\xe9"}};
    const char *path = rq_test_path("%s/latin.bin", dir);
    rq_tensorfile *file;
    assert_ok(rq_tensorfile_write(path, NULL, 0, latin, 1, &err), &err);
    assert_ok(rq_tensorfile_open(&file, path, &err), &err);
    assert_string_equal(rq_tensorfile_metadata(file, "name"), "caf?");
    rq_tensorfile_close(file);
}

static void test_open__no_memory(void **state)
{
    (void)state;
    const char *path = write_ours();
    for (long n = 0;; n++) {
        rq_tensorfile *file;
        rq_alloc_test_fail_after(n);
        const rq_status status = rq_tensorfile_open(&file, path, &err);
        rq_alloc_test_fail_after(-1);
        rq_tensorfile_close(file);
        if (!status)
            break;
        assert_int_equal(status, RQ_ERR_NOMEM);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open__foreign_file),
        TEST(test_open__no_tensors),
        TEST(test_open__rejects_headers),
        TEST(test_open__rejects_sizes),
        TEST(test_write__round_trip),
        TEST(test_write__bytes_are_reproducible_and_data_aligned),
        TEST(test_guard__every_bit_and_every_cut),
        TEST(test_write__rejects),
        TEST(test_write__text_that_is_not_utf8),
        TEST(test_open__no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
