/* bench as typed: what it says about a model and about a folder of images, and what it refuses.
 * Speed itself is not tested. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "tests/support/small_set.h"

static void test_bench__prints_memory_and_start(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "bench", small.int8, "--threads", "1", "--repeat", "2");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "\nready in ");
    assert_says_out(&small.run, "\nmemory: weights 0.00");
    assert_says_out(&small.run, " MB), process at most ");
    assert_not_out(&small.run, "peak");
    rq_cli_run(&small.run, "bench", small.deploy, "--threads", "1", "--repeat", "2", "--json");
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    const double activations = rq_json_double(json, "activation_bytes");
    const double largest = rq_json_double(json, "largest_activation_bytes");
    assert_true(rq_json_double(json, "ready_ms") > 0.0);
    /* 3x3 of 3 to 8 channels, 3x3 of 8 to 8, linear of 8 to 2 */
    assert_true(rq_json_double(json, "weight_bytes") >= 4.0 * (27 * 8 + 72 * 8 + 16));
    assert_true(largest >= 4.0 * 8 * 8 * 8);
    assert_true(activations >= largest);
    assert_true(rq_json_double(json, "peak_rss_bytes") >
                activations + rq_json_double(json, "weight_bytes"));
    assert_null(json_object_get(json, "peak_gops"));
    json_decref(json);
}

/* The types that a form's layers compute in have a peak, others are null. */
static void check_peaks(const char *model, bool has_f32, bool has_int8)
{
    rq_cli_run(&small.run, "bench", model, "--threads", "1", "--repeat", "2", "--layers", "--json");
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    const json_t *f32 = json_object_get(json, "peak_f32");
    const json_t *integer = json_object_get(json, "peak_int8");
    const double peak = rq_json_double(json, "peak_gops");
    assert_int_equal(json_is_null(f32), !has_f32);
    assert_int_equal(json_is_null(integer), !has_int8);
    const json_t *only = has_f32 ? f32 : integer;
    assert_true(json_is_string(json_object_get(only, "instruction")));
    assert_close(rq_json_double(only, "gops"), peak, 0, 1e-6);
    assert_true(isfinite(peak) && peak > 0.0);
    assert_close(rq_json_double(json, "peak_share"), rq_json_double(json, "gops") / peak, 0, 1e-6);
    const json_t *layers = json_object_get(json, "layers");
    int n_computing = 0;
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        assert_close(rq_json_double(layer, "peak_share"), rq_json_double(layer, "gops") / peak, 0,
                     1e-6);
        n_computing += rq_json_double(layer, "peak_share") > 0.0;
    }
    assert_int_equal(n_computing, 3);
    json_decref(json);
}

static void test_bench__layers_have_shares_of_the_peak(void **state)
{
    (void)state;
    check_peaks(small.deploy, true, false);
    check_peaks(small.qat, true, false);
    check_peaks(small.int8, false, true);
    rq_cli_run(&small.run, "bench", small.int8, "--threads", "1", "--repeat", "2", "--layers");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "\npeak INT8 ");
    assert_not_out(&small.run, "\npeak f32 ");
    assert_says_out(&small.run, "     GOP/s  of peak  kernel           layer\n");
    assert_says_out(&small.run, "(median run)\n");
}

/* The peak is that of the instructions that oneDNN may use. */
static void test_bench__peak_follows_the_instruction_set(void **state)
{
    (void)state;
    static const char *const isas[] = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE"};
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        char variable[64];
        (void)snprintf(variable, sizeof variable, "ONEDNN_MAX_CPU_ISA=%s", isas[i]);
        const char *const env[] = {variable, NULL};
        const rq_cli_options options = {.env = env};
        for (int k = 0; k < 2; k++) {
            rq_cli_run_with(&small.run, &options, "bench", k ? small.int8 : small.deploy,
                            "--threads", "1", "--repeat", "1", "--layers", "-q");
            assert_exit(&small.run, 0);
            assert_says_out(&small.run, k ? "\npeak INT8 " : "\npeak f32 ");
            assert_not_out(&small.run, "vpdpbusd zmm");
            if (i == 0)
                assert_says_out(&small.run, " xmm)\n");
            if (i < 4)
                assert_not_out(&small.run, " zmm)\n");
        }
    }
}

static void check_split(const json_t *json, const char *key, int n_images)
{
    const json_t *split = json_object_get(json, key);
    const double seconds = rq_json_double(split, "seconds");
    assert_close(rq_json_double(split, "resolution"), 32, 0, 0);
    assert_close(rq_json_double(split, "files"), n_images, 0, 0);
    assert_close(rq_json_double(split, "images"), 2 * n_images, 0, 0);
    assert_close(rq_json_double(split, "skipped"), 0, 0, 0);
    assert_true(seconds > 0.0);
    assert_close(rq_json_double(split, "img_per_s"), 2 * n_images / seconds, 0, 1e-6);
    assert_true(rq_json_double(split, "mb_per_s") > 0.0);
}

