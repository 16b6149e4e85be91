/* evaluate at other resolutions than the model's: its logits are those of a model that prepares its
 * images this way by itself. */
#include "cli/commands.h"

#include <string.h>
#include <unistd.h>

#include "cli/synthetic.h"
#include "runtime/modelfile/modelfile.h"
#include "tests/runtime/tiny_models.h"
#include "tests/support/capture.h"

enum { RESIZE = 18, CROP = 16 };

static rq_error err;
static const char *dir, *path;

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    path = rq_test_path("%s/model.bin", dir);
    return rq_synthetic_write(dir, TINY_CLASSES, 1, 2, 40, 1, &err) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_test_rmdir(dir);
    return 0;
}

static rq_status evaluate(const char *resolution, const char *npy)
{
    const char *text; /* the accuracy is of no interest */
    return rq_test_command(&rq_command_evaluate, &text, &err, dir, path, "--logits", npy, "-j1",
                           resolution ? "-r" : NULL, resolution);
}

/* The file of logits of a model that prepares its images so; free with rq_free. resolution NULL:
 * as the model says. */
static uint8_t *logits_of(int resize, int crop, const char *resolution, size_t *size_bytes)
{
    rq_model model;
    const char *npy = rq_test_path("%s/logits.npy", dir);
    tiny_deploy(&model);
    model.preprocess.resize = resize;
    model.preprocess.crop = crop;
    assert_ok(rq_model_save(&model, path, &err), &err);
    rq_model_deinit(&model);
    assert_ok(evaluate(resolution, npy), &err);
    return rq_test_read_file(npy, size_bytes);
}

static void test_evaluate__resolution_decides_on_resize_and_crop(void **state)
{
    (void)state;
    static const struct {
        const char *resolution;
        int resize, crop;
    } cases[] = {
        {"16", RESIZE, CROP}, /* the model's own */
        {"24", 24, 24},       /* larger than its crop */
        {"9", 9, 9},          /* smaller */
        {"1", 1, 1},          {"224", 256, 224},
    };
    size_t n_own, n_got, n_want;
    uint8_t *own = logits_of(RESIZE, CROP, NULL, &n_own);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *got = logits_of(RESIZE, CROP, cases[i].resolution, &n_got);
        uint8_t *want = logits_of(cases[i].resize, cases[i].crop, NULL, &n_want);
        assert_int_equal(n_got, n_own);
        assert_int_equal(n_got, n_want);
        assert_memory_equal(got, want, n_got);
        assert_int_equal(memcmp(got, own, n_got) == 0, cases[i].crop == CROP);
        rq_free(got);
        rq_free(want);
    }
    rq_free(own);
}

static void test_evaluate__refuses_absurd_resolutions(void **state)
{
    (void)state;
    static const char *const bad[] = {"0", "-1", "16385", "1e2", "12px", "99999999999999999999"};
    const char *npy = rq_test_path("%s/none.npy", dir);
    size_t size_bytes;
    rq_free(logits_of(RESIZE, CROP, NULL, &size_bytes));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_fails(evaluate(bad[i], npy), RQ_ERR_USAGE, &err);
        assert_says(&err, "--resolution");
        assert_says(&err, "from 1 to 16384");
    }
    assert_int_not_equal(access(npy, F_OK), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_evaluate__resolution_decides_on_resize_and_crop),
        TEST(test_evaluate__refuses_absurd_resolutions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
