/* Several processes: mpirun -np N repqat …. They do what one does, and end together. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/small_set.h"

enum { PATH = 160, MAX_STEPS = 64 };

/* As root too; more processes than cores; and MPI's own memory is not ours to judge. */
static const char *const environment[] = {"OMPI_ALLOW_RUN_AS_ROOT=1",
                                          "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                                          "OMPI_MCA_btl_vader_single_copy_mechanism=none",
                                          "ASAN_OPTIONS=exitcode=99:detect_leaks=0", NULL};
static const rq_cli_options mpirun = {.program = RQ_MPIRUN, .env = environment, .timeout_s = 120};

#define RANKS(n)  "--oversubscribe", "--bind-to", "none", "-np", n
#define SMALL     "-r", "16", "-b", "4", "-j", "1", "--threads", "1", "-q"
#define RUN(...)  rq_cli_run_with(&small.run, &mpirun, __VA_ARGS__)
#define DONE(...) (RUN(__VA_ARGS__), assert_exit(&small.run, 0))

static void need_mpi(void)
{
    if (*RQ_MPIRUN)
        return;
    print_message("skipped: built without MPI\n");
    skip();
}

/* The losses of the steps in a log folder; their number. */
static int read_losses(const char *logs, double *losses)
{
    size_t n;
    int count = 0;
    char *text = (char *)rq_test_read_file(rq_test_path("%s/train.jsonl", logs), &n);
    for (char *line = text; line < text + n;) {
        char *end = memchr(line, '\n', (size_t)(text + n - line));
        json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (strcmp(json_string_value(json_object_get(json, "event")), "step") == 0) {
            assert_true(count < MAX_STEPS);
            losses[count++] = json_number_value(json_object_get(json, "loss"));
        }
        json_decref(json);
        line = end + 1;
    }
    rq_free(text);
    return count;
}

/* Steps of `command` by one process and by two: losses that differ by no more than rel. */
static void check_losses(const char *const *command, int n_steps, double rel)
{
    static int calls;
    double losses[2][MAX_STEPS] = {{0.0}};
    calls++;
    for (int i = 0; i < 2; i++) {
        const char *argv[64] = {RANKS(i ? "2" : "1"), RQ_PROGRAM}, *logs;
        int n = 0;
        while (argv[n])
            n++;
        for (int k = 0; command[k]; k++)
            argv[n++] = command[k];
        logs = rq_test_path("%s/logs%d.%d", small.dir, calls, i);
        argv[n++] = "--log-dir";
        argv[n++] = logs;
        rq_cli_run_argv(&small.run, &mpirun, argv);
        assert_exit(&small.run, 0);
        assert_int_equal(read_losses(logs, losses[i]), n_steps);
    }
    for (int k = 0; k < n_steps; k++)
        assert_close(losses[1][k], losses[0][k], 0.0, rel);
    assert_true(fabs(losses[0][n_steps - 1] - losses[0][0]) > 1e-3); /* something was learnt */
}

#define TRAIN "train", small.images, "-a", SMALL_ARCH, SMALL, "-p", "1", "-o", small.out

static void test_train__losses_of_one_process(void **state)
{
    (void)state;
    need_mpi();
    check_losses((const char *const[]){TRAIN, "--epochs", "25", "--lr", "5e-4", NULL}, 50, 1e-5);
    check_losses((const char *const[]){TRAIN, "--epochs", "2", "--lr", "0.01", "--mixup", "0.3",
                                       "--custom-l2", "--label-smoothing", "0.1", NULL},
                 4, 1e-5);
}

/* Rounding to integers makes jumps of small differences, but not in the first steps. */
static void test_qat_train__losses_of_one_process(void **state)
{
    (void)state;
    need_mpi();
    char withbn[PATH];
    (void)snprintf(withbn, sizeof withbn, "%s/withbn.bin", small.dir);
    small_deploy(small.dir);
    SMALL_RUN("insert_bn", small.images, rq_test_path("%s/deploy.bin", small.dir), withbn);
    check_losses((const char *const[]){"qat_train", small.images, "--base-weights", withbn, SMALL,
                                       "-p", "1", "--epochs", "2", "--lr", "0.01", "-o", small.out,
                                       NULL},
                 4, 1e-3);
}

/* The tensor `name`, n values, of a model file; the caller frees it. */
static float *read_tensor(const char *path, const char *name, size_t *n)
{
    size_t size_bytes;
    uint64_t header_bytes;
    uint8_t *file = rq_test_read_file(path, &size_bytes);
    memcpy(&header_bytes, file, 8);
    json_t *header = json_loadb((const char *)file + 8, (size_t)header_bytes, 0, NULL);
    const json_t *offsets = json_object_get(json_object_get(header, name), "data_offsets");
    const size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
    const size_t end = (size_t)json_integer_value(json_array_get(offsets, 1));
    assert_true(end > begin && 8 + header_bytes + end <= size_bytes);
    *n = (end - begin) / sizeof(float);
    float *values = rq_alloc(end - begin);
    memcpy(values, file + 8 + header_bytes + begin, end - begin);
    json_decref(header);
    rq_free(file);
    return values;
}