static void test_bench__loader_reads_both_splits(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "bench", "--loader", small.images, "--repeat", "2", "-r", "32", "-b",
               "3", "-j", "2", "--augment", "crop", "--json");
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    assert_close(rq_json_double(json, "batch"), 3, 0, 0);
    assert_close(rq_json_double(json, "workers"), 2, 0, 0);
    assert_string_equal(json_string_value(json_object_get(json, "augment")), "crop");
    check_split(json, "train", SMALL_TRAIN);
    check_split(json, "val", SMALL_VAL);
    json_decref(json);
    rq_cli_run(&small.run, "bench", "--loader", small.images, "--repeat", "1", "-j", "1");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "batch 32, 1 workers, augment auto\ntrain ");
    assert_says_out(&small.run, " MB/s of JPEG (224 x 224 pixels, 8 images in ");
    assert_says_out(&small.run, "\nval ");
}

static void test_bench__streams(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "bench", small.int8, "-b", "6", "--streams", "2", "--repeat", "2",
               "--json");
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    assert_close(rq_json_double(json, "batch"), 6, 0, 0);
    assert_close(rq_json_double(json, "streams"), 2, 0, 0);
    assert_close(rq_json_double(json, "stream_batch"), 3, 0, 0);
    json_decref(json);
    rq_cli_run(&small.run, "bench", small.int8, "-b", "6", "--streams", "0", "--threads", "3",
               "--repeat", "2");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "\n3 streams, 2 images at once in each\n");
    rq_cli_run(&small.run, "bench", small.int8, "--streams", "2", "--layers");
    assert_exit(&small.run, 2);
}

static void test_bench__loader_meets_bad_images(void **state)
{
    (void)state;
    const char *bad = rq_test_path("%s/val/dog/9.jpg", small.images);
    rq_test_write_file(bad, "text", 4);
    rq_cli_run(&small.run, "bench", "--loader", small.images, "--repeat", "1", "-r", "32");
    assert_one_line(&small.run, "bench", "/val/dog/9.jpg: ");
    rq_cli_run(&small.run, "bench", "--loader", small.images, "--repeat", "1", "-r", "32",
               "--bad-images", "skip");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "0 skipped)\nval ");
    assert_says_out(&small.run, "1 skipped)\n");
    assert_int_equal(unlink(bad), 0);
}

static void test_bench__refuses_bad_folders(void **state)
{
    (void)state;
    const char *empty = rq_test_path("%s/empty", small.dir),
               *half = rq_test_path("%s/half", small.dir);
    rq_cli_run(&small.run, "bench", "--loader", rq_test_path("%s/none", small.dir));
    assert_one_line(&small.run, "bench", "/none: ");
    rq_cli_run(&small.run, "bench", "--loader", small.deploy);
    assert_one_line(&small.run, "bench", "/deploy.bin: ");
    small_mkdir(empty);
    rq_cli_run(&small.run, "bench", "--loader", empty);
    assert_one_line(&small.run, "bench", "/empty: no class folders");
    small_mkdir(half);
    small_mkdir(rq_test_path("%s/train", half));
    small_mkdir(rq_test_path("%s/train/cat", half));
    rq_cli_run(&small.run, "bench", "--loader", half);
    assert_one_line(&small.run, "bench", "/half/train/cat: ");
}

static void test_bench__refuses_wrong_usage(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "bench");
    assert_failure(&small.run, 2, "MODEL or --loader is missing");
    rq_cli_run(&small.run, "bench", "");
    assert_failure(&small.run, 2, "MODEL or --loader is missing");
    rq_cli_run(&small.run, "bench", small.int8, "--loader", small.images);
    assert_failure(&small.run, 2, "MODEL and --loader exclude each other");
    rq_cli_run(&small.run, "bench", small.int8, small.deploy);
    assert_failure(&small.run, 2, "deploy.bin");
    rq_cli_run(&small.run, "bench", "--loader", small.images, "--layers");
    assert_failure(&small.run, 2,
                   "--layers, --streams, --threads, --arch and --classes are for a MODEL");
    rq_cli_run(&small.run, "bench", "--loader", small.images, "--threads", "1");
    assert_failure(&small.run, 2, "are for a MODEL");
    rq_cli_run(&small.run, "bench", small.int8, "-j", "2");
    assert_failure(&small.run, 2, "--workers, --augment and --bad-images are for --loader");
    rq_cli_run(&small.run, "bench", small.int8, "--augment", "auto");
    assert_failure(&small.run, 2, "are for --loader");
    rq_cli_run(&small.run, "bench", "--loader", small.images, "--augment", "rotate");
    assert_failure(&small.run, 2, "--augment");
    rq_cli_run(&small.run, "bench", "--loader", small.images, "-b", "0");
    assert_failure(&small.run, 2, "--batch");
    rq_cli_run(&small.run, "bench", "--loader");
    assert_failure(&small.run, 2, "--loader needs a value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench__prints_memory_and_start),
        cmocka_unit_test(test_bench__layers_have_shares_of_the_peak),
        cmocka_unit_test(test_bench__peak_follows_the_instruction_set),
        cmocka_unit_test(test_bench__loader_reads_both_splits),
        cmocka_unit_test(test_bench__streams),
        cmocka_unit_test(test_bench__loader_meets_bad_images),
        cmocka_unit_test(test_bench__refuses_bad_folders),
        cmocka_unit_test(test_bench__refuses_wrong_usage),
    };
    return cmocka_run_group_tests(tests, small_setup_int8, small_teardown);
}
