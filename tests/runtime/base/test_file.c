/* Mapped reading, and writing that either replaces the whole file or changes nothing. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "tests/support/test.h"

typedef struct fixture {
    const char *dir;
    char path[128]; /* dir/file: does not exist at first */
} fixture;

static int set_up(void **state)
{
    static fixture the;
    the.dir = rq_test_mkdir();
    (void)snprintf(the.path, sizeof the.path, "%s/file", the.dir);
    *state = &the;
    return 0;
}

static int tear_down(void **state)
{
    rq_test_rmdir(((fixture *)*state)->dir);
    return 0;
}

static int count_entries(const char *dir)
{
    DIR *stream = opendir(dir);
    assert_non_null(stream);
    int n = 0;
    while (readdir(stream))
        n++;
    (void)closedir(stream);
    return n - 2; /* . and .. */
}

static void assert_holds(const char *path, const char *text)
{
    size_t size_bytes = 0;
    uint8_t *data = rq_test_read_file(path, &size_bytes);
    assert_int_equal(size_bytes, strlen(text));
    assert_memory_equal(data, text, size_bytes);
    rq_free(data);
}

static void write_whole(const char *path, const char *text)
{
    rq_error err = RQ_ERROR_INIT;
    rq_writer *writer = NULL;
    assert_ok(rq_writer_open(&writer, path, &err), &err);
    assert_ok(rq_writer_write(writer, text, strlen(text), &err), &err);
    assert_ok(rq_writer_commit(writer, &err), &err);
}

static void assert_cannot_open(const char *path, const char *says)
{
    rq_error err = RQ_ERROR_INIT;
    rq_writer *writer = NULL;
    assert_fails(rq_writer_open(&writer, path, &err), RQ_ERR_IO, &err);
    assert_null(writer);
    assert_int_equal(strncmp(err.text, path, strlen(path)), 0);
    assert_says(&err, says);
    assert_fails(rq_writer_probe(path, &err), RQ_ERR_IO, &err);
    assert_says(&err, says);
}

