/* Training that is killed, stopped, short of time, of disk or of numbers: what is on disk is whole,
 * and a run that was continued ends with the bytes of one that never stopped.
 *
 * RQ_TEST_KILLS sets how many kills the runs must survive, and with it their length; ctest -C long
 * -R kills takes 20. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/options.h"
#include "runtime/base/random.h"
#include "tests/support/small_set.h"

enum { FOLDER = 64, PATH = 160, MAX_ARGS = 48, USUAL_KILLS = 4 };

static void assert_same_files(const char *a, const char *b, const char *const *names)
{
    for (size_t i = 0; names[i]; i++) {
        size_t n, m;
        uint8_t *x = rq_test_read_file(rq_test_path("%s/%s", a, names[i]), &n);
        uint8_t *y = rq_test_read_file(rq_test_path("%s/%s", b, names[i]), &m);
        if (n != m || memcmp(x, y, n) != 0)
            fail_msg("%s differs", names[i]);
        rq_free(x);
        rq_free(y);
    }
}

/* The folder holds these files and no others. */
static void assert_entries(const char *folder, const char *const *names)
{
    int n = 0, want = 0;
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *entry = readdir(stream); entry; entry = readdir(stream)) {
        bool known = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        n += !known;
        for (size_t i = 0; names[i]; i++)
            known = known || strcmp(entry->d_name, names[i]) == 0;
        if (!known)
            fail_msg("%s was left behind", entry->d_name);
    }
    (void)closedir(stream);
    while (names[want])
        want++;
    assert_int_equal(n, want);
}

