/* Searching the cheapest change that keeps pairs of products within 16 bits. */
#include "export/isa_repair.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/model/proofs.h"
#include "runtime/model/quant.h"

enum { N_SCALES = 32, MAX_MAGNITUDE = 128, SAFE_CAP = RQ_PAIR_MAX / 2 };

static int magnitude(int8_t q)
{
    return q < 0 ? -q : q;
}

static double square(double x)
{
    return x * x;
}

/* Squared change when the largest of these magnitudes (a histogram) is clipped to 128 - cap, the
 * others to cap. */
static double clip_cost(const int64_t *count, int largest, int cap)
{
    const int top_cap = RQ_PAIR_MAX - cap;
    double cost = largest > top_cap ? square(largest - top_cap) : 0.0;
    for (int m = cap + 1; m <= largest; m++)
        cost += (double)(count[m] - (m == largest)) * square(m - cap);
    return cost;
}

static int best_cap(const int64_t *count, int largest)
{
    int best = SAFE_CAP;
    for (int cap = SAFE_CAP - 1; cap >= 0; cap--)
        if (clip_cost(count, largest, cap) < clip_cost(count, largest, best))
            best = cap;
    return best;
}

static void clip_sign(int8_t *q, size_t n, bool negative)
{
    int64_t count[MAX_MAGNITUDE + 1] = {0};
    size_t top = n; /* the first of the largest */
    for (size_t i = 0; i < n; i++) {
        if (q[i] == 0 || (q[i] < 0) != negative)
            continue;
        count[magnitude(q[i])]++;
        if (top == n || magnitude(q[i]) > magnitude(q[top]))
            top = i;
    }
    if (top == n)
        return;
    const int cap = best_cap(count, magnitude(q[top]));
    for (size_t i = 0; i < n; i++) {
        const int limit = i == top ? RQ_PAIR_MAX - cap : cap;
        if (q[i] != 0 && (q[i] < 0) == negative && magnitude(q[i]) > limit)
            q[i] = (int8_t)(negative ? -limit : limit);
    }
}

void rq_isa_clip(int8_t *q, size_t n)
{
    clip_sign(q, n, false);
    clip_sign(q, n, true);
}

static double squared_error(const float *folded, const int8_t *q, size_t n, float s_w)
{
    double error = 0.0;
    for (size_t i = 0; i < n; i++)
        error += square((double)folded[i] - (double)s_w * (double)q[i]);
    return error;
}

/* By what factor the scale must grow until no pair exceeds the rule without clipping. */
static double widest_factor(const float *folded, size_t n, float s_w)
{
    double sum = 0.0; /* of the two largest of one sign, in steps */
    for (int sign = -1; sign <= 1; sign += 2) {
        double largest = 0.0, second = 0.0;
        for (size_t i = 0; i < n; i++) {
            const double w = sign * (double)folded[i];
            if (w > largest) {
                second = largest;
                largest = w;
            } else if (w > second) {
                second = w;
            }
        }
        sum = fmax(sum, (largest + second) / (double)s_w);
    }
    return fmax(1.0, sum / RQ_PAIR_MAX);
}

static void count_changes(const int8_t *before, float s_before, const int8_t *after, float s_after,
                          size_t n, rq_isa_repair_stats *stats)
{
    stats->n_channels++;
    for (size_t i = 0; i < n; i++) {
        const double change =
            fabs((double)s_after * (double)after[i] / (double)s_before - (double)before[i]);
        stats->n_weights += change > 0.0;
        stats->max_change_steps = fmax(stats->max_change_steps, change);
    }
}

/* Quantize with a scale, clip, and say how far the result is from the real weights. */
static double quantize_safely(const float *folded, size_t n, float s_w, int8_t *q)
{
    for (size_t i = 0; i < n; i++)
        q[i] = rq_quantize_weight(folded[i], 1.0f / s_w);
    rq_isa_clip(q, n);
    return squared_error(folded, q, n, s_w);
}

void rq_isa_repair(const float *folded, size_t n, float *s_w, int8_t *q, int8_t *scratch,
                   rq_isa_repair_stats *stats)
{
    assert(*s_w > 0.0f);
    if (rq_saturation_free(q, n))
        return;
    const double widest = widest_factor(folded, n, *s_w);
    float best_scale = *s_w;
    double best_error = HUGE_VAL;
    for (int k = 0; k <= N_SCALES; k++) {
        const float scale = (float)((double)*s_w * (1.0 + (widest - 1.0) * k / N_SCALES));
        const double error = quantize_safely(folded, n, scale, scratch);
        if (error < best_error) {
            best_error = error;
            best_scale = scale;
        }
    }
    (void)quantize_safely(folded, n, best_scale, scratch);
    count_changes(q, *s_w, scratch, best_scale, n, stats);
    memcpy(q, scratch, n);
    *s_w = best_scale;
}
