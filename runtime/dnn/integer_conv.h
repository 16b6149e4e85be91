/* One quantized convolution by the integer contract, exact on every CPU, of one of two kinds:
 *
 *   RQ_ICONV_U8    u8 x s8, the output rule inside oneDNN's kernel. Where pairs of products could
 *                  saturate 16 bits (no VNNI) and the weights are not proven safe, the weights are
 *                  split, w = 16 * hi + lo with |hi|, |lo| <= 8, so that no pair can saturate. The
 *                  halves are 2 * OC output channels of one s32 convolution, and the rule is
 *                  applied to 16 * acc_hi + acc_lo
 *   RQ_ICONV_F32   integer-valued f32 in and out, exact while partial sums stay under 2^24. The
 *                  weights of a layer with a channel that could leave that range are split too
 *
 * Groups for which oneDNN has no kernel are computed as one, with zeros between them.
 *
 * Output: u8 (or integer-valued f32) q, or real f32 values (logits). */
#ifndef RQ_RUNTIME_DNN_INTEGER_CONV_H
#define RQ_RUNTIME_DNN_INTEGER_CONV_H

#include "runtime/dnn/dnn.h"
#include "runtime/model/graph.h"

typedef enum rq_iconv_kind { RQ_ICONV_U8, RQ_ICONV_F32 } rq_iconv_kind;

typedef struct rq_iconv rq_iconv;

typedef struct rq_iconv_weights {
    const int8_t *wei;       /* [OC, IC/G, KH, KW] */
    const int32_t *bias;     /* [OC] */
    const float *multiplier; /* [OC] */
    bool saturation_free;    /* proven: the split is not needed for saturation */
    const rq_iconv *packed;  /* of the same layer; outlives the new one, which uses its packed
                                weights where both kernels want the same; or NULL */
} rq_iconv_weights;

/* real_output: f32 logits instead of q. The weights are copied. Errors: RQ_ERR_UNSUPPORTED,
 * RQ_ERR_RANGE (a channel whose split weights could still leave 2^24), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_iconv_create(rq_iconv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                                       rq_iconv_kind kind, const rq_iconv_weights *weights,
                                       bool real_output, rq_error *err);
void rq_iconv_destroy(rq_iconv *conv); /* NULL is fine */

/* Bytes of scratch that a run needs (0 for the direct kernel), and of packed weights held. */
size_t rq_iconv_scratch_bytes(const rq_iconv *conv);
size_t rq_iconv_weight_bytes(const rq_iconv *conv);
bool rq_iconv_is_split(const rq_iconv *conv);

/* src u8 or f32 [n, ih, iw, ic]; dst [n, oh, ow, oc]. */
RQ_NODISCARD rq_status rq_iconv_run(rq_iconv *conv, const void *src, void *dst, void *scratch,
                                    rq_error *err);

#endif
