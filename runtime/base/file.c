/* Mapped reading and atomic writing of whole files; relies on rename() replacing its target
 * atomically (POSIX). */
#include "runtime/base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "runtime/base/memory.h"
#include "runtime/base/ranks.h"

static rq_status map(rq_mapping *out, int fd, const char *path, rq_error *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return rq_fail_errno(err, path, "open");
    if (!S_ISREG(info.st_mode))
        return rq_fail(err, RQ_ERR_IO, "%s: is %s", path,
                       S_ISDIR(info.st_mode) ? "a folder, not a file" : "not a regular file");
    const size_t size_bytes = (size_t)info.st_size;
    void *data = size_bytes ? mmap(NULL, size_bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (data == MAP_FAILED)
        return rq_fail_errno(err, path, "map");
    *out = (rq_mapping){data, size_bytes};
    return RQ_OK;
}

rq_status rq_mapping_open(rq_mapping *out, const char *path, rq_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block here */
    if (fd < 0)
        return rq_fail_errno(err, path, "open");
    const rq_status status = map(out, fd, path, err);
    (void)close(fd);
    return status;
}

void rq_mapping_close(rq_mapping *mapping)
{
    if (mapping->data)
        (void)munmap((void *)(uintptr_t)mapping->data, mapping->size_bytes);
    *mapping = (rq_mapping){NULL, 0};
}

void rq_mapping_release(const rq_mapping *mapping, const void *data, size_t size_bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)mapping->data;
    uintptr_t first = ((uintptr_t)data + page - 1) / page * page;
    const uintptr_t end = (uintptr_t)data + size_bytes, file_end = start + mapping->size_bytes;
    assert((uintptr_t)data >= start && end <= file_end);
    const uintptr_t last = end == file_end ? end : end / page * page; /* the file's last is whole */
    if (first < last)
        (void)madvise((void *)first, last - first, MADV_DONTNEED);
}

enum { BUFFER_BYTES = 1 << 16, MAX_NAME_TRIES = 1000, RELEASE_BYTES = 1 << 24 };

struct rq_writer {
    rq_arena arena;        /* the three paths */
    const char *path;      /* as given, for messages */
    const char *target;    /* what is replaced; NULL when written in place */
    const char *temporary; /* a file of this name exists; NULL: none, or one without a name */
    int fd;
    bool failed;
    size_t used_bytes;
    unsigned char buffer[BUFFER_BYTES];
};

/* Up to and including the last slash; 0 where there is none. */
static int folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path + 1) : 0;
}

/* A file without a name in the target's folder, which vanishes with the process whatever ends it.
 * False where the file system has none, or a name could not be given later. */
static bool create_unnamed(rq_writer *writer)
{
    char folder[PATH_MAX];
    const int length = folder_length(writer->target);
    (void)snprintf(folder, sizeof folder, "%.*s", length ? length : 1,
                   length ? writer->target : ".");
    if (access("/proc/self/fd", X_OK) != 0)
        return false;
    writer->fd = open(folder, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
    return writer->fd >= 0;
}

/* A new file in the target's folder. Its name is short and fixed in length, so that it is valid
 * wherever the target's is; open() rather than mkostemp() because it applies the umask. */
static rq_status create_temporary(rq_writer *writer, rq_error *err)
{
    const int folder = folder_length(writer->target);
    if (create_unnamed(writer))
        return RQ_OK;
    for (int i = 0; i < MAX_NAME_TRIES; i++) {
        const char *name = rq_arena_printf(&writer->arena, "%.*s.repqat-%ld-%d.tmp", folder,
                                           writer->target, (long)getpid(), i);
        if (!name)
            return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", writer->path);
        writer->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->fd >= 0) {
            writer->temporary = name;
            return RQ_OK;
        }
        if (errno != EEXIST)
            break;
    }
    return rq_fail_errno(err, writer->path, "create a file in its folder");
}

/* rename() needs a name. It is a function of the target's and lives for that moment only: one that
 * is there already is of a process that was killed in between. */
