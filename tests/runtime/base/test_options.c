/* One table produces the parser and the help; every way to write an option, and every way to get it
 * wrong. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/base/options.h"
#include "tests/support/test.h"

static const char *const methods[] = {"minmax", "entropy", "mse", NULL};

typedef struct example {
    const char *dir, *model;
    rq_option_rest images;
    int64_t batch, seed;
    double rate;
    int method;
    bool json, shuffle;
    const char *output, *tag;
} example;

#define EXAMPLE_DEFAULTS                                                                           \
    {                                                                                              \
        .batch = 64, .rate = 0.1, .shuffle = true                                                  \
    }

static const rq_option table[] = {
    RQ_POSITIONAL("DIR", example, dir, "folder of images"),
    RQ_POSITIONAL("MODEL", example, model, "model file"),
    RQ_OPTION_INT("batch", 'b', example, batch, "N", 1, 65536, "images per batch"),
    RQ_OPTION_INT("seed", 0, example, seed, "N", 0, 0x1p53, "seed of the random streams"),
    RQ_OPTION_FLOAT("rate", 'r', example, rate, "X", 0.0, 1.0, "learning rate"),
    RQ_OPTION_CHOICE("method", 'm', example, method, methods, "how ranges are estimated"),
    RQ_OPTION_FLAG("json", 'j', example, json, "print one JSON object"),
    RQ_OPTION_FLAG("shuffle", 's', example, shuffle, "new order each epoch"),
    RQ_OPTION_REQUIRED("output", 'o', example, output, "FILE", "where the result is written"),
    RQ_OPTION_STRING("tag", 0, example, tag, "TEXT", "name of the run"),
};

static const rq_option rest_table[] = {
    RQ_POSITIONAL("MODEL", example, model, "model file"),
    RQ_OPTION_FLAG("json", 'j', example, json, "print one JSON object"),
    RQ_REST("IMAGE", example, images, "JPEG files"),
};

enum {
    N_TABLE = sizeof table / sizeof table[0],
    N_REST = sizeof rest_table / sizeof rest_table[0]
};

/* Split at spaces ("~" stands for an empty argument) into a NULL-terminated argv; one command line
 * at a time. */
static char **split(const char *line, int *argc)
{
    static char text[512];
    static char *argv[64];
    (void)snprintf(text, sizeof text, "%s", line);
    *argc = 0;
    char *save = NULL;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (strcmp(word, "~") == 0)
            *word = '\0';
        argv[(*argc)++] = word;
    }
    argv[*argc] = NULL;
    return argv;
}

static rq_status parse(const char *line, example *out, rq_error *err)
{
    int argc;
    char **argv = split(line, &argc);
    *out = (example)EXAMPLE_DEFAULTS;
    return rq_options_parse(table, N_TABLE, argc, argv, out, err);
}

static void assert_parses(const char *line, example *out)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(parse(line, out, &err), &err);
}

static void assert_refused(const char *line, const char *says)
{
    rq_error err = RQ_ERROR_INIT;
    example got;
    assert_fails(parse(line, &got, &err), RQ_ERR_USAGE, &err);
    assert_string_equal(err.text, says);
}

static void test_parse__keeps_defaults(void **state)
{
    (void)state;
    example got;
    assert_parses("cmd d m -o f", &got);
    assert_string_equal(got.dir, "d");
    assert_string_equal(got.model, "m");
    assert_string_equal(got.output, "f");
    assert_int_equal(got.batch, 64);
    assert_close(got.rate, 0.1, 0.0, 0.0);
    assert_true(got.shuffle && !got.json && got.method == 0 && !got.tag);
}

static void test_parse__takes_every_spelling(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "cmd d m -o f -b 7 -r 0.5 -m mse -j",
        "cmd d m -of -b7 -r0.5 -mmse --json",
        "cmd --output f --batch 7 --rate 0.5 --method mse --json d m",
        "cmd --output=f d --batch=7 --rate=.5 --method=mse m -j",
        "cmd -jb7 d -jmmse -r 5e-1 m -o f",
        "cmd -b 9 -b 7 -o f -m mse -r 0.5 -j -- d m",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        example got;
        assert_parses(lines[i], &got);
        assert_string_equal(got.dir, "d");
        assert_string_equal(got.model, "m");
        assert_string_equal(got.output, "f");
        assert_int_equal(got.batch, 7);
        assert_close(got.rate, 0.5, 0.0, 0.0);
        assert_int_equal(got.method, 2);
        assert_true(got.json);
    }
}

static void test_parse__flags_turn_off(void **state)
{
    (void)state;
    example got;
    assert_parses("cmd d m -o f --no-shuffle", &got);
    assert_false(got.shuffle);
    assert_parses("cmd d m -o f --no-shuffle --shuffle", &got);
    assert_true(got.shuffle);
}

