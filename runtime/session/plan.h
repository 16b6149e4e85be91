/* Inside a session: steps, buffers and values. Rows (rows.c) turn nodes into steps; session.c lays
 * buffers out by their lifetimes and runs the steps. Not for other rooms. */
#ifndef RQ_RUNTIME_SESSION_PLAN_H
#define RQ_RUNTIME_SESSION_PLAN_H

#include "runtime/dnn/float_conv.h"
#include "runtime/dnn/integer_conv.h"
#include "runtime/model/quant.h"
#include "runtime/session/session.h"

/* How a value stands in its buffer. */
typedef enum rq_repr {
    RQ_REPR_REAL,  /* f32 */
    RQ_REPR_FAKE,  /* the q of integers as f32 (form qat) */
    RQ_REPR_U8,    /* u8 (form int8) */
    RQ_REPR_IMAGE, /* the caller's u8 pixels; no buffer */
} rq_repr;

typedef struct rq_value {
    rq_repr repr;
    int buffer;   /* index into plan buffers */
    rq_qparams q; /* of FAKE; form int8 has them in its operators */
} rq_value;

/* One block of memory, alive from the step that first uses it to the last. */
typedef struct rq_buffer {
    size_t size_bytes, offset;
    int first, last; /* step indices */
} rq_buffer;

typedef struct rq_step rq_step;
typedef rq_status rq_run(rq_session *session, rq_step *step, rq_error *err);
struct rq_step {
    const char *name; /* of the node */
    const char *kind;
    int node; /* whose value exists after this step; -1: none */
    double macs;
    bool is_int8; /* macs are u8 x s8 */
    rq_run *run;
    int src[RQ_MAX_INPUTS], n_src; /* buffers */
    int dst, scratch;              /* buffers, -1 = none */
    rq_shape in, out;              /* of the first source and the destination */
    /* What the kinds need; owned by the step. */
    rq_float_conv *conv;
    rq_iconv *iconv;
    float *factor, *offset; /* batch_norm: y = factor * x + offset; input: per channel; [C], in the
                               session's arena */
    bool as_f32;            /* steps over integers: these stand as f32, not u8 */
    rq_qparams q;           /* quantize: of the result; dequantize, gate: of the source */
    rq_rule rule;           /* pool, gate */
    uint8_t zero_point[4];
    int pad[2];
    rq_conv_attr window; /* avg_pool, max_pool */
};

struct rq_session {
    struct rq_streams *streams; /* which do the work, if there are several; then no steps */
    rq_arena arena;
    rq_dnn *dnn;
    const rq_model *model; /* during creation only */
    rq_session_options options;
    int batch, height, width, n_classes;
    bool *done;   /* [n_nodes] nodes merged into an earlier step; creation only */
    bool *needed; /* [n_nodes] nodes that the output is made from; creation only */
    rq_shape *shapes;
    rq_value *values; /* [n_nodes] */
    rq_step *steps;
    int n_steps, cap_steps;
    rq_buffer *buffers;
    int n_buffers, cap_buffers;
    unsigned char *block; /* all buffers */
    int output;           /* buffer of the logits */
    rq_session_info info;
    const uint8_t *pixels; /* of this run */
    int n_images;          /* of this run */
};

/* For rows. Buffers come to life at the next step added. */
RQ_NODISCARD rq_status rq_plan_buffer(rq_session *session, size_t size_bytes, int *out,
                                      rq_error *err);

/* Append a zeroed step for a node reading values of nodes; fills name, node, in, out, src. *out is
 * valid until the next call. */
RQ_NODISCARD rq_status rq_plan_step(rq_session *session, int node, const char *kind,
                                    const int *src_buffers, int n_src, rq_step **out,
                                    rq_error *err);

/* The step of options.weights_of that the next step added will be the like of; NULL without one. */
static inline const rq_step *rq_plan_twin(const rq_session *session)
{
    const rq_session *of = session->options.weights_of;
    return of && session->n_steps < of->n_steps ? &of->steps[session->n_steps] : NULL;
}

static inline void *rq_plan_at(const rq_session *session, int buffer)
{
    return session->block + session->buffers[buffer].offset;
}

/* The only reader of a node's value when it has exactly one and that is of the given kind and may
 * be merged; else -1. */
int rq_plan_next(const rq_session *session, int node, rq_op op);

/* One row per operator. */
typedef rq_status rq_row(rq_session *session, int node, rq_error *err);
extern rq_row *const rq_session_rows[RQ_N_OPS];

#endif
