/* train and qat_train as typed: what they write, resuming after a kill, the same files at any
 * number of loading threads, and what they refuse: one line, nothing half done, the previous output
 * untouched. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "tests/support/small_set.h"

enum { FOLDER = 64, PATH = 128 };

/* ---- files ---- */

static int count_entries(const char *folder)
{
    int n = 0;
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    for (const struct dirent *entry = readdir(stream); entry; entry = readdir(stream))
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    (void)closedir(stream);
    return n;
}

/* Where a comparison of two files begins. */
static size_t from_start(const uint8_t *bytes)
{
    (void)bytes;
    return 0;
}

/* The header of a safetensors file holds the command line, which may differ. */
static size_t from_tensors(const uint8_t *bytes)
{
    size_t n = 8;
    for (int i = 0; i < 8; i++)
        n += (size_t)bytes[i] << 8 * i;
    return n;
}

static void assert_same_file(const char *a, const char *b, size_t (*offset)(const uint8_t *))
{
    size_t n, m;
    uint8_t *x = rq_test_read_file(a, &n), *y = rq_test_read_file(b, &m);
    const size_t i = offset(x), j = offset(y);
    if (n - i != m - j || memcmp(x + i, y + j, n - i) != 0)
        fail_msg("%s and %s differ", a, b);
    rq_free(x);
    rq_free(y);
}

/* ---- training ---- */

#define TRAIN_OPTIONS                                                                              \
    "-a", SMALL_ARCH, "-r", "16", "-b", "4", "--val-batch-size", "5", "--threads", "1", "--seed",  \
        "7", "--lr", "0.05", "--warmup-epochs", "1"

static void test_train__two_epochs(void **state)
{
    (void)state;
    char out[PATH];
    (void)snprintf(out, PATH, "%s/two.bin", small.dir);
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--epochs", "2", "-p", "1", "-o",
               out);
    assert_exit(&small.run, 0);
    assert_says_err(&small.run, "Epoch: [0][    0/2]\tTime");
    assert_says_err(&small.run, "Epoch: [1][    1/2]\tTime");
    assert_says_err(&small.run, " * Acc@1 ");
    assert_says_out(&small.run, rq_test_path("%s: best Acc@1 ", out));
    assert_true(small_exists(out) && small_exists(rq_test_path("%s.ckpt", out)));
    rq_cli_run(&small.run, "evaluate", small.images, out, "--threads", "1");
    assert_exit(&small.run, 0);
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--epochs", "1", "--json", "-o",
               out);
    json_t *json = rq_cli_json(&small.run);
    assert_int_equal(json_integer_value(json_object_get(json, "epochs")), 1);
    assert_true(json_is_number(json_object_get(json, "best_top1")));
    assert_string_equal(json_string_value(json_object_get(json, "output")), out);
    json_decref(json);
}

/* Without a validation split the latest model is kept; class folders may be in DIR itself. */
static void test_train__without_validation(void **state)
{
    (void)state;
    const char *out = rq_test_path("%s/noval.bin", small.dir);
    rq_cli_run(&small.run, "train", rq_test_path("%s/train", small.images), TRAIN_OPTIONS,
               "--epochs", "1", "-o", out);
    assert_exit(&small.run, 0);
    assert_says_err(&small.run, "warning: no validation images in ");
    assert_says_out(&small.run, "noval.bin: not validated, 1 epochs in ");
    assert_true(small_exists(out));
    rq_cli_run(&small.run, "train", rq_test_path("%s/train", small.images), TRAIN_OPTIONS,
               "--epochs", "1", "-o", out, "--json");
    json_t *json = rq_cli_json(&small.run);
    assert_true(json_is_null(json_object_get(json, "best_top1")));
    assert_true(json_is_null(json_object_get(json, "last_top1")));
    json_decref(json);
}

