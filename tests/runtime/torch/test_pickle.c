/* Pickles written out opcode by opcode: what they become, and what is refused where. */
#include "runtime/torch/pickle.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "tests/support/test.h"

static rq_error err;
static rq_pickle *pickle;
static const rq_pickle_value *root;

static int teardown(void **state)
{
    (void)state;
    rq_pickle_free(pickle);
    pickle = NULL;
    return 0;
}

static rq_status read_bytes(const void *data, size_t n)
{
    size_t used_bytes = 0;
    rq_pickle_free(pickle);
    pickle = NULL;
    const rq_status status = rq_pickle_read(&pickle, data, n, &used_bytes, &err);
    if (!status) {
        assert_int_equal(used_bytes, n);
        root = rq_pickle_root(pickle);
    }
    return status;
}

/* A pickle as a string literal; its NUL is not part of it. */
#define READ(text) assert_ok(read_bytes((text), sizeof(text) - 1), &err)
#define REFUSE(text, part)                                                                         \
    do {                                                                                           \
        assert_fails(read_bytes((text), sizeof(text) - 1), RQ_ERR_FILE, &err);                     \
        assert_null(pickle);                                                                       \
        assert_says(&err, (part));                                                                 \
    } while (0)

static void check_int(const rq_pickle_value *value, int64_t want)
{
    int64_t got = ~want;
    assert_true(rq_pickle_get_int(value, &got));
    assert_true(got == want);
}

/* ---- values ---- */

static void test_read__numbers(void **state)
{
    (void)state;
    READ("\x80\x02K\xff.");
    check_int(root, 255);
    READ("M\xff\xff.");
    check_int(root, 65535);
    READ("J\xfe\xff\xff\xff.");
    check_int(root, -2);
    READ("\x8a\x00.");
    check_int(root, 0);
    READ("\x8a\x02\x00\x80.");
    check_int(root, -32768);
    READ("\x8a\x03\x00\x80\x00.");
    check_int(root, 32768);
    READ("\x8a\x08\x01\x00\x00\x00\x00\x00\x00\x80.");
    check_int(root, INT64_MIN + 1);
    READ("\x8b\x09\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09.");
    assert_int_equal(root->kind, RQ_PICKLE_LONG);
    assert_int_equal(root->as.bytes.n, 9);
    READ("G\x3f\xf8\x00\x00\x00\x00\x00\x00.");
    assert_true(root->kind == RQ_PICKLE_FLOAT && root->as.real == 1.5);
    READ("\x88.");
    assert_true(root->kind == RQ_PICKLE_BOOL && root->as.boolean);
    READ("\x89.");
    assert_true(root->kind == RQ_PICKLE_BOOL && !root->as.boolean);
    READ("N.");
    assert_int_equal(root->kind, RQ_PICKLE_NONE);
}

static void test_read__strings(void **state)
{
    (void)state;
    READ("X\x03\x00\x00\x00"
         "abc.");
    assert_true(rq_pickle_is_text(root, "abc"));
    assert_false(rq_pickle_is_text(root, "ab"));
    READ("\x8c\x03"
         "abc.");
    assert_true(rq_pickle_is_text(root, "abc"));
    READ("\x8d\x03\x00\x00\x00\x00\x00\x00\x00"
         "abc.");
    assert_true(rq_pickle_is_text(root, "abc"));
    READ("U\x03"
         "abc.");
    assert_true(rq_pickle_is_text(root, "abc"));
    READ("C\x02"
         "ab.");
    assert_int_equal(root->kind, RQ_PICKLE_BYTES);
    READ("\x96\x02\x00\x00\x00\x00\x00\x00\x00"
         "ab.");
    assert_int_equal(root->kind, RQ_PICKLE_BYTES);
}