static rq_status name_temporary(rq_writer *writer, rq_error *err)
{
    const int folder = folder_length(writer->target);
    const char *base = writer->target + folder;
    const uLong hash = crc32_z(crc32_z(0, NULL, 0), (const Bytef *)base, strlen(base));
    const char *name =
        rq_arena_printf(&writer->arena, "%.*s.repqat-%08lx.tmp", folder, writer->target, hash);
    char file[64];
    if (!name)
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", writer->path);
    (void)snprintf(file, sizeof file, "/proc/self/fd/%d", writer->fd);
    for (int i = 0; i < MAX_NAME_TRIES; i++) {
        if (linkat(AT_FDCWD, file, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0) {
            writer->temporary = name;
            return RQ_OK;
        }
        if (errno != EEXIST || unlink(name) != 0)
            break;
    }
    return rq_fail_errno(err, writer->path, "create a file in its folder");
}

/* The regular file at path will be replaced, wherever links lead to it. */
static rq_status open_replacing(rq_writer *writer, const struct stat *info, rq_error *err)
{
    if (access(writer->path, W_OK) != 0)
        return rq_fail_errno(err, writer->path, "replace");
    char resolved[PATH_MAX];
    if (!realpath(writer->path, resolved))
        return rq_fail_errno(err, writer->path, "resolve");
    writer->target = rq_arena_strdup(&writer->arena, resolved);
    if (!writer->target)
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", writer->path);
    RQ_TRY(create_temporary(writer, err));
    return fchmod(writer->fd, info->st_mode & 0777) == 0
               ? RQ_OK
               : rq_fail_errno(err, writer->path, "set the permissions");
}

static rq_status open_new(rq_writer *writer, rq_error *err)
{
    struct stat info;
    if (lstat(writer->path, &info) == 0)
        return rq_fail(err, RQ_ERR_IO, "%s: is a symbolic link to a file that is missing",
                       writer->path);
    const char *name = writer->path + folder_length(writer->path);
    if (*name == '\0')
        return rq_fail(err, RQ_ERR_IO, "%s: is not a file name", writer->path);
    writer->target = writer->path;
    return create_temporary(writer, err);
}

static rq_status open_in_place(rq_writer *writer, const char *path, rq_error *err)
{
    writer->fd = open(path, O_WRONLY | O_CLOEXEC);
    return writer->fd >= 0 ? RQ_OK : rq_fail_errno(err, path, "open for writing");
}

static rq_status open_target(rq_writer *writer, const char *path, rq_error *err)
{
    struct stat info;
    writer->fd = -1;
    writer->path = rq_arena_strdup(&writer->arena, path);
    if (!writer->path)
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", path);
    if (rq_rank() != 0)
        return open_in_place(writer, "/dev/null", err);
    if (stat(path, &info) != 0)
        return errno == ENOENT ? open_new(writer, err)
                               : rq_fail_errno(err, path, "open for writing");
    if (S_ISDIR(info.st_mode))
        return rq_fail(err, RQ_ERR_IO, "%s: is a folder, not a file", path);
    return S_ISREG(info.st_mode) ? open_replacing(writer, &info, err)
                                 : open_in_place(writer, path, err);
}

rq_status rq_writer_open(rq_writer **out, const char *path, rq_error *err)
{
    rq_writer *writer = rq_alloc(sizeof *writer);
    if (!writer)
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", path);
    const rq_status status = open_target(writer, path, err);
    if (status)
        rq_writer_abort(writer);
    else
        *out = writer;
    return status;
}

static rq_status write_all(rq_writer *writer, const unsigned char *data, size_t size_bytes,
                           rq_error *err)
{
    while (size_bytes > 0) {
        const ssize_t n = write(writer->fd, data, size_bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            writer->failed = true;
            return rq_fail_errno(err, writer->path, "write");
        }
        data += n;
        size_bytes -= (size_t)n;
    }
    return RQ_OK;
}

static rq_status flush(rq_writer *writer, rq_error *err)
{
    const size_t size_bytes = writer->used_bytes;
    writer->used_bytes = 0;
    return write_all(writer, writer->buffer, size_bytes, err);
}

rq_status rq_writer_flush(rq_writer *writer, const char **temporary, rq_error *err)
{
    *temporary = writer->temporary;
    if (writer->target && !writer->temporary) { /* without a name, but not without a path */
        *temporary = rq_arena_printf(&writer->arena, "/proc/self/fd/%d", writer->fd);
        if (!*temporary)
            return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", writer->path);
    }
    return flush(writer, err);
}

const char *rq_writer_path(const rq_writer *writer)
{
    return writer->path;
}

rq_status rq_writer_write(rq_writer *writer, const void *data, size_t size_bytes, rq_error *err)
{
    if (size_bytes <= BUFFER_BYTES - writer->used_bytes) {
        if (size_bytes > 0)
            memcpy(writer->buffer + writer->used_bytes, data, size_bytes);
        writer->used_bytes += size_bytes;
        return RQ_OK;
    }
    RQ_TRY(flush(writer, err));
    if (size_bytes >= BUFFER_BYTES)
        return write_all(writer, data, size_bytes, err);
    memcpy(writer->buffer, data, size_bytes);
    writer->used_bytes = size_bytes;
    return RQ_OK;
}

/* Make the rename last: fsync the folder. Where folders cannot be opened or synchronised there is
 * nothing to do. */
static rq_status sync_folder(const rq_writer *writer, rq_error *err)
{
    char folder[PATH_MAX];
    const int length = folder_length(writer->target);
    (void)snprintf(folder, sizeof folder, "%.*s", length ? length : 1,
                   length ? writer->target : ".");
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return RQ_OK;
    rq_status status = RQ_OK;
    if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        status = rq_fail_errno(err, writer->path, "synchronise its folder");
    (void)close(fd);
    return status;
}

static rq_status close_fd(rq_writer *writer, rq_error *err)
{
    const int fd = writer->fd;
    writer->fd = -1;
    return close(fd) == 0 ? RQ_OK : rq_fail_errno(err, writer->path, "write");
}

static rq_status put_in_place(rq_writer *writer, rq_error *err)
{
    if (writer->failed)
        return rq_fail(err, RQ_ERR_IO, "%s: an earlier write failed", writer->path);
    RQ_TRY(flush(writer, err));
    if (!writer->target)
        return close_fd(writer, err);
    if (fsync(writer->fd) != 0)
        return rq_fail_errno(err, writer->path, "write");
    if (!writer->temporary)
        RQ_TRY(name_temporary(writer, err));
    RQ_TRY(close_fd(writer, err));
    if (rename(writer->temporary, writer->target) != 0)
        return rq_fail_errno(err, writer->path, "replace");
    writer->temporary = NULL;
    return sync_folder(writer, err);
}

rq_status rq_writer_commit(rq_writer *writer, rq_error *err)
{
    const rq_status status = put_in_place(writer, err);
    rq_writer_abort(writer);
    return status;
}

void rq_writer_abort(rq_writer *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0)
        (void)close(writer->fd);
    if (writer->temporary)
        (void)unlink(writer->temporary);
    rq_arena_deinit(&writer->arena);
    rq_free(writer);
}

rq_status rq_writer_probe(const char *path, rq_error *err)
{
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
        return access(path, W_OK) == 0 ? RQ_OK : rq_fail_errno(err, path, "open for writing");
    rq_writer *writer = NULL;
    RQ_TRY(rq_writer_open(&writer, path, err));
    rq_writer_abort(writer);
    return RQ_OK;
}

void rq_file_id(const rq_mapping *mapping, char *out)
{
    uLong crc = crc32_z(0, NULL, 0);
    for (size_t at = 0, n; at < mapping->size_bytes; at += n) {
        const size_t left = mapping->size_bytes - at;
        n = left < RELEASE_BYTES ? left : RELEASE_BYTES;
        crc = crc32_z(crc, mapping->data + at, n);
        rq_mapping_release(mapping, mapping->data + at, n);
    }
    (void)snprintf(out, RQ_FILE_ID_SIZE, "crc32:%08lx:%zu", crc, mapping->size_bytes);
}