static void test_train__same_files_at_any_number_of_workers(void **state)
{
    (void)state;
    char one[PATH], four[PATH];
    (void)snprintf(one, PATH, "%s/j1.bin", small.dir);
    (void)snprintf(four, PATH, "%s/j4.bin", small.dir);
    SMALL_RUN("train", small.images, TRAIN_OPTIONS, "--epochs", "2", "-j", "1", "-o", one);
    SMALL_RUN("train", small.images, TRAIN_OPTIONS, "--epochs", "2", "-j", "4", "-o", four);
    assert_same_file(one, four, from_tensors);
    assert_same_file(rq_test_path("%s.ckpt", one), rq_test_path("%s.ckpt", four), from_start);
}

static uint32_t tensors_crc(const char *path)
{
    size_t size_bytes;
    uint8_t *bytes = rq_test_read_file(path, &size_bytes);
    const size_t at = from_tensors(bytes);
    const uLong crc = crc32_z(0, bytes + at, size_bytes - at);
    rq_free(bytes);
    return (uint32_t)crc;
}

/* Each word trains on other pixels; two are other names. */
static void test_train__each_augmentation(void **state)
{
    (void)state;
    static const char *const words[] = {"pad-crop", "crop", "raug15", "cutout",
                                        "flip",     "none", "auto",   "weak"};
    enum { N_WORDS = sizeof words / sizeof words[0], N_KINDS = N_WORDS - 2 };
    uint32_t crc[N_WORDS];
    for (int i = 0; i < N_WORDS; i++) {
        char out[PATH + 32];
        (void)snprintf(out, sizeof out, "%s/augment_%s.bin", small.dir, words[i]);
        SMALL_RUN("train", small.images, TRAIN_OPTIONS, "--epochs", "1", "--augment", words[i],
                  "-o", out);
        crc[i] = tensors_crc(out);
        for (int k = 0; k < i && i < N_KINDS; k++)
            assert_int_not_equal(crc[i], crc[k]);
    }
    assert_int_equal(crc[N_KINDS], crc[0]);     /* auto: these images are small */
    assert_int_equal(crc[N_KINDS + 1], crc[1]); /* weak */
    static const char *const besides[][2] = {{"--color-jitter", "0.4"},
                                             {"--padding-mode", "reflect"},
                                             {"--padding", "2"},
                                             {"--resize", "24"}};
    for (size_t i = 0; i < sizeof besides / sizeof besides[0]; i++) {
        char out[PATH + 32];
        (void)snprintf(out, sizeof out, "%s/besides%zu.bin", small.dir, i);
        SMALL_RUN("train", small.images, TRAIN_OPTIONS, "--epochs", "1", besides[i][0],
                  besides[i][1], "-o", out);
        assert_int_not_equal(tensors_crc(out), crc[0]);
    }
}

/* ---- killed and resumed ---- */

/* Start the program in a folder and kill it as soon as a file appears there. */
static void run_until(const char *folder, const char *file, const char *const *args)
{
    const char *argv[32] = {RQ_PROGRAM};
    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int null = open("/dev/null", O_WRONLY);
        (void)alarm(60);
        if (null >= 0 && dup2(null, STDERR_FILENO) >= 0 && chdir(folder) == 0)
            (void)execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = 0;
    const char *path = rq_test_path("%s/%s", folder, file);
    while (!small_exists(path) && waitpid(child, &status, WNOHANG) == 0)
        (void)usleep(500);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, &status, 0);
    assert_true(small_exists(path));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The same command, once in one go and once killed after its first run file and started again:
 * all bytes of model and run file are equal. */
static void check_resumes(const char *const *args)
{
    char straight[FOLDER], killed[FOLDER];
    small_make_folder(straight, FOLDER);
    small_make_folder(killed, FOLDER);
    const rq_cli_options in_straight = {.dir = straight}, in_killed = {.dir = killed};
    rq_cli_run_argv(&small.run, &in_straight, args);
    assert_exit(&small.run, 0);
    assert_not_err(&small.run, "resumed");
    run_until(killed, "out.bin.ckpt", args);
    rq_cli_run_argv(&small.run, &in_killed, args);
    assert_exit(&small.run, 0);
    assert_says_err(&small.run, "resumed from out.bin.ckpt after ");
    static const char *const files[] = {"out.bin", "out.bin.ckpt"};
    for (size_t i = 0; i < 2; i++)
        assert_same_file(rq_test_path("%s/%s", straight, files[i]),
                         rq_test_path("%s/%s", killed, files[i]), from_start);
    rq_cli_run_argv(&small.run, &in_killed, args); /* finished already: nothing changes */
    assert_exit(&small.run, 0);
    assert_says_err(&small.run, "after 12 of 12 epochs");
    assert_same_file(rq_test_path("%s/out.bin", straight), rq_test_path("%s/out.bin", killed),
                     from_start);
    rq_test_rmdir(straight);
    rq_test_rmdir(killed);
}