static void test_read__containers(void **state)
{
    (void)state;
    READ("]q\x00(K\x01K\x02"
         "eK\x03"
         "a."); /* [1, 2, 3] */
    assert_true(root->kind == RQ_PICKLE_LIST && root->as.items.n == 3);
    check_int(rq_pickle_item(root, 2), 3);
    assert_null(rq_pickle_item(root, 3));
    READ("(K\x01K\x02K\x03t."); /* (1, 2, 3) */
    assert_true(root->kind == RQ_PICKLE_TUPLE && root->as.items.n == 3);
    READ("K\x01K\x02K\x03\x87.");
    check_int(rq_pickle_item(root, 0), 1);
    READ("}(X\x01\x00\x00\x00"
         "aK\x01X\x01\x00\x00\x00"
         "bK\x02uX\x01\x00\x00\x00"
         "aK\x03s.");
    assert_int_equal(root->kind, RQ_PICKLE_DICT);
    check_int(rq_pickle_lookup(root, "a"), 3); /* set twice: the last */
    check_int(rq_pickle_lookup(root, "b"), 2);
    assert_null(rq_pickle_lookup(root, "c"));
    READ("\x8f(K\x01\x90.");
    assert_true(root->kind == RQ_PICKLE_SET && root->as.items.n == 1);
    READ("(K\x01\x91.");
    assert_true(root->kind == RQ_PICKLE_SET && root->as.items.n == 1);
    READ("(K\x01"
         "0(K\x02"
         "0"
         "01K\x05."); /* values that are dropped, marks too */
    check_int(root, 5);
}

/* The memo: the same value at two places; numbers with gaps. */
static void test_read__memo(void **state)
{
    (void)state;
    READ("(]q\x07h\x07r\x00\x01\x00\x00j\x00\x01\x00\x00t.");
    assert_true(root->as.items.n == 3);
    assert_ptr_equal(rq_pickle_item(root, 0), rq_pickle_item(root, 2));
    READ("\x80\x04(K\x01\x94K\x02\x94h\x00h\x01"
         "2t.");
    assert_int_equal(root->as.items.n, 5);
    check_int(rq_pickle_item(root, 2), 1);
    check_int(rq_pickle_item(root, 4), 2);
}

static void test_read__objects_are_descriptions(void **state)
{
    (void)state;
    char text[64];
    READ("cos\nsystem\nX\x02\x00\x00\x00ls\x85R."); /* nothing is called */
    assert_int_equal(root->kind, RQ_PICKLE_OBJECT);
    assert_true(rq_pickle_is_global(root->as.object->callable, "os", "system"));
    assert_true(rq_pickle_is_text(rq_pickle_item(root->as.object->arguments, 0), "ls"));
    rq_pickle_describe(root, text, sizeof text);
    assert_string_equal(text, "an object made by os.system");
    READ("\x8c\x01"
         "m\x8c\x01"
         "C\x93)\x81}b."); /* m.C.__new__(m.C), then its state */
    assert_true(rq_pickle_is_global(root->as.object->callable, "m", "C"));
    assert_int_equal(root->as.object->state->kind, RQ_PICKLE_DICT);
    READ("\x8c\x01"
         "m\x8c\x01"
         "C\x93)}\x92K\x01"
         "a."); /* a list of a class of its own */
    assert_int_equal(root->as.object->list.n, 1);
    assert_null(rq_pickle_dict(root));
}

static void test_read__ordered_dicts(void **state)
{
    (void)state;
    READ("ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00"
         "aK\x01u}b.");
    check_int(rq_pickle_lookup(root, "a"), 1);
    READ("ccollections\nOrderedDict\n]]U\x01"
         "aaK\x01"
         "aa\x85R."); /* of Python 2 */
    check_int(rq_pickle_lookup(root, "a"), 1);
    REFUSE("ccollections\nOrderedDict\n]]U\x01"
           "aaa\x85R.",
           "byte 33: REDUCE: item 0 of an");
}

static void test_read__persistent_ids(void **state)
{
    (void)state;
    READ("(K\x01QK\x02Qt.");
    assert_int_equal(rq_pickle_n_persistent(pickle), 2);
    check_int(rq_pickle_get_persistent(pickle, 1)->as.id, 2);
    assert_int_equal(rq_pickle_item(root, 0)->kind, RQ_PICKLE_PERSISTENT);
}

