/* evaluate, classify, bench and inspect as typed: what they print and what they refuse. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "tests/support/small_set.h"

enum { NPY_HEADER = 128, CLASSES = 2 };

static const char *const model_path[5] = {small.train, small.deploy, small.withbn, small.qat,
                                          small.int8};
static const char *const forms[5] = {"train", "deploy", "withbn", "qat", "int8"};

/* Logits [n, CLASSES] of a NumPy file; free with rq_free. */
static float *read_npy(const char *path, size_t n)
{
    char shape[64];
    size_t size_bytes;
    uint8_t *file = rq_test_read_file(path, &size_bytes);
    (void)snprintf(shape, sizeof shape, "'shape': (%zu, %d)", n, CLASSES);
    assert_int_equal(size_bytes, NPY_HEADER + n * CLASSES * sizeof(float));
    file[NPY_HEADER - 1] = '\0';
    assert_non_null(strstr((const char *)file + 10, shape));
    memmove(file, file + NPY_HEADER, size_bytes - NPY_HEADER);
    return (float *)(void *)file;
}

static void test_evaluate__prints_accuracy_of_every_form(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        rq_cli_run(&small.run, "evaluate", small.images, model_path[i], "--threads", "1", "--json");
        json_t *json = rq_cli_json(&small.run);
        const double top1 = rq_json_double(json, "top1"), top5 = rq_json_double(json, "top5");
        json_decref(json);
        assert_close(fmod(top1, 100.0 / SMALL_VAL), 0.0, 1e-6, 0);
        rq_cli_run(&small.run, "evaluate", small.images, model_path[i], "--threads", "1");
        assert_exit(&small.run, 0);
        assert_string_equal(small.run.out, rq_test_path(" * Acc@1 %.3f Acc@5 %.3f\n", top1, top5));
        assert_says_err(&small.run, forms[i]);
        rq_cli_run(&small.run, "evaluate", small.images, model_path[i], "-q");
        if (*small.run.err) /* without VNNI */
            assert_says_err(&small.run, "int8.bin: this CPU's INT8 instructions could saturate");
        assert_true(i == 4 || !*small.run.err);
    }
}

static void test_evaluate__json_and_logits_agree(void **state)
{
    (void)state;
    const char *npy = rq_test_path("%s/logits.npy", small.dir);
    rq_cli_run(&small.run, "evaluate", small.images, model_path[1], "--json", "--logits", npy, "-b",
               "2");
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    float *logits = read_npy(npy, SMALL_VAL);
    int top1 = 0;
    for (int i = 0; i < SMALL_VAL; i++)
        top1 += (logits[2 * i + 1] > logits[2 * i]) == (i >= 2); /* two cats, then dogs */
    assert_close(rq_json_double(json, "images"), SMALL_VAL, 0, 0);
    assert_close(rq_json_double(json, "top1"), 100.0 * top1 / SMALL_VAL, 1e-6, 0);
    assert_close(rq_json_double(json, "top5"), 100.0, 0, 0);
    assert_true(rq_json_double(json, "loss") > 0.0 && rq_json_double(json, "img_per_s") > 0.0);
    assert_close(rq_json_double(json, "skipped"), 0, 0, 0);
    assert_close(rq_json_double(json, "resolution"), 16, 0, 0);
    assert_string_equal(json_string_value(json_object_get(json, "form")), "deploy");
    json_decref(json);
    rq_free(logits);
}

/* The number printed for a fake-quantized model is the number of its integers. */
static void test_evaluate__qat_and_int8_give_the_same_logits(void **state)
{
    (void)state;
    const char *qat_npy = rq_test_path("%s/qat.npy", small.dir);
    const char *int8_npy = rq_test_path("%s/int8.npy", small.dir);
    SMALL_RUN("evaluate", small.images, model_path[3], "--logits", qat_npy);
    SMALL_RUN("evaluate", small.images, model_path[4], "--logits", int8_npy, "-b", "3");
    float *qat = read_npy(qat_npy, SMALL_VAL), *int8 = read_npy(int8_npy, SMALL_VAL);
    assert_memory_equal(qat, int8, SMALL_VAL * CLASSES * sizeof(float));
    rq_free(qat);
    rq_free(int8);
}

