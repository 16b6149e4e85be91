/* Inside a trainer: its state, and the units of work that a step runs over stored values.
 *
 * Two kinds of unit carry a network:
 *
 *   convolution   u = conv(x, W): forward, gradient of x and gradient of W (convolution.h)
 *   eltwise       y = act(sum over k of term_k(u_k)): every elementwise operator (eltwise.h). A
 *                 RepVGG block's three batch norms, sum and ReLU are one unit, so its activations
 *                 are read twice forward and twice backward, not once per operator.
 *
 * Squeeze-and-excitation and the head have three more: sigmoid and product, y = act(x * gate)
 * (gates.h), and pooling, global or over windows (pooling.h).
 *
 * Types and functions that a header of this room declares for the room alone begin with tr_. */
#ifndef RQ_QAT_STEP_UNITS_H
#define RQ_QAT_STEP_UNITS_H

#include "qat/step/trainer_types.h"
#include "runtime/model/model.h"

typedef struct tr_value tr_value; /* values.h */

typedef struct tr_unit tr_unit;
struct tr_unit {
    int node; /* the last graph node that the unit computes */
    rq_status (*forward)(rq_trainer *trainer, tr_unit *unit, rq_error *err);
    rq_status (*backward)(rq_trainer *trainer, tr_unit *unit, rq_error *err);
    void (*destroy)(tr_unit *unit);
    tr_value *src[RQ_MAX_INPUTS]; /* read */
    int n_src;
    float *dsrc[RQ_MAX_INPUTS]; /* where the gradient of src[k] goes; NULL: not needed, or bf16 */
    tr_value *dst;
    size_t finished; /* elements of all_gradients that are complete after its backward */
    bool in_place;   /* backward may write the gradient of src[0] over dst's first one */
    double forward_s, backward_s; /* time spent */
    struct tr_conv *conv;         /* one of these, or none */
    struct tr_eltwise *eltwise;
    struct tr_product *product;
};

/* The gradients of all parameters (parameter_gradients.h). */
typedef struct tr_gradients {
    float *block; /* [n] */
    size_t n;
    size_t summed; /* elements whose sum over ranks has begun */
} tr_gradients;

struct rq_trainer {
    rq_arena arena;
    rq_dnn *dnn;
    rq_model *model;
    rq_trainer_options options;
    bool bn_frozen, observing;
    rq_shape *shapes;  /* [n_nodes] */
    tr_value **values; /* [n_nodes]; NULL where merged */
    tr_unit *units;
    int n_units;
    tr_value **outputs; /* [n_outputs] what the loss reads: auxiliary outputs, then the model's */
    int n_outputs;
    float **gradients; /* [n_params] into all_gradients; NULL for buffers and constants */
    tr_gradients all_gradients;
    int n_threads;    /* OpenMP's at creation: what scratch and primitives are made for */
    void *scratch;    /* sums of each thread (share.h) */
    double *row_loss; /* [batch] */
    int *row_rank;    /* [batch] rank of the true class */
    float input_factor[3], input_offset[3];
    bool input_is_levels; /* whole pixels less the zero point, for a quantized layer */
    rq_trainer_profile profile;
};

#endif