static void test_parse__odd_but_valid_values(void **state)
{
    (void)state;
    example got;
    assert_parses("cmd d m -o -x --tag --json --seed 0",
                  &got); /* a value may look like an option */
    assert_string_equal(got.output, "-x");
    assert_string_equal(got.tag, "--json");
    assert_false(got.json);
}

static void test_parse__end_of_options(void **state)
{
    (void)state;
    example got;
    assert_parses("cmd -o f -- -d --m", &got);
    assert_string_equal(got.dir, "-d");
    assert_string_equal(got.model, "--m");
    assert_parses("cmd - -o f -- --", &got); /* "-" is a positional, and so is a second "--" */
    assert_string_equal(got.dir, "-");
    assert_string_equal(got.model, "--");
}

static void test_parse__refuses_wrong_usage(void **state)
{
    (void)state;
    assert_refused("cmd d m -o f --nope", "unknown option '--nope'");
    assert_refused("cmd d m -o f --nope=3", "unknown option '--nope'");
    assert_refused("cmd d m -o f --bat 3", "unknown option '--bat'"); /* no prefixes */
    assert_refused("cmd d m -o f --no-batch", "unknown option '--no-batch'");
    assert_refused("cmd d m -o f --no-json=1", "unknown option '--no-json'");
    assert_refused("cmd d m -o f -x", "unknown option '-x'");
    assert_refused("cmd d m -o f --DIR d", "unknown option '--DIR'");
    assert_refused("cmd d m -o f -jx", "unknown option '-x'");
    assert_refused("cmd d m -o f --json=1", "--json takes no value");
    assert_refused("cmd d m -o", "--output needs a value");
    assert_refused("cmd d m --output", "--output needs a value");
    assert_refused("cmd d m", "--output is missing");
    assert_refused("cmd d -o f", "MODEL is missing");
    assert_refused("cmd -o f", "DIR is missing");
    assert_refused("cmd d m extra more -o f", "unexpected argument 'extra'");
    assert_refused("cmd d m -o f -m minm", "--method: 'minm' is none of: minmax, entropy, mse");
}

static void test_parse__refuses_bad_numbers(void **state)
{
    (void)state;
    static const char *const ints[] = {"~",   "0",    "65537", "12abc",
                                       "1.0", "0x10", "+5",    "1e3",
                                       "-1",  "-",    "--5",   "99999999999999999999",
                                       "1-2", "\t5"};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        rq_error err = RQ_ERROR_INIT;
        example got;
        assert_fails(parse(rq_test_path("cmd d m -o f --batch %s", ints[i]), &got, &err),
                     RQ_ERR_USAGE, &err);
        assert_says(&err, "is not a whole number (from 1 to 65536)");
        assert_int_equal(got.batch, 64);
    }
    static const char *const floats[] = {"~",   "1.5",  "-0.1", "nan", "inf", "1e999",
                                         "0x1", "0.5x", ".",    "e5",  "--1", "1,5"};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        rq_error err = RQ_ERROR_INIT;
        example got;
        assert_fails(parse(rq_test_path("cmd d m -o f --rate %s", floats[i]), &got, &err),
                     RQ_ERR_USAGE, &err);
        assert_says(&err, "is not a number (from 0 to 1)");
    }
    assert_refused("cmd d m -o f --seed -1", "--seed: '-1' is not a whole number (at least 0)");
}

static void test_parse_int__extremes(void **state)
{
    (void)state;
    int64_t value = 5;
    assert_true(rq_parse_int("-9223372036854775808", INT64_MIN, INT64_MAX, &value));
    assert_true(value == INT64_MIN);
    assert_true(rq_parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &value));
    assert_true(value == INT64_MAX);
    assert_false(rq_parse_int("9223372036854775808", INT64_MIN, INT64_MAX, &value));
    assert_true(value == INT64_MAX); /* untouched */
    assert_true(rq_parse_int("-0", 0, 1, &value));
    assert_int_equal(value, 0);
}

static void test_parse_float__zero_is_positive(void **state)
{
    (void)state;
    double value = 1.0;
    assert_true(rq_parse_float("-0.0", 0.0, 1.0, &value));
    assert_false(signbit(value));
    assert_true(rq_parse_float("1e-4", 0.0, 1.0, &value));
    assert_close(value, 1e-4, 0.0, 0.0);
    assert_false(rq_parse_float("0.5", NAN, NAN, &value));
}

