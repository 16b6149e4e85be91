/* A folder of a few photographs in two classes, and models made for it by the program itself. */
#ifndef RQ_TESTS_CLI_SMALL_SET_H
#define RQ_TESTS_CLI_SMALL_SET_H

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/memory.h"
#include "tests/support/cli.h"
#include "tests/support/test.h"

#define SMALL_ARCH "repvgg:depth=1,1;width=8,8;classes=2"

enum { SMALL_TRAIN = 8, SMALL_VAL = 5 }; /* images per split, unevenly over the classes */

/* name: of one of the test images. */
static inline void small_copy(const char *name, const char *to)
{
    size_t size_bytes;
    uint8_t *data = rq_test_read_file(
        rq_test_path("%s/tests/golden/images/%s.jpg", RQ_SOURCE_DIR, name), &size_bytes);
    rq_test_write_file(to, data, size_bytes);
    rq_free(data);
}

/* A new folder's name, kept: rq_test_mkdir's names are soon used again. */
static inline void small_make_folder(char *path, size_t size_bytes)
{
    (void)snprintf(path, size_bytes, "%s", rq_test_mkdir());
}

static inline bool small_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static inline void small_mkdir(const char *path)
{
    assert_int_equal(mkdir(path, 0777), 0);
}

/* dir/split/{cat,dog}; the first n_cats names are cats. */
static inline void small_split(const char *dir, const char *split, const char *const *names, int n,
                               int n_cats)
{
    char root[256];
    (void)snprintf(root, sizeof root, "%s/%s", dir, split);
    small_mkdir(root);
    small_mkdir(rq_test_path("%s/cat", root));
    small_mkdir(rq_test_path("%s/dog", root));
    for (int i = 0; i < n; i++)
        small_copy(names[i], rq_test_path("%s/%s/%d.jpg", root, i < n_cats ? "cat" : "dog", i));
}

/* dir/train and dir/val; dir must not exist. */
static inline void small_images(const char *dir)
{
    static const char *const train[SMALL_TRAIN] = {"photo",       "grey", "progressive", "rotated",
                                                   "full_chroma", "cmyk", "portrait",    "ycck"};
    static const char *const val[SMALL_VAL] = {"photo", "optimized", "portrait", "rgb_stored",
                                               "odd_sampling"};
    small_mkdir(dir);
    small_split(dir, "train", train, SMALL_TRAIN, 4);
    small_split(dir, "val", val, SMALL_VAL, 2);
}

/* Run the program; it must succeed. Options of the machine (threads) are left to the caller. */
#define SMALL_RUN(...)                                                                             \
    do {                                                                                           \
        rq_cli run_ = RQ_CLI_INIT;                                                                 \
        rq_cli_run(&run_, __VA_ARGS__);                                                            \
        assert_exit(&run_, 0);                                                                     \
        rq_cli_deinit(&run_);                                                                      \
    } while (0)

/* dir/train.bin and dir/deploy.bin for dir/images. */
static inline void small_deploy(const char *dir)
{
    const char *train = rq_test_path("%s/train.bin", dir);
    SMALL_RUN("train", rq_test_path("%s/images", dir), "-a", SMALL_ARCH, "-r", "16", "-b", "4",
              "--epochs", "2", "--threads", "1", "-o", train);
    SMALL_RUN("convert", train, rq_test_path("%s/deploy.bin", dir));
}

/* dir/withbn.bin, dir/qat.bin and dir/int8.bin. */
static inline void small_quantize(const char *dir)
{
    const char *images = rq_test_path("%s/images", dir), *qat = rq_test_path("%s/qat.bin", dir);
    const char *withbn = rq_test_path("%s/withbn.bin", dir);
    SMALL_RUN("insert_bn", images, rq_test_path("%s/deploy.bin", dir), withbn, "--threads", "1");
    SMALL_RUN("qat_train", images, "--base-weights", withbn, "-b", "4", "--epochs", "1",
              "--threads", "1", "-o", qat);
    SMALL_RUN("export_int8", qat, rq_test_path("%s/int8.bin", dir));
}

/* The file without its last byte. */
static inline const char *small_cut(const char *path, const char *cut)
{
    size_t size_bytes;
    uint8_t *data = rq_test_read_file(path, &size_bytes);
    rq_test_write_file(cut, data, size_bytes - 1);
    rq_free(data);
    return cut;
}

/* stderr is one line that begins with "repqat COMMAND: " and holds part; the exit code is 1;
 * nothing was printed to stdout. */
static inline void assert_one_line(const rq_cli *run, const char *command, const char *part)
{
    const char *newline = strchr(run->err, '\n');
    assert_failure(run, 1, part);
    if (!newline || newline[1] || strncmp(run->err, "repqat ", 7) != 0 ||
        strncmp(run->err + 7, command, strlen(command)) != 0)
        fail_msg("not one line of the command: %s", run->err);
}

#endif