static void test_insert_bn__statistics_of_one_process(void **state)
{
    (void)state;
    need_mpi();
    static const char *const names[] = {"stage1.0.rbr_reparam.bn.running_mean",
                                        "stage1.0.rbr_reparam.bn.running_var"};
    char deploy[PATH], one[PATH], two[PATH];
    small_deploy(small.dir);
    (void)snprintf(deploy, sizeof deploy, "%s/deploy.bin", small.dir);
    (void)snprintf(one, sizeof one, "%s/one.bin", small.dir);
    (void)snprintf(two, sizeof two, "%s/two.bin", small.dir);
    SMALL_RUN("insert_bn", small.images, deploy, one, "-b", "4");
    DONE(RANKS("2"), RQ_PROGRAM, "insert_bn", small.images, deploy, two, "-b", "4");
    assert_says_out(&small.run, "statistics of 8 images");
    for (int i = 0; i < 2; i++) {
        size_t n, m;
        float *want = read_tensor(one, names[i], &n), *got = read_tensor(two, names[i], &m);
        assert_int_equal(n, m);
        assert_all_close(got, want, n, 1e-6, 1e-5);
        rq_free(want);
        rq_free(got);
    }
    RUN(RANKS("2"), RQ_PROGRAM, "insert_bn", small.images, deploy, two, "--stat", "ema");
    assert_says_err(&small.run, "--stat ema");
    assert_int_not_equal(small.run.exit_code, 0);
}

/* Five images: the third process has one, or none. */
static void test_evaluate__result_of_one_process(void **state)
{
    (void)state;
    need_mpi();
    small_deploy(small.dir);
    const char *model = rq_test_path("%s/deploy.bin", small.dir);
    rq_cli_run(&small.run, "evaluate", small.images, model, "-q");
    assert_exit(&small.run, 0);
    const char *want = rq_test_path("%s", small.run.out);
    for (int n = 2; n <= 3; n++)
        for (int batch = 1; batch <= 6; batch += 5) {
            DONE(RANKS(n == 2 ? "2" : "3"), RQ_PROGRAM, "evaluate", small.images, model, "-q", "-b",
                 batch == 1 ? "1" : "6");
            assert_string_equal(small.run.out, want);
        }
}

/* Killed at any moment and resumed, two processes end with the bytes of an undisturbed run. */
static void test_resume__same_bytes(void **state)
{
    (void)state;
    need_mpi();
    char command[1024];
    uint8_t *files[2];
    size_t n[2];
    (void)snprintf(command, sizeof command,
                   "%s train %s -a '" SMALL_ARCH "' -r 16 -b 4 -j 1 --threads 1 -q --epochs 60 "
                   "--resume auto -o model.bin",
                   RQ_PROGRAM, small.images);
    for (int i = 0; i < 2; i++) {
        const rq_cli_options here = {.program = mpirun.program,
                                     .env = mpirun.env,
                                     .timeout_s = mpirun.timeout_s,
                                     .dir = rq_test_path("%s/%d", small.dir, i)};
        small_mkdir(here.dir);
        const char *killed = rq_test_path("timeout -s KILL 1 %s", command);
        if (i == 1)
            rq_cli_run_with(&small.run, &here, RANKS("2"), "sh", "-c", killed);
        rq_cli_run_with(&small.run, &here, RANKS("2"), "sh", "-c", command);
        assert_exit(&small.run, 0);
        files[i] = rq_test_read_file(rq_test_path("%s/%d/model.bin", small.dir, i), &n[i]);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(files[0], files[1], n[0]);
    rq_free(files[0]);
    rq_free(files[1]);
}

/* ---- what goes wrong ---- */

static int count(const char *text, const char *part)
{
    int n = 0;
    for (; (text = strstr(text, part)); text++)
        n++;
    return n;
}

/* All would say the same: one does. */
static void test_failure__of_all(void **state)
{
    (void)state;
    need_mpi();
    RUN(RANKS("3"), RQ_PROGRAM, TRAIN, "--epochs", "1");
    assert_int_equal(small.run.exit_code, 2);
    assert_int_equal(count(small.run.err, "repqat train: --batch-size 4: not a multiple of the 3"),
                     1);
    RUN(RANKS("2"), RQ_PROGRAM, "inspect", small.out);
    assert_int_equal(small.run.exit_code, 2);
    assert_int_equal(count(small.run.err, "repqat inspect: runs in one process, not in 2"), 1);
    RUN(RANKS("2"), RQ_PROGRAM, "--help");
    assert_int_equal(count(small.run.out, "usage:"), 1);
}

/* One process fails while the other waits for it. */
static void test_failure__of_one(void **state)
{
    (void)state;
    need_mpi();
    const char *command = rq_test_path(
        "D=%s; [ $OMPI_COMM_WORLD_RANK = 0 ] || D=%s/nowhere; exec %s train $D -a '" SMALL_ARCH
        "' -r 16 -b 4 --threads 1 --epochs 1 -q -o %s",
        small.images, small.dir, RQ_PROGRAM, small.out);
    RUN(RANKS("2"), "sh", "-c", command);
    assert_int_equal(small.run.exit_code, 1);
    assert_int_equal(count(small.run.err, "nowhere"), 1);
    assert_false(small_exists(small.out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_train__losses_of_one_process, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_qat_train__losses_of_one_process, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_insert_bn__statistics_of_one_process, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_evaluate__result_of_one_process, small_setup,
                                        small_teardown),
        cmocka_unit_test_setup_teardown(test_resume__same_bytes, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_failure__of_all, small_setup, small_teardown),
        cmocka_unit_test_setup_teardown(test_failure__of_one, small_setup, small_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