static void test_read__one_after_another(void **state)
{
    (void)state;
    static const unsigned char two[] = "K\x01.K\x02.";
    size_t used_bytes;
    assert_ok(rq_pickle_read(&pickle, two, 6, &used_bytes, &err), &err);
    assert_int_equal(used_bytes, 3);
}

/* ---- what is refused ---- */

static void test_read__refuses_what_is_cut_off(void **state)
{
    (void)state;
    static const char whole[] = "\x80\x04\x95\x33\x00\x00\x00\x00\x00\x00\x00"
                                "ctorch\nX\n"
                                "(X\x01\x00\x00\x00"
                                "aC\x01"
                                "b\x8a\x01\x00\x8b\x01\x00\x00\x00\x00"
                                "G\x00\x00\x00\x00\x00\x00\x00\x00q\x00h\x00r\x01\x00\x00\x00tR0N.";
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        assert_fails(read_bytes(whole, n), RQ_ERR_FILE, &err);
        assert_says(&err, "cut off");
    }
    READ(whole);
}

static void test_read__refuses_stack_underflow(void **state)
{
    (void)state;
    REFUSE(".", "byte 0: STOP: the stack holds 0 of 1 values");
    REFUSE("cm\nn\nR.", "byte 5: REDUCE: the stack holds 1 of 2 values");
    REFUSE("K\x01(K\x02\x86.",
           "byte 5: TUPLE2: the stack holds 1 of 2 values"); /* not across marks */
    REFUSE("0.", "byte 0: POP");
    REFUSE("t.", "byte 0: TUPLE: the stack has no mark");
    REFUSE("q\x01.", "byte 0: BINPUT");
    REFUSE("2.", "byte 0: DUP");
    REFUSE("Q.", "byte 0: BINPERSID");
    REFUSE("}b.", "byte 1: BUILD");
    REFUSE("K\x01K\x02.", "byte 4: STOP: 1 values and 0 marks are left");
    REFUSE("(K\x01.", "byte 3: STOP");
}

static void test_read__refuses_wrong_types(void **state)
{
    (void)state;
    REFUSE("K\x01K\x02"
           "a.",
           "byte 4: APPEND: items are added to an integer");
    REFUSE("](K\x01K\x02u.", "byte 6: SETITEMS: items are added to a list");
    REFUSE("}(K\x01u.", "byte 4: SETITEMS: 1 values are not pairs");
    REFUSE("(K\x01"
           "d.",
           "byte 3: DICT: 1 values are not pairs");
    REFUSE("K\x01K\x02\x93.", "byte 4: STACK_GLOBAL: the module and the name are not strings");
    REFUSE("]}b.", "byte 2: BUILD: a state for what is not an object");
    REFUSE("c\nx\n.", "byte 0: GLOBAL: a name of 0.1 bytes");
}

static void test_read__refuses_numbers_out_of_range(void **state)
{
    (void)state;
    REFUSE("h\x05.", "byte 0: BINGET: the memo has no number 5");
    REFUSE("K\x01r\xff\xff\xff\xff.", "byte 2: LONG_BINPUT: memo number 4294967295");
    REFUSE("\x8b\xff\xff\xff\x7f.", "byte 0: LONG4: an integer of 2147483647 bytes");
    REFUSE("\x8b\xff\xff\xff\xff.", "byte 0: LONG4: an integer of 4294967295 bytes");
    REFUSE("X\xff\xff\xff\xff.", "byte 0: BINUNICODE: cut off: 4294967295 bytes wanted");
    REFUSE("\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "BINBYTES8: cut off: 18446744073709551615");
    REFUSE("\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", "FRAME: cut off");
    REFUSE("\x80\x06N.", "byte 0: PROTO: protocol 6, at most 5");
}

static void test_read__refuses_unknown_opcodes(void **state)
{
    (void)state;
    REFUSE("\xff.", "byte 0: 0xff is not an opcode");
    assert_fails(read_bytes("I1\n.", 4), RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "byte 0: INT: this opcode is not read");
    assert_fails(read_bytes("cos\nsystem\n(S'ls'\no.", 20), RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "byte 12: STRING");
}

static void test_read__refuses_cycles(void **state)
{
    (void)state;
    REFUSE("]q\x00h\x00"
           "a.",
           "byte 0: a list contains itself");
    REFUSE("}q\x00K\x01h\x00s.", "byte 0: a dict contains itself");
    REFUSE("cm\nC\n)\x81q\x00}K\x01h\x00sb.", "byte 6: an object contains itself"); /* its state */
    REFUSE("]q\x00h\x00Q"
           "a.",
           "contains itself");     /* through a persistent id */
    READ("]q\x00h\x00h\x00\x87."); /* twice is not a cycle */
}

/* n times the opcode, then the end. */
static rq_status read_repeated(const char *begin, const char *body, size_t n, const char *end)
{
    const size_t size = strlen(begin) + n * strlen(body) + strlen(end);
    char *text = rq_alloc(size + 1), *at = stpcpy(text, begin);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, body);
    (void)stpcpy(at, end);
    const rq_status status = read_bytes(text, size);
    rq_free(text); /* the values do not refer to strings here */
    return status;
}

