/* Files that look like torch.save's but break a rule: refused, and the message says which rule. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/torch/checkpoint.h"
#include "tests/runtime/torch/torch_builder.h"
#include "tests/support/test.h"

static rq_error err;
static const char *dir, *path;
static zip_builder built;
static rq_checkpoint *checkpoint;

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    path = rq_test_path("%s/w.pth", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_checkpoint_close(checkpoint);
    checkpoint = NULL;
    rq_test_rmdir(dir);
    return 0;
}

static rq_status open_built(void)
{
    rq_checkpoint_close(checkpoint);
    checkpoint = NULL;
    rq_test_write_file(path, built.bytes, built.n_bytes);
    return rq_checkpoint_open(&checkpoint, path, &err);
}

static void check_opens(void)
{
    assert_ok(open_built(), &err);
}

static void check_refused(const char *part)
{
    assert_fails(open_built(), RQ_ERR_FILE, &err);
    assert_null(checkpoint);
    assert_memory_equal(err.text, path, strlen(path));
    assert_says(&err, part);
}

static void check_values(const char *name, const float *want, size_t n)
{
    float got[8];
    const int i = rq_checkpoint_find(checkpoint, name);
    assert_true(i >= 0);
    assert_ok(rq_checkpoint_read(checkpoint, i, RQ_F32, got, &err), &err);
    assert_memory_equal(got, want, n * sizeof(float));
}

#define BUILD(object) torch_build_zip(&built, (object), sizeof(object) - 1)
#define REFUSE(object, part)                                                                       \
    do {                                                                                           \
        BUILD(object);                                                                             \
        check_refused(part);                                                                       \
    } while (0)
#define REFUSE_TENSOR(begin, size, stride, part)                                                   \
    REFUSE(PICKLED_DICT(PICKLED_TENSOR(PICKLED_STORAGE, begin, size, stride)), "w: " part)
#define REFUSE_ID(id, part)                                                                        \
    REFUSE(PICKLED_DICT(PICKLED_TENSOR(id, "K\x00", "K\x01\x85", "K\x01\x85")), "w: " part)

/* ---- the builder's own files are sound ---- */

static void test_open__sound_files(void **state)
{
    (void)state;
    BUILD(PICKLED_DICT(PICKLED_W));
    check_opens();
    check_values("w", built_values, 6);
    const legacy_parts parts = {LEGACY_PARTS, LEGACY_PART(object, PICKLED_DICT(PICKLED_W)),
                                LEGACY_PART(keys, "]U\x01"
                                                  "0a.")};
    torch_build_legacy(&built, &parts);
    check_opens();
    check_values("w", built_values, 6);
}

/* What newer versions write for a tensor with Python attributes, and for a torch.Size. */
static void test_open__other_ways_to_write_a_tensor(void **state)
{
    (void)state;
    BUILD(PICKLED_DICT("ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\n"
                       "ctorch\nTensor\n(" PICKLED_STORAGE "K\x01"
                       "K\x02K\x02\x86K\x02K\x01\x86\x89NtN}tR"));
    check_opens();
    check_values("w", built_values + 1, 4);
    BUILD(PICKLED_DICT("ctorch._utils\n_rebuild_parameter\n(" PICKLED_W "\x88NtR"));
    check_opens();
    check_values("w", built_values, 6);
    BUILD(PICKLED_DICT("ctorch._utils\n_rebuild_tensor\n(" PICKLED_STORAGE "K\x00"
                       "ctorch\nSize\nK\x03\x85\x85RK\x02\x85tR"));
    check_opens();
    const float odd[3] = {1, 3, 5};
    check_values("w", odd, 3);
}

/* ---- tensors ---- */

