/* insert_bn as typed: what it writes, and that it writes nothing when something is wrong. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "tests/support/small_set.h"

static const char *keep(char *storage, size_t size_bytes, const char *name)
{
    (void)snprintf(storage, size_bytes, "%s/%s", small.dir, name);
    return storage;
}

static int start(void **state)
{
    (void)state;
    rq_test_write_file(small.out, "before", 6);
    return 0;
}

/* Out is what start put there, and there is no temporary file next to it. */
static void assert_untouched(void)
{
    size_t size_bytes;
    uint8_t *data = rq_test_read_file(small.out, &size_bytes);
    assert_int_equal(size_bytes, 6);
    assert_memory_equal(data, "before", 6);
    rq_free(data);
    rq_cli ls = RQ_CLI_INIT;
    const rq_cli_options list = {.program = "/bin/ls"};
    rq_cli_run_with(&ls, &list, "-A", small.dir);
    char *save = NULL;
    for (char *name = strtok_r(ls.out, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
        if (strstr(name, "out.bin") && strcmp(name, "out.bin") != 0)
            fail_msg("%s was left behind", name);
    rq_cli_deinit(&ls);
}

#define FAILS(part, ...)                                                                           \
    do {                                                                                           \
        rq_cli_run(&small.run, "insert_bn", __VA_ARGS__);                                          \
        assert_one_line(&small.run, "insert_bn", (part));                                          \
        assert_untouched();                                                                        \
    } while (0)

static void test_insert_bn__writes_a_model_of_the_same_function(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy, small.out, "-a", SMALL_ARCH,
               "--threads", "1");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "statistics of 8 images\n");
    assert_says_out(&small.run, "max |difference| of logits ");
    assert_says_out(&small.run, " * Acc@1 ");
    assert_says_err(&small.run, "statistics of 8 images in 1 batches");
    rq_cli_run(&small.run, "verify", small.deploy, small.out, "--json");
    assert_exit(&small.run, 0);
    rq_cli_run(&small.run, "inspect", small.out);
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "form           withbn\n");
    assert_says_out(&small.run, "command        repqat insert_bn ");
    assert_says_out(&small.run, "stage1.0.rbr_reparam.conv");
    assert_says_out(&small.run, "stage1.0.rbr_reparam.bn");
}

static void test_insert_bn__prints_json(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy, small.out, "-b", "3", "-n", "2",
               "--json", "-q");
    assert_exit(&small.run, 0);
    assert_string_equal(small.run.err, "");
    json_t *json = rq_cli_json(&small.run);
    assert_int_equal(json_integer_value(json_object_get(json, "images")), 6);
    assert_true(json_number_value(json_object_get(json, "max_abs_diff")) <
                1e-4 * json_number_value(json_object_get(json, "max_abs_logit")));
    assert_true(json_is_number(json_object_get(json, "top1")));
    assert_true(json_number_value(json_object_get(json, "top1")) ==
                json_number_value(json_object_get(json, "base_top1")));
    json_decref(json);
}

/* The tensors at the end of what insert_bn writes; the command line in the header differs from run
 * to run. */
enum { TENSORS = 1024 };
static void last_tensors(uint8_t tensors[TENSORS])
{
    size_t size_bytes;
    uint8_t *data = rq_test_read_file(small.out, &size_bytes);
    assert_true(size_bytes > TENSORS);
    memcpy(tensors, data + size_bytes - TENSORS, TENSORS);
    rq_free(data);
}

/* The same seed gives the same statistics at any number of workers; another seed others. */
static void test_insert_bn__depends_on_the_seed_only(void **state)
{
    (void)state;
    static const char *const workers[] = {"1", "3"};
    static uint8_t tensors[3][TENSORS];
    for (int i = 0; i < 3; i++) {
        SMALL_RUN("insert_bn", small.images, small.deploy, small.out, "--threads", "1", "-b", "4",
                  "-j", workers[i % 2], "--seed", i < 2 ? "5" : "6");
        last_tensors(tensors[i]);
    }
    assert_memory_equal(tensors[0], tensors[1], TENSORS);
    assert_memory_not_equal(tensors[0], tensors[2], TENSORS);
}

/* Each option of training images changes them, and with them the statistics. */
static void test_insert_bn__sees_the_images_that_training_shows(void **state)
{
    (void)state;
    static const char *const options[][2] = {
        {"--padding", "4"},        {"--padding", "2"}, {"--padding-mode", "reflect"},
        {"--color-jitter", "0.5"}, {"--resize", "40"}, {"--augment", "cutout"}};
    enum { N_OPTIONS = sizeof options / sizeof *options };
    static uint8_t tensors[N_OPTIONS][TENSORS];
    for (int i = 0; i < N_OPTIONS; i++) {
        SMALL_RUN("insert_bn", small.images, small.deploy, small.out, options[i][0], options[i][1]);
        last_tensors(tensors[i]);
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(tensors[i], tensors[j], TENSORS);
    }
}

static void test_insert_bn__refuses_options_without_effect(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy, small.out, "--augment", "flip",
               "--padding", "2");
    assert_failure(&small.run, 2, "--padding");
    assert_untouched();
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy, small.out, "--augment", "none",
               "--color-jitter", "0.1");
    assert_failure(&small.run, 2, "--color-jitter");
    assert_untouched();
}

