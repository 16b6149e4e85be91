/* Listing of folders: order, splits, and each way in which a folder can be wrong. */
#include "runtime/image/dataset.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/test.h"

/* Create an empty file and the folders on its way. */
static void touch(const char *dir, const char *path)
{
    char full[1024];
    (void)snprintf(full, sizeof full, "%s/%s", dir, path);
    for (char *slash = strchr(full + strlen(dir) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(full, 0777);
        *slash = '/';
    }
    if (full[strlen(full) - 1] != '/')
        rq_test_write_file(full, "", 0);
}

static void assert_fails_at(const char *dir, rq_split split, rq_status code, const char *says)
{
    rq_error err = RQ_ERROR_INIT;
    rq_dataset dataset;
    assert_fails(rq_dataset_open(&dataset, dir, split, &err), code, &err);
    assert_says(&err, says);
    assert_memory_equal(err.text, dir, strlen(dir));
    assert_int_equal(dataset.n_images, 0);
    rq_dataset_close(&dataset);
}

static void test_open__sorts_classes_and_files_by_bytes(void **state)
{
    (void)state;
    static const char *const files[] = {
        "b/2.jpg",   "b/10.jpg",        "B/x.PNG",     "a/z.JPEG", "a/sub/y.jpe",
        "a/m.Webp",  "a/.hidden.jpg",   "a/notes.txt", "a/jpg",    ".cache/x.jpg",
        "loose.jpg", "a/.thumbs/x.jpg", "a/q.bmp",     "a/r.ppm"};
    static const char *const want[] = {"B/x.PNG",     "a/m.Webp", "a/q.bmp",  "a/r.ppm",
                                       "a/sub/y.jpe", "a/z.JPEG", "b/10.jpg", "b/2.jpg"};
    static const int32_t labels[] = {0, 1, 1, 1, 1, 1, 2, 2};
    const char *dir = rq_test_mkdir();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        touch(dir, files[i]);
    rq_error err = RQ_ERROR_INIT;
    rq_dataset dataset;
    assert_ok(rq_dataset_open(&dataset, dir, RQ_SPLIT_TRAIN, &err), &err);
    assert_int_equal(dataset.n_classes, 3);
    assert_string_equal(dataset.class_names[0], "B");
    assert_string_equal(dataset.class_names[1], "a");
    assert_string_equal(dataset.class_names[2], "b");
    assert_string_equal(dataset.root, dir);
    assert_int_equal(dataset.n_images, sizeof want / sizeof *want);
    for (size_t i = 0; i < dataset.n_images; i++) {
        assert_string_equal(dataset.paths[i], rq_test_path("%s/%s", dir, want[i]));
        assert_int_equal(dataset.labels[i], labels[i]);
    }
    rq_dataset_close(&dataset);
    rq_dataset_close(&dataset);
    rq_test_rmdir(dir);
}

static void test_open__finds_the_split(void **state)
{
    (void)state;
    static const struct {
        const char *folders[3];
        rq_split split;
        const char *root;
    } cases[] = {
        {{"train", "val", NULL}, RQ_SPLIT_TRAIN, "train"},
        {{"train", "val", NULL}, RQ_SPLIT_VAL, "val"},
        {{"train", "validation", NULL}, RQ_SPLIT_VAL, "validation"},
        {{"train", "test", NULL}, RQ_SPLIT_VAL, "test"},
        {{"test", "validation", "val"}, RQ_SPLIT_VAL, "val"},
        {{"test", "validation", NULL}, RQ_SPLIT_VAL, "validation"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *dir = rq_test_mkdir();
        for (int f = 0; f < 3 && cases[i].folders[f]; f++)
            touch(dir, rq_test_path("%s/cat/1.jpg", cases[i].folders[f]));
        rq_error err = RQ_ERROR_INIT;
        rq_dataset dataset;
        assert_ok(rq_dataset_open(&dataset, dir, cases[i].split, &err), &err);
        assert_string_equal(dataset.root, rq_test_path("%s/%s", dir, cases[i].root));
        assert_int_equal(dataset.n_images, 1);
        rq_dataset_close(&dataset);
        rq_test_rmdir(dir);
    }
}

static void test_open__says_what_is_wrong(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    assert_fails_at(dir, RQ_SPLIT_VAL, RQ_ERR_FILE, "no class folders");
    assert_fails_at(rq_test_path("%s/missing", dir), RQ_SPLIT_VAL, RQ_ERR_IO,
                    "cannot open the folder: No such file");
    touch(dir, "file.jpg");
    assert_fails_at(dir, RQ_SPLIT_VAL, RQ_ERR_FILE, "no class folders");
    assert_fails_at(rq_test_path("%s/file.jpg", dir), RQ_SPLIT_VAL, RQ_ERR_IO, "Not a directory");
    touch(dir, "train/cat/1.jpg");
    assert_fails_at(dir, RQ_SPLIT_VAL, RQ_ERR_FILE, "no 'val', 'validation' or 'test'");
    touch(dir, "train/dog/readme.txt");
    assert_fails_at(dir, RQ_SPLIT_TRAIN, RQ_ERR_FILE, "train/dog: a class folder without images");
    rq_test_rmdir(dir);

    dir = rq_test_mkdir();
    touch(dir, "test/cat/1.jpg");
    assert_fails_at(dir, RQ_SPLIT_TRAIN, RQ_ERR_FILE, "has a folder 'test' but no 'train'");
    touch(dir, "train/");
    assert_fails_at(dir, RQ_SPLIT_TRAIN, RQ_ERR_FILE, "train: no class folders");
    rq_test_rmdir(dir);
}

static void test_open__reports_unreadable_folders(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    touch(dir, "cat/1.jpg");
    touch(dir, "dog/1.jpg");
    const char *dog = rq_test_path("%s/dog", dir);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chmod(dog, 0), 0);
    const uid_t self = geteuid();
    if (self == 0) /* root reads everything */
        assert_int_equal(seteuid(65534), 0);
    assert_fails_at(dir, RQ_SPLIT_VAL, RQ_ERR_IO, "dog: cannot open the folder: Permission");
    assert_int_equal(seteuid(self), 0);
    assert_int_equal(chmod(dog, 0700), 0);
    rq_test_rmdir(dir);
}

static void test_open__follows_links_but_not_in_circles(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    touch(dir, "real/1.jpg");
    touch(dir, "set/dog/2.jpg");
    assert_int_equal(symlink("../real", rq_test_path("%s/set/cat", dir)), 0);
    assert_int_equal(symlink("../../real/1.jpg", rq_test_path("%s/set/dog/1.jpg", dir)), 0);
    rq_error err = RQ_ERROR_INIT;
    rq_dataset dataset;
    const char *set = rq_test_path("%s/set", dir);
    assert_ok(rq_dataset_open(&dataset, set, RQ_SPLIT_VAL, &err), &err);
    assert_int_equal(dataset.n_classes, 2);
    assert_int_equal(dataset.n_images, 3);
    rq_dataset_close(&dataset);
    assert_int_equal(symlink(".", rq_test_path("%s/set/dog/again", dir)), 0);
    assert_fails_at(set, RQ_SPLIT_VAL, RQ_ERR_FILE, "more than 16 folders deep");
    rq_test_rmdir(dir);
}

static void test_open__reports_missing_memory(void **state)
{
    (void)state;
    const char *dir = rq_test_mkdir();
    for (int i = 0; i < 70; i++) /* lists grow once */
        touch(dir, rq_test_path("train/c%d/%d.jpg", i % 2, i));
    rq_status status = RQ_ERR_NOMEM;
    long n_failed = 0;
    for (; status != RQ_OK && n_failed < 1000; n_failed++) {
        rq_error err = RQ_ERROR_INIT;
        rq_dataset dataset;
        rq_alloc_test_fail_after(n_failed);
        status = rq_dataset_open(&dataset, dir, RQ_SPLIT_TRAIN, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(status == RQ_OK || status == RQ_ERR_NOMEM);
        rq_dataset_close(&dataset);
    }
    assert_in_range(n_failed, 5, 999);
    rq_test_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open__sorts_classes_and_files_by_bytes),
        cmocka_unit_test(test_open__finds_the_split),
        cmocka_unit_test(test_open__says_what_is_wrong),
        cmocka_unit_test(test_open__reports_unreadable_folders),
        cmocka_unit_test(test_open__follows_links_but_not_in_circles),
        cmocka_unit_test(test_open__reports_missing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
