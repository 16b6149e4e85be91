/* oneDNN's engine (packaged 2.6: the v2 API), the memory that everything made with it shares, and
 * what the CPU has. Convolutions are in dnn_conv.h and dnn_train_conv.h.
 *
 * Everything that a convolution needs is made when it is created: primitives, packed weights,
 * memory objects; running one allocates nothing of ours and creates no primitive. Activations are
 * nhwc ([N, H, W, C]); weights come in PyTorch's layout ([OC, IC/G, KH, KW]) and are packed into
 * what the kernels prefer by *_set_weights, once per change. The number of threads is OpenMP's at
 * creation (omp_set_num_threads). An object may be used by one thread at a time. */
#ifndef RQ_RUNTIME_DNN_DNN_H
#define RQ_RUNTIME_DNN_DNN_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

typedef struct rq_dnn rq_dnn; /* engine and stream; outlives all objects made with it */

RQ_NODISCARD rq_status rq_dnn_create(rq_dnn **out, rq_error *err);
void rq_dnn_destroy(rq_dnn *dnn); /* NULL is fine */

/* So many bytes of weights will be packed for inference: they get one block, which the system may
 * back with large pages. A hint; without it, and beyond it, weights are allocated as they come. */
void rq_dnn_expect_weights(rq_dnn *dnn, size_t size_bytes);

/* One block that everything made with dnn may use while it runs, at least as large as the largest
 * request so far. Reserving may move it, so ask for it at every run. Errors: RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_dnn_reserve_scratch(rq_dnn *dnn, size_t size_bytes, rq_error *err);
void *rq_dnn_scratch(const rq_dnn *dnn);

/* How many oneDNN primitives this process has created, for the test that a step creates none. */
size_t rq_dnn_primitive_count(void);

/* May u8 x s8 kernels add pairs of products in saturating 16 bits on this CPU (no AVX512-VNNI, or
 * hidden by ONEDNN_MAX_CPU_ISA)? Then weights must be proven safe or split (integer_conv.h). */
bool rq_dnn_u8s8_may_saturate(void);

/* The instruction set that oneDNN uses: the best of these that the CPU has and ONEDNN_MAX_CPU_ISA
 * allows. Each has the instructions of those before it, but AVX512 not those of AVX2_VNNI. */
typedef enum rq_dnn_isa {
    RQ_DNN_SSE41,
    RQ_DNN_AVX,
    RQ_DNN_AVX2, /* and FMA */
    RQ_DNN_AVX2_VNNI,
    RQ_DNN_AVX512, /* F, BW, VL, DQ */
    RQ_DNN_AVX512_VNNI,
} rq_dnn_isa;
rq_dnn_isa rq_dnn_isa_level(void);

/* The type of the numbers that training multiplies; sums and weights are f32. */
typedef enum rq_precision {
    RQ_PRECISION_F32,
    RQ_PRECISION_BF16, /* base/bf16.h; integers up to 256 are exact */
} rq_precision;

/* Has this CPU instructions for bf16? Without them oneDNN refuses or emulates it, slowly. */
bool rq_dnn_has_bf16(void);

#endif