static void test_train__resumes_after_a_kill(void **state)
{
    (void)state;
    check_resumes((const char *const[]){"train", small.images, TRAIN_OPTIONS, "--epochs", "12",
                                        "-o", "out.bin", "--resume", "auto", NULL});
}

static void test_qat_train__resumes_after_a_kill(void **state)
{
    (void)state;
    check_resumes((const char *const[]){"qat_train", small.images, "--base-weights", small.withbn,
                                        "-b", "4", "--epochs", "12", "--threads", "1", "--seed",
                                        "3", "--lr", "0.01", "-o", "out.bin", "--resume", "auto",
                                        NULL});
}

/* ---- what is refused ---- */

/* A run that must fail with one line; there is nothing new in a folder where an older output is
 * kept. */
static void check_failure_(const char *part, const char *command, const char *const *args, int line)
{
    static const char old[] = "the previous output";
    char folder[FOLDER], out[PATH];
    small_make_folder(folder, FOLDER);
    (void)snprintf(out, PATH, "%s/out.bin", folder);
    rq_test_write_file(out, old, sizeof old);
    const char *all[48] = {command, "-q", "-o", out};
    for (int i = 0; args[i]; i++)
        all[i + 4] = args[i];
    rq_cli_run_argv(&small.run, NULL, all);
    const int entries = count_entries(folder);
    size_t n;
    uint8_t *kept = rq_test_read_file(out, &n);
    const bool untouched = n == sizeof old && memcmp(kept, old, n) == 0;
    rq_free(kept);
    rq_test_rmdir(folder);
    if (entries != 1 || !untouched)
        fail_msg("line %d: the output folder has changed; stderr: %s", line, small.run.err);
    if (small.run.exit_code != 1)
        fail_msg("line %d: exit code %d; stderr: %s", line, small.run.exit_code, small.run.err);
    assert_one_line(&small.run, command, part);
}

#define check_failure(part, command, ...)                                                          \
    check_failure_((part), (command), (const char *const[]){__VA_ARGS__, NULL}, __LINE__)
#define QUICK "--threads", "1", "--epochs", "1", "-b", "4"

/* A copy of the images to spoil, root, in a folder for the caller to remove. */
static void copy_images(char *folder, char *root)
{
    small_make_folder(folder, FOLDER);
    (void)snprintf(root, PATH, "%s/images", folder);
    small_images(root);
}

static void test_train__bad_folders(void **state)
{
    (void)state;
    char folder[FOLDER], root[PATH], path[PATH + 32];
    copy_images(folder, root);
    check_failure("/nowhere: ", "train", "/nowhere", "-a", SMALL_ARCH, QUICK);
    check_failure("/dev/null: ", "train", "/dev/null", "-a", SMALL_ARCH, QUICK);
    (void)snprintf(path, sizeof path, "%s/empty", folder);
    small_mkdir(path);
    check_failure(rq_test_path("%s: no class folders in it", path), "train", path, "-a", SMALL_ARCH,
                  QUICK);
    (void)snprintf(path, sizeof path, "%s/val/bird", root);
    small_mkdir(path); /* a class without images among the validation images */
    check_failure(rq_test_path("%s: a class folder without images", path), "train", root, "-a",
                  SMALL_ARCH, QUICK);
    small_copy("photo", rq_test_path("%s/0.jpg", path)); /* and one that training does not have */
    check_failure(rq_test_path("%s/val", root), "train", root, "-a", SMALL_ARCH, QUICK);
    assert_says_err(&small.run, "2 classes");
    assert_int_equal(unlink(rq_test_path("%s/0.jpg", path)), 0);
    assert_int_equal(rmdir(path), 0);
    (void)snprintf(path, sizeof path, "%s/train/bird", root);
    small_mkdir(path);
    check_failure(rq_test_path("%s: a class folder without images", path), "train", root, "-a",
                  SMALL_ARCH, QUICK);
    rq_test_rmdir(folder);
}

