/* Inside the lowering pass (lower.h): values in the form that a reader wants. Every value of the
 * source graph is followed as what it is in the lowered graph: a float value, a quantized value, or
 * an operator that is not emitted yet because its reader decides its form. The pass and its rows
 * are in lower.c. Not for others. */
#ifndef RQ_EXPORT_LOWERING_H
#define RQ_EXPORT_LOWERING_H

#include "export/lower_report.h"
#include "runtime/model/model.h"
#include "runtime/model/quant.h"

enum { LW_NONE = -1 };

/* What a value of the source graph has become; node numbers are LW_NONE before that. */
typedef struct lw_value {
    int real;      /* lowered node with the f32 value */
    int quantized; /* lowered node with the u8 value */
    rq_qparams q;  /* of quantized */
    int pending; /* source node of an operator whose result this is, not emitted yet: a layer, or a
                    global_avg_pool, sigmoid or mul that may be computed with integers */
    int relu;    /* source node of the relu after that layer or mul */
} lw_value;

#define LW_VALUE_NONE                                                                              \
    (lw_value)                                                                                     \
    {                                                                                              \
        LW_NONE, LW_NONE, {0.0f, 0}, LW_NONE, LW_NONE                                              \
    }

typedef struct lw_pass {
    const rq_model *qat;
    rq_model *out;
    const rq_shape *shapes; /* of the source's values, for one image */
    lw_value *values;       /* one per source node */
    int *emitted;           /* per pending source node: its lowered node, LW_NONE before */
    bool isa_repair;
    rq_lower_report report;
    rq_error *err;
} lw_pass;

static inline const rq_node *lw_source_node(const lw_pass *self, int i)
{
    return &self->qat->graph.nodes[i];
}

static inline const char *lw_name(const lw_pass *self, int i)
{
    return lw_source_node(self, i)->name;
}

static inline lw_value *lw_input_value(const lw_pass *self, int i)
{
    return &self->values[lw_source_node(self, i)->input[0]];
}

static inline bool lw_has_weight_scale(const lw_pass *self, int layer)
{
    return lw_source_node(self, layer)->slot[RQ_SLOT_WEIGHT_SCALE] >= 0;
}

static inline const rq_shape *lw_input_shape(const lw_pass *self, int i)
{
    return &self->shapes[lw_source_node(self, i)->input[0]];
}

/* Append a node with one input to the lowered graph. */
RQ_NODISCARD rq_status lw_emit_node(lw_pass *self, rq_op op, const char *name, int input, int *out);

/* SCALE, and ZERO_POINT where there is one, of 1 or 2 values. */
RQ_NODISCARD rq_status lw_add_qparams(lw_pass *self, int node, const rq_qparams *q, int64_t n);

/* A quantize or dequantize node. */
RQ_NODISCARD rq_status lw_emit_conversion(lw_pass *self, rq_op op, const char *name, int input,
                                          rq_qparams q, int *out);

/* A pending operator becomes one node, of one kind: is it still to be emitted? */
RQ_NODISCARD rq_status lw_claim(const lw_pass *self, int i);

/* Value i as u8, for a reader that takes nothing else. */
RQ_NODISCARD rq_status lw_want_quantized(lw_pass *self, int reader, int i, lw_value *out);

/* The lowered node that holds value i as f32; emits what is missing. */
RQ_NODISCARD rq_status lw_want_real(lw_pass *self, int i, int *out);

/* Any operator over float values, copied. */
RQ_NODISCARD rq_status lw_emit_float(lw_pass *self, int i, int *out);

/* qconv for a source layer whose value has scale s_y, or qlinear for one that gives real values
 * (s_y is 1 then). */
RQ_NODISCARD rq_status lw_emit_integer_layer(lw_pass *self, int i, bool real_output, float s_y,
                                             int *out);

#endif
