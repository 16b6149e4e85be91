/* Whole files: mapped for reading, written atomically.
 *
 * A writer creates a temporary file in the target's folder. Where the file system can, the file has
 * no name until the moment of the rename, so that nothing is left when the process is killed. Only
 * rq_writer_commit (flush, fsync, rename) puts it in the target's place. Any failure, and
 * rq_writer_abort, removes it: the previous file is then untouched.
 *
 * What the target may be:
 *
 *   - a regular file: replaced; the new file keeps its permissions, and a file that is not writable
 *     is refused
 *   - missing: created with the permissions that the umask leaves
 *   - a symbolic link: the file that it points to is replaced, the link stays; a link to nothing is
 *     refused
 *   - a device, a pipe (/dev/null, /dev/stdout): written in place; this is not atomic
 *   - a folder: refused
 *
 * Of several processes that work together (ranks.h) only rank 0 writes; the others' writers take
 * everything and keep nothing. */
#ifndef RQ_RUNTIME_BASE_FILE_H
#define RQ_RUNTIME_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

/* A read-only view of a file, private to the process. Truncating the file while it is mapped is
 * fatal (SIGBUS); a file that our writer replaces is not truncated. */
typedef struct rq_mapping {
    const unsigned char *data; /* NULL when the file is empty */
    size_t size_bytes;
} rq_mapping;

/* Errors: RQ_ERR_IO (cannot open, not a regular file, cannot map); the message starts with the
 * path. */
RQ_NODISCARD rq_status rq_mapping_open(rq_mapping *out, const char *path, rq_error *err);
void rq_mapping_close(rq_mapping *mapping); /* a zeroed struct is fine */

/* Some bytes of the mapping have been read and will not be soon: the whole pages among them leave
 * the process's memory. They come back from the file when they are read. */
void rq_mapping_release(const rq_mapping *mapping, const void *data, size_t size_bytes);

typedef struct rq_writer rq_writer;

/* Errors: RQ_ERR_IO (the folder is missing or not writable, the target is a folder),
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_writer_open(rq_writer **out, const char *path, rq_error *err);

/* Write out what is buffered and say where it is until it is committed: a path that this process
 * can open, owned by the writer; NULL when the target is written in place. So what was written can
 * be read and checked before it is put in place. Errors: RQ_ERR_IO, as rq_writer_write. */
RQ_NODISCARD rq_status rq_writer_flush(rq_writer *writer, const char **temporary, rq_error *err);

/* The path that the writer was opened with, for messages. */
const char *rq_writer_path(const rq_writer *writer);

/* Append. Errors: RQ_ERR_IO (disk full, quota); the writer then stays open for rq_writer_abort. */
RQ_NODISCARD rq_status rq_writer_write(rq_writer *writer, const void *data, size_t size_bytes,
                                       rq_error *err);

/* Put the file in place and destroy the writer, on failure too (then nothing has changed on disk;
 * only when the folder itself cannot be synchronised, which is the last step, is the new file
 * already in place). A writer whose rq_writer_write failed cannot be committed. */
RQ_NODISCARD rq_status rq_writer_commit(rq_writer *writer, rq_error *err);

/* Remove the temporary file and destroy the writer; NULL is fine. */
void rq_writer_abort(rq_writer *writer);

/* Fail early, before hours of work: can path be created or replaced? Leaves no file. Errors: as
 * rq_writer_open. */
RQ_NODISCARD rq_status rq_writer_probe(const char *path, rq_error *err);

/* "crc32:XXXXXXXX:SIZE" of a whole file (zlib's CRC-32, hexadecimal, and the size in bytes), by
 * which a model file names the file it was made from. out: at least RQ_FILE_ID_SIZE bytes. Pages
 * are released as they are read. */
enum { RQ_FILE_ID_SIZE = 48 };
void rq_file_id(const rq_mapping *mapping, char *out);

#endif