static void test_read__bounds_depth(void **state)
{
    (void)state;
    assert_ok(read_repeated("N", "\x85", RQ_PICKLE_MAX_DEPTH - 1, "."), &err);
    assert_fails(read_repeated("N", "\x85", RQ_PICKLE_MAX_DEPTH, "."), RQ_ERR_FILE, &err);
    assert_says(&err, "nested over 200 levels deep");
    assert_fails(read_repeated("N", "\x85", 500000, "."), RQ_ERR_FILE, &err);
    assert_says(&err, "nested over 200 levels deep");
    /* each level holds the one below twice: 2^100 ways, walked once */
    assert_ok(read_repeated("N", "2\x86", RQ_PICKLE_MAX_DEPTH / 2, "."), &err);
}

static void test_read__bounds_memory(void **state)
{
    (void)state;
    const size_t many = RQ_PICKLE_MAX_VALUES + 1;
    assert_fails(read_repeated("", "N0", many, "N."), RQ_ERR_FILE, &err);
    assert_says(&err, "over 1048576 values");
    assert_fails(read_repeated("]Nq\x01"
                               "0",
                               "h\x01"
                               "a",
                               many, "."),
                 RQ_ERR_FILE, &err);
    assert_says(&err, "over 1048576 places in containers");
    assert_fails(read_repeated("N", "2", many, "."), RQ_ERR_FILE, &err);
    assert_says(&err, "over 1048576 values on the stack");
    assert_fails(read_repeated("", "(", many, "N."), RQ_ERR_FILE, &err);
    assert_says(&err, "over 1048576 marks");
}

static void test_read__out_of_memory(void **state)
{
    (void)state;
    static const char text[] = "(ccollections\nOrderedDict\n]]U\x01"
                               "aaK\x01"
                               "aa\x85RK\x01Q(l}q\x09t.";
    for (int n = 0;; n++) {
        rq_alloc_test_fail_after(n);
        const rq_status status = read_bytes(text, sizeof text - 1);
        rq_alloc_test_fail_after(-1);
        if (!status)
            break;
        assert_int_equal(status, RQ_ERR_NOMEM);
        assert_true(n < 1000);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_read__numbers),
        TEST(test_read__strings),
        TEST(test_read__containers),
        TEST(test_read__memo),
        TEST(test_read__objects_are_descriptions),
        TEST(test_read__ordered_dicts),
        TEST(test_read__persistent_ids),
        TEST(test_read__one_after_another),
        TEST(test_read__refuses_what_is_cut_off),
        TEST(test_read__refuses_stack_underflow),
        TEST(test_read__refuses_wrong_types),
        TEST(test_read__refuses_numbers_out_of_range),
        TEST(test_read__refuses_unknown_opcodes),
        TEST(test_read__refuses_cycles),
        TEST(test_read__bounds_depth),
        TEST(test_read__bounds_memory),
        TEST(test_read__out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
