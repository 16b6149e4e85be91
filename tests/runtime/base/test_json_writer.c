/* The exact text of what is written, and that a JSON reader takes all of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/json_writer.h"
#include "tests/support/test.h"

typedef struct memory_stream {
    FILE *out;
    char *text;
    size_t size_bytes;
} memory_stream;

static void open_stream(memory_stream *stream)
{
    stream->out = open_memstream(&stream->text, &stream->size_bytes);
    assert_non_null(stream->out);
}

static void test_writer__keeps_order_on_one_line(void **state)
{
    (void)state;
    memory_stream stream;
    open_stream(&stream);
    rq_json_writer json = rq_json_begin(stream.out);
    rq_json_add_int(&json, "images", INT64_MIN);
    rq_json_add_number(&json, "top1", 70.92);
    rq_json_add_number(&json, "third", 1.0 / 3.0);
    rq_json_add_number(&json, "tiny", 1e-300);
    rq_json_add_number(&json, "bad", NAN);
    rq_json_add_number(&json, "worse", -INFINITY);
    rq_json_add_bool(&json, "ok", true);
    rq_json_add_string(&json, "none", NULL);
    rq_json_open_array(&json, "layers");
    rq_json_open_object(&json, NULL);
    rq_json_add_string(&json, "name", "stem");
    rq_json_close(&json);
    rq_json_add_int(&json, NULL, 2);
    rq_json_open_array(&json, NULL);
    rq_json_close(&json);
    rq_json_close(&json);
    rq_json_add_bool(&json, "last", false);
    rq_json_open_object(&json, "open");
    rq_json_end(&json);
    assert_int_equal(fclose(stream.out), 0);
    assert_string_equal(
        stream.text, "{\"schema\": 1, \"images\": -9223372036854775808, \"top1\": 70.92, "
                     "\"third\": 0.333333333, \"tiny\": 1e-300, \"bad\": null, "
                     "\"worse\": null, \"ok\": true, \"none\": null, "
                     "\"layers\": [{\"name\": \"stem\"}, 2, []], \"last\": false, \"open\": {}}\n");
    free(stream.text);
}

static void assert_written_as(const char *value, const char *want)
{
    memory_stream stream;
    open_stream(&stream);
    rq_json_writer json = rq_json_begin(stream.out);
    rq_json_add_string(&json, "s", value);
    rq_json_end(&json);
    assert_int_equal(fclose(stream.out), 0);
    assert_string_equal(stream.text, rq_test_path("{\"schema\": 1, \"s\": \"%s\"}\n", want));
    rq_error err = RQ_ERROR_INIT;
    json_t *document = NULL;
    assert_ok(rq_json_parse(&document, stream.text, stream.size_bytes, &err), &err);
    json_decref(document);
    free(stream.text);
}

static void test_writer__escapes_strings(void **state)
{
    (void)state;
    assert_written_as("", "");
    assert_written_as("a\"b\\c/", "a\\\"b\\\\c/");
    assert_written_as("line\n\x01\x7f", "line\\u000a\\u0001\\u007f");
    assert_written_as("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
                      "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
}

static void test_writer__replaces_what_is_not_utf8(void **state)
{
    (void)state;
    assert_written_as("a\xff"
                      "b",
                      "a\\ufffdb");
    assert_written_as("\xc3", "\\ufffd");                                  /* cut short */
    assert_written_as("\xe2\x82", "\\ufffd\\ufffd");                       /* cut short */
    assert_written_as("\xc0\xaf", "\\ufffd\\ufffd");                       /* overlong */
    assert_written_as("\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd");            /* surrogate */
    assert_written_as("\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"); /* above U+10FFFF */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer__keeps_order_on_one_line),
        cmocka_unit_test(test_writer__escapes_strings),
        cmocka_unit_test(test_writer__replaces_what_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
