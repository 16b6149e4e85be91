/* What a session is asked for, and what it says about itself: of session.h, in a file of its own for
 * what works below it. */
#ifndef RQ_RUNTIME_SESSION_SESSION_OPTIONS_H
#define RQ_RUNTIME_SESSION_SESSION_OPTIONS_H

#include "runtime/model/model.h"

enum { RQ_STREAMS_AUTO = -1 };

typedef struct rq_session_options {
    int batch;         /* images per run, at most */
    int height, width; /* of the input; 0 = the model's crop */
    /* For throughput: divide each run among so many sessions of one thread each (streams.h); 0 or
     * 1: not at all; RQ_STREAMS_AUTO: one per OpenMP thread. Not with an observer. */
    int n_streams;
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

/* What a session is made of, for reports. */
typedef struct rq_session_info {
    int n_classes;
    double macs;                 /* multiply-adds per image */
    size_t weight_bytes;         /* packed weights and biases */
    size_t activation_bytes;     /* the activation block */
    size_t largest_bytes;        /* the largest single activation */
    bool saturation_safe;        /* int8: a slower, exact kernel replaces u8 x s8 pairs that could
                                saturate */
    int n_streams, stream_batch; /* that work at the same time, and images at once in each */
} rq_session_info;

/* Time of each step: what bench prints. */
typedef struct rq_step_time {
    const char *name; /* of the node; owned by the session */
    const char *kind;
    double macs;  /* multiply-adds per image; 0 for what is not a convolution */
    bool is_int8; /* they are u8 x s8, else f32 */
    double seconds;
} rq_step_time;

#endif
