/* Files that torch.save made: one pickled object, and the storages of its tensors.
 *
 * Since PyTorch 1.6, a zip archive (zip.h):
 *   NAME/data.pkl      the object
 *   NAME/data/KEY      each storage, little-endian, dense
 *   NAME/byteorder     "little" (newer versions)
 *   NAME/version       not looked at
 * Before, and with _use_new_zipfile_serialization=False, one after another:
 *   pickle             the magic number 0x1950a86a20f9469cfc6c
 *   pickle             the protocol, 1001
 *   pickle             a dict about the machine; "little_endian" must not be False
 *   pickle             the object
 *   pickle             a list of KEYs
 *   for each KEY       s64 number of elements, then the elements, little-endian, dense
 *
 * A storage is found by the key of its persistent id, never by its place. Source:
 * torch/serialization.py. */
#ifndef RQ_RUNTIME_TORCH_TORCH_FILE_H
#define RQ_RUNTIME_TORCH_TORCH_FILE_H

#include "runtime/torch/torch_value.h"

typedef struct rq_torch_file rq_torch_file;

/* What the two formats do each in its own way. Their structs begin with an rq_torch_file. */
typedef struct rq_torch_format {
    rq_status (*find)(const rq_torch_file *file, const rq_torch_storage *storage, int *out,
                      rq_error *err);
    rq_status (*data)(rq_torch_file *file, int storage, const unsigned char **out, rq_error *err);
    void (*close)(rq_torch_file *file);
} rq_torch_format;

struct rq_torch_file {
    const rq_torch_format *format;
    rq_pickle *object;
};

/* What a file begins with says which of the two it may be. */
bool rq_torch_zip_looks_so(const unsigned char *data, size_t size_bytes);
bool rq_torch_legacy_looks_so(const unsigned char *data, size_t size_bytes);

/* Open a file in memory; data must stay as long as *out. Errors: RQ_ERR_FILE,
 * RQ_ERR_UNSUPPORTED (see zip.h; big-endian storages), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_torch_zip_open(rq_torch_file **out, const unsigned char *data,
                                         size_t size_bytes, rq_error *err);
RQ_NODISCARD rq_status rq_torch_legacy_open(rq_torch_file **out, const unsigned char *data,
                                            size_t size_bytes, rq_error *err);
void rq_torch_close(rq_torch_file *file); /* NULL is fine */

const rq_pickle_value *rq_torch_root(const rq_torch_file *file);

/* Where a storage's bytes are: *out is a number for rq_torch_storage_data. Errors: RQ_ERR_FILE (the
 * file has no such storage, or one of fewer elements). */
RQ_NODISCARD rq_status rq_torch_find_storage(const rq_torch_file *file,
                                             const rq_torch_storage *storage, int *out,
                                             rq_error *err);

/* The bytes: in data, or memory of the file where they had to be inflated. The first time this may
 * take a while (checksum, inflating). Errors: as rq_zip_read. */
RQ_NODISCARD rq_status rq_torch_storage_data(rq_torch_file *file, int storage,
                                             const unsigned char **out, rq_error *err);

#endif
