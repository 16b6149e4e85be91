/* convert and verify as functions: what they print, write and refuse. */
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "fuse/fold.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/model/arch.h"
#include "runtime/modelfile/modelfile.h"
#include "tests/support/capture.h"
#include "tests/support/cli.h"
#include "tests/support/test.h"

static const char arch[] = "repvgg:depth=1,2;width=8,8;classes=5";

static rq_error err;
static const char *dir;
static const char *train_path, *out_path;

static void save_train(const char *path, float var)
{
    rq_model model;
    assert_ok(rq_arch_build(&model, arch, 0, &err), &err);
    rq_model_init_weights(&model, 1);
    model.preprocess.resize = model.preprocess.crop = 16;
    const int node = rq_graph_find_node(&model.graph, "stage1.1.rbr_identity");
    for (int c = 0; c < 8; c++)
        rq_tensor_f32(rq_graph_tensor(&model.graph, node, RQ_SLOT_VAR))[c] = var;
    assert_ok(rq_model_save(&model, path, &err), &err);
    rq_model_deinit(&model);
}

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    train_path = rq_test_path("%s/train.bin", dir);
    out_path = rq_test_path("%s/deploy.bin", dir);
    save_train(train_path, 0.5f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_test_rmdir(dir);
    return 0;
}

#define RUN(command, text, ...) rq_test_command(&rq_command_##command, (text), &err, __VA_ARGS__)

static double json_number(const char *text, const char *key)
{
    json_t *tree = json_loads(text, 0, NULL);
    const double number = rq_json_double(tree, key);
    json_decref(tree);
    return number;
}

static void test_convert__writes_the_deploy_form(void **state)
{
    (void)state;
    const char *text;
    rq_model model;
    rq_mapping mapping;
    char id[RQ_FILE_ID_SIZE];
    assert_ok(RUN(convert, &text, train_path, out_path, "--json", "-a", arch), &err);
    assert_int_equal(strncmp(text, "{\"schema\": 1", 12), 0);
    assert_true(json_number(text, "max_abs_diff") < 1e-4);
    assert_true(json_number(text, "max_abs_logit") > 0.0);
    assert_ok(rq_model_load(&model, out_path, &err), &err);
    assert_int_equal(model.form, RQ_FORM_DEPLOY);
    assert_string_equal(model.arch, arch);
    assert_int_equal(model.seed, 1);
    assert_memory_equal(model.command, "repqat convert ", 15);
    assert_non_null(strstr(model.command, train_path));
    assert_ok(rq_mapping_open(&mapping, train_path, &err), &err);
    rq_file_id(&mapping, id);
    rq_mapping_close(&mapping);
    assert_string_equal(model.parent, id);
    rq_model_deinit(&model);

    assert_ok(RUN(convert, &text, train_path, out_path), &err);
    assert_non_null(strstr(text, "max |Δ|"));
    assert_non_null(strstr(text, "4 random images"));
}

/* A device cannot be read again: the model is compared in memory, then written. */
static void test_convert__to_a_device(void **state)
{
    (void)state;
    const char *text;
    assert_ok(RUN(convert, &text, train_path, "/dev/null"), &err);
    assert_non_null(strstr(text, "max |Δ|"));
    assert_fails(RUN(convert, &text, train_path, "/dev/full"), RQ_ERR_IO, &err);
    assert_string_equal(text, "");
}

/* What is in a folder. */
static int count_files(void)
{
    DIR *stream = opendir(dir);
    assert_non_null(stream);
    int n = 0;
    while (readdir(stream))
        n++;
    (void)closedir(stream);
    return n - 2;
}

static void test_convert__in_place(void **state)
{
    (void)state;
    const char *text;
    rq_model model;
    assert_ok(RUN(convert, &text, train_path, train_path), &err);
    assert_ok(rq_model_load(&model, train_path, &err), &err);
    assert_int_equal(model.form, RQ_FORM_DEPLOY);
    rq_model_deinit(&model);
}

