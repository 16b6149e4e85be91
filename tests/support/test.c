/* Comparisons, temporary folders and small files for the tests. */
#include "tests/support/test.h"

#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/memory.h"

static bool is_close(double got, double want, double abs, double rel)
{
    if (isinf(want) || isinf(got))
        return got == want;
    return fabs(got - want) <= abs + rel * fabs(want); /* false for NaN */
}

size_t rq_first_far(const float *got, const float *want, size_t n, double abs, double rel)
{
    for (size_t i = 0; i < n; i++)
        if (!is_close((double)got[i], (double)want[i], abs, rel))
            return i;
    return n;
}

void rq_assert_close_(double got, double want, double abs, double rel, const char *what,
                      const char *file, int line)
{
    if (is_close(got, want, abs, rel))
        return;
    print_error("%s: got %.9g, want %.9g (abs %g, rel %g)\n", what, got, want, abs, rel);
    _fail(file, line);
}

void rq_assert_all_close_(const float *got, const float *want, size_t n, double abs, double rel,
                          const char *what, const char *file, int line)
{
    const size_t far = rq_first_far(got, want, n, abs, rel);
    if (far == n)
        return;
    size_t worst = far, count = 0;
    for (size_t i = far; i < n; i++) {
        const double diff = fabs((double)got[i] - (double)want[i]);
        if (!is_close((double)got[i], (double)want[i], abs, rel)) {
            count++;
            if (!(diff <= fabs((double)got[worst] - (double)want[worst])))
                worst = i;
        }
    }
    print_error("%s: %zu of %zu differ; first [%zu] got %.9g want %.9g; worst [%zu] got %.9g want "
                "%.9g (abs %g, rel %g)\n",
                what, count, n, far, (double)got[far], (double)want[far], worst, (double)got[worst],
                (double)want[worst], abs, rel);
    _fail(file, line);
}

void rq_assert_status_(rq_status got, rq_status want, const rq_error *err, const char *what,
                       const char *file, int line)
{
    if (got == want)
        return;
    print_error("%s: got '%s', want '%s'; message: %s\n", what, rq_status_text(got),
                rq_status_text(want), err ? err->text : "(none)");
    _fail(file, line);
}

void rq_assert_says_(const rq_error *err, const char *part, const char *file, int line)
{
    if (strstr(err->text, part))
        return;
    print_error("the message '%s' does not say '%s'\n", err->text, part);
    _fail(file, line);
}

const char *rq_test_path(const char *format, ...)
{
    static char ring[8][1024];
    static int next;
    char *text = ring[next++ % 8];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof ring[0], format, args);
    va_end(args);
    return text;
}

const char *rq_test_mkdir(void)
{
    static char ring[8][64];
    static int next;
    char *dir = ring[next++ % 8];
    (void)snprintf(dir, sizeof ring[0], "/tmp/rqtest-XXXXXX");
    if (!mkdtemp(dir))
        fail_msg("cannot make a temporary folder");
    return dir;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

void rq_test_rmdir(const char *dir)
{
    (void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

uint8_t *rq_test_read_file(const char *path, size_t *size_bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot read %s", path);
    (void)fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    rewind(file);
    uint8_t *data = rq_alloc((size_t)size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)size, file), size);
    (void)fclose(file);
    *size_bytes = (size_t)size;
    return data;
}

void rq_test_write_file(const char *path, const void *data, size_t size_bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        fail_msg("cannot write %s", path);
    assert_int_equal(fwrite(data, 1, size_bytes, file), size_bytes);
    assert_int_equal(fclose(file), 0);
}

const char *rq_test_shared(void)
{
    static char path[512];
    const char *given = getenv("RQ_SHARED");
    (void)snprintf(path, sizeof path, "%s", given ? given : RQ_SOURCE_DIR "/../shared");
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode) ? path : NULL;
}
