/* convert's memory, in a process of its own: this program run again with arguments. */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "fuse/convert_command.h"
#include "runtime/model/arch.h"
#include "runtime/model/tensorfile.h"
#include "tests/support/cli.h"
#include "tests/support/test.h"

static rq_error err;

/* As one of our files, or as a checkpoint: the tensors alone. */
static const char *save_network(const char *dir, const char *arch, bool as_checkpoint)
{
    rq_model model;
    const char *path = rq_test_path("%s/train", dir);
    assert_ok(rq_arch_build(&model, arch, 0, &err), &err);
    rq_model_init_weights(&model, 1);
    model.preprocess.resize = model.preprocess.crop = 32;
    if (as_checkpoint)
        assert_ok(
            rq_tensorfile_write(path, model.graph.params, model.graph.n_params, NULL, 0, &err),
            &err);
    else
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

/* The peak memory of the largest child so far, in MiB, after converting this network. */
static double convert(const char *dir, const char *arch, bool as_checkpoint, double *size)
{
    static const char *const env[] = {"OMP_NUM_THREADS=1", NULL};
    const rq_cli_options self = {.program = "/proc/self/exe", .env = env};
    rq_cli run = RQ_CLI_INIT;
    struct rusage usage;
    const char *path = save_network(dir, arch, as_checkpoint);
    rq_cli_run_with(&run, &self, path, rq_test_path("%s/deploy.bin", dir), "-a", arch, "-n", "1");
    assert_exit(&run, 0);
    rq_cli_deinit(&run);
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &usage), 0);
    *size = file_mib(path);
    return (double)usage.ru_maxrss / 1024.0;
}

/* Weights are in memory about once, whatever is done with them: merged, written, packed for the
 * comparison. What the program takes for a network of no size is not counted. */
static void test_convert__memory(void **state)
{
    (void)state;
    static const char small[] = "repvgg:depth=1;width=8;classes=10";
    static const char large[] = "repvgg:depth=1,4,8;width=32,384,512;classes=1000";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("a sanitizer's memory is another: skipped\n");
    skip();
#endif
    const char *dir = rq_test_mkdir();
    double size = 0.0;
    const double fixed = convert(dir, small, false, &size);
    for (int as_checkpoint = 0; as_checkpoint < 2; as_checkpoint++) {
        const double peak = convert(dir, large, as_checkpoint, &size);
        if (!(size > 90.0 && peak - fixed <= 1.3 * size))
            fail_msg("%.0f MiB for a file of %.0f MiB, %.0f for none", peak, size, fixed);
    }
    rq_test_rmdir(dir);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        rq_error why = RQ_ERROR_INIT;
        const rq_status status = rq_command_convert.run(&rq_command_convert, argc, argv, &why);
        (void)fprintf(stderr, "%s\n", why.text);
        return (int)status;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convert__memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