static void test_convert__refuses(void **state)
{
    (void)state;
    const char *text;
    assert_fails(RUN(convert, &text, train_path), RQ_ERR_USAGE, &err);
    assert_fails(RUN(convert, &text, train_path, out_path, "more"), RQ_ERR_USAGE, &err);
    assert_fails(RUN(convert, &text, train_path, out_path, "--tolerance", "-1"), RQ_ERR_USAGE,
                 &err);
    assert_fails(RUN(convert, &text, train_path, out_path, "-a", "RepVGG-A0"), RQ_ERR_MODEL, &err);
    assert_says(&err, "RepVGG-A0");
    assert_fails(RUN(convert, &text, train_path, out_path, "-a", "RepVGG"), RQ_ERR_USAGE, &err);
    assert_fails(RUN(convert, &text, rq_test_path("%s/none", dir), out_path), RQ_ERR_IO, &err);
    assert_fails(RUN(convert, &text, train_path, rq_test_path("%s/no/dir", dir)), RQ_ERR_IO, &err);
    assert_fails(RUN(convert, &text, train_path, dir), RQ_ERR_IO, &err);
    assert_int_equal(access(out_path, F_OK), -1); /* nothing was written */

    assert_ok(RUN(convert, &text, train_path, out_path), &err);
    assert_fails(RUN(convert, &text, out_path, train_path), RQ_ERR_MODEL, &err);
    assert_says(&err, "form is deploy");
}

/* A branch of huge values that another one cancels: FP32 loses all digits, and convert says so. */
static void test_convert__refuses_over_tolerance(void **state)
{
    (void)state;
    const char *text;
    assert_fails(RUN(convert, &text, train_path, out_path, "--tolerance", "0"), RQ_ERR_GATE, &err);
    assert_says(&err, "train.bin: the logits differ by up to");
    assert_string_equal(text, "");
    assert_int_equal(access(out_path, F_OK), -1);
    assert_int_equal(count_files(), 1); /* nothing half-written either */
    save_train(train_path, -1.0f);
    assert_fails(RUN(convert, &text, train_path, out_path), RQ_ERR_MODEL, &err);
    assert_says(&err, "train.bin: stage1.1.rbr_identity: running_var[0] is -1");
}

static void test_verify__same_and_other(void **state)
{
    (void)state;
    const char *text;
    const char *other = rq_test_path("%s/other.bin", dir);
    assert_ok(RUN(convert, &text, train_path, out_path), &err);
    assert_ok(RUN(verify, &text, train_path, out_path, "--json", "-n", "2"), &err);
    assert_true(json_number(text, "max_abs_diff") < 1e-4);
    assert_true(json_number(text, "images") == 2.0);
    assert_ok(RUN(verify, &text, out_path, out_path, "--tolerance", "0", "-r", "24"), &err);
    save_train(other, 0.05f);
    assert_fails(RUN(verify, &text, other, out_path, "--json"), RQ_ERR_GATE, &err);
    assert_true(json_number(text, "max_abs_diff") > 0.0); /* printed all the same */
}

static void test_verify__refuses(void **state)
{
    (void)state;
    const char *text;
    const char *other = rq_test_path("%s/other.bin", dir);
    assert_fails(RUN(verify, &text, train_path), RQ_ERR_USAGE, &err);
    assert_fails(RUN(verify, &text, train_path, other), RQ_ERR_IO, &err);
    assert_fails(RUN(verify, &text, train_path, train_path, "--data", other), RQ_ERR_IO, &err);
    rq_model model;
    assert_ok(rq_model_load(&model, train_path, &err), &err);
    model.preprocess.crop = 24;
    assert_ok(rq_model_save(&model, other, &err), &err);
    rq_model_deinit(&model);
    assert_fails(RUN(verify, &text, train_path, other), RQ_ERR_MODEL, &err);
    assert_says(&err, "other.bin of 24");
    assert_ok(RUN(verify, &text, train_path, other, "-r", "20"), &err);
}

static void test_verify__over_a_folder(void **state)
{
    (void)state;
    const char *shared = rq_test_shared(), *text;
    char images[512];
    if (!shared) {
        print_message("no shared data: skipped\n");
        skip();
    }
    (void)snprintf(images, sizeof images, "%s/data/imagenet-sample", shared);
    assert_ok(RUN(convert, &text, train_path, out_path), &err);
    assert_ok(RUN(verify, &text, train_path, out_path, "--data", images, "--json", "-b", "7"),
              &err);
    assert_true(json_number(text, "images") >= 30.0);
    assert_true(json_number(text, "max_abs_diff") < 1e-4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_convert__writes_the_deploy_form),
        TEST(test_convert__to_a_device),
        TEST(test_convert__in_place),
        TEST(test_convert__refuses),
        TEST(test_convert__refuses_over_tolerance),
        TEST(test_verify__same_and_other),
        TEST(test_verify__refuses),
        TEST(test_verify__over_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
