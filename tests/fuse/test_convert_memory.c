/* convert's memory, in a process of its own: this program run again with two arguments. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "fuse/convert_command.h"
#include "runtime/model/arch.h"
#include "tests/support/cli.h"
#include "tests/support/test.h"

static rq_error err;

static const char *save_network(const char *dir, const char *arch)
{
    rq_model model;
    const char *path = rq_test_path("%s/train.bin", dir);
    assert_ok(rq_arch_build(&model, arch, 0, &err), &err);
    rq_model_init_weights(&model, 1);
    model.preprocess.resize = model.preprocess.crop = 32;
    assert_ok(rq_model_save(&model, path, &err), &err);
    rq_model_deinit(&model);
    return path;
}

static double file_mib(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return (double)info.st_size / (1 << 20);
}

/* Peak memory of any child so far. */
static double peak_mib(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &usage), 0);
    return (double)usage.ru_maxrss / 1024.0;
}

/* Weights are in memory about once, whatever is done with them: merged, written, packed for the
 * comparison. What the program takes for a network of no size is not counted. */
static void test_convert__memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("a sanitizer's memory is another: skipped\n");
    skip();
#endif
    const char *dir = rq_test_mkdir(), *out = rq_test_path("%s/deploy.bin", dir);
    const rq_cli_options self = {.program = "/proc/self/exe"};
    rq_cli run = RQ_CLI_INIT;
    rq_cli_run_with(&run, &self, save_network(dir, "repvgg:depth=1;width=8;classes=10"), out);
    assert_exit(&run, 0);
    const double fixed = peak_mib();
    const char *path = save_network(dir, "repvgg:depth=1,4,8;width=32,384,512;classes=1000");
    rq_cli_run_with(&run, &self, path, out);
    assert_exit(&run, 0);
    const double size = file_mib(path), peak = peak_mib();
    if (!(size > 90.0 && peak - fixed <= 1.3 * size))
        fail_msg("%.0f MiB for a file of %.0f MiB, %.0f for none", peak, size, fixed);
    rq_cli_deinit(&run);
    rq_test_rmdir(dir);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return (int)rq_command_convert.run(&rq_command_convert, argc, argv, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convert__memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
