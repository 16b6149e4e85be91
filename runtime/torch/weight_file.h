/* A file with a network's weights, opened once: it is mapped, its content says what it is, and the
 * readers (modelfile.h, checkpoint.h) go on from there.
 *
 * Several can hold one file: who opened it, a checkpoint, the graph whose parameters are views of
 * it. The file is closed when the last of them lets go. */
#ifndef RQ_RUNTIME_TORCH_WEIGHT_FILE_H
#define RQ_RUNTIME_TORCH_WEIGHT_FILE_H

#include "runtime/model/graph.h"
#include "runtime/modelfile/tensorfile.h"

typedef enum rq_weight_kind {
    RQ_WEIGHTS_UNKNOWN,      /* none of the below */
    RQ_WEIGHTS_MODEL,        /* a model file of ours */
    RQ_WEIGHTS_SAFETENSORS,  /* another tensor file */
    RQ_WEIGHTS_TORCH_ZIP,    /* torch_file.h */
    RQ_WEIGHTS_TORCH_LEGACY, /* the same, before 1.6 */
} rq_weight_kind;

typedef struct rq_weight_file {
    const char *path; /* as it was opened */
    rq_weight_kind kind;
    rq_tensorfile *tensorfile; /* MODEL, SAFETENSORS; else NULL */
    rq_mapping mapping;        /* of the others; the tensor file has its own */
    int n_holders;
} rq_weight_file;

/* Errors: RQ_ERR_IO, RQ_ERR_NOMEM, those of rq_tensorfile_open (it begins like a tensor file); the
 * message starts with the path. */
RQ_NODISCARD rq_status rq_weight_file_open(rq_weight_file **out, const char *path, rq_error *err);

/* Hold the file once more; each holder closes it. */
rq_weight_file *rq_weight_file_hold(rq_weight_file *file);
void rq_weight_file_close(rq_weight_file *file); /* NULL is fine */

/* The whole file in memory. */
const rq_mapping *rq_weight_file_mapping(const rq_weight_file *file);

/* Weights by name alone, without a description of the network: of PyTorch or a tensor file. */
bool rq_weight_file_is_checkpoint(const rq_weight_file *file);

/* The graph holds the file until it goes: its parameters may be views. Errors: RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_weight_file_give(rq_weight_file *file, rq_graph *graph, rq_error *err);

#endif
