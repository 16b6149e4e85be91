/* What an int8 model must keep so that every CPU gives the same integers, and the bounds over
 * weights that prove it. Stored with a model:
 *
 *   ACC_MAX           s64 [OC, 2], the largest |acc| and |acc + b| that any u8 input can give; up
 *                     to 2^24 the rule's addition is exact in f32, over 2^31 - 1 a model is refused
 *   isa_proof         x86 kernels without VNNI add two products u8 * s8 in saturating 16 bits;
 *                     which taps they pair is the kernel's choice, so the proof takes every pair:
 *                     |w_a + w_b| <= 128 for any two weights of one sign in one output channel,
 *                     and so |sum| <= 255 * 128 < 2^15 */
#ifndef RQ_RUNTIME_MODEL_PROOFS_H
#define RQ_RUNTIME_MODEL_PROOFS_H

#include "runtime/model/model.h"

#define RQ_ACC_EXACT ((int64_t)1 << 24) /* integers up to here are exact in f32 */
enum { RQ_PAIR_MAX = 128 };             /* the largest safe |w_a + w_b| */

/* Does an int8 model that passed rq_graph_shapes keep what the rule takes for granted? Weights in
 * -127..127, scales and multipliers positive and finite, accumulators within s32, ACC_MAX and
 * isa_proof as its weights say. To be called once on every model that came from a file. Errors:
 * RQ_ERR_MODEL with the node, RQ_ERR_RANGE for an accumulator beyond s32. */
RQ_NODISCARD rq_status rq_integer_check(const rq_model *model, rq_error *err);

/* Largest |acc| that one output channel's weights allow over all u8 inputs: 255 * max(sum of the
 * positive, -sum of the negative). Pixels too are 0..255. The second: the largest |acc + bias|. */
int64_t rq_acc_bound(const int8_t *weights, size_t n_taps);
int64_t rq_acc_bias_bound(const int8_t *weights, size_t n_taps, int32_t bias);

/* Do any two of these weights that have the same sign sum to at most RQ_PAIR_MAX in magnitude? */
bool rq_saturation_free(const int8_t *weights, size_t n_taps);

#endif
