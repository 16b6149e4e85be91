/* The exact text of what is written, and that a JSON reader takes all of it. */
#include "runtime/base/json_line.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "tests/support/test.h"

/* What is printed of the object; to be freed. */
static char *print(json_t *object)
{
    char *text = NULL;
    size_t size_bytes;
    rq_error err = RQ_ERROR_INIT;
    FILE *out = open_memstream(&text, &size_bytes);
    assert_non_null(out);
    assert_ok(rq_json_print(object, out, &err), &err);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_print__keeps_order_on_one_line(void **state)
{
    (void)state;
    json_t *json = json_object(), *layers = json_array(), *stem = json_object();
    rq_json_set(&stem, "name", rq_json_string("stem"));
    rq_json_append(&layers, stem);
    rq_json_append(&layers, json_integer(2));
    rq_json_append(&layers, json_array());
    rq_json_set(&json, "images", json_integer(INT64_MIN));
    rq_json_set(&json, "top1", rq_json_number(70.92));
    rq_json_set(&json, "third", rq_json_number(1.0 / 3.0));
    rq_json_set(&json, "tiny", rq_json_number(1e-300));
    rq_json_set(&json, "bad", rq_json_number(NAN));
    rq_json_set(&json, "worse", rq_json_number(-INFINITY));
    rq_json_set(&json, "ok", json_boolean(true));
    rq_json_set(&json, "none", rq_json_string(NULL));
    rq_json_set(&json, "layers", layers);
    rq_json_set(&json, "last", json_boolean(false));
    rq_json_set(&json, "open", json_object());
    char *text = print(json);
    assert_string_equal(
        text, "{\"schema\": 1, \"images\": -9223372036854775808, \"top1\": 70.92, "
              "\"third\": 0.333333333, \"tiny\": 1e-300, \"bad\": null, "
              "\"worse\": null, \"ok\": true, \"none\": null, "
              "\"layers\": [{\"name\": \"stem\"}, 2, []], \"last\": false, \"open\": {}}\n");
    free(text);
}

static void assert_written_as(const char *value, const char *want)
{
    json_t *json = json_object(), *document = NULL;
    rq_json_set(&json, "s", rq_json_string(value));
    char *text = print(json);
    assert_string_equal(text, rq_test_path("{\"schema\": 1, \"s\": \"%s\"}\n", want));
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_json_parse(&document, text, strlen(text), &err), &err);
    json_decref(document);
    free(text);
}

static void test_string__escaped(void **state)
{
    (void)state;
    assert_written_as("", "");
    assert_written_as("a\"b\\c/", "a\\\"b\\\\c/");
    assert_written_as("line\n\x01\x7f", "line\\n\\u0001\x7f");
    assert_written_as("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
                      "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
}

#define REPLACED "\xef\xbf\xbd"

static void test_string__replaces_what_is_not_utf8(void **state)
{
    (void)state;
    assert_written_as("a\xff"
                      "b",
                      "a" REPLACED "b");
    assert_written_as("\xc3", REPLACED);                                        /* cut short */
    assert_written_as("\xe2\x82", REPLACED REPLACED);                           /* cut short */
    assert_written_as("\xc0\xaf", REPLACED REPLACED);                           /* overlong */
    assert_written_as("\xed\xa0\x80", REPLACED REPLACED REPLACED);              /* surrogate */
    assert_written_as("\xf4\x90\x80\x80", REPLACED REPLACED REPLACED REPLACED); /* over U+10FFFF */
}

/* A value that could not be made shows when the tree is printed, wherever it was. */
static void test_print__out_of_memory(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    json_t *json = json_object(), *list = json_array();
    rq_alloc_test_fail_after(0);
    rq_json_append(&list, rq_json_string("\xff"));
    rq_alloc_test_fail_after(-1);
    assert_null(list);
    rq_json_append(&list, json_integer(1));
    rq_json_set(&json, "list", list);
    rq_json_set(&json, "more", json_integer(1));
    assert_fails(rq_json_print(json, stdout, &err), RQ_ERR_NOMEM, &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_print__keeps_order_on_one_line),
        cmocka_unit_test(test_string__escaped),
        cmocka_unit_test(test_string__replaces_what_is_not_utf8),
        cmocka_unit_test(test_print__out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
