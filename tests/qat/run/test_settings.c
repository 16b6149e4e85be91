/* Options as text and JSON: every kind, synonyms once, what is not given left out. */
#include "qat/run/settings.h"

#include "tests/support/test.h"

typedef struct fields {
    const char *dir, *name, *none;
    int64_t n;
    double x;
    int word;
    bool on, off;
} fields;

static const char *const words[] = {"one", "two", NULL};
static const rq_option table[] = {
    RQ_POSITIONAL("DIR", fields, dir, "folder"),
    RQ_OPTION_STRING("name", 0, fields, name, "TEXT", "a name"),
    RQ_OPTION_STRING("none", 0, fields, none, "TEXT", "not given"),
    RQ_OPTION_INT("n", 0, fields, n, "N", 0, 10, "a number"),
    RQ_OPTION_FLOAT("x", 0, fields, x, "X", 0, 10, "a number"),
    RQ_OPTION_FLOAT("ex", 0, fields, x, "X", 0, 10, "the same"),
};
static const rq_option more[] = {
    RQ_OPTION_CHOICE("word", 0, fields, word, words, "a word"),
    RQ_OPTION_FLAG("on", 0, fields, on, "a flag"),
    RQ_OPTION_FLAG("off", 0, fields, off, "a flag"),
};
static fields values = {"dir", "a \"b\"", NULL, 7, 0.1, 1, true, false};
static const rq_option_set sets[] = {{table, 6, &values}, {more, 3, &values}};

static void test_text__all_and_without(void **state)
{
    (void)state;
    rq_arena arena = RQ_ARENA_INIT;
    assert_string_equal(rq_settings_text(&arena, sets, 2, NULL),
                        "name=a \"b\" n=7 x=0.1 word=two on=on off=off");
    static const char *const without[] = {"name", "on", NULL};
    assert_string_equal(rq_settings_text(&arena, sets, 2, without), "n=7 x=0.1 word=two off=off");
    rq_arena_deinit(&arena);
}

static void test_text__out_of_memory(void **state)
{
    (void)state;
    const char *text = NULL;
    for (long i = 0; !text; i++) {
        rq_arena arena = RQ_ARENA_INIT;
        rq_alloc_test_fail_after(i);
        text = rq_settings_text(&arena, sets, 2, NULL);
        rq_alloc_test_fail_after(-1);
        rq_arena_deinit(&arena);
        assert_true(i < 20);
    }
}

static void test_json__typed(void **state)
{
    (void)state;
    json_t *options = rq_settings_json(sets, 2);
    assert_non_null(options);
    assert_string_equal(json_string_value(json_object_get(options, "name")), "a \"b\"");
    assert_int_equal(json_integer_value(json_object_get(options, "n")), 7);
    assert_close(json_real_value(json_object_get(options, "x")), 0.1, 0.0, 0.0);
    assert_string_equal(json_string_value(json_object_get(options, "word")), "two");
    assert_true(json_is_true(json_object_get(options, "on")));
    assert_true(json_is_false(json_object_get(options, "off")));
    assert_int_equal(json_object_size(options), 6);
    json_decref(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text__all_and_without),
        cmocka_unit_test(test_text__out_of_memory),
        cmocka_unit_test(test_json__typed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
