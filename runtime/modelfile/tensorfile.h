/* The safetensors container: named tensors and a few words about them in one file.
 *
 *   bytes 0..7        N, the size of the header, u64 little-endian
 *   bytes 8..8+N-1    the header: one JSON object, then spaces
 *                     "__metadata__": an object whose values are strings (optional)
 *                     NAME: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}
 *   bytes 8+N..       the data: dense row-major little-endian tensors; begin and end count from
 *                     here. They follow one another without holes and fill the file to its end.
 *
 * Any program's files can be read. Those that we write are guarded by two more metadata entries:
 *
 *   "header_crc32"    the first: 8 lowercase hexadecimal digits, the CRC-32 (zlib) of the bytes
 *                     0..8+N-1 with these digits taken as '0'
 *   "crc32"           a JSON object, NAME: CRC-32 of the tensor's data, in such digits
 *
 * So no byte of a guarded file can change unnoticed. We pad the header so that the data begin at a
 * multiple of 64 and sort tensors by element size, largest first, so that every tensor is aligned
 * to its elements.
 *
 * Readers treat every byte as hostile: sizes are checked against the file, names are unique,
 * nothing overlaps, nothing is left over. */
#ifndef RQ_RUNTIME_MODELFILE_TENSORFILE_H
#define RQ_RUNTIME_MODELFILE_TENSORFILE_H

#include <stdbool.h>

#include "runtime/base/file.h"
#include "runtime/model/tensor.h"

enum {
    RQ_TENSORFILE_MAX_HEADER = 1 << 24, /* bytes */
    RQ_TENSORFILE_MAX_TENSORS = 1 << 16,
};

typedef struct rq_tensorfile rq_tensorfile;

/* Map a file and check its header. Errors: RQ_ERR_IO, RQ_ERR_FILE, RQ_ERR_NOMEM; the message starts
 * with the path. */
RQ_NODISCARD rq_status rq_tensorfile_open(rq_tensorfile **out, const char *path, rq_error *err);
void rq_tensorfile_close(rq_tensorfile *file); /* NULL is fine */

/* The same for a file that is mapped already: *mapping is taken, on errors too, and then empty.
 * path is for messages. */
RQ_NODISCARD rq_status rq_tensorfile_take(rq_tensorfile **out, rq_mapping *mapping,
                                          const char *path, rq_error *err);

/* Does the file begin like a tensor file? */
bool rq_tensorfile_looks_so(const rq_mapping *mapping);

/* The whole file in memory. */
const rq_mapping *rq_tensorfile_mapping(const rq_tensorfile *file);

/* Does the file carry checksums (all of them; the header's has been verified)? */
bool rq_tensorfile_is_guarded(const rq_tensorfile *file);

/* The metadata entry of this name, NULL when there is none; owned by the file. */
const char *rq_tensorfile_metadata(const rq_tensorfile *file, const char *key);

/* What the header says about one tensor, in its order. dtype_name may be one that we cannot read. */
typedef struct rq_tensorfile_entry {
    const char *name;
    const char *dtype_name;
    int rank;
    int64_t dim[RQ_MAX_RANK];
    size_t begin, end; /* in the data */
} rq_tensorfile_entry;

int rq_tensorfile_count(const rq_tensorfile *file);
const rq_tensorfile_entry *rq_tensorfile_get_entry(const rq_tensorfile *file, int i);

/* The bytes of entry i where they are in the file, at any alignment, of any dtype; the checksum is
 * verified when there is one. Errors: RQ_ERR_FILE. */
RQ_NODISCARD rq_status rq_tensorfile_bytes(const rq_tensorfile *file, int i,
                                           const unsigned char **out, rq_error *err);

/* A tensor's values, read-only and valid until the file is closed; aligned to the element size (not
 * copied unless the file has them unaligned). The checksum is verified when there is one.
 * Errors: RQ_ERR_FILE (no such tensor, dtype not among RQ_DTYPE_LIST, checksum), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_tensorfile_find(rq_tensorfile *file, const char *name, rq_tensor *out,
                                          rq_error *err);

/* A tensor's values have been read and will not be soon: in files over 64 MiB they leave memory
 * (rq_mapping_release); pages of smaller ones stay, for faulting them in again costs more. */
void rq_tensorfile_release(const rq_tensorfile *file, const char *name);

typedef struct rq_text_pair {
    const char *key, *value;
} rq_text_pair;

/* Write a guarded file's bytes to a writer, which stays open. Errors: as below. */
RQ_NODISCARD rq_status rq_tensorfile_write_to(rq_writer *writer, const rq_param *tensors,
                                              int n_tensors, const rq_text_pair *metadata,
                                              int n_metadata, rq_error *err);

/* Write a guarded file, atomically. Keys "header_crc32" and "crc32" are ours; text that is not
 * UTF-8 is stored with '?' for the bytes that are not ASCII. Errors: RQ_ERR_IO, RQ_ERR_NOMEM,
 * RQ_ERR_ARG (a name twice, too much metadata); the previous file is then untouched. */
RQ_NODISCARD rq_status rq_tensorfile_write(const char *path, const rq_param *tensors, int n_tensors,
                                           const rq_text_pair *metadata, int n_metadata,
                                           rq_error *err);

#endif