/* As many classes under other names are other classes. */
static void test_train__other_classes(void **state)
{
    (void)state;
    char folder[FOLDER], root[PATH];
    copy_images(folder, root);
    check_failure("2 class", "train", root, "-a", "repvgg:depth=1,1;width=8,8;classes=3", QUICK);
    assert_says_err(&small.run, "3 classes");
    assert_int_equal(rename(rq_test_path("%s/val/dog", root), rq_test_path("%s/val/eel", root)), 0);
    check_failure("'dog'", "train", root, "-a", SMALL_ARCH, QUICK);
    assert_says_err(&small.run, "'eel'");
    assert_int_equal(rename(rq_test_path("%s/train/dog", root), rq_test_path("%s/train/eel", root)),
                     0);
    check_failure("'dog'", "qat_train", root, "--base-weights", small.withbn, QUICK);
    rq_test_rmdir(folder);
}

static void test_train__truncated_image(void **state)
{
    (void)state;
    char folder[FOLDER], root[PATH], photo[PATH + 32];
    copy_images(folder, root);
    (void)snprintf(photo, sizeof photo, "%s/train/cat/0.jpg", root);
    size_t n;
    uint8_t *bytes = rq_test_read_file(photo, &n);
    rq_test_write_file(photo, bytes, n / 2);
    rq_free(bytes);
    check_failure(photo, "train", root, "-a", SMALL_ARCH, "-r", "16", "--threads", "1", "-b", "8",
                  "--epochs", "1");
    const char *out = rq_test_path("%s/out.bin", folder);
    rq_cli_run(&small.run, "train", root, "-a", SMALL_ARCH, "-r", "16", "--threads", "1", "-b", "8",
               "--epochs", "2", "--bad-images", "skip", "-q", "-o", out);
    assert_exit(&small.run, 0);
    assert_says_err(&small.run, "warning: ");
    assert_says_err(&small.run, photo);
    const char *first = strstr(small.run.err, photo);
    assert_null(strstr(first + 1, photo)); /* named once, not in every epoch */
    assert_true(small_exists(out));
    rq_test_rmdir(folder);
}

static void test_train__wrong_usage(void **state)
{
    (void)state;
    static const struct {
        const char *option, *value, *says;
    } wrong[] = {
        {"--arch", "RepVGG-Z9", "RepVGG-Z9"},
        {"--arch", "repvgg:depth=1,x", "depth"},
        {"--arch", "", "arch"},
        {"-b", "0", "batch-size"},
        {"-b", "9", "only 8 images"},
        {"-b", "4x", "4x"},
        {"--epochs", "0", "epochs"},
        {"--epochs", "", "epochs"},
        {"--lr", "nan", "lr"},
        {"--lr", "-1", "lr"},
        {"--lr", "1e999", "lr"},
        {"--label-smoothing", "1.5", "label-smoothing"},
        {"--augment", "mirror", "mirror"},
        {"--padding", "-1", "padding"},
        {"--padding-mode", "edge", "edge"},
        {"--color-jitter", "1.5", "color-jitter"},
        {"--bad-images", "ignore", "ignore"},
        {"-j", "0", "workers"},
        {"--threads", "-1", "threads"},
        {"--seed", "-1", "seed"},
        {"--start-epoch", "3", "start-epoch"},
    };
    char out[PATH + 32];
    (void)snprintf(out, sizeof out, "%s/usage.bin", small.dir);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--epochs", "1", "-o", out,
                   wrong[i].option, wrong[i].value);
        assert_failure(&small.run, 2, wrong[i].says);
        assert_says_err(&small.run, "try 'repqat train --help'");
        assert_false(small_exists(out));
    }
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--augment", "none",
               "--color-jitter", "0.1");
    assert_failure(&small.run, 2, "color-jitter");
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--augment", "none",
               "--alternate-flips");
    assert_failure(&small.run, 2, "alternate flips");
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--augment", "crop",
               "--padding-mode", "reflect");
    assert_failure(&small.run, 2, "padding-mode");
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--augment", "crop", "--resize",
               "24");
    assert_failure(&small.run, 2, "resize");
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--augment", "flip", "--padding",
               "2");
    assert_failure(&small.run, 2, "padding");
    rq_cli_run(&small.run, "train", small.images);
    assert_failure(&small.run, 2, "arch");
    rq_cli_run(&small.run, "train", "-a", SMALL_ARCH);
    assert_failure(&small.run, 2, "DIR");
    rq_cli_run(&small.run, "qat_train", small.images);
    assert_failure(&small.run, 2, "base-weights");
    rq_cli_run(&small.run, "qat_train", small.images, "--base-weights", small.withbn,
               "--quantlayers", "none");
    assert_failure(&small.run, 2, "exclud_first_and_linear");
}