static void test_writer__creates_with_the_umask(void **state)
{
    const fixture *the = *state;
    const mode_t old = umask(027);
    write_whole(the->path, "text");
    (void)umask(old);
    assert_holds(the->path, "text");
    struct stat info;
    assert_int_equal(stat(the->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(count_entries(the->dir), 1);
}

static void test_writer__target_changes_on_commit_only(void **state)
{
    const fixture *the = *state;
    rq_error err = RQ_ERROR_INIT;
    rq_test_write_file(the->path, "old", 3);
    assert_int_equal(chmod(the->path, 0600), 0);
    rq_writer *writer = NULL;
    assert_ok(rq_writer_open(&writer, the->path, &err), &err);
    assert_ok(rq_writer_write(writer, "new", 3, &err), &err);
    assert_holds(the->path, "old");
    rq_writer_abort(writer);
    assert_holds(the->path, "old");
    assert_int_equal(count_entries(the->dir), 1);
    write_whole(the->path, "newer");
    assert_holds(the->path, "newer");
    struct stat info;
    assert_int_equal(stat(the->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600); /* kept */
    rq_writer_abort(NULL);
}

static void test_writer__bytes_of_any_chunking(void **state)
{
    const fixture *the = *state;
    enum { SIZE = 300000 };
    uint8_t *want = rq_alloc(SIZE);
    assert_non_null(want);
    for (size_t i = 0; i < SIZE; i++)
        want[i] = (uint8_t)(i * 2654435761u >> 13);
    static const size_t chunks[] = {1, 1000, 65535, 65536, 65537, SIZE};
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        rq_error err = RQ_ERROR_INIT;
        rq_writer *writer = NULL;
        assert_ok(rq_writer_open(&writer, the->path, &err), &err);
        for (size_t at = 0; at < SIZE; at += chunks[c]) {
            const size_t n = SIZE - at < chunks[c] ? SIZE - at : chunks[c];
            assert_ok(rq_writer_write(writer, want + at, n, &err), &err);
        }
        assert_ok(rq_writer_write(writer, NULL, 0, &err), &err);
        assert_ok(rq_writer_commit(writer, &err), &err);
        rq_mapping mapping = {NULL, 0};
        assert_ok(rq_mapping_open(&mapping, the->path, &err), &err);
        assert_int_equal(mapping.size_bytes, SIZE);
        assert_memory_equal(mapping.data, want, SIZE);
        rq_mapping_close(&mapping);
    }
    rq_free(want);
}

static void test_writer__refuses_bad_targets(void **state)
{
    const fixture *the = *state;
    assert_cannot_open(the->dir, "is a folder, not a file");
    assert_cannot_open(rq_test_path("%s/none/file", the->dir),
                       "cannot create a file in its folder");
    assert_cannot_open(rq_test_path("%s/", the->path), "is not a file name");
    assert_cannot_open("", "is not a file name");
    assert_int_equal(symlink("missing", the->path), 0);
    assert_cannot_open(the->path, "symbolic link to a file that is missing");
    assert_int_equal(count_entries(the->dir), 1);
    assert_cannot_open(rq_test_path("%s/file/sub", RQ_SOURCE_DIR "/CMakeLists.txt"),
                       "Not a directory");
}

static void test_writer__follows_links(void **state)
{
    const fixture *the = *state;
    const char *link = rq_test_path("%s/link", the->dir);
    rq_test_write_file(the->path, "old", 3);
    assert_int_equal(symlink("file", link), 0);
    write_whole(link, "new");
    assert_holds(the->path, "new");
    struct stat info;
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(count_entries(the->dir), 2);
}

static void test_writer__relative_path(void **state)
{
    const fixture *the = *state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(the->dir), 0);
    write_whole("here", "text");
    assert_int_equal(chdir(before), 0);
    assert_holds(rq_test_path("%s/here", the->dir), "text");
    assert_int_equal(count_entries(the->dir), 1);
}

static void test_writer__devices_are_written_in_place(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    write_whole("/dev/null", "text");
    assert_ok(rq_writer_probe("/dev/null", &err), &err);
    rq_writer *writer = NULL;
    assert_ok(rq_writer_open(&writer, "/dev/full", &err), &err);
    assert_ok(rq_writer_write(writer, "text", 4, &err), &err);
    assert_fails(rq_writer_commit(writer, &err), RQ_ERR_IO, &err);
    assert_string_equal(err.text, "/dev/full: cannot write: No space left on device");
}

/* body's result, from a process of its own. */
static int exit_code_of(int (*body)(const fixture *the), const fixture *the)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(body(the));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* As with a disk that is full, by a limit on the size of files. Exit code 0: all as it must be. */
static int write_beyond_limit(const fixture *the)
{
    const struct rlimit limit = {100000, 100000};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
        return 10;
    static const char block[70000];
    rq_error err = RQ_ERROR_INIT;
    rq_writer *writer = NULL;
    if (rq_writer_open(&writer, the->path, &err))
        return 11;
    if (rq_writer_write(writer, block, sizeof block, &err))
        return 12;
    if (rq_writer_write(writer, block, sizeof block, &err) != RQ_ERR_IO)
        return 13;
    if (!strstr(err.text, "cannot write: File too large"))
        return 14;
    if (rq_writer_commit(writer, &err) != RQ_ERR_IO || !strstr(err.text, "earlier write failed"))
        return 15;
    return 0;
}

static void test_writer__full_disk_leaves_the_old_file(void **state)
{
    const fixture *the = *state;
    rq_test_write_file(the->path, "old", 3);
    assert_int_equal(exit_code_of(write_beyond_limit, the), 0);
    assert_holds(the->path, "old");
    assert_int_equal(count_entries(the->dir), 1);
}

static void test_writer__survives_lack_of_memory(void **state)
{
    const fixture *the = *state;
    for (long n = 0; n < 8; n++) {
        rq_error err = RQ_ERROR_INIT;
        rq_writer *writer = NULL;
        rq_alloc_test_fail_after(n);
        const rq_status status = rq_writer_open(&writer, the->path, &err);
        rq_alloc_test_fail_after(-1);
        if (!status) {
            rq_writer_abort(writer);
            assert_true(n > 0);
            return;
        }
        assert_int_equal(status, RQ_ERR_NOMEM);
        assert_int_equal(count_entries(the->dir), 0);
    }
    fail_msg("opening a writer should not take 8 allocations");
}

/* Killed in the middle of writing: the old file stays, and where the file system has files without
 * a name, nothing else does. */
static int write_until_killed(const fixture *the)
{
    static const char block[70000];
    rq_error err = RQ_ERROR_INIT;
    rq_writer *writer = NULL;
    if (rq_writer_open(&writer, the->path, &err) ||
        rq_writer_write(writer, block, sizeof block, &err))
        return 10;
    return kill(getpid(), SIGKILL);
}

static void test_writer__killed_leaves_nothing(void **state)
{
    const fixture *the = *state;
    rq_test_write_file(the->path, "old", 3);
    const int fd = open(the->dir, O_WRONLY | O_TMPFILE, 0600);
    const bool has_unnamed = fd >= 0;
    if (has_unnamed)
        (void)close(fd);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(write_until_killed(the));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_holds(the->path, "old");
    if (has_unnamed)
        assert_int_equal(count_entries(the->dir), 1);
}

static void test_probe__leaves_nothing_behind(void **state)
{
    const fixture *the = *state;
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_writer_probe(the->path, &err), &err);
    assert_int_equal(count_entries(the->dir), 0);
    rq_test_write_file(the->path, "old", 3);
    assert_ok(rq_writer_probe(the->path, &err), &err);
    assert_holds(the->path, "old");
}

