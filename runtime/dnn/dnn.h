/* The only door to oneDNN (packaged 2.6: the v2 API). Everything that a convolution needs is made
 * when it is created: primitives, packed weights, memory objects; running one allocates nothing of
 * ours and creates no primitive.
 *
 * Activations are nhwc ([N, H, W, C]); weights come in PyTorch's layout ([OC, IC/G, KH, KW]) and
 * are packed into what the kernels prefer by *_set_weights, once per change. The number of threads
 * is OpenMP's at creation (omp_set_num_threads). An object may be used by one thread at a time. */
#ifndef RQ_RUNTIME_DNN_DNN_H
#define RQ_RUNTIME_DNN_DNN_H

#include <stdbool.h>

#include "runtime/model/graph.h"

typedef struct rq_dnn rq_dnn; /* engine and stream; outlives all objects made with it */

RQ_NODISCARD rq_status rq_dnn_create(rq_dnn **out, rq_error *err);
void rq_dnn_destroy(rq_dnn *dnn); /* NULL is fine */

/* So many bytes of weights will be packed for inference: they get one block, which the system may
 * back with large pages. A hint; without it, and beyond it, weights are allocated as they come. */
void rq_dnn_expect_weights(rq_dnn *dnn, size_t size_bytes);

/* One block that everything made with dnn may use while it runs, at least as large as the largest
 * request so far. Reserving may move it: it is to be asked for anew at every run. Errors:
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_dnn_reserve_scratch(rq_dnn *dnn, size_t size_bytes, rq_error *err);
void *rq_dnn_scratch(const rq_dnn *dnn);

/* How many oneDNN primitives this process has created, for the test that a step creates none. */
size_t rq_dnn_primitive_count(void);

/* May u8 x s8 kernels add pairs of products in saturating 16 bits on this CPU (no AVX512-VNNI, or
 * hidden by ONEDNN_MAX_CPU_ISA)? Then weights must be proven safe or split
 * (dnn/integer_conv.h). */
bool rq_dnn_u8s8_may_saturate(void);

/* The instruction set that oneDNN uses: "AVX512_CORE_VNNI". */
const char *rq_dnn_isa_name(void);

/* The same as a level: the best of these that the CPU has and ONEDNN_MAX_CPU_ISA allows. Each has
 * the instructions of those before it, but AVX512 not those of AVX2_VNNI. */
typedef enum rq_dnn_isa {
    RQ_DNN_SSE41,
    RQ_DNN_AVX,
    RQ_DNN_AVX2, /* and FMA */
    RQ_DNN_AVX2_VNNI,
    RQ_DNN_AVX512, /* F, BW, VL, DQ */
    RQ_DNN_AVX512_VNNI,
} rq_dnn_isa;
rq_dnn_isa rq_dnn_isa_level(void);

/* Inference: dst = conv(src, wei) + bias, in one of these types. */
typedef enum rq_dnn_types {
    RQ_DNN_F32,   /* f32 x f32 + f32 -> f32 */
    RQ_DNN_U8_U8, /* u8 x s8 + s32 -> u8:  clamp(rne((f32(acc) + f32(bias)) * scale[oc]), 0, 255) */
    RQ_DNN_U8_F32, /* u8 x s8 + s32 -> f32: (f32(acc) + f32(bias)) * scale[oc] */
    RQ_DNN_U8_S32, /* u8 x s8 -> s32: acc; no bias */
} rq_dnn_types;

typedef struct rq_dnn_conv_options {
    rq_dnn_types types;
    bool bias;          /* set_weights gets one: f32 [OC], or s32 [OC] for U8_U8 and U8_F32 */
    bool relu;          /* F32 only; U8_U8 clamps at 0 anyway */
    const float *scale; /* [OC], read at creation; U8_U8 and U8_F32 */
} rq_dnn_conv_options;

typedef struct rq_dnn_conv rq_dnn_conv;

/* Errors: RQ_ERR_UNSUPPORTED (oneDNN has no kernel for it; the message holds the problem),
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_dnn_conv_create(rq_dnn_conv **out, rq_dnn *dnn,
                                          const rq_conv_shape *shape,
                                          const rq_dnn_conv_options *options, rq_error *err);
void rq_dnn_conv_destroy(rq_dnn_conv *conv); /* NULL is fine */

/* Pack weights (f32 or s8) and copy bias (NULL without one). */
RQ_NODISCARD rq_status rq_dnn_conv_set_weights(rq_dnn_conv *conv, const void *wei, const void *bias,
                                               rq_error *err);

/* Instead of set_weights: use the packed weights and the bias of a convolution of the same layer,
 * which must outlive this one. false, and nothing done, where it has none or the two kernels want
 * them packed differently. */
bool rq_dnn_conv_share_weights(rq_dnn_conv *conv, const rq_dnn_conv *other);
RQ_NODISCARD rq_status rq_dnn_conv_run(rq_dnn_conv *conv, const void *src, void *dst,
                                       rq_error *err);

/* Bytes of packed weights and bias that the object holds. */
size_t rq_dnn_conv_bytes(const rq_dnn_conv *conv);

/* Has oneDNN nothing but its plain loops for this problem? They are right, and some thousand times
 * slower than a kernel (u8 x s8 in groups whose channels are not a multiple of 4). */
bool rq_dnn_conv_is_reference(const rq_dnn_conv *conv);

/* Training by oneDNN (train_conv.h chooses between this and others): forward, gradient of the
 * source, gradient of the weights. Operands (source, and gradient of the destination) are f32 or
 * bf16 (base/bf16.h), as the precision says; weights and results are f32. No bias: a bias is added
 * (and its gradient summed) by the pass that follows the convolution anyway. */
typedef enum rq_precision {
    RQ_PRECISION_F32,
    RQ_PRECISION_BF16, /* sums are f32; integers up to 256 are exact */
} rq_precision;

/* Has this CPU instructions for bf16? Without them oneDNN refuses or emulates it, slowly. */
bool rq_dnn_has_bf16(void);

typedef struct rq_dnn_train_conv rq_dnn_train_conv;

typedef struct rq_dnn_train_options {
    rq_precision precision;
    bool with_forward; /* else backward alone, of a forward that is computed elsewhere */
    bool with_dsrc;    /* backward will be asked for the gradient of the source (not for the first
                          layer) */
    bool bf16_dsrc;    /* RQ_PRECISION_BF16: which is then rounded to bf16 */
} rq_dnn_train_options;

RQ_NODISCARD rq_status rq_dnn_train_conv_create(rq_dnn_train_conv **out, rq_dnn *dnn,
                                                const rq_conv_shape *shape,
                                                const rq_dnn_train_options *options, rq_error *err);
void rq_dnn_train_conv_destroy(rq_dnn_train_conv *conv); /* NULL is fine */

RQ_NODISCARD rq_status rq_dnn_train_conv_set_weights(rq_dnn_train_conv *conv, const float *wei,
                                                     rq_error *err);
RQ_NODISCARD rq_status rq_dnn_train_conv_forward(rq_dnn_train_conv *conv, const void *src,
                                                 float *dst, rq_error *err);
/* src: what the last forward read; weights: the last that were set. Overwrites dwei [OC, IC/G, KH,
 * KW] and dsrc (f32, or bf16 with bf16_dsrc; NULL: not wanted). */
RQ_NODISCARD rq_status rq_dnn_train_conv_backward(rq_dnn_train_conv *conv, const void *src,
                                                  const void *ddst, float *dwei, void *dsrc,
                                                  rq_error *err);

#endif