static void test_open__refuses_tensors_outside_of_their_storage(void **state)
{
    (void)state;
    REFUSE_TENSOR("K\x00", "K\x02K\x04\x86", "K\x04K\x01\x86", "byte ");
    assert_says(&err, "reaches beyond the 6 elements of storage '0'");
    REFUSE_TENSOR("K\x00", "K\x02K\x03\x86", "K\x04K\x01\x86", "byte ");
    REFUSE_TENSOR("K\x01", "K\x02K\x03\x86", "K\x03K\x01\x86", "byte ");
    REFUSE_TENSOR("K\x06", ")", ")", "byte ");
    /* 2^62 * 4 elements; 2^62 with a stride of 4; an offset of 2^63 - 1 */
    REFUSE_TENSOR("K\x00", "\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40K\x04\x86", "K\x00K\x00\x86",
                  "byte ");
    REFUSE_TENSOR("K\x00", "\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x85", "K\x04\x85", "byte ");
    REFUSE_TENSOR("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\x02\x85",
                  "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", "byte ");
    assert_says(&err, "reaches beyond");
}

static void test_open__refuses_sizes_that_are_none(void **state)
{
    (void)state;
    REFUSE_TENSOR("K\x00", "J\xff\xff\xff\xff\x85", "K\x01\x85", "byte ");
    assert_says(&err, "number 0 of its size is negative or not an integer");
    REFUSE_TENSOR("K\x00", "K\x01\x85", "J\xff\xff\xff\xff\x85", "byte ");
    assert_says(&err, "number 0 of its stride is negative");
    REFUSE_TENSOR("J\xff\xff\xff\xff", "K\x01\x85", "K\x01\x85", "byte ");
    assert_says(&err, "its offset is negative");
    REFUSE_TENSOR("K\x00", "K\x01", "K\x01\x85", "its size is not a tuple");
    REFUSE_TENSOR("K\x00", "N\x85", "K\x01\x85", "byte ");
    REFUSE_TENSOR("K\x00", "K\x01K\x01\x86", "K\x01\x85", "byte ");
    assert_says(&err, "a size of 2 numbers, a stride of 1");
    REFUSE_TENSOR("K\x00", "(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t", "K\x01\x85", "byte ");
    assert_says(&err, "a size of 9 numbers, the limit is 8");
    REFUSE(PICKLED_DICT("ctorch._utils\n_rebuild_tensor_v2\n)R"), "w: its storage is nothing");
}

/* 10^9 elements that are one: an expanded tensor. Opening it costs nothing. */
static void test_open__huge_expanded_tensor(void **state)
{
    (void)state;
    BUILD(PICKLED_DICT(
        PICKLED_TENSOR(PICKLED_STORAGE, "K\x02", "J\x00\xca\x9a\x3bK\x01\x86", "K\x00K\x07\x86")));
    check_opens();
    assert_int_equal(rq_checkpoint_get(checkpoint, 0)->dim[0], 1000000000);
}

