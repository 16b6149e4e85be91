/* A streaming JSON writer: no tree, no memory. */
#include "runtime/base/json_writer.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>

/* Length in bytes of the valid UTF-8 sequence at text, 0 where there is none (RFC 3629: no overlong
 * forms, no surrogates, nothing above U+10FFFF). A NUL is not part of any. */
static size_t utf8_length(const unsigned char *text)
{
    static const struct {
        unsigned char first, last; /* of the lead byte */
        unsigned char low, high;   /* of the second byte */
        size_t length;
    } forms[] = {
        {0x01, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        if (text[0] < forms[f].first || text[0] > forms[f].last)
            continue;
        for (size_t i = 1; i < forms[f].length; i++)
            if (text[i] < (i == 1 ? forms[f].low : 0x80) ||
                text[i] > (i == 1 ? forms[f].high : 0xbf))
                return 0;
        return forms[f].length;
    }
    return 0;
}

static void write_string(FILE *out, const char *value)
{
    const unsigned char *text = (const unsigned char *)value;
    (void)fputc('"', out);
    while (*text) {
        const size_t length = utf8_length(text);
        if (length == 0) {
            (void)fputs("\\ufffd", out);
            text++;
            continue;
        }
        if (*text == '"' || *text == '\\')
            (void)fprintf(out, "\\%c", *text);
        else if (*text < 0x20 || *text == 0x7f)
            (void)fprintf(out, "\\u%04x", *text);
        else
            (void)fwrite(text, 1, length, out);
        text += length;
    }
    (void)fputc('"', out);
}

static void begin_value(rq_json_writer *json, const char *key)
{
    assert(json->depth > 0 && (key != NULL) == (json->closing[json->depth - 1] == '}'));
    if (json->needs_comma)
        (void)fputs(", ", json->out);
    if (key) {
        write_string(json->out, key);
        (void)fputs(": ", json->out);
    }
    json->needs_comma = true;
}

static void open_level(rq_json_writer *json, char opening, char closing)
{
    assert(json->depth < RQ_JSON_WRITER_DEPTH);
    (void)fputc(opening, json->out);
    json->closing[json->depth++] = closing;
    json->needs_comma = false;
}

rq_json_writer rq_json_begin(FILE *out)
{
    rq_json_writer json = {.out = out};
    open_level(&json, '{', '}');
    rq_json_add_int(&json, "schema", 1);
    return json;
}

void rq_json_end(rq_json_writer *json)
{
    while (json->depth > 0)
        rq_json_close(json);
    (void)fputc('\n', json->out);
}

void rq_json_add_int(rq_json_writer *json, const char *key, int64_t value)
{
    begin_value(json, key);
    (void)fprintf(json->out, "%" PRId64, value);
}

void rq_json_add_number(rq_json_writer *json, const char *key, double value)
{
    begin_value(json, key);
    if (isfinite(value))
        (void)fprintf(json->out, "%.9g", value);
    else
        (void)fputs("null", json->out);
}

void rq_json_add_bool(rq_json_writer *json, const char *key, bool value)
{
    begin_value(json, key);
    (void)fputs(value ? "true" : "false", json->out);
}

void rq_json_add_string(rq_json_writer *json, const char *key, const char *value)
{
    begin_value(json, key);
    if (value)
        write_string(json->out, value);
    else
        (void)fputs("null", json->out);
}

void rq_json_open_object(rq_json_writer *json, const char *key)
{
    begin_value(json, key);
    open_level(json, '{', '}');
}

void rq_json_open_array(rq_json_writer *json, const char *key)
{
    begin_value(json, key);
    open_level(json, '[', ']');
}

void rq_json_close(rq_json_writer *json)
{
    assert(json->depth > 0);
    (void)fputc(json->closing[--json->depth], json->out);
    json->needs_comma = true;
}
