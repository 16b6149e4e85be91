/* Parsing and typed access; hostile text is refused with a message that names the place. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/base/json.h"
#include "tests/support/test.h"

static json_t *parse(const char *text)
{
    rq_error err = RQ_ERROR_INIT;
    json_t *document = NULL;
    assert_ok(rq_json_parse(&document, text, strlen(text), &err), &err);
    return document;
}

static void assert_refused(const char *text, size_t size_bytes, const char *says)
{
    rq_error err = RQ_ERROR_INIT;
    json_t *document = NULL;
    assert_fails(rq_json_parse(&document, text, size_bytes, &err), RQ_ERR_FILE, &err);
    assert_says(&err, says);
    assert_null(document);
}

static void test_parse__reads_only_the_given_bytes(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    json_t *document = NULL;
    assert_ok(rq_json_parse(&document, "{\"a\": 1}garbage", 8, &err), &err);
    int64_t a = 0;
    assert_ok(rq_json_get_int(document, "a", 0, 10, &a, &err), &err);
    assert_int_equal(a, 1);
    json_decref(document);
}

static void test_parse__refuses_bad_text(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "empty"},
        {"{", "byte 1"},
        {"{\"a\": 1} x", "byte 10"},
        {"{\"a\": 1, \"a\": 2}", "duplicate object key"},
        {"{\"a\": 9223372036854775808}", "too big integer"},
        {"{\"a\": 1e999}", "real number overflow"},
        {"{\"a\": NaN}", "invalid token"},
        {"{\"a\": \"\\u0000\"}", "\\u0000 is not allowed"},
        {"{\"a\": \"\xff\"}", "unable to decode byte 0xff"},
        {"3", "'[' or '{' expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(cases[i].text, strlen(cases[i].text), cases[i].says);
    assert_refused("{\"a\0\": 1}", 9, "byte");
}

/* text = depth times '[', then as many ']' */
static void nest(char *text, int depth)
{
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    text[2 * depth] = '\0';
}

static void test_parse__limits_depth(void **state)
{
    (void)state;
    char text[4 * RQ_JSON_MAX_DEPTH];
    nest(text, RQ_JSON_MAX_DEPTH);
    json_decref(parse(text));
    nest(text, RQ_JSON_MAX_DEPTH + 1);
    assert_refused(text, strlen(text), "deeper than 64");
}

static void test_parse__brackets_in_strings_are_not_depth(void **state)
{
    (void)state;
    char text[256] = "[\"\\\"";
    memset(text + 4, '[', 2 * RQ_JSON_MAX_DEPTH);
    memcpy(text + 4 + 2 * RQ_JSON_MAX_DEPTH, "\\\\\"]", 5);
    json_decref(parse(text));
}

static void test_get__gives_values(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    json_t *document = parse("{\"s\": \"x\", \"b\": true, \"i\": -9223372036854775808, \"r\": 0.5,"
                             " \"o\": {}, \"v\": [1, 2, 3], \"n\": null}");
    const char *s = NULL;
    bool b = false;
    int64_t i = 0, v[3] = {0};
    double r = 0.0, w[3] = {0};
    json_t *o = NULL;
    assert_ok(rq_json_get_string(document, "s", &s, &err), &err);
    assert_string_equal(s, "x");
    assert_ok(rq_json_get_bool(document, "b", &b, &err), &err);
    assert_true(b);
    assert_ok(rq_json_get_int(document, "i", INT64_MIN, INT64_MAX, &i, &err), &err);
    assert_true(i == INT64_MIN);
    assert_ok(rq_json_get_number(document, "r", 0.0, 1.0, &r, &err), &err);
    assert_close(r, 0.5, 0.0, 0.0);
    assert_ok(rq_json_get_object(document, "o", &o, &err), &err);
    assert_non_null(o);
    assert_ok(rq_json_get_ints(document, "v", 3, 1, 3, v, &err), &err);
    assert_int_equal(v[2], 3);
    assert_ok(rq_json_get_numbers(document, "v", 3, w, &err), &err);
    assert_close(w[1], 2.0, 0.0, 0.0);
    assert_true(rq_json_has(document, "s"));
    assert_false(rq_json_has(document, "n"));
    assert_false(rq_json_has(document, "zz"));
    assert_false(rq_json_has(NULL, "s"));
    json_decref(document);
}

