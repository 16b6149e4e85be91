/* Inside the oneDNN adapter: an engine, a primitive with its arguments, the layouts of a
 * convolution, and what a status of oneDNN means. The only file that includes dnnl.h. Only for
 * dnn.c and dnn_*.c. */
#ifndef RQ_RUNTIME_DNN_PRIMITIVE_H
#define RQ_RUNTIME_DNN_PRIMITIVE_H

#include <dnnl.h>
#include <stdatomic.h>

#include "runtime/model/graph.h"

struct rq_dnn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    rq_arena weights; /* packed, of inference: side by side in large pages */
    void *scratch;
    size_t scratch_bytes;
};

/* RQ_TRY for a call of oneDNN, in a function that gives its status. */
#define DNNL_TRY(call)                                                                             \
    do {                                                                                           \
        const dnnl_status_t dnnl_status_ = (call);                                                 \
        if (dnnl_status_)                                                                          \
            return dnnl_status_;                                                                   \
    } while (0)

/* What a status other than success means, as a status of ours: for "what", or for a convolution
 * that the message describes. */
rq_status rq_dnnl_fail(rq_error *err, dnnl_status_t status, const char *what);
rq_status rq_dnnl_fail_conv(rq_error *err, dnnl_status_t status, const rq_conv_shape *shape,
                            const char *what);

/* ---- primitives ---- */

enum { RQ_PRIMITIVE_MAX_ARGS = 4 };

/* A primitive, its memory objects and the arguments in one place: running it is setting the data
 * handles that change and one execute call. Zero-initialise. */
typedef struct rq_primitive {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[RQ_PRIMITIVE_MAX_ARGS];
    int n_args;
} rq_primitive;

/* One argument, and where a primitive descriptor has its layout. */
typedef struct rq_primitive_arg {
    int arg;
    dnnl_query_t query;
    int index;
} rq_primitive_arg;

extern atomic_size_t rq_primitive_count; /* that were created */

/* The descriptor stays the caller's. Memory objects start without data. *out is to be deinited after
 * an error too. */
dnnl_status_t rq_primitive_init(rq_primitive *out, dnnl_engine_t engine,
                                const_dnnl_primitive_desc_t desc, const rq_primitive_arg *args,
                                int n_args);

/* A reorder, argument 0 to 1, between a plain layout and the one that a primitive wants. */
dnnl_status_t rq_primitive_init_reorder(rq_primitive *out, dnnl_engine_t engine,
                                        const dnnl_memory_desc_t *from,
                                        const dnnl_memory_desc_t *to);
void rq_primitive_deinit(rq_primitive *primitive);

/* Set the data of argument i; sources are only read. */
void rq_primitive_set(rq_primitive *primitive, int i, const void *data);
RQ_NODISCARD rq_status rq_primitive_run(rq_primitive *primitive, const struct rq_dnn *dnn,
                                        const char *what, rq_error *err);

/* What oneDNN calls the implementation: "jit_uni_int8:avx2", "ref_int8:any". */
const char *rq_primitive_desc_name(const_dnnl_primitive_desc_t desc);
size_t rq_primitive_desc_bytes(const_dnnl_primitive_desc_t desc, dnnl_query_t query);

/* ---- convolutions ---- */

/* Operands of a convolution; wei: in whatever layout a primitive wants. */
typedef struct rq_conv_layouts {
    dnnl_memory_desc_t src, wei, wei_plain, bias, dst;
    dnnl_dims_t strides, dilates, pad_l, pad_r;
} rq_conv_layouts;

dnnl_status_t rq_conv_layouts_init(rq_conv_layouts *out, const rq_conv_shape *shape,
                                   dnnl_data_type_t src_type, dnnl_data_type_t wei_type,
                                   dnnl_data_type_t bias_type, dnnl_data_type_t dst_type);

#endif
