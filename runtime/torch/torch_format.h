/* What the two formats of torch_file.h have in common: a table of functions. */
#ifndef RQ_RUNTIME_TORCH_TORCH_FORMAT_H
#define RQ_RUNTIME_TORCH_TORCH_FORMAT_H

#include "runtime/torch/torch_file.h"

typedef struct rq_torch_format {
    rq_status (*find)(const rq_torch_file *file, const rq_torch_storage *storage, int *out,
                      rq_error *err);
    rq_status (*data)(rq_torch_file *file, int storage, const unsigned char **out, rq_error *err);
    void (*close)(rq_torch_file *file);
} rq_torch_format;

/* The first member of each format's own struct. */
struct rq_torch_file {
    const rq_torch_format *format;
    rq_pickle *object;
};

#endif