static void test_insert_bn__knows_the_originals_statistics(void **state)
{
    (void)state;
    static const char *const augment[] = {"auto", "crop", "pad-crop", "none"};
    for (size_t i = 0; i < 4; i++) {
        rq_cli_run(&small.run, "insert_bn", small.images, small.deploy, small.out, "--stat", "ema",
                   "--no-shuffle", "--augment", augment[i], "-b", "2", "-r", "20");
        assert_exit(&small.run, 0);
        assert_says_out(&small.run, "statistics of 8 images\n");
    }
}

static void test_insert_bn__skips_bad_images_when_told_to(void **state)
{
    (void)state;
    const char *bad = rq_test_path("%s/train/cat/bad.jpg", small.images);
    rq_test_write_file(bad, "bad", 3);
    FAILS("train/cat/bad.jpg", small.images, small.deploy, small.out);
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy, small.out, "--bad-images",
               "skip", "-b", "1");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "statistics of 8 images\n");
    assert_says_err(&small.run, "train/cat/bad.jpg");
    assert_int_equal(unlink(bad), 0);
}

/* Statistics need no labels, so any photographs do; accuracy is then left out. */
static void test_insert_bn__takes_folders_of_other_classes(void **state)
{
    (void)state;
    char other[128];
    static const char *const names[] = {"photo", "grey", "progressive"};
    (void)keep(other, sizeof other, "other");
    small_mkdir(other);
    small_split(other, "train", names, 3, 2);
    small_mkdir(rq_test_path("%s/train/eel", other));
    small_copy("portrait", rq_test_path("%s/train/eel/1.jpg", other));
    rq_cli_run(&small.run, "insert_bn", other, small.deploy, small.out);
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "statistics of 4 images\n");
    assert_not_out(&small.run, "Acc@1");
    rq_cli_run(&small.run, "insert_bn", rq_test_path("%s/train", other), small.deploy,
               small.out); /* val is train */
    assert_exit(&small.run, 0);
    assert_not_out(&small.run, "Acc@1");
    assert_says_err(&small.run, "no accuracy: ");
}

static void test_insert_bn__refuses_bad_folders(void **state)
{
    (void)state;
    char empty[128], val[128];
    static const char *const names[] = {"photo", "grey"};
    (void)keep(empty, sizeof empty, "empty");
    (void)keep(val, sizeof val, "val_only");
    FAILS("/none", rq_test_path("%s/none", small.dir), small.deploy, small.out);
    small_mkdir(empty);
    FAILS("/empty: no class folders", empty, small.deploy, small.out);
    small_mkdir(val);
    small_split(val, "val", names, 2, 1);
    FAILS("/val_only: has a folder 'val' but no 'train'", val, small.deploy, small.out);
    FAILS("/deploy.bin", small.deploy, small.deploy, small.out);
}

static void test_insert_bn__refuses_bad_models(void **state)
{
    (void)state;
    const char *train = rq_test_path("%s/train.bin", small.dir),
               *text = rq_test_path("%s/text", small.dir);
    const char *cut = small_cut(small.deploy, rq_test_path("%s/cut.bin", small.dir));
    rq_test_write_file(text, "no model", 8);
    FAILS("/train.bin: form is train, this takes deploy", small.images, train, small.out);
    FAILS("/cut.bin: ", small.images, cut, small.out);
    FAILS("/text: ", small.images, text, small.out);
    FAILS("/none.bin: ", small.images, rq_test_path("%s/none.bin", small.dir), small.out);
}

static void test_insert_bn__refuses_another_architecture(void **state)
{
    (void)state;
    FAILS("/deploy.bin: is a " SMALL_ARCH ", not the RepVGG-A0 of -a", small.images, small.deploy,
          small.out, "-a", "RepVGG-A0");
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy, small.out, "-a", "RepVGG-A99");
    assert_failure(&small.run, 2, "RepVGG-A99");
    assert_untouched();
}

static void test_insert_bn__checks_the_output_first(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy,
               rq_test_path("%s/no/out.bin", small.dir));
    assert_one_line(&small.run, "insert_bn", "/no/out.bin");
    assert_not_err(&small.run, "statistics of");
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy, small.dir);
    assert_one_line(&small.run, "insert_bn", small.dir);
    rq_cli_run(&small.run, "insert_bn", small.images, small.deploy);
    assert_failure(&small.run, 2, "OUT");
    assert_untouched();
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_insert_bn__writes_a_model_of_the_same_function),
        TEST(test_insert_bn__prints_json),
        TEST(test_insert_bn__depends_on_the_seed_only),
        TEST(test_insert_bn__sees_the_images_that_training_shows),
        TEST(test_insert_bn__refuses_options_without_effect),
        TEST(test_insert_bn__knows_the_originals_statistics),
        TEST(test_insert_bn__skips_bad_images_when_told_to),
        TEST(test_insert_bn__takes_folders_of_other_classes),
        TEST(test_insert_bn__refuses_bad_folders),
        TEST(test_insert_bn__refuses_bad_models),
        TEST(test_insert_bn__refuses_another_architecture),
        TEST(test_insert_bn__checks_the_output_first),
    };
    return cmocka_run_group_tests(tests, small_setup_deploy, small_teardown);
}