/* Each file that is not what qat_train needs: the message says what it is and what makes the
 * right one. */
static void test_qat_train__wrong_base(void **state)
{
    (void)state;
    check_failure("/nowhere.bin: ", "qat_train", small.images, "--base-weights", "/nowhere.bin",
                  QUICK);
    const char *const other[] = {small.train, small.deploy};
    for (size_t i = 0; i < 2; i++) {
        check_failure(other[i], "qat_train", small.images, "--base-weights", other[i], QUICK);
        assert_says_err(&small.run, i ? "form is deploy" : "form is train");
        assert_says_err(&small.run, "make one with: repqat insert_bn");
    }
    check_failure(small.withbn, "qat_train", small.images, "--base-weights", small.withbn, "-a",
                  "RepVGG-A0", QUICK);
    assert_says_err(&small.run, "RepVGG-A0");
    check_failure(small.images, "qat_train", small.images, "--base-weights", small.images, QUICK);
}

/* Cut base weights at some lengths, and flipped bytes of header and tensors. */
static void test_qat_train__damaged_base(void **state)
{
    (void)state;
    char bad[PATH + 32];
    (void)snprintf(bad, sizeof bad, "%s/bad.bin", small.dir);
    size_t n;
    uint8_t *bytes = rq_test_read_file(small.withbn, &n);
    const size_t cuts[] = {0, 7, 8, 100, n / 2, n - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        rq_test_write_file(bad, bytes, cuts[i]);
        check_failure(bad, "qat_train", small.images, "--base-weights", bad, QUICK);
    }
    const size_t flips[] = {3, 9, 60, n / 2, n - 1};
    for (size_t i = 0; i < sizeof flips / sizeof flips[0]; i++) {
        bytes[flips[i]] ^= 4;
        rq_test_write_file(bad, bytes, n);
        bytes[flips[i]] ^= 4;
        check_failure(bad, "qat_train", small.images, "--base-weights", bad, QUICK);
    }
    rq_free(bytes);
}

/* Where results cannot be written is found out before the work, not after. */
static void test_train__output_that_cannot_be_written(void **state)
{
    (void)state;
    char out[PATH + 32];
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--epochs", "1", "-o",
               "/nowhere/x/out.bin");
    assert_one_line(&small.run, "train", "/nowhere/x/out.bin: ");
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--epochs", "1", "-o", small.dir);
    assert_one_line(&small.run, "train", small.dir);
    (void)snprintf(out, sizeof out, "%s/blocked.bin", small.dir);
    small_mkdir(rq_test_path("%s.ckpt", out)); /* the run file's place is taken by a folder */
    rq_cli_run(&small.run, "train", small.images, TRAIN_OPTIONS, "--epochs", "1", "-o", out);
    assert_one_line(&small.run, "train", rq_test_path("%s.ckpt: ", out));
    assert_false(small_exists(out));
    char tag[400];
    memset(tag, 'x', sizeof tag - 1);
    tag[sizeof tag - 1] = '\0';
    rq_cli_run(&small.run, "qat_train", small.images, "--base-weights", small.withbn, QUICK, "-q",
               "--tag", tag);
    assert_failure(&small.run, 2, "is too long"); /* and not written under a cut name */
}