static void test_evaluate__takes_other_resolutions(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "evaluate", small.images, model_path[4], "-r", "24", "--json", "-j",
               "1");
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    assert_close(rq_json_double(json, "resolution"), 24, 0, 0);
    json_decref(json);
}

static void test_evaluate__bad_images_fail_or_are_skipped(void **state)
{
    (void)state;
    const char *bad = rq_test_path("%s/val/dog/2x.jpg", small.images);
    const char *npy = rq_test_path("%s/skipped.npy", small.dir);
    rq_test_write_file(bad, "\xff\xd8 no more", 9);
    rq_test_write_file(npy, "before", 6);
    rq_cli_run(&small.run, "evaluate", small.images, model_path[1], "--logits", npy);
    assert_one_line(&small.run, "evaluate", "val/dog/2x.jpg: ");
    size_t size_bytes;
    rq_free(rq_test_read_file(npy, &size_bytes));
    assert_int_equal(size_bytes, 6);

    rq_cli_run(&small.run, "evaluate", small.images, model_path[1], "--logits", npy, "--bad-images",
               "skip", "--json");
    assert_exit(&small.run, 0);
    assert_says_err(&small.run, "warning: skipped ");
    assert_says_err(&small.run, "val/dog/2x.jpg");
    json_t *json = rq_cli_json(&small.run);
    assert_close(rq_json_double(json, "images"), SMALL_VAL, 0, 0);
    assert_close(rq_json_double(json, "skipped"), 1, 0, 0);
    json_decref(json);
    float *logits = read_npy(npy, SMALL_VAL + 1);
    for (int i = 0; i < (SMALL_VAL + 1) * CLASSES; i++) /* "2x.jpg" follows "2.jpg" */
        assert_int_equal(isnan(logits[i]) != 0, i / CLASSES == 3);
    rq_free(logits);
    assert_int_equal(unlink(bad), 0);
}

static void test_evaluate__refuses_bad_folders(void **state)
{
    (void)state;
    const char *empty = rq_test_path("%s/empty", small.dir),
               *other = rq_test_path("%s/other", small.dir);
    rq_cli_run(&small.run, "evaluate", rq_test_path("%s/none", small.dir), model_path[1]);
    assert_one_line(&small.run, "evaluate", "/none");
    small_mkdir(empty);
    rq_cli_run(&small.run, "evaluate", empty, model_path[1]);
    assert_one_line(&small.run, "evaluate", "/empty: no class folders");
    small_mkdir(other);
    small_mkdir(rq_test_path("%s/cat", other));
    small_copy("photo", rq_test_path("%s/cat/1.jpg", other));
    rq_cli_run(&small.run, "evaluate", other, model_path[1]);
    assert_one_line(&small.run, "evaluate", "has 2 classes, but");
    assert_says_err(&small.run, "/other has 1 class folders");
    small_mkdir(rq_test_path("%s/eel", other));
    small_copy("photo", rq_test_path("%s/eel/1.jpg", other));
    rq_cli_run(&small.run, "evaluate", other, model_path[1]);
    assert_one_line(&small.run, "evaluate", "class 1 is 'dog', but folder 1 of");
}

static void test_commands__refuse_bad_models(void **state)
{
    (void)state;
    static const char *const commands[] = {"evaluate", "classify", "bench", "inspect"};
    const char *cut = small_cut(model_path[4], rq_test_path("%s/cut.bin", small.dir));
    const char *text = rq_test_path("%s/text.bin", small.dir),
               *none = rq_test_path("%s/none.bin", small.dir);
    const char *image = rq_test_path("%s/val/cat/0.jpg", small.images);
    const char *const bad[] = {cut, text, none, small.dir};
    rq_test_write_file(text, "hello, this is no model", 23);
    for (size_t c = 0; c < sizeof commands / sizeof commands[0]; c++)
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            if (c == 0)
                rq_cli_run(&small.run, commands[c], small.images, bad[i]);
            else if (c == 1)
                rq_cli_run(&small.run, commands[c], bad[i], image);
            else
                rq_cli_run(&small.run, commands[c], bad[i]);
            assert_one_line(&small.run, commands[c], rq_test_path("%s: ", bad[i]));
        }
}