static void test_rest__collects_across_options(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    int argc;
    char **argv = split("cmd m a -j b --json -- -c", &argc);
    example got = EXAMPLE_DEFAULTS;
    assert_ok(rq_options_parse(rest_table, N_REST, argc, argv, &got, &err), &err);
    assert_string_equal(got.model, "m");
    assert_int_equal(got.images.n_items, 3);
    assert_string_equal(got.images.items[0], "a");
    assert_string_equal(got.images.items[1], "b");
    assert_string_equal(got.images.items[2], "-c");
    /* what argv says is unchanged: it parses to the same again */
    example again = EXAMPLE_DEFAULTS;
    assert_ok(rq_options_parse(rest_table, N_REST, argc, argv, &again, &err), &err);
    assert_int_equal(again.images.n_items, 3);
    assert_string_equal(again.images.items[2], "-c");
    argv = split("cmd m", &argc);
    assert_fails(rq_options_parse(rest_table, N_REST, argc, argv, &got, &err), RQ_ERR_USAGE, &err);
    assert_string_equal(err.text, "IMAGE is missing");
}

static void test_sets__two_structs(void **state)
{
    (void)state;
    typedef struct common {
        bool loud;
        const char *tag;
    } common;
    static const rq_option common_table[] = {
        RQ_OPTION_FLAG("loud", 'l', common, loud, "loud"),
        RQ_OPTION_STRING("tag", 't', common, tag, "TEXT", "never found: the first table wins"),
    };
    rq_error err = RQ_ERROR_INIT;
    int argc;
    char **argv = split("cmd d -l m --tag x -t y -o f", &argc);
    example got = EXAMPLE_DEFAULTS;
    common shared = {false, NULL};
    const rq_option_set sets[] = {{table, N_TABLE, &got}, {common_table, 2, &shared}};
    assert_ok(rq_option_sets_parse(sets, 2, argc, argv, &err), &err);
    assert_true(shared.loud);
    assert_string_equal(got.tag, "x");
    assert_string_equal(shared.tag, "y");
}

/* The help text; freed with free(). */
static char *help(const rq_option *options, size_t n, const example *defaults)
{
    char *text = NULL;
    size_t size_bytes = 0;
    FILE *out = open_memstream(&text, &size_bytes);
    assert_non_null(out);
    rq_options_help(options, n, "repqat cmd", "Does something.", defaults, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_help__is_aligned_and_complete(void **state)
{
    (void)state;
    static const char want[] =
        "usage: repqat cmd [options] -o FILE DIR MODEL\n"
        "\n"
        "Does something.\n"
        "\n"
        "arguments:\n"
        "  DIR                 folder of images\n"
        "  MODEL               model file\n"
        "\n"
        "options:\n"
        "  -b, --batch N       images per batch (from 1 to 65536, default 64)\n"
        "      --seed N        seed of the random streams (at least 0, default 0)\n"
        "  -r, --rate X        learning rate (from 0 to 1, default 0.1)\n"
        "  -m, --method WORD   how ranges are estimated: minmax, entropy or mse (default\n"
        "                      minmax)\n"
        "  -j, --json          print one JSON object\n"
        "  -s, --[no-]shuffle  new order each epoch (default on)\n"
        "  -o, --output FILE   where the result is written (required)\n"
        "      --tag TEXT      name of the run\n";
    const example defaults = EXAMPLE_DEFAULTS;
    char *text = help(table, N_TABLE, &defaults);
    assert_string_equal(text, want);
    free(text);
}

static void test_help__long_names_and_unset_defaults(void **state)
{
    (void)state;
    static const rq_option wide[] = {
        RQ_REST("IMAGE", example, images, "JPEG files"),
        RQ_OPTION_STRING("a-name-too-long-for-the-column", 0, example, tag, "TEXT", "of some use"),
        RQ_OPTION_INT("batch", 0, example, batch, "N", 1, 9, "images"),
        RQ_OPTION_FLOAT("rate", 0, example, rate, "X", -INFINITY, INFINITY, "any"),
    };
    const example defaults = {.batch = 0, .rate = NAN, .tag = "t"};
    char *text = help(wide, 4, &defaults);
    assert_string_equal(text, "usage: repqat cmd [options] IMAGE...\n"
                              "\n"
                              "Does something.\n"
                              "\n"
                              "arguments:\n"
                              "  IMAGE...       JPEG files\n"
                              "\n"
                              "options:\n"
                              "      --a-name-too-long-for-the-column TEXT\n"
                              "                 of some use (default t)\n"
                              "      --batch N  images (from 1 to 9)\n"
                              "      --rate X   any\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse__keeps_defaults),
        cmocka_unit_test(test_parse__takes_every_spelling),
        cmocka_unit_test(test_parse__flags_turn_off),
        cmocka_unit_test(test_parse__odd_but_valid_values),
        cmocka_unit_test(test_parse__end_of_options),
        cmocka_unit_test(test_parse__refuses_wrong_usage),
        cmocka_unit_test(test_parse__refuses_bad_numbers),
        cmocka_unit_test(test_parse_int__extremes),
        cmocka_unit_test(test_parse_float__zero_is_positive),
        cmocka_unit_test(test_rest__collects_across_options),
        cmocka_unit_test(test_sets__two_structs),
        cmocka_unit_test(test_help__is_aligned_and_complete),
        cmocka_unit_test(test_help__long_names_and_unset_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
