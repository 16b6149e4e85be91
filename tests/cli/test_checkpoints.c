/* Checkpoints that PyTorch wrote (tests/golden/make_checkpoints.py), through the program: every
 * kind of network in one container, one network in every container; their logits are PyTorch's.
 * RQ_CHECKPOINTS names a folder of more such files. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tests/support/small_set.h"

#define FOLDER RQ_SOURCE_DIR "/tests/golden/checkpoints/"

enum { NPY_HEADER = 128 };

static const char photo[] = RQ_SOURCE_DIR "/tests/golden/images/photo.jpg";
static const char zip[] = FOLDER "repvgg_zip.pth";

static const char *dir;
static rq_cli run;

/* Networks this small are slower with more threads. */
static const rq_cli_options single = {.env = (const char *const[]){"OMP_NUM_THREADS=1", NULL}};

#define RUN(...) rq_cli_run_with(&run, &single, __VA_ARGS__)

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_cli_deinit(&run);
    rq_test_rmdir(dir);
    return 0;
}

/* What classify wrote: max |difference| <= 1e-4 max |logit|. */
static void check_logits(const char *npy, const json_t *want)
{
    const size_t n = json_array_size(want);
    size_t size_bytes;
    uint8_t *file = rq_test_read_file(npy, &size_bytes);
    assert_int_equal(size_bytes, NPY_HEADER + n * sizeof(float));
    double largest = 0.0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(json_number_value(json_array_get(want, i))));
    assert_true(largest > 0.0);
    for (size_t i = 0; i < n; i++) {
        float logit;
        memcpy(&logit, file + NPY_HEADER + i * sizeof logit, sizeof logit);
        assert_close((double)logit, json_number_value(json_array_get(want, i)), 1e-4 * largest,
                     0.0);
    }
    rq_free(file);
}

static const char *folder(void)
{
    const char *named = getenv("RQ_CHECKPOINTS");
    return named ? named : FOLDER;
}

static void check_case(const json_t *row)
{
    const char *file = json_string_value(json_object_get(row, "file"));
    const char *arch = json_string_value(json_object_get(row, "arch"));
    const char *path = rq_test_path("%s/%s", folder(), file);
    const char *npy = rq_test_path("%s/logits.npy", dir);
    const char *merged = rq_test_path("%s/%s.bin", dir, file);
    const json_t *logits = json_object_get(row, "logits");
    print_message("%s\n", file);
    RUN("classify", path, photo, "-a", arch, "--logits", npy, "-q");
    assert_exit(&run, 0);
    check_logits(npy, logits);
    RUN("convert", path, merged, "-a", arch, "-q"); /* compares the two forms itself */
    assert_exit(&run, 0);
    RUN("classify", merged, photo, "--logits", npy, "-q");
    assert_exit(&run, 0);
    check_logits(npy, logits);
}

static void test_checkpoints__have_the_logits_of_pytorch(void **state)
{
    (void)state;
    json_t *cases = json_load_file(rq_test_path("%s/cases.json", folder()), 0, NULL);
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i));
    json_decref(cases);
}

/* ---- what commands say ---- */

#define ARCH "repvgg:depth=1,2,2;width=8,8,12;stride=2,1,2"

static void test_checkpoints__need_an_architecture(void **state)
{
    (void)state;
    RUN("inspect", zip);
    assert_failure(&run, 2, "repvgg_zip.pth: a checkpoint does not say its architecture");
    RUN("inspect", zip, "-a", ARCH);
    assert_exit(&run, 1);
    assert_says_err(&run, "it loads with --classes 5");
    assert_says_err(&run, "linear.weight is [5, 12], the network has [1000, 12]");
    RUN("inspect", zip, "-a", ARCH, "--classes", "5");
    assert_exit(&run, 0);
    assert_says_out(&run, "form           train");
}

static void test_checkpoints__head_of_other_classes(void **state)
{
    (void)state;
    RUN("inspect", zip, "-a", ARCH, "--classes", "7");
    assert_exit(&run, 0);
    assert_says_err(&run, "repvgg_zip.pth: linear.weight has 5 outputs, not 7");
    assert_says_out(&run, "classes        7");
}

static void test_checkpoints__as_models_everywhere(void **state)
{
    (void)state;
    const char *merged = rq_test_path("%s/deploy.bin", dir);
    RUN("convert", zip, merged, "-a", ARCH, "--classes", "5", "-q");
    assert_exit(&run, 0);
    RUN("inspect", merged);
    assert_says_out(&run, "parent         crc32:");
    RUN("verify", zip, merged, "-a", ARCH, "--classes", "5", "-r", "32");
    assert_exit(&run, 0);
    RUN("bench", zip, "-a", ARCH, "--classes", "5", "-r", "32", "--repeat", "5");
    assert_exit(&run, 0);
    RUN("verify", zip, merged, "-a", ARCH, "--classes", "6");
    assert_failure(&run, 1, "deploy.bin: has 5 classes, not the 6 of --classes");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoints__have_the_logits_of_pytorch),
        TEST(test_checkpoints__need_an_architecture),
        TEST(test_checkpoints__head_of_other_classes),
        TEST(test_checkpoints__as_models_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