static void test_commands__refuse_wrong_usage(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "evaluate", small.images);
    assert_failure(&small.run, 2, "MODEL");
    rq_cli_run(&small.run, "evaluate", small.images, model_path[1], "-b", "0");
    assert_failure(&small.run, 2, "--batch");
    rq_cli_run(&small.run, "evaluate", small.images, model_path[1], "--bad-images", "maybe");
    assert_failure(&small.run, 2, "--bad-images");
    rq_cli_run(&small.run, "classify", model_path[1]);
    assert_failure(&small.run, 2, "IMAGE");
    rq_cli_run(&small.run, "classify", model_path[1], small.images, "--top", "0");
    assert_failure(&small.run, 2, "--top");
    rq_cli_run(&small.run, "bench", model_path[1], "--repeat", "1e3");
    assert_failure(&small.run, 2, "--repeat");
}

static void test_evaluate__needs_a_place_for_logits(void **state)
{
    (void)state;
    const char *npy = rq_test_path("%s/no/folder/logits.npy", small.dir);
    rq_cli_run(&small.run, "evaluate", small.images, model_path[1], "--logits", npy);
    assert_one_line(&small.run, "evaluate", npy);
    rq_cli_run(&small.run, "classify", model_path[1],
               rq_test_path("%s/val/cat/0.jpg", small.images), "--logits", npy);
    assert_one_line(&small.run, "classify", npy);
}

static void test_classify__prints_the_likeliest_classes(void **state)
{
    (void)state;
    const char *cat = rq_test_path("%s/val/cat/0.jpg", small.images);
    const char *dog = rq_test_path("%s/val/dog/2.jpg", small.images);
    const char *npy = rq_test_path("%s/two.npy", small.dir),
               *all = rq_test_path("%s/all.npy", small.dir);
    rq_cli_run(&small.run, "classify", model_path[1], cat, dog);
    assert_exit(&small.run, 0);
    assert_memory_equal(small.run.out, cat, strlen(cat));
    assert_says_out(&small.run, "%  ");
    assert_says_out(&small.run, "  cat\n");
    assert_says_out(&small.run, "  dog\n");
    rq_cli_run(&small.run, "classify", model_path[1], cat, dog, "--json", "--top", "1", "--logits",
               npy);
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    const json_t *entries = json_object_get(json, "images");
    assert_int_equal(json_array_size(entries), 2);
    SMALL_RUN("evaluate", small.images, model_path[1], "--logits", all);
    float *two = read_npy(npy, 2), *five = read_npy(all, SMALL_VAL);
    for (int i = 0; i < 2; i++) { /* images 0 and 2 of the folder */
        assert_all_close(two + 2 * i, five + 4 * i, 2, 1e-5, 1e-5);
        const json_t *entry = json_array_get(entries, (size_t)i);
        const json_t *classes = json_object_get(entry, "classes");
        assert_string_equal(json_string_value(json_object_get(entry, "path")), i ? dog : cat);
        assert_int_equal(json_array_size(classes), 1);
        const json_t *best = json_array_get(classes, 0);
        const int top = two[2 * i + 1] > two[2 * i];
        const double gap = fabs((double)two[2 * i + 1] - (double)two[2 * i]);
        assert_close(rq_json_double(best, "class"), top, 0, 0);
        assert_string_equal(json_string_value(json_object_get(best, "name")), top ? "dog" : "cat");
        assert_close(rq_json_double(best, "probability"), 1.0 / (1.0 + exp(-gap)), 1e-6, 0);
        assert_close(rq_json_double(best, "logit"), two[2 * i + top], 1e-6, 1e-6);
    }
    rq_free(two);
    rq_free(five);
    json_decref(json);
}

static void test_classify__names_what_is_no_image(void **state)
{
    (void)state;
    const char *text = rq_test_path("%s/text.jpg", small.dir),
               *npy = rq_test_path("%s/not.npy", small.dir);
    rq_test_write_file(text, "text", 4);
    rq_cli_run(&small.run, "classify", model_path[1],
               rq_test_path("%s/val/cat/0.jpg", small.images), text, "--logits", npy);
    assert_one_line(&small.run, "classify", text);
    assert_int_not_equal(access(npy, F_OK), 0);
    rq_cli_run(&small.run, "classify", model_path[1], rq_test_path("%s/none.jpg", small.dir));
    assert_one_line(&small.run, "classify", "/none.jpg: ");
}

