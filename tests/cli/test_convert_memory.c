/* convert's memory, in a process of its own: this program run again with arguments. */
#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "runtime/model/arch.h"
#include "runtime/modelfile/modelfile.h"
#include "runtime/modelfile/tensorfile.h"
#include "tests/support/cli.h"
#include "tests/support/test.h"

static rq_error err;

typedef enum file_kind {
    MODEL,
    CHECKPOINT, /* the tensors alone */
    UNALIGNED,  /* the same from a byte that is not a multiple of 4: values must be copied */
    N_KINDS
} file_kind;

/* A foreign safetensors file whose data begin at an odd byte. */
static void write_unaligned(const char *path, const rq_graph *graph)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 8, SEEK_SET), 0);
    size_t at = 0;
    for (int i = 0; i < graph->n_params; i++) {
        const rq_tensor *tensor = &graph->params[i].tensor;
        const size_t end = at + rq_tensor_elems(tensor) * rq_dtype_size(tensor->dtype);
        (void)fprintf(file, "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [", i ? ", " : "{",
                      graph->params[i].name, rq_dtype_name(tensor->dtype));
        for (int k = 0; k < tensor->rank; k++)
            (void)fprintf(file, "%s%lld", k ? ", " : "", (long long)tensor->dim[k]);
        (void)fprintf(file, "], \"data_offsets\": [%zu, %zu]}", at, end);
        at = end;
    }
    (void)fprintf(file, "}");
    while (ftell(file) % 2 == 0)
        (void)fputc(' ', file);
    const uint64_t n = (uint64_t)ftell(file) - 8;
    for (int i = 0; i < graph->n_params; i++) {
        const rq_tensor *tensor = &graph->params[i].tensor;
        const size_t elems = rq_tensor_elems(tensor);
        assert_int_equal(fwrite(tensor->data, rq_dtype_size(tensor->dtype), elems, file), elems);
    }
    assert_int_equal(fseek(file, 0, SEEK_SET), 0);
    for (int i = 0; i < 8; i++)
        (void)fputc((int)(n >> (8 * i) & 255), file);
    assert_int_equal(fclose(file), 0);
}

static const char *save_network(const char *dir, const char *arch, file_kind kind)
{
    rq_model model;
    const char *path = rq_test_path("%s/train", dir);
    assert_ok(rq_arch_build(&model, arch, 0, &err), &err);
    rq_model_init_weights(&model, 1);
    model.preprocess.resize = model.preprocess.crop = 32;
    if (kind == MODEL)
        assert_ok(rq_model_save(&model, path, &err), &err);
    else if (kind == CHECKPOINT)
        assert_ok(
            rq_tensorfile_write(path, model.graph.params, model.graph.n_params, NULL, 0, &err),
            &err);
    else
        write_unaligned(path, &model.graph);
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
static double convert(const char *dir, const char *arch, file_kind kind, double *size)
{
    static const char *const env[] = {"OMP_NUM_THREADS=1", NULL};
    const rq_cli_options self = {.program = "/proc/self/exe", .env = env};
    rq_cli run = RQ_CLI_INIT;
    struct rusage usage;
    const char *path = save_network(dir, arch, kind);
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
    const double fixed = convert(dir, small, MODEL, &size);
    for (file_kind kind = MODEL; kind < N_KINDS; kind++) {
        const double peak = convert(dir, large, kind, &size);
        if (!(size > 90.0 && peak - fixed <= 1.3 * size))
            fail_msg("kind %d: %.0f MiB for a file of %.0f MiB, %.0f for none", (int)kind, peak,
                     size, fixed);
    }
    rq_test_rmdir(dir);
}

/* The merged weights are the same whatever the file was, and nothing else is left behind. */
static void test_convert__kinds_of_files(void **state)
{
    (void)state;
    static const char arch[] = "repvgg:depth=1,2;width=8,8;classes=5";
    const char *dir = rq_test_mkdir();
    rq_model deploy[N_KINDS];
    for (file_kind kind = MODEL; kind < N_KINDS; kind++) {
        double size;
        (void)convert(dir, arch, kind, &size);
        assert_ok(rq_model_load(&deploy[kind], rq_test_path("%s/deploy.bin", dir), &err), &err);
        assert_int_equal(deploy[kind].graph.n_params, deploy[MODEL].graph.n_params);
        for (int i = 0; i < deploy[kind].graph.n_params; i++) {
            const rq_tensor *want = &deploy[MODEL].graph.params[i].tensor;
            assert_memory_equal(deploy[kind].graph.params[i].tensor.data, want->data,
                                rq_tensor_elems(want) * rq_dtype_size(want->dtype));
        }
    }
    for (file_kind kind = MODEL; kind < N_KINDS; kind++)
        rq_model_deinit(&deploy[kind]);
    int n_files = 0;
    DIR *stream = opendir(dir);
    assert_non_null(stream);
    while (readdir(stream))
        n_files++;
    (void)closedir(stream);
    assert_int_equal(n_files, 2 + 2);
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
        cmocka_unit_test(test_convert__kinds_of_files),
        cmocka_unit_test(test_convert__memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