static void test_open__refuses_bad_storages(void **state)
{
    (void)state;
    REFUSE_ID("N", "its storage is None, not a persistent id");
    REFUSE_ID("K\x05Q", "byte ");
    assert_says(&err, "the persistent id is not ('storage', type, key, location, number)");
    REFUSE_ID(PICKLED_ID("os\nsystem", "0", "K\x06"), "byte ");
    assert_says(&err, "a name os.system is not a known type of storage");
    REFUSE_ID(PICKLED_ID("torch\nFloatStorage", "1", "K\x06"), "the file has no storage a/data/1");
    REFUSE_ID(PICKLED_ID("torch\nFloatStorage", "0", "K\x07"),
              "a/data/0 has 24 bytes, 7 elements of float32 take more");
    REFUSE_ID(PICKLED_ID("torch\nFloatStorage", "0", "J\xff\xff\xff\xff"), "byte ");
    assert_says(&err, "missing, negative or too large");
    REFUSE_ID(PICKLED_ID("torch\nFloatStorage", "0", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
              "byte ");
    assert_says(&err, "missing, negative or too large");
    REFUSE_ID(PICKLED_ID("torch\nFloatStorage", "\0", "K\x06"), "the file has no storage");
}

static void test_read__refuses_a_damaged_storage(void **state)
{
    (void)state;
    float got[6];
    BUILD(PICKLED_DICT(PICKLED_W));
    built.bytes[built.items[1].header + 30 + 8] ^= 1;
    check_opens(); /* not looked at yet */
    assert_fails(rq_checkpoint_read(checkpoint, 0, RQ_F32, got, &err), RQ_ERR_FILE, &err);
    assert_memory_equal(err.text, path, strlen(path));
    assert_says(&err, "w.pth: w: a/data/0: damaged");
}

/* ---- the state dict ---- */

static void test_open__refuses_what_is_no_state_dict(void **state)
{
    (void)state;
    REFUSE("].", "the object is a list, not a state dict");
    REFUSE("crepvgg\nRepVGG\n)\x81}b.", "the object is an object made by repvgg.RepVGG");
    REFUSE(PICKLED_W ".", "_rebuild_tensor_v2, not a state dict");
    REFUSE("K\x01.K\x02.", "a/data.pkl: byte 3: 3 bytes after the object");
    REFUSE("", "a/data.pkl: byte 0: cut off");
    REFUSE("]q\x01h\x01"
           "a.",
           "a/data.pkl: byte 0: a list contains itself");
}

static void test_open__refuses_names(void **state)
{
    (void)state;
    REFUSE("}(U\x08module.w" PICKLED_W "U\x01w" PICKLED_W "u.", "the name w is given twice");
    REFUSE("}U\x00" PICKLED_W "s.", "a name is empty");
    REFUSE("}U\x02w\0" PICKLED_W "s.", "or a NUL");
    BUILD("}(K\x01" PICKLED_W "U\x07module." PICKLED_W "u."); /* 1 is no name; "module." is one */
    check_opens();
    assert_int_equal(rq_checkpoint_count(checkpoint), 1);
    assert_string_equal(rq_checkpoint_get(checkpoint, 0)->name, "module.");
}

/* Of any class next to the weights: named, and an error only for who reads it. */
static void test_read__refuses_what_is_no_tensor(void **state)
{
    (void)state;
    float got[6];
    BUILD("}(U\x01w" PICKLED_W "U\x01xcos\nsystem\nU\x02ls\x85RU\x01yK\x01"
          "U\x01zctorch._utils\n_rebuild_sparse_tensor\n)Ru.");
    check_opens();
    assert_int_equal(rq_checkpoint_count(checkpoint), 4);
    check_values("w", built_values, 6);
    assert_string_equal(rq_checkpoint_get(checkpoint, 1)->other, "an object made by os.system");
    assert_fails(rq_checkpoint_read(checkpoint, 1, RQ_F32, got, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "x: it is an object made by os.system, not a tensor");
    assert_fails(rq_checkpoint_read(checkpoint, 2, RQ_F32, got, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "y: it is an integer");
    assert_fails(rq_checkpoint_read(checkpoint, 3, RQ_F32, got, &err), RQ_ERR_FILE, &err);
    BUILD(PICKLED_DICT(PICKLED_TENSOR(PICKLED_ID("torch\nComplexFloatStorage", "0", "K\x03"),
                                      "K\x00", "K\x03\x85", "K\x01\x85")));
    check_opens();
    assert_fails(rq_checkpoint_read(checkpoint, 0, RQ_F32, got, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "w: its values are complex64");
}

static void test_open__unwraps(void **state)
{
    (void)state;
    BUILD("}(U\x05modelU\x06repvggU\x0astate_dict}U\x01w" PICKLED_W
          "su."); /* "model" is a string */
    check_opens();
    assert_string_equal(rq_checkpoint_where(checkpoint), "state_dict");
    BUILD("}U\x0astate_dict}U\x05model}U\x01w" PICKLED_W "sss.");
    check_opens();
    assert_string_equal(rq_checkpoint_where(checkpoint), "state_dict.model");
    BUILD("}(U\x03"
          "ema}U\x01w" PICKLED_W "sU\x09model_ema}U\x01x" PICKLED_W "su.");
    check_opens();
    assert_string_equal(rq_checkpoint_where(checkpoint), "model_ema");
    BUILD("}U\x05modelcrepvgg\nRepVGG\n)\x81s."); /* a whole module, not a dict: no tensor */
    check_opens();
    assert_string_equal(rq_checkpoint_get(checkpoint, 0)->other, "an object made by repvgg.RepVGG");
}

/* ---- containers ---- */

static void test_open__refuses_other_archives(void **state)
{
    (void)state;
    const char object[] = PICKLED_DICT(PICKLED_W);
    const zip_item item = zip_stored("a/data.pkl", object, sizeof object - 1);
    zip_item other = item;
    other.name = "b/data.pkl";
    built.n_bytes = 0;
    built.n_items = 0;
    (void)zip_add(&built, zip_stored("x/y/data.pkl", "N.", 2));
    zip_finish(&built, 0);
    check_refused("not one of torch.save: it has no NAME/data.pkl");

    built.n_bytes = 0;
    built.n_items = 0;
    (void)zip_add(&built, item);
    (void)zip_add(&built, other);
    zip_finish(&built, 0);
    check_refused("two objects, a/data.pkl and b/data.pkl");

    built.n_bytes = 0;
    built.n_items = 0;
    (void)zip_add(&built, item);
    (void)zip_add(&built, zip_stored("a/byteorder", "big", 3));
    zip_finish(&built, 0);
    assert_fails(open_built(), RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "a/byteorder: 'big', only 'little' is read");
}

static void test_open__refuses_other_files(void **state)
{
    (void)state;
    built.n_bytes = 0;
    check_refused("no checkpoint: neither");
    zip_put_bytes(&built, "version https://git-lfs.github.com/spec/v1\n", 43);
    check_refused("no checkpoint: neither");
    rq_test_write_file(path, "\x80\x02K\x01.", 5);
    assert_fails(rq_checkpoint_open(&checkpoint, path, &err), RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "a pickle, but not a file of torch.save");
}

#define BUILD_LEGACY(...)                                                                          \
    do {                                                                                           \
        const legacy_parts parts_ = {__VA_ARGS__};                                                 \
        torch_build_legacy(&built, &parts_);                                                       \
    } while (0)
#define LEGACY_OBJECT LEGACY_PART(object, PICKLED_DICT(PICKLED_W))
#define LEGACY_KEYS                                                                                \
    LEGACY_PART(keys, "]U\x01"                                                                     \
                      "0a.")

static void test_legacy__refuses_wrong_beginnings(void **state)
{
    (void)state;
    BUILD_LEGACY(LEGACY_PART(magic, LEGACY_MAGIC), LEGACY_PART(version, "\x80\x02M\xe8\x03."),
                 LEGACY_PART(machine, LEGACY_MACHINE), LEGACY_OBJECT, LEGACY_KEYS);
    assert_fails(open_built(), RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "byte 15: the protocol must be 1001");
    BUILD_LEGACY(LEGACY_PART(magic, LEGACY_MAGIC), LEGACY_PART(version, LEGACY_VERSION),
                 LEGACY_PART(machine, "\x80\x02}U\x0dlittle_endian\x89s."), LEGACY_OBJECT,
                 LEGACY_KEYS);
    assert_fails(open_built(), RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "the storages are not little-endian");
    BUILD_LEGACY(LEGACY_PART(magic, "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x18."),
                 LEGACY_PART(version, LEGACY_VERSION), LEGACY_PART(machine, LEGACY_MACHINE),
                 LEGACY_OBJECT, LEGACY_KEYS);
    assert_fails(open_built(), RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "no magic number");
}

static void test_legacy__refuses_wrong_storages(void **state)
{
    (void)state;
    BUILD_LEGACY(LEGACY_PARTS, LEGACY_OBJECT,
                 LEGACY_PART(keys, "]U\x01"
                                   "1a."));
    check_refused("storage '1' belongs to no tensor");
    BUILD_LEGACY(LEGACY_PARTS, LEGACY_OBJECT,
                 LEGACY_PART(keys, "](U\x01"
                                   "0U\x01"
                                   "0e."));
    check_refused("storage '0' is given twice");
    BUILD_LEGACY(LEGACY_PARTS, LEGACY_OBJECT,
                 LEGACY_PART(keys, "]K\x01"
                                   "a."));
    check_refused("storage key 0 is not a string");
    BUILD_LEGACY(LEGACY_PARTS, LEGACY_OBJECT, LEGACY_PART(keys, "}."));
    check_refused("the storage keys are not a list");
    BUILD_LEGACY(LEGACY_PARTS, LEGACY_OBJECT, LEGACY_PART(keys, "]."));
    built.n_bytes -= 8 + sizeof built_values;
    check_refused("w: the file has no storage '0'");
    BUILD_LEGACY(LEGACY_PARTS, LEGACY_OBJECT, LEGACY_KEYS);
    zip_put(&built, 0, 1);
    check_refused("1 bytes after the last storage");
    zip_poke(&built, built.n_bytes - 33, 7, 8);
    check_refused("storage '0' has 7 elements, not 6");
    BUILD_LEGACY(LEGACY_PARTS,
                 LEGACY_PART(object, "}(U\x01w" PICKLED_W "U\x01x" PICKLED_TENSOR(
                                         PICKLED_ID("torch\nHalfStorage", "0", "K\x06"), "K\x00",
                                         "K\x01\x85", "K\x01\x85") "u."),
                 LEGACY_KEYS);
    check_refused("storage '0' is used as 6 float32 and 6 float16");
}

static void test_legacy__refuses_what_is_cut_off(void **state)
{
    (void)state;
    BUILD_LEGACY(LEGACY_PARTS, LEGACY_OBJECT, LEGACY_KEYS);
    for (size_t n = built.n_bytes; n > 1; n--) {
        built.n_bytes = n - 1;
        check_refused("cut off");
    }
}

/* Views of storages: the sixth item of the id. */
#define VIEW_ID(begin, n)                                                                          \
    "(U\x07storagectorch\nFloatStorage\nU\x01"                                                     \
    "0U\x03"                                                                                       \
    "cpuK\x06(U\x01v" begin n "ttQ"
#define VIEW_OF(begin, n, size)                                                                    \
    LEGACY_PART(object, PICKLED_DICT(PICKLED_TENSOR(VIEW_ID(begin, n), "K\x01", size, "K\x01\x85")))

static void test_legacy__storage_views(void **state)
{
    (void)state;
    BUILD_LEGACY(LEGACY_PARTS, VIEW_OF("K\x02", "K\x03", "K\x02\x85"), LEGACY_KEYS);
    check_opens();
    check_values("w", built_values + 3, 2);
    BUILD_LEGACY(LEGACY_PARTS, VIEW_OF("K\x02", "K\x03", "K\x03\x85"), LEGACY_KEYS);
    check_refused("reaches beyond the 3 elements");
    BUILD_LEGACY(LEGACY_PARTS, VIEW_OF("K\x04", "K\x03", "K\x02\x85"), LEGACY_KEYS);
    check_refused("the view does not lie within the storage's 6 elements");
}

static void test_open__out_of_memory(void **state)
{
    (void)state;
    BUILD("}(U\x01w" PICKLED_W "U\x01xcos\nsystem\n)Ru.");
    check_opens();
    for (int n = 0;; n++) {
        rq_checkpoint_close(checkpoint);
        rq_alloc_test_fail_after(n);
        const rq_status status = rq_checkpoint_open(&checkpoint, path, &err);
        rq_alloc_test_fail_after(-1);
        if (!status)
            break;
        assert_int_equal(status, RQ_ERR_NOMEM);
        assert_true(n < 1000);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open__sound_files),
        TEST(test_open__other_ways_to_write_a_tensor),
        TEST(test_open__refuses_tensors_outside_of_their_storage),
        TEST(test_open__refuses_sizes_that_are_none),
        TEST(test_open__huge_expanded_tensor),
        TEST(test_open__refuses_bad_storages),
        TEST(test_read__refuses_a_damaged_storage),
        TEST(test_open__refuses_what_is_no_state_dict),
        TEST(test_open__refuses_names),
        TEST(test_read__refuses_what_is_no_tensor),
        TEST(test_open__unwraps),
        TEST(test_open__refuses_other_archives),
        TEST(test_open__refuses_other_files),
        TEST(test_legacy__refuses_wrong_beginnings),
        TEST(test_legacy__refuses_wrong_storages),
        TEST(test_legacy__refuses_what_is_cut_off),
        TEST(test_legacy__storage_views),
        TEST(test_open__out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
