/* Making weights safe for CPUs without VNNI, whose kernels add two products u8 * s8 in saturating
 * 16 bits: no two weights of one sign in a channel may sum to more than 128 in magnitude
 * (runtime/reference/integer.h).
 *
 * A channel that breaks the rule can be changed in two ways: its largest weights are clipped, which
 * costs much where many are large, or its scale is widened, which makes every rounding step
 * coarser. The repair tries a row of scales from the stored one up to the one that needs no
 * clipping, clips what is left over, and keeps the result with the smallest squared error against
 * the real weights. */
#ifndef RQ_EXPORT_ISA_REPAIR_H
#define RQ_EXPORT_ISA_REPAIR_H

#include <stddef.h>
#include <stdint.h>

/* What repairs have changed; add up over channels, start from zero. */
typedef struct rq_isa_repair_stats {
    int64_t n_channels;      /* that broke the rule */
    int64_t n_weights;       /* whose real value changed */
    double max_change_steps; /* the largest such change, in steps of the channel's old scale */
} rq_isa_repair_stats;

/* Repair one channel if it breaks the rule; otherwise nothing changes.
 *   folded [n] real weights    q [n] in: quantized with *s_w, out: repaired    scratch [n] */
void rq_isa_repair(const float *folded, size_t n, float *s_w, int8_t *q, int8_t *scratch,
                   rq_isa_repair_stats *stats);

/* Clip the weights of each sign so that the rule holds, with the smallest sum of squared changes:
 * all but the largest to a common cap t <= 64, the largest to 128 - t. */
void rq_isa_clip(int8_t *q, size_t n);

#endif