static void test_bench__prints_speed(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "bench", model_path[4], "-b", "2", "--threads", "1", "--repeat", "3");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "batch 2, 16 x 16 pixels, 1 threads, 3 runs\nmedian ");
    assert_says_out(&small.run, " GOP/s\n");
    rq_cli_run(&small.run, "bench", model_path[1], "-b", "2", "--threads", "1", "--repeat", "3",
               "-r", "32", "--layers", "--json");
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    const double median = rq_json_double(json, "median_ms");
    assert_close(rq_json_double(json, "batch"), 2, 0, 0);
    assert_close(rq_json_double(json, "threads"), 1, 0, 0);
    assert_close(rq_json_double(json, "resolution"), 32, 0, 0);
    assert_close(rq_json_double(json, "img_per_s"), 2e3 / median, 0, 1e-6);
    assert_true(rq_json_double(json, "gops") > 0.0);
    const json_t *layers = json_object_get(json, "layers");
    double share = 0.0;
    for (size_t i = 0; i < json_array_size(layers); i++)
        share += rq_json_double(json_array_get(layers, i), "share");
    assert_close(share, 1.0, 1e-6, 0);
    json_decref(json);
    rq_cli_run(&small.run, "bench", model_path[1], "--layers", "--repeat", "1");
    assert_says_out(&small.run, "stage0.rbr_reparam\n");
}

/* Multiply-adds of the small network: 8x8 pixels of 3 to 8 channels, 4x4 of 8 to 8, linear. */
static void test_inspect__describes_every_form(void **state)
{
    (void)state;
    const double macs = 64.0 * 27 * 8 + 16.0 * 72 * 8 + 16;
    for (int i = 0; i < 5; i++) {
        rq_cli_run(&small.run, "inspect", model_path[i]);
        assert_exit(&small.run, 0);
        assert_says_out(&small.run, rq_test_path("\nform           %s\n", forms[i]));
        assert_says_out(&small.run, "\narchitecture   " SMALL_ARCH "\n");
        assert_says_out(&small.run, "\nclasses        2 (cat ... dog)\n");
        assert_says_out(&small.run, "\npreprocessing  resize ");
        assert_says_out(&small.run, "\ncommand        repqat ");
        assert_says_out(&small.run, i ? "\nparent         crc32:" : "\nparent         (none)");
        rq_cli_run(&small.run, "inspect", model_path[i], "--json");
        assert_exit(&small.run, 0);
        json_t *json = rq_cli_json(&small.run);
        assert_string_equal(json_string_value(json_object_get(json, "form")), forms[i]);
        if (i > 0) /* the training form has more branches */
            assert_close(rq_json_double(json, "macs"), macs, 0, 1e-6);
        assert_true(json_array_size(json_object_get(json, "layers")) > 4);
        json_decref(json);
    }
    assert_says_out(&small.run, "\"acc_max\": ");
    rq_cli_run(&small.run, "inspect", model_path[3]);
    assert_says_out(&small.run, "  |acc|\n");
    assert_says_out(&small.run, "  2^1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evaluate__prints_accuracy_of_every_form),
        cmocka_unit_test(test_evaluate__json_and_logits_agree),
        cmocka_unit_test(test_evaluate__qat_and_int8_give_the_same_logits),
        cmocka_unit_test(test_evaluate__takes_other_resolutions),
        cmocka_unit_test(test_evaluate__bad_images_fail_or_are_skipped),
        cmocka_unit_test(test_evaluate__refuses_bad_folders),
        cmocka_unit_test(test_evaluate__needs_a_place_for_logits),
        cmocka_unit_test(test_commands__refuse_bad_models),
        cmocka_unit_test(test_commands__refuse_wrong_usage),
        cmocka_unit_test(test_classify__prints_the_likeliest_classes),
        cmocka_unit_test(test_classify__names_what_is_no_image),
        cmocka_unit_test(test_bench__prints_speed),
        cmocka_unit_test(test_inspect__describes_every_form),
    };
    return cmocka_run_group_tests(tests, small_setup_int8, small_teardown);
}