/* Where the file system has no files without a name, a killed program leaves what it wrote. */
static bool has_unnamed_files(const char *folder)
{
    const int fd = open(folder, O_WRONLY | O_TMPFILE, 0600);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

/* ---- killed ---- */

/* Start the program in a folder; its stderr goes to the file "log" there. */
static pid_t start_program(const char *folder, const char *const *args)
{
    const char *argv[MAX_ARGS + 2] = {RQ_PROGRAM};
    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    const char *log = rq_test_path("%s.log", folder);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int to = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        (void)alarm(120);
        if (to >= 0 && dup2(to, STDERR_FILENO) >= 0 && chdir(folder) == 0)
            (void)execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return child;
}

static void pause_for(double seconds)
{
    (void)usleep((useconds_t)(seconds * 1e6));
}

/* Send a signal after some time; the program's wait status. */
static int run_and_signal(const char *folder, const char *const *args, double seconds, int signal)
{
    int status = 0;
    const pid_t child = start_program(folder, args);
    pause_for(seconds);
    (void)kill(child, signal);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static int wanted_kills(void)
{
    int64_t kills = USUAL_KILLS;
    const char *text = getenv("RQ_TEST_KILLS");
    if (text)
        assert_true(rq_parse_int(text, 1, 1000, &kills));
    return (int)kills;
}

/* --epochs, so many for each kill. (rq_test_path's buffers are soon used again.) */
static const char *epochs_for_kills(int n)
{
    static char text[16];
    (void)snprintf(text, sizeof text, "%d", n * wanted_kills());
    return text;
}

/* args: with --resume auto, writing names in the working folder. */
static void check_survives_kills(const char *const *args, const char *const *names, uint64_t seed)
{
    char straight[FOLDER], killed[FOLDER];
    small_make_folder(straight, FOLDER);
    small_make_folder(killed, FOLDER);
    const rq_cli_options there = {.dir = straight, .timeout_s = 120};
    const double before = rq_clock();
    rq_cli_run_argv(&small.run, &there, args);
    assert_exit(&small.run, 0);
    const double seconds = rq_clock() - before;
    rq_random random = {seed};
    int n_killed = 0, n_continued = 0;
    const int n_kills = wanted_kills();
    for (int i = 0; i < n_kills; i++) {
        const double share = (0.25 + 1.5 * rq_random_unit(&random)) / n_kills;
        const int status = run_and_signal(killed, args, seconds * share, SIGKILL);
        if (!WIFSIGNALED(status))
            break; /* it was faster */
        n_killed++;
        n_continued += small_exists(rq_test_path("%s/out.bin.ckpt", killed));
        size_t n;
        uint8_t *log = rq_test_read_file(rq_test_path("%s.log", killed), &n);
        assert_null(memmem(log, n, "repqat ", 7)); /* no run complained */
        rq_free(log);
    }
    const rq_cli_options again = {.dir = killed, .timeout_s = 120};
    rq_cli_run_argv(&small.run, &again, args);
    assert_exit(&small.run, 0);
    print_message("%d kills in runs of %.2f s, %d with a state to continue from\n", n_killed,
                  seconds, n_continued);
    assert_true(n_killed > 0);
    assert_same_files(straight, killed, names);
    if (has_unnamed_files(killed))
        assert_entries(killed, names);
    assert_int_equal(unlink(rq_test_path("%s.log", killed)), 0);
    rq_test_rmdir(straight);
    rq_test_rmdir(killed);
}

#define EVERY_STEP "--save-every", "0.00001"
#define COMMON     "--threads", "1", "--resume", "auto", "-q", "-o", "out.bin", EVERY_STEP

static void test_train__survives_kills(void **state)
{
    (void)state;
    static const char *const names[] = {"out.bin", "out.bin.ckpt", "out.best_ema.bin", NULL};
    check_survives_kills(
        (const char *const[]){
            "train",      small.images,  "-a",   SMALL_ARCH,   "-r",
            "16",         "-b",          "2",    "--epochs",   epochs_for_kills(3),
            "--seed",     "7",           "--lr", "0.05",       "--warmup-epochs",
            "3",          "--schedule",  "timm", "--nesterov", "--mixup",
            "0.2",        "--clip-grad", "1",    "--ema",      "0.05",
            "--ema-rule", "plain",       COMMON, NULL},
        names, 11);
}

static void test_train__adamw_survives_kills(void **state)
{
    (void)state;
    static const char *const names[] = {"out.bin", "out.bin.ckpt", "out.best_ema.bin", NULL};
    check_survives_kills(
        (const char *const[]){
            "train",       small.images, "-a",     SMALL_ARCH, "-r",
            "16",          "-b",         "2",      "--epochs", epochs_for_kills(2),
            "--optimizer", "adamw",      "--lr",   "0.002",    "--ema",
            "0.001",       "--augment",  "raug15", COMMON,     NULL},
        names, 12);
}

static void test_qat_train__survives_kills(void **state)
{
    (void)state;
    static const char *const names[] = {"out.bin", "out.bin.ckpt", NULL};
    check_survives_kills((const char *const[]){"qat_train", small.images, "--base-weights",
                                               small.withbn, "-b", "2", "--epochs",
                                               epochs_for_kills(2), "--lr", "0.01", COMMON, NULL},
                         names, 13);
}

/* ---- asked to stop ---- */

/* A signal ends the run with a line and 128 + its number; continued, it ends as if not stopped. */
static void test_train__stops_when_asked(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    static const char *const abbreviations[] = {"SIGINT", "SIGTERM", "SIGHUP"};
    static const char *const names[] = {"out.bin", "out.bin.ckpt", NULL};
    char straight[FOLDER], stopped[FOLDER], log[PATH];
    const char *const args[] = {
        "train", small.images, "-a", SMALL_ARCH, "-r",   "16", "-b", "2",       "--epochs",
        "40",    "--threads",  "1",  "--resume", "auto", "-q", "-o", "out.bin", NULL};
    small_make_folder(straight, FOLDER);
    small_make_folder(stopped, FOLDER);
    (void)snprintf(log, PATH, "%s.log", stopped);
    const rq_cli_options there = {.dir = straight};
    const double before = rq_clock();
    rq_cli_run_argv(&small.run, &there, args);
    assert_exit(&small.run, 0);
    const double seconds = rq_clock() - before;
    for (size_t i = 0; i < 3; i++) {
        const int status = run_and_signal(stopped, args, 0.25 * seconds, signals[i]);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            break; /* it was faster */
        if (WIFSIGNALED(status))
            continue; /* before it was ready to be asked */
        assert_int_equal(WEXITSTATUS(status), 128 + signals[i]);
        size_t n;
        uint8_t *text = rq_test_read_file(log, &n);
        const char *says = rq_test_path("repqat train: stopped by %s in epoch ", abbreviations[i]);
        assert_int_equal(memcmp(text, says, strlen(says)), 0); /* the only line */
        assert_non_null(
            memmem(text, n, "out.bin.ckpt holds the state (--resume auto continues)", 54));
        rq_free(text);
    }
    const rq_cli_options here = {.dir = stopped};
    rq_cli_run_argv(&small.run, &here, args);
    assert_exit(&small.run, 0);
    assert_same_files(straight, stopped, names);
    (void)unlink(log);
    rq_test_rmdir(straight);
    rq_test_rmdir(stopped);
}

/* ---- short of time ---- */

static void test_train__budget(void **state)
{
    (void)state;
    char folder[FOLDER];
    small_make_folder(folder, FOLDER);
    const rq_cli_options there = {.dir = folder};
    const double before = rq_clock();
    rq_cli_run_with(&small.run, &there, "train", small.images, "-a", SMALL_ARCH, "-r", "16", "-b",
                    "2", "--epochs", "100000", "--threads", "1", "-p", "0", "--budget", "1s",
                    "--json", "-o", "out.bin");
    assert_exit(&small.run, 0);
    assert_true(rq_clock() - before < 30.0); /* a loaded machine is slow to start */
    assert_says_err(&small.run, "budget 1s: ");
    json_t *json = rq_cli_json(&small.run);
    assert_in_range(json_integer_value(json_object_get(json, "epochs")), 1, 99999);
    json_decref(json);
    assert_true(small_exists(rq_test_path("%s/out.bin", folder)));
    rq_cli_run_with(&small.run, &there, "train", small.images, "-a", SMALL_ARCH, "-r", "16", "-b",
                    "2", "--epochs", "2", "--threads", "1", "--budget", "1x", "-o", "out.bin");
    assert_failure(&small.run, 2, "--budget: '1x'");
    rq_test_rmdir(folder);
}

/* ---- short of disk ---- */

/* Checkpoints within an epoch that cannot be written: a warning, and the training goes on; the old
 * state stays until the end of the epoch needs a place too. */
static void test_train__disk_full_within_an_epoch(void **state)
{
    (void)state;
    char folder[FOLDER], kept[FOLDER];
    static const char *const names[] = {"out.bin", "out.bin.ckpt", NULL};
    small_make_folder(folder, FOLDER);
    small_make_folder(kept, FOLDER);
    const char *const args[] = {"train",     small.images, "-a",       SMALL_ARCH, "-r",
                                "16",        "-b",         "2",        "--epochs", "3",
                                "--threads", "1",          "--resume", "auto",     "-q",
                                "-o",        "out.bin",    EVERY_STEP, NULL};
    const rq_cli_options there = {.dir = folder};
    rq_cli_run_argv(&small.run, &there, args);
    assert_exit(&small.run, 0);
    for (size_t i = 0; i < 2; i++) {
        size_t n;
        uint8_t *bytes = rq_test_read_file(rq_test_path("%s/%s", folder, names[i]), &n);
        rq_test_write_file(rq_test_path("%s/%s", kept, names[i]), bytes, n);
        rq_free(bytes);
    }
    const rq_cli_options shell = {.program = "/bin/sh", .dir = folder};
    static const char script[] = "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"";
    rq_cli_run_with(&small.run, &shell, "-c", script, RQ_PROGRAM, "train", small.images, "-a",
                    SMALL_ARCH, "-r", "16", "-b", "2", "--epochs", "3", "--threads", "1", "-q",
                    "-o", "out.bin", EVERY_STEP);
    assert_exit(&small.run, 1);
    assert_says_err(&small.run, "warning: the state was not saved: out.bin.ckpt: cannot write");
    assert_says_err(&small.run, "repqat train: out.bin: cannot write: File too large");
    assert_same_files(folder, kept, names);
    assert_entries(folder, names);
    rq_test_rmdir(folder);
    rq_test_rmdir(kept);
}

/* ---- numbers that are none ---- */

#define DIVERGING                                                                                  \
    "train", small.images, "-a", SMALL_ARCH, "-r", "16", "-b", "1", "--epochs", "9", "--threads",  \
        "1", "--lr", "1e6", "--optimizer", "adamw", "--wd", "1e3", "-q", "-o", "out.bin"

/* An image vanishes while training goes on: one line that names it and the place, and the state and
 * the model of the last epoch stay. */
static void test_train__folder_that_changes(void **state)
{
    (void)state;
    char command[1024], folder[FOLDER], root[PATH];
    small_make_folder(folder, FOLDER);
    (void)snprintf(root, PATH, "%s/images", folder);
    small_images(root);
    (void)snprintf(command, sizeof command,
                   "cd %s && { %s train images -a '" SMALL_ARCH "' -r 96 -b 4 --threads 1 -q "
                   "--epochs 100000 --log-dir logs -o out.bin & }; "
                   "until grep -q '\"event\": \"epoch\"' logs/train.jsonl; do sleep 0.1; done; "
                   "rm images/train/cat/0.jpg; wait $!",
                   folder, RQ_PROGRAM);
    const rq_cli_options shell = {.program = "/bin/sh"};
    rq_cli_run_with(&small.run, &shell, "-c", command);
    assert_exit(&small.run, 1);
    assert_says_err(&small.run, "repqat train: ");
    assert_says_err(&small.run, "images/train/cat/0.jpg: ");
    assert_true(small_exists(rq_test_path("%s/out.bin", folder)));
    assert_true(small_exists(rq_test_path("%s/out.bin.ckpt", folder)));
    rq_test_rmdir(folder);
}

static void test_train__loss_not_finite(void **state)
{
    (void)state;
    char folder[FOLDER];
    small_make_folder(folder, FOLDER);
    const rq_cli_options there = {.dir = folder};
    rq_cli_run_with(&small.run, &there, DIVERGING, "--save-every", "0");
    assert_failure(&small.run, 1, "train: epoch 0, step ");
    assert_says_err(&small.run, ": the loss is not finite; the first layer that is not: stage");
    assert_not_err(&small.run, "holds the state"); /* there is none */
    assert_entries(folder, (const char *const[]){NULL});
    rq_cli_run_with(&small.run, &there, DIVERGING, EVERY_STEP);
    assert_failure(&small.run, 1, "train: epoch 0, step ");
    assert_says_err(&small.run, "; out.bin.ckpt holds the state before");
    /* which can be read, and leads to the same end */
    rq_cli_run_with(&small.run, &there, DIVERGING, "--resume", "out.bin.ckpt");
    assert_failure(&small.run, 1, "train: epoch 0, step ");
    rq_test_rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_train__survives_kills),
        cmocka_unit_test(test_train__adamw_survives_kills),
        cmocka_unit_test(test_qat_train__survives_kills),
        cmocka_unit_test(test_train__stops_when_asked),
        cmocka_unit_test(test_train__budget),
        cmocka_unit_test(test_train__disk_full_within_an_epoch),
        cmocka_unit_test(test_train__folder_that_changes),
        cmocka_unit_test(test_train__loss_not_finite),
    };
    return cmocka_run_group_tests(tests, small_setup_withbn, small_teardown);
}
