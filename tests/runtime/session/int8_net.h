/* Random networks of form int8, layer by layer, and their session held against the reference. */
#ifndef RQ_TESTS_RUNTIME_SESSION_INT8_NET_H
#define RQ_TESTS_RUNTIME_SESSION_INT8_NET_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/random.h"
#include "runtime/model/quant.h"
#include "runtime/reference/integer.h"
#include "runtime/session/session.h"
#include "tests/support/test.h"

enum { N_CLASSES = 7 };

/* How weights and pixels are drawn. */
typedef enum filling { RANDOM, ALL_LARGEST, ALTERNATING, SMALL_WEIGHTS } filling;

static inline int8_t draw_weight(filling fill, size_t i, rq_random *random)
{
    switch (fill) {
    case ALL_LARGEST:
        return 127;
    case ALTERNATING:
        return i % 2 ? 127 : -127;
    case SMALL_WEIGHTS:
        return (int8_t)((int)rq_random_below(random, 129) - 64);
    case RANDOM:
        break;
    }
    return (int8_t)((int)rq_random_below(random, 255) - 127);
}

static inline int add_layer(rq_graph *graph, rq_op op, int input, int ic, int oc, rq_conv_attr conv,
                            filling fill, rq_random *random)
{
    rq_error err = RQ_ERROR_INIT;
    char name[16];
    int node;
    (void)snprintf(name, sizeof name, "layer%d", graph->n_nodes);
    assert_ok(rq_graph_add_node(graph, op, name, 1, &input, &node, &err), &err);
    if (op == RQ_OP_QCONV)
        graph->nodes[node].conv = conv;
    const int64_t wide[4] = {oc, ic / conv.groups, conv.kernel[0], conv.kernel[1]};
    const int64_t channels = oc, acc_max[2] = {oc, 2}, in_channels = ic;
    const int rank = op == RQ_OP_QCONV ? 4 : 2;
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_WEIGHT, RQ_S8, rank, wide, &err), &err);
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_BIAS, RQ_S32, 1, &channels, &err), &err);
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_MULTIPLIER, RQ_F32, 1, &channels, &err),
              &err);
    assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_ACC_MAX, RQ_S64, 2, acc_max, &err), &err);
    if (input == 0) {
        assert_ok(rq_graph_add_param(graph, node, RQ_SLOT_ZERO_POINT, RQ_U8, 1, &in_channels, &err),
                  &err);
        uint8_t *zero = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT)->data;
        for (int c = 0; c < ic; c++)
            zero[c] = (uint8_t)rq_random_below(random, 256);
    }
    int8_t *wei = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT)->data;
    int32_t *bias = rq_graph_tensor(graph, node, RQ_SLOT_BIAS)->data;
    float *multiplier = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_MULTIPLIER));
    const size_t taps = (size_t)(wide[1] * (rank == 4 ? wide[2] * wide[3] : 1));
    for (size_t i = 0; i < (size_t)oc * taps; i++)
        wei[i] = draw_weight(fill, i, random);
    for (int c = 0; c < oc; c++) {
        bias[c] = (int32_t)rq_random_below(random, 2000001) - 1000000;
        /* so that results use the whole of 0…255, ties and both clamps included */
        multiplier[c] = (float)((0.5 + rq_random_unit(random)) / (127.0 * sqrt((double)taps)));
        if (fill == ALL_LARGEST)
            multiplier[c] = (float)(200.0 / (255.0 * 127.0 * (double)taps));
        int64_t *largest = rq_graph_tensor(graph, node, RQ_SLOT_ACC_MAX)->data;
        largest[2 * c] = rq_acc_bound(wei + (size_t)c * taps, taps);
        largest[2 * c + 1] = rq_acc_bias_bound(wei + (size_t)c * taps, taps, bias[c]);
    }
    return node;
}

/* ---- every value of a reference run, kept to be compared ---- */

typedef struct values {
    void *data[32];
    size_t size_bytes[32];
    size_t differing, compared;
} values;

static inline size_t value_bytes(const rq_shape *shape)
{
    return rq_shape_elems(shape) * rq_dtype_size(shape->dtype);
}

static inline void keep(void *context, int node, const void *value, const rq_shape *shape)
{
    values *kept = context;
    kept->size_bytes[node] = value_bytes(shape);
    kept->data[node] = rq_alloc(kept->size_bytes[node]);
    memcpy(kept->data[node], value, kept->size_bytes[node]);
}

static inline void compare(void *context, int node, const void *value, const rq_shape *shape)
{
    values *kept = context;
    assert_int_equal(kept->size_bytes[node], value_bytes(shape));
    const uint8_t *want = kept->data[node], *got = value;
    for (size_t i = 0; i < kept->size_bytes[node]; i++)
        kept->differing += got[i] != want[i];
    kept->compared += kept->size_bytes[node];
}

/* Returns how many distinct bytes the reference's values take: a test over constant outputs would
 * prove little. */
static inline size_t distinct(const values *kept)
{
    bool seen[256] = {false};
    size_t n = 0;
    for (int node = 0; node < 32; node++)
        for (size_t i = 0; kept->data[node] && i < kept->size_bytes[node]; i++) {
            n += !seen[((const uint8_t *)kept->data[node])[i]];
            seen[((const uint8_t *)kept->data[node])[i]] = true;
        }
    return n;
}

static inline void check_model(const rq_model *model, const uint8_t *pixels, int n, int h, int w,
                               size_t min_distinct)
{
    rq_error err = RQ_ERROR_INIT;
    values kept = {0};
    float want[4 * N_CLASSES], got[4 * N_CLASSES];
    assert_ok(rq_integer_run_ref(model, pixels, n, h, w, want, keep, &kept, &err), &err);
    rq_session *session = NULL;
    rq_session_options options = RQ_SESSION_OPTIONS_INIT;
    options.batch = n;
    options.height = h;
    options.width = w;
    options.observer = compare;
    options.observer_context = &kept;
    assert_ok(rq_session_create(&session, model, &options, &err), &err);
    assert_ok(rq_session_run(session, pixels, n, got, &err), &err);
    assert_int_equal(kept.differing, 0);
    assert_true(kept.compared > 0);
    assert_memory_equal(got, want, (size_t)n * N_CLASSES * sizeof *got);
    assert_true(distinct(&kept) >= min_distinct);
    rq_session_destroy(session);
    for (int node = 0; node < 32; node++)
        rq_free(kept.data[node]);
}

#endif
