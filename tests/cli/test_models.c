/* The models that are kept in tests/models: each can be read, and merging leaves its function as it
 * is. */
#include <stdio.h>

#include "runtime/base/memory.h"
#include "tests/support/small_set.h"

enum { PATH = 160, MAX_BYTES = 1500000 };

static rq_cli run;

static const char *model_path(const char *name)
{
    return rq_test_path("%s/tests/models/%s.bin", RQ_SOURCE_DIR, name);
}

static void check_model(const char *dir, const char *name, const char *block)
{
    char model[512], deploy[PATH];
    size_t size_bytes;
    (void)snprintf(model, sizeof model, "%s", model_path(name));
    (void)snprintf(deploy, sizeof deploy, "%s/%s.bin", dir, name);
    rq_free(rq_test_read_file(model, &size_bytes));
    assert_true(size_bytes < MAX_BYTES);
    rq_cli_run(&run, "inspect", model);
    assert_exit(&run, 0);
    assert_says_out(&run, block);
    assert_says_out(&run, "--seed 1");
    rq_cli_run(&run, "convert", model, deploy);
    assert_exit(&run, 0);
    rq_cli_run(&run, "verify", model, deploy);
    assert_exit(&run, 0);
}

static void test_models__convert(void **state)
{
    (void)state;
    char dir[PATH];
    small_make_folder(dir, sizeof dir);
    check_model(dir, "plain", "block=target");
    check_model(dir, "repvgg", "depth=1,2,2,2");
    check_model(dir, "repopt", "block=target");
    check_model(dir, "qarepvgg", "block=qarepvgg");
    rq_cli_run(&run, "inspect", model_path("repopt_scales"));
    assert_exit(&run, 0);
    rq_cli_deinit(&run);
    rq_test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models__convert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
