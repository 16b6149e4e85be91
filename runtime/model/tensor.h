/* A tensor is a view: element type, dimensions, pointer. Row-major, dense. Parameters keep
 * PyTorch's layout ([OC, IC/G, KH, KW] for convolutions, [OC, IC] for linear); activations are [N,
 * H, W, C] everywhere. */
#ifndef RQ_RUNTIME_MODEL_TENSOR_H
#define RQ_RUNTIME_MODEL_TENSOR_H

#include <stddef.h>
#include <stdint.h>

enum { RQ_MAX_RANK = 8 };

/* name, safetensors' name, bytes per element */
#define RQ_DTYPE_LIST(X)                                                                           \
    X(RQ_F32, "F32", 4)                                                                            \
    X(RQ_S8, "I8", 1)                                                                              \
    X(RQ_U8, "U8", 1)                                                                              \
    X(RQ_S32, "I32", 4)                                                                            \
    X(RQ_S64, "I64", 8)

typedef enum rq_dtype {
#define X(code, name, size) code,
    RQ_DTYPE_LIST(X)
#undef X
        RQ_N_DTYPES
} rq_dtype;

size_t rq_dtype_size(rq_dtype dtype);      /* bytes per element */
const char *rq_dtype_name(rq_dtype dtype); /* as written in files: "F32" */

typedef struct rq_tensor {
    rq_dtype dtype;
    int rank;
    int64_t dim[RQ_MAX_RANK];
    void *data;
} rq_tensor;

/* Product of the dimensions. The tensor's sizes have been checked where it was made. */
static inline size_t rq_tensor_elems(const rq_tensor *tensor)
{
    size_t elems = 1;
    for (int i = 0; i < tensor->rank; i++)
        elems *= (size_t)tensor->dim[i];
    return elems;
}

/* A tensor and its name; who owns both is said where one is used. */
typedef struct rq_param {
    const char *name;
    rq_tensor tensor;
} rq_param;

static inline float *rq_tensor_f32(const rq_tensor *tensor)
{
    return tensor->data;
}

#endif
