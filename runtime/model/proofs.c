/* One pass over each channel's weights gives all bounds of proofs.h. */
#include "runtime/model/proofs.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "runtime/base/simd.h"
#include "runtime/model/quant.h"

typedef struct acc_range {
    int64_t low, high;
} acc_range;

enum { CHUNK = 1 << 20 }; /* taps whose sum stays in 32 bits */

/* Sums of the negative and of the positive weights. */
RQ_SIMD static void sum_signs(const int8_t *restrict weights, size_t n, int32_t *negative,
                              int32_t *positive)
{
    assert(n <= CHUNK);
    int32_t low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        low += weights[i] < 0 ? weights[i] : 0;
        high += weights[i] > 0 ? weights[i] : 0;
    }
    *negative = low;
    *positive = high;
}

static acc_range range_of(const int8_t *weights, size_t n_taps)
{
    acc_range range = {0, 0};
    for (size_t at = 0, n; at < n_taps; at += n) {
        int32_t low, high;
        n = n_taps - at < CHUNK ? n_taps - at : CHUNK;
        sum_signs(weights + at, n, &low, &high);
        range.low += 255 * (int64_t)low;
        range.high += 255 * (int64_t)high;
    }
    return range;
}

static int64_t larger_magnitude(int64_t low, int64_t high)
{
    const int64_t a = low < 0 ? -low : low, b = high < 0 ? -high : high;
    return a > b ? a : b;
}

int64_t rq_acc_bound(const int8_t *weights, size_t n_taps)
{
    const acc_range range = range_of(weights, n_taps);
    return larger_magnitude(range.low, range.high);
}

int64_t rq_acc_bias_bound(const int8_t *weights, size_t n_taps, int32_t bias)
{
    const acc_range range = range_of(weights, n_taps);
    return larger_magnitude(range.low + bias, range.high + bias);
}

/* Sum of the two largest magnitudes among the weights of this sign (1 or -1). */
RQ_SIMD static int largest_pair(const int8_t *restrict weights, size_t n, int sign)
{
    assert(sign == 1 || sign == -1);
    int largest = 0, second = 0, n_largest = 0;
    for (size_t i = 0; i < n; i++) {
        const int w = sign * weights[i];
        largest = w > largest ? w : largest;
    }
    for (size_t i = 0; i < n; i++) {
        const int w = sign * weights[i];
        n_largest += w == largest;
        second = w < largest && w > second ? w : second;
    }
    return largest + (n_largest > 1 ? largest : second);
}

bool rq_saturation_free(const int8_t *weights, size_t n_taps)
{
    return largest_pair(weights, n_taps, -1) <= RQ_PAIR_MAX &&
           largest_pair(weights, n_taps, 1) <= RQ_PAIR_MAX;
}

static rq_status check_channel(const rq_model *model, int node, int64_t oc, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    const rq_tensor *weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT);
    const size_t n_taps = rq_tensor_elems(weight) / (size_t)weight->dim[0];
    const int8_t *w = (const int8_t *)weight->data + (size_t)oc * n_taps;
    const int32_t bias = ((const int32_t *)rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->data)[oc];
    const float m = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER))[oc];
    const int64_t *acc_max =
        (const int64_t *)rq_graph_tensor(graph, node, RQ_SLOT_ACC_MAX)->data + 2 * oc;
    const char *name = graph->nodes[node].name;
    const long long channel = oc;

    const acc_range range = range_of(w, n_taps);
    const int64_t bound = larger_magnitude(range.low, range.high);
    const int64_t bias_bound = larger_magnitude(range.low + bias, range.high + bias);
    if (memchr(w, INT8_MIN, n_taps))
        return rq_fail(err, RQ_ERR_MODEL, "%s: channel %lld has a weight -128, not in -127..127",
                       name, channel);
    if (!(m > 0.0f) || !isfinite(m))
        return rq_fail(err, RQ_ERR_MODEL, "%s: multiplier %lld is %g", name, channel, (double)m);
    if (bound > INT32_MAX || bias_bound > INT32_MAX)
        return rq_fail(err, RQ_ERR_RANGE,
                       "%s: channel %lld can reach %lld in its accumulator, more than 2^31 - 1",
                       name, channel, (long long)larger_magnitude(bound, bias_bound));
    if (acc_max[0] != bound || acc_max[1] != bias_bound)
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: acc_max of channel %lld is %lld, %lld; its weights give %lld, %lld",
                       name, channel, (long long)acc_max[0], (long long)acc_max[1],
                       (long long)bound, (long long)bias_bound);
    if (model->isa_proof && !rq_saturation_free(w, n_taps))
        return rq_fail(err, RQ_ERR_MODEL,
                       "%s: channel %lld has a pair of weights over %d, but the model says that "
                       "it has none (isa_proof)",
                       name, channel, RQ_PAIR_MAX);
    return RQ_OK;
}

static rq_status check_scales(const rq_graph *graph, int node, rq_error *err)
{
    const rq_tensor *scale = rq_graph_tensor(graph, node, RQ_SLOT_SCALE);
    for (size_t i = 0; scale && i < rq_tensor_elems(scale); i++) {
        const float s = rq_tensor_f32(scale)[i];
        if (!(s >= RQ_SCALE_MIN) || !isfinite(s))
            return rq_fail(err, RQ_ERR_MODEL, "%s: scale %zu is %g", graph->nodes[node].name, i,
                           (double)s);
    }
    return RQ_OK;
}

rq_status rq_integer_check(const rq_model *model, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    for (int node = 0; node < graph->n_nodes; node++) {
        const rq_op op = graph->nodes[node].op;
        RQ_TRY(check_scales(graph, node, err));
        if (op != RQ_OP_QCONV && op != RQ_OP_QLINEAR)
            continue;
        const int64_t n_channels = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)->dim[0];
        for (int64_t oc = 0; oc < n_channels; oc++)
            RQ_TRY(check_channel(model, node, oc, err));
    }
    return RQ_OK;
}