/* As a user without privileges, whom file permissions bind. Exit code 0: all as it must be. */
static int open_without_permission(const fixture *the)
{
    enum { NOBODY = 65534 };
    if (geteuid() == 0 && (chown(the->dir, NOBODY, NOBODY) != 0 ||
                           chown(the->path, NOBODY, NOBODY) != 0 || setuid(NOBODY) != 0))
        return 10;
    rq_error err = RQ_ERROR_INIT;
    rq_writer *writer = NULL;
    if (chmod(the->path, 0444) != 0 || rq_writer_open(&writer, the->path, &err) != RQ_ERR_IO)
        return 11;
    if (!strstr(err.text, "cannot replace: Permission denied"))
        return 12;
    if (chmod(the->path, 0644) != 0 || chmod(the->dir, 0555) != 0)
        return 13;
    if (rq_writer_open(&writer, the->path, &err) != RQ_ERR_IO ||
        !strstr(err.text, "cannot create a file in its folder: Permission denied"))
        return 14;
    return chmod(the->dir, 0755) == 0 ? 0 : 15;
}

static void test_writer__respects_permissions(void **state)
{
    const fixture *the = *state;
    rq_test_write_file(the->path, "old", 3);
    assert_int_equal(exit_code_of(open_without_permission, the), 0);
    assert_holds(the->path, "old");
}

static void assert_cannot_map(const char *path, const char *says)
{
    rq_error err = RQ_ERROR_INIT;
    rq_mapping mapping = {NULL, 0};
    assert_fails(rq_mapping_open(&mapping, path, &err), RQ_ERR_IO, &err);
    assert_string_equal(err.text, rq_test_path("%s: %s", path, says));
    assert_null(mapping.data);
}

static void test_mapping__refuses_what_is_no_file(void **state)
{
    const fixture *the = *state;
    assert_cannot_map(the->path, "cannot open: No such file or directory");
    assert_cannot_map(the->dir, "is a folder, not a file");
    assert_cannot_map("/dev/null", "is not a regular file");
    assert_int_equal(mkfifo(the->path, 0600), 0); /* must not wait for a writer */
    assert_cannot_map(the->path, "is not a regular file");
}

static void test_mapping__empty_file(void **state)
{
    const fixture *the = *state;
    rq_error err = RQ_ERROR_INIT;
    rq_test_write_file(the->path, "", 0);
    rq_mapping mapping = {(const unsigned char *)"x", 1};
    assert_ok(rq_mapping_open(&mapping, the->path, &err), &err);
    assert_null(mapping.data);
    assert_int_equal(mapping.size_bytes, 0);
    char id[RQ_FILE_ID_SIZE];
    rq_file_id(&mapping, id);
    assert_string_equal(id, "crc32:00000000:0");
    rq_mapping_close(&mapping);
    rq_mapping_close(&mapping); /* twice is fine */
}

static void test_file_id__known_value(void **state)
{
    (void)state;
    const rq_mapping check = {(const unsigned char *)"123456789", 9};
    char id[RQ_FILE_ID_SIZE];
    rq_file_id(&check, id);
    assert_string_equal(id, "crc32:cbf43926:9"); /* the check value of CRC-32/ISO-HDLC */
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_writer__creates_with_the_umask),
        IN_FOLDER(test_writer__target_changes_on_commit_only),
        IN_FOLDER(test_writer__bytes_of_any_chunking),
        IN_FOLDER(test_writer__refuses_bad_targets),
        IN_FOLDER(test_writer__follows_links),
        IN_FOLDER(test_writer__relative_path),
        cmocka_unit_test(test_writer__devices_are_written_in_place),
        IN_FOLDER(test_writer__full_disk_leaves_the_old_file),
        IN_FOLDER(test_writer__survives_lack_of_memory),
        IN_FOLDER(test_writer__killed_leaves_nothing),
        IN_FOLDER(test_probe__leaves_nothing_behind),
        IN_FOLDER(test_writer__respects_permissions),
        IN_FOLDER(test_mapping__refuses_what_is_no_file),
        IN_FOLDER(test_mapping__empty_file),
        cmocka_unit_test(test_file_id__known_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
