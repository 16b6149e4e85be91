/* Inside an executor: its steps, and the buffers that they read and write. A plan (plan.h) makes
 * them; executor.c runs them. Only for this folder. */
#ifndef RQ_RUNTIME_SESSION_STEP_H
#define RQ_RUNTIME_SESSION_STEP_H

#include "runtime/dnn/float_conv.h"
#include "runtime/dnn/integer_conv.h"
#include "runtime/dnn/plain_ops.h"
#include "runtime/model/quant.h"
#include "runtime/session/session_options.h"

typedef struct rq_executor rq_executor;

/* A part of the executor's block, alive from the step that first uses it to the last. */
typedef struct rq_buffer {
    size_t size_bytes, offset;
    int first, last; /* step indices */
} rq_buffer;

typedef struct rq_step rq_step;
typedef rq_status rq_run(const rq_executor *executor, rq_step *step, rq_error *err);
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
    float *factor, *offset; /* scale_shift, normalize: y = factor * x + offset; [C], in the
                               executor's arena */
    bool as_f32;            /* integers of this step are f32, not u8 */
    rq_qparams q;           /* quantize: of the result; dequantize, gate: of the source */
    rq_rule rule;           /* pool, gate */
    uint8_t zero_point[4];
    int pad[2];
    const rq_plain_op *plain; /* with its window */
    rq_conv_attr window;
};

struct rq_executor {
    rq_arena arena;
    rq_dnn *dnn;
    rq_session_options options;
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

static inline void *rq_buffer_at(const rq_executor *executor, int buffer)
{
    return executor->block + executor->buffers[buffer].offset;
}

static inline void *rq_src(const rq_executor *executor, const rq_step *step, int k)
{
    return rq_buffer_at(executor, step->src[k]);
}

static inline void *rq_dst(const rq_executor *executor, const rq_step *step)
{
    return rq_buffer_at(executor, step->dst);
}

#endif
