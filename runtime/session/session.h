/* A session executes a model of any form at one input size.
 *
 *   train, deploy, withbn  float, every operator as the graph says (batch norm with its running
 * statistics) qat                    fake-quantized, by the integer contract: integer-valued f32
 * convolutions, exact in every accumulator, and the output rule; gives the logits of the exported
 * int8 model int8                   u8 x s8 convolutions of oneDNN, ReLU and requantization inside
 *
 * Everything is planned at creation: primitives, packed weights, one block for all activations,
 * laid out by their lifetimes. Running allocates nothing. The model may be freed once the session
 * exists. A session is used by one thread at a time; it computes with OpenMP's threads, or with
 * streams of its own. */
#ifndef RQ_RUNTIME_SESSION_SESSION_H
#define RQ_RUNTIME_SESSION_SESSION_H

#include "runtime/model/model.h"

typedef struct rq_session rq_session;

enum { RQ_STREAMS_AUTO = -1 };

typedef struct rq_session_options {
    int batch;         /* images per run, at most */
    int height, width; /* of the input; 0 = the model's crop */
    /* For throughput: divide each run among so many sessions of one thread each (streams.h); 0 or
     * 1: not at all; RQ_STREAMS_AUTO: one per OpenMP thread. Not with an observer. */
    int n_streams;
    /* A session of the same model and size, whose packed weights are used where both pack them
     * alike; it must outlive the new one. NULL: packs its own. */
    const rq_session *weights_of;
    /* Called after each node that the output needs with its value [batch, H, W, C] (u8; f32;
     * integer-valued f32 for quantized values of form qat). ReLU is then not merged into float
     * convolutions; batch norm is, in form qat. NULL for none. */
    rq_value_observer *observer;
    void *observer_context;
} rq_session_options;

#define RQ_SESSION_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .batch = 1                                                                                 \
    }

/* Errors: RQ_ERR_MODEL, RQ_ERR_UNSUPPORTED, RQ_ERR_NOMEM, RQ_ERR_ARG. */
RQ_NODISCARD rq_status rq_session_create(rq_session **out, const rq_model *model,
                                         const rq_session_options *options, rq_error *err);
void rq_session_destroy(rq_session *session); /* NULL is fine */

/* pixels u8 RGB [n, height, width, 3], 1 <= n <= batch; logits f32 [n, classes]. */
RQ_NODISCARD rq_status rq_session_run(rq_session *session, const uint8_t *pixels, int n,
                                      float *logits, rq_error *err);

/* What a session is made of, for reports. */
typedef struct rq_session_info {
    int n_classes;
    double macs;             /* multiply-adds per image */
    size_t weight_bytes;     /* packed weights and biases */
    size_t activation_bytes; /* the activation block */
    size_t largest_bytes;    /* the largest single activation */
    bool saturation_safe;    /* int8: a slower, exact kernel stands in for u8 x s8 pairs that could
                                saturate */
    int n_streams, stream_batch; /* sessions side by side, and images at once in each */
} rq_session_info;
rq_session_info rq_session_get_info(const rq_session *session);

/* Time of each step: what bench prints. */
typedef struct rq_step_time {
    const char *name; /* of the node; owned by the session */
    const char *kind;
    double macs;  /* multiply-adds per image; 0 for what is not a convolution */
    bool is_int8; /* they are u8 x s8, else f32 */
    double seconds;
} rq_step_time;

/* Run once with a clock around each step. times: rq_session_n_steps entries; a session of several
 * streams has none, and RQ_ERR_ARG is its answer. */
int rq_session_n_steps(const rq_session *session);
RQ_NODISCARD rq_status rq_session_run_timed(rq_session *session, const uint8_t *pixels, int n,
                                            float *logits, rq_step_time *times, rq_error *err);

#endif
