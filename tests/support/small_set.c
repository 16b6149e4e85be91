/* Photographs of the golden tests, copied, and the program's commands. */
#include "tests/support/small_set.h"

#include <sys/stat.h>
#include <unistd.h>

small_set small;

/* ---- files ---- */

void small_copy(const char *name, const char *to)
{
    size_t size_bytes;
    uint8_t *data = rq_test_read_file(
        rq_test_path("%s/tests/golden/images/%s.jpg", RQ_SOURCE_DIR, name), &size_bytes);
    rq_test_write_file(to, data, size_bytes);
    rq_free(data);
}

bool small_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

void small_mkdir(const char *path)
{
    assert_int_equal(mkdir(path, 0777), 0);
}

void small_make_folder(char *path, size_t size_bytes)
{
    (void)snprintf(path, size_bytes, "%s", rq_test_mkdir());
}

const char *small_cut(const char *path, const char *cut)
{
    size_t size_bytes;
    uint8_t *data = rq_test_read_file(path, &size_bytes);
    rq_test_write_file(cut, data, size_bytes - 1);
    rq_free(data);
    return cut;
}

/* ---- images and models ---- */

void small_split(const char *dir, const char *split, const char *const *names, int n, int n_cats)
{
    char root[256];
    (void)snprintf(root, sizeof root, "%s/%s", dir, split);
    small_mkdir(root);
    small_mkdir(rq_test_path("%s/cat", root));
    small_mkdir(rq_test_path("%s/dog", root));
    for (int i = 0; i < n; i++)
        small_copy(names[i], rq_test_path("%s/%s/%d.jpg", root, i < n_cats ? "cat" : "dog", i));
}

void small_images(const char *dir)
{
    static const char *const train[SMALL_TRAIN] = {"photo",       "grey", "progressive", "rotated",
                                                   "full_chroma", "cmyk", "portrait",    "ycck"};
    static const char *const val[SMALL_VAL] = {"photo", "optimized", "portrait", "rgb_stored",
                                               "odd_sampling"};
    small_mkdir(dir);
    small_split(dir, "train", train, SMALL_TRAIN, 4);
    small_split(dir, "val", val, SMALL_VAL, 2);
}

void small_deploy(const char *dir)
{
    const char *train = rq_test_path("%s/train.bin", dir);
    SMALL_RUN("train", rq_test_path("%s/images", dir), "-a", SMALL_ARCH, "-r", "16", "-b", "4",
              "--epochs", "2", "--threads", "1", "-o", train);
    SMALL_RUN("convert", train, rq_test_path("%s/deploy.bin", dir));
}

void small_withbn(const char *dir)
{
    SMALL_RUN("insert_bn", rq_test_path("%s/images", dir), rq_test_path("%s/deploy.bin", dir),
              rq_test_path("%s/withbn.bin", dir), "--threads", "1");
}

/* ---- fixtures ---- */

int small_setup(void **state)
{
    (void)state;
    small_make_folder(small.dir, sizeof small.dir);
    const struct {
        char *path;
        const char *name;
    } files[] = {
        {small.images, "images"},     {small.train, "train.bin"}, {small.deploy, "deploy.bin"},
        {small.withbn, "withbn.bin"}, {small.qat, "qat.bin"},     {small.int8, "int8.bin"},
        {small.out, "out.bin"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        (void)snprintf(files[i].path, sizeof small.images, "%s/%s", small.dir, files[i].name);
    small_images(small.images);
    return 0;
}

int small_setup_deploy(void **state)
{
    (void)small_setup(state);
    small_deploy(small.dir);
    return 0;
}

int small_setup_withbn(void **state)
{
    (void)small_setup_deploy(state);
    small_withbn(small.dir);
    return 0;
}

int small_setup_int8(void **state)
{
    (void)small_setup_withbn(state);
    SMALL_RUN("qat_train", small.images, "--base-weights", small.withbn, "-b", "4", "--epochs", "1",
              "--threads", "1", "-o", small.qat);
    SMALL_RUN("export_int8", small.qat, small.int8);
    return 0;
}

int small_teardown(void **state)
{
    (void)state;
    rq_cli_deinit(&small.run);
    rq_test_rmdir(small.dir);
    return 0;
}

void assert_one_line(const rq_cli *run, const char *command, const char *part)
{
    const char *newline = strchr(run->err, '\n');
    assert_failure(run, 1, part);
    if (!newline || newline[1] || strncmp(run->err, "repqat ", 7) != 0 ||
        strncmp(run->err + 7, command, strlen(command)) != 0)
        fail_msg("not one line of the command: %s", run->err);
}
