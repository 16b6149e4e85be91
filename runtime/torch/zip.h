/* A zip archive in memory, read-only: what PyTorch, Python's zipfile and others write.
 *
 * The central directory at the end decides what there is; each local header must say the same.
 * Understood: stored and deflated entries, zip64, data descriptors (the directory has their
 * numbers), a comment. Refused: encryption, other methods, several disks, bytes before the first
 * entry or after the directory's last row, a name twice, entries that overlap, an entry outside of
 * the file.
 *
 * Against archives that unpack to far more than they weigh: entries do not overlap, deflate cannot
 * make more than RQ_ZIP_MAX_RATIO bytes of one, so a directory that says more is refused when it is
 * opened, and what is inflated from one archive is at most RQ_ZIP_MAX_INFLATED bytes. Both are
 * checked before anything is inflated, and inflating ends at the size that the directory gives.
 *
 * Source: PKWARE's APPNOTE.TXT 6.3.10; RFC 1951 for deflate. */
#ifndef RQ_RUNTIME_TORCH_ZIP_H
#define RQ_RUNTIME_TORCH_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#define RQ_ZIP_MAX_INFLATED ((size_t)1 << 31) /* bytes, of all entries of an archive together */

enum {
    RQ_ZIP_MAX_ENTRIES = 1 << 16,
    RQ_ZIP_MAX_NAME = 1024,  /* bytes */
    RQ_ZIP_MAX_RATIO = 1032, /* 258 bytes from 2 bits, RFC 1951 */
};

typedef struct rq_zip rq_zip;

typedef struct rq_zip_entry {
    const char *name;    /* NUL-terminated, as stored, without NUL characters in it */
    size_t size_bytes;   /* of the contents */
    size_t stored_bytes; /* in the archive */
    bool is_deflated;
    uint32_t crc; /* CRC-32 of the contents, as the directory has it */
} rq_zip_entry;

/* Read the directory of an archive in memory; data must stay as long as the archive.
 * Errors: RQ_ERR_FILE with the byte offset and the rule broken, RQ_ERR_UNSUPPORTED (encryption, a
 * method other than stored and deflated, several disks), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_zip_open(rq_zip **out, const unsigned char *data, size_t size_bytes,
                                   rq_error *err);
void rq_zip_close(rq_zip *zip); /* NULL is fine */

int rq_zip_count(const rq_zip *zip);
const rq_zip_entry *rq_zip_get_entry(const rq_zip *zip, int i); /* in the directory's order */

/* Index of an entry by name, -1 when there is none. */
int rq_zip_find(const rq_zip *zip, const char *name);

/* The contents of entry i, size_bytes of them: a pointer into the archive's data for a stored one,
 * memory of the archive for a deflated one; valid until rq_zip_close. The checksum is verified, and
 * a deflated entry inflated, the first time. Errors: RQ_ERR_FILE (checksum, damaged or mis-sized
 * deflate data, RQ_ZIP_MAX_INFLATED), RQ_ERR_NOMEM; the message starts with the entry's name. */
RQ_NODISCARD rq_status rq_zip_read(rq_zip *zip, int i, const unsigned char **out, rq_error *err);

#endif
