/* One run of a lowered model by the integer reference, all of its values kept. */
#ifndef RQ_TESTS_EXPORT_TRACE_H
#define RQ_TESTS_EXPORT_TRACE_H

#include "runtime/reference/integer.h"
#include "tests/export/qat_net.h"

enum { BATCH = 2, N_PIXELS = BATCH * NET_SIDE * NET_SIDE * 3, MAX_CLASSES = 8 };

/* Every value of one run of a lowered model, as double. */
typedef struct trace {
    double *values[32];
    rq_shape shapes[32];
    float logits[BATCH * MAX_CLASSES];
    uint8_t pixels[N_PIXELS];
} trace;

static inline void record(void *context, int node, const void *value, const rq_shape *shape)
{
    trace *seen = context;
    const size_t n = rq_shape_elems(shape);
    assert_in_range(node, 0, 31);
    seen->shapes[node] = *shape;
    seen->values[node] = rq_alloc(n * sizeof(double));
    for (size_t i = 0; i < n; i++)
        seen->values[node][i] = shape->dtype == RQ_U8 ? (double)((const uint8_t *)value)[i]
                                                      : (double)((const float *)value)[i];
}

static inline void run_lowered(const rq_model *model, trace *seen)
{
    rq_error err = RQ_ERROR_INIT;
    memset(seen->values, 0, sizeof seen->values);
    rq_random random = {5};
    for (int i = 0; i < N_PIXELS; i++)
        seen->pixels[i] = (uint8_t)rq_random_below(&random, 256);
    seen->pixels[0] = 0;
    seen->pixels[1] = 255;
    assert_ok(rq_integer_run_ref(model, seen->pixels, BATCH, NET_SIDE, NET_SIDE, seen->logits,
                                 record, seen, &err),
              &err);
}

static inline void free_trace(trace *seen)
{
    for (int i = 0; i < 32; i++)
        rq_free(seen->values[i]);
}

/* A value of the lowered model, by node. */
typedef struct source_value {
    const double *values;
    rq_shape shape;
    float scale; /* 0: real values */
} source_value;

static inline source_value traced(const rq_model *lowered, const trace *seen, const char *name,
                                  float scale)
{
    const int node = rq_graph_find_node(&lowered->graph, name);
    assert_true(node >= 0);
    return (source_value){seen->values[node], seen->shapes[node], scale};
}

/* SCALE of a fake_quant of the source; 0 when there is none. */
static inline float quant_scale(const rq_model *qat, const char *node)
{
    return rq_graph_find_node(&qat->graph, node) < 0 ? 0.0f
                                                     : net_values(qat, node, RQ_SLOT_SCALE)[0];
}

#endif