static void test_get__names_key_and_rule(void **state)
{
    (void)state;
    json_t *document = parse("{\"s\": \"x\", \"i\": 7, \"r\": 1.5, \"v\": [1, 2.5], \"n\": null}");
    rq_error err = RQ_ERROR_INIT;
    const char *s = NULL;
    bool b = false;
    int64_t i = 42, v[2] = {42, 42};
    double r = 42.0;
    json_t *o = NULL;
    assert_fails(rq_json_get_string(document, "op", &s, &err), RQ_ERR_FILE, &err);
    assert_string_equal(err.text, "'op' is missing");
    assert_fails(rq_json_get_string(document, "n", &s, &err), RQ_ERR_FILE, &err);
    assert_string_equal(err.text, "'n' must be a string");
    assert_fails(rq_json_get_string(NULL, "s", &s, &err), RQ_ERR_FILE, &err);
    assert_fails(rq_json_get_bool(document, "i", &b, &err), RQ_ERR_FILE, &err);
    assert_fails(rq_json_get_int(document, "r", 0, 10, &i, &err), RQ_ERR_FILE, &err);
    assert_string_equal(err.text, "'r' must be an integer");
    assert_fails(rq_json_get_int(document, "i", 0, 6, &i, &err), RQ_ERR_FILE, &err);
    assert_string_equal(err.text, "'i' is 7, must be from 0 to 6");
    assert_fails(rq_json_get_int(document, "i", 8, 9, &i, &err), RQ_ERR_FILE, &err);
    assert_fails(rq_json_get_number(document, "r", 0.0, 1.0, &r, &err), RQ_ERR_FILE, &err);
    assert_fails(rq_json_get_number(document, "r", NAN, NAN, &r, &err), RQ_ERR_FILE, &err);
    assert_fails(rq_json_get_number(document, "s", 0.0, 1.0, &r, &err), RQ_ERR_FILE, &err);
    assert_fails(rq_json_get_object(document, "v", &o, &err), RQ_ERR_FILE, &err);
    assert_fails(rq_json_get_array(document, "v", 3, 3, &o, &err), RQ_ERR_FILE, &err);
    assert_string_equal(err.text, "'v' has 2 items, must have 3");
    assert_fails(rq_json_get_array(document, "v", 0, 1, &o, &err), RQ_ERR_FILE, &err);
    assert_fails(rq_json_get_ints(document, "v", 2, 0, 9, v, &err), RQ_ERR_FILE, &err);
    assert_string_equal(err.text, "'v': item 1 must be an integer");
    assert_true(s == NULL && i == 42 && v[0] == 42 && v[1] == 42 && o == NULL);
    assert_close(r, 42.0, 0.0, 0.0);
    json_decref(document);
}

static void test_get_ints__leaves_out_alone_on_range_error(void **state)
{
    (void)state;
    json_t *document = parse("{\"v\": [1, 2]}");
    rq_error err = RQ_ERROR_INIT;
    int64_t v[2] = {42, 42};
    assert_fails(rq_json_get_ints(document, "v", 2, 0, 1, v, &err), RQ_ERR_FILE, &err);
    assert_string_equal(err.text, "'v' is 2, must be from 0 to 1");
    assert_true(v[0] == 42 && v[1] == 42);
    json_decref(document);
}

static void test_json_text__replaces_what_is_not_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {{"", ""}, {"na\xc3\xafve", "na\xc3\xafve"}, {"caf\xe9 \xc3\xaf", "caf? ??"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *json = rq_json_text(cases[i].text);
        assert_string_equal(json_string_value(json), cases[i].want);
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse__reads_only_the_given_bytes),
        cmocka_unit_test(test_parse__refuses_bad_text),
        cmocka_unit_test(test_parse__limits_depth),
        cmocka_unit_test(test_parse__brackets_in_strings_are_not_depth),
        cmocka_unit_test(test_get__gives_values),
        cmocka_unit_test(test_get__names_key_and_rule),
        cmocka_unit_test(test_get_ints__leaves_out_alone_on_range_error),
        cmocka_unit_test(test_json_text__replaces_what_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