/* A limit on the size of files is like a full disk: the old files stay, no temporary ones do. */
static void test_train__full_disk(void **state)
{
    (void)state;
    char folder[FOLDER], out[PATH + 32];
    small_make_folder(folder, FOLDER);
    (void)snprintf(out, sizeof out, "%s/out.bin", folder);
    const rq_cli_options shell = {.program = "/bin/sh"};
    static const char script[] = "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\"";
    rq_cli_run_with(&small.run, &shell, "-c", script, RQ_PROGRAM, "train", small.images,
                    TRAIN_OPTIONS, "--epochs", "1", "-q", "-o", out);
    assert_one_line(&small.run, "train", out);
    assert_says_err(&small.run, "File too large");
    assert_int_equal(count_entries(folder), 0);
    SMALL_RUN("train", small.images, TRAIN_OPTIONS, "--epochs", "1", "-o", out);
    char before[PATH + 32];
    (void)snprintf(before, sizeof before, "%s/before", small.dir);
    size_t n;
    uint8_t *bytes = rq_test_read_file(out, &n);
    rq_test_write_file(before, bytes, n);
    rq_free(bytes);
    rq_cli_run_with(&small.run, &shell, "-c", script, RQ_PROGRAM, "train", small.images,
                    TRAIN_OPTIONS, "--epochs", "1", "-q", "-o", out);
    assert_one_line(&small.run, "train", out);
    assert_int_equal(count_entries(folder), 2);
    assert_same_file(out, before, from_start);
    rq_test_rmdir(folder);
}

static void test_train__run_file_that_does_not_fit(void **state)
{
    (void)state;
    char out[PATH], ckpt[PATH + 32], cut[PATH + 32];
    (void)snprintf(out, PATH, "%s/resumed.bin", small.dir);
    (void)snprintf(ckpt, sizeof ckpt, "%s.ckpt", out);
    (void)snprintf(cut, sizeof cut, "%s/cut.ckpt", small.dir);
    SMALL_RUN("train", small.images, TRAIN_OPTIONS, "--epochs", "2", "-o", out);
    check_failure("/nowhere.ckpt: ", "train", small.images, TRAIN_OPTIONS, "--epochs", "2",
                  "--resume", "/nowhere.ckpt");
    check_failure(ckpt, "train", small.images, TRAIN_OPTIONS, "--epochs", "3", "--resume", ckpt);
    assert_says_err(&small.run, "another run");
    assert_says_err(&small.run, "epochs=2");
    assert_says_err(&small.run, "epochs=3");
    check_failure(small.withbn, "train", small.images, TRAIN_OPTIONS, "--epochs", "2", "--resume",
                  small.withbn);
    assert_says_err(&small.run, "not a run file");
    (void)small_cut(ckpt, cut);
    check_failure(cut, "train", small.images, TRAIN_OPTIONS, "--epochs", "2", "--resume", cut);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_train__two_epochs),
        cmocka_unit_test(test_train__without_validation),
        cmocka_unit_test(test_train__each_augmentation),
        cmocka_unit_test(test_train__same_files_at_any_number_of_workers),
        cmocka_unit_test(test_train__resumes_after_a_kill),
        cmocka_unit_test(test_qat_train__resumes_after_a_kill),
        cmocka_unit_test(test_train__bad_folders),
        cmocka_unit_test(test_train__other_classes),
        cmocka_unit_test(test_train__truncated_image),
        cmocka_unit_test(test_train__wrong_usage),
        cmocka_unit_test(test_qat_train__wrong_base),
        cmocka_unit_test(test_qat_train__damaged_base),
        cmocka_unit_test(test_train__output_that_cannot_be_written),
        cmocka_unit_test(test_train__full_disk),
        cmocka_unit_test(test_train__run_file_that_does_not_fit),
    };
    return cmocka_run_group_tests(tests, small_setup_withbn, small_teardown);
}
