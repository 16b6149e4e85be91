/* The named tensors of a checkpoint: a file of torch.save, zip or before 1.6 (torch_file.h), or
 * safetensors of any origin (tensorfile.h). Nothing is executed.
 *
 * A training checkpoint holds more than weights. The state dict is looked for below the keys
 * "state_dict", "model", "model_state_dict", "model_ema" and "ema", in this order, in the object,
 * then in what was found there, and so on; the first value that is a dict counts. One "module."
 * (DistributedDataParallel's) in front of a name is left out. Whatever else is in the file may be
 * of any class.
 *
 * Memory: the checkpoint holds the mapped file; all pointers given out end with
 * rq_checkpoint_close. Stored bytes are not copied. */
#ifndef RQ_RUNTIME_TORCH_CHECKPOINT_H
#define RQ_RUNTIME_TORCH_CHECKPOINT_H

#include "runtime/model/tensor.h"
#include "runtime/torch/element.h"
#include "runtime/torch/weight_file.h"

enum {
    RQ_CHECKPOINT_MAX_TENSORS = 1 << 16,
    RQ_CHECKPOINT_MAX_NAME = 512, /* bytes */
};

typedef struct rq_checkpoint rq_checkpoint;

/* An entry of the state dict. */
typedef struct rq_checkpoint_tensor {
    const char *name;
    const char *other; /* NULL: a tensor. Else what it is instead ("an object made by a.b"); then
                          nothing below is set */
    rq_element element;
    int rank;
    int64_t dim[RQ_MAX_RANK], stride[RQ_MAX_RANK]; /* stride in elements, not negative */
    size_t begin;                                  /* first element, counted in its storage */
    int storage;                                   /* tensors that share one have the same number */
} rq_checkpoint_tensor;

/* Of an open file, which the checkpoint then holds too; or of the file at path. Errors: RQ_ERR_IO,
 * RQ_ERR_FILE (the rule broken and the byte offset; a tensor whose numbers do not fit together or
 * to its storage, by name; no state dict; a name twice), RQ_ERR_UNSUPPORTED, RQ_ERR_NOMEM; the
 * message starts with the path. Checksums of contents are not verified yet. */
RQ_NODISCARD rq_status rq_checkpoint_of(rq_checkpoint **out, rq_weight_file *file, rq_error *err);
RQ_NODISCARD rq_status rq_checkpoint_open(rq_checkpoint **out, const char *path, rq_error *err);
void rq_checkpoint_close(rq_checkpoint *checkpoint); /* NULL is fine */

const char *rq_checkpoint_path(const rq_checkpoint *checkpoint);

/* The whole file in memory. */
const rq_mapping *rq_checkpoint_mapping(const rq_checkpoint *checkpoint);

/* Where in the file's object the state dict is: "", "state_dict", "model.ema". */
const char *rq_checkpoint_where(const rq_checkpoint *checkpoint);

/* Entries in the state dict's order. */
int rq_checkpoint_count(const rq_checkpoint *checkpoint);
const rq_checkpoint_tensor *rq_checkpoint_get(const rq_checkpoint *checkpoint, int i);
int rq_checkpoint_find(const rq_checkpoint *checkpoint, const char *name); /* -1: none */

/* The values of entry i, row-major and dense, into dst: F32 from any real or integer type, or S64
 * from an integer type (element.h); room for the product of its dimensions. Verifies the checksum,
 * or inflates, the first time that its storage is read. Errors: RQ_ERR_FILE (not a tensor, an
 * element type that cannot be read as dtype, checksum), RQ_ERR_NOMEM; the message starts with the
 * path and the name. */
RQ_NODISCARD rq_status rq_checkpoint_read(rq_checkpoint *checkpoint, int i, rq_dtype dtype,
                                          void *dst, rq_error *err);

/* The values where they are in the file, when they are f32, row-major and dense, and aligned to 4
 * bytes; else *out is NULL and they have to be read. Errors: as rq_checkpoint_read. */
RQ_NODISCARD rq_status rq_checkpoint_borrow(rq_checkpoint *checkpoint, int i, const float **out,
                                            rq_error *err);

#endif
