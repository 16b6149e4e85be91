/* Inside a trainer: units of work over stored values. Two kinds carry a network:
 *
 *   convolution   u = conv(x, W): oneDNN forward, gradient of x, gradient of W
 *   mix           y = act(sum over k of term_k(u_k)): every elementwise operator. A term is a batch
 *                 norm, a bias, a scale per channel, or the value itself; act is ReLU and / or fake
 *                 quantization, or nothing. A RepVGG block's three batch norms, sum and ReLU are
 *                 one mix, so its activations are read twice forward and twice backward, not once
 *                 per operator.
 *
 * and three stand around squeeze-and-excitation and the head: product (y = act(x * gate)), sigmoid,
 * and pooling, global or over windows. Values store numbers; what they mean is real = number *
 * scale, with one scale per tensor or per channel (accumulators of quantized convolutions). Numbers
 * of quantized values are integers, q - zero_point. Gradients are with respect to the numbers. Each
 * reader of a value writes its gradient into a buffer of its own; the producer sums them as it
 * reads. Numbers and gradients that convolutions in bf16 read are bf16 wherever one pass can write
 * them so. */
#ifndef RQ_QAT_STEP_UNITS_H
#define RQ_QAT_STEP_UNITS_H

#include "qat/step/eltwise_passes.h"
#include "qat/step/trainer.h"
#include "runtime/dnn/train_conv.h"
#include "runtime/model/quant.h"

enum {
    RQ_MAX_READERS = 4, /* of one value: a block's input feeds three branches and, perhaps, an
                           auxiliary head */
    RQ_MAX_TERMS = RQ_MAX_INPUTS, /* of one mix */
};

typedef struct tr_value {
    rq_shape shape;
    float *data;                /* [N, H, W, C]; NULL where nobody reads them as f32 */
    uint16_t *bf16;             /* the same as bf16, or NULL */
    float scale;                /* real = scale * number (channel_scale NULL) */
    const float *channel_scale; /* [C]: real = channel_scale[c] * number */
    /* Numbers are exact integer sums, to which the output rule applies, of one of these: */
    struct conv_unit *quantized_conv;   /* a quantized convolution */
    const struct tr_value *pool_source; /* a quantized value, summed over its pixels */
    bool quantized;                     /* numbers are q - zero_point, q 0 to 255 */
    bool is_u8;                         /* and there is no zero point, whatever the range */
    uint8_t *u8;                        /* then: the numbers as bytes; NULL: nobody reads them */
    float *expanded; /* u8 or bf16 as f32, for rq_trainer_value; NULL before it was asked */
    bool is_gate;    /* and stand for a sigmoid: scale RQ_GATE_SCALE */
    uint8_t zero_point;
    bool needs_gradient;
    float *gradient[RQ_MAX_READERS]; /* one per reader */
    int n_readers;
    /* The whole gradient as bf16, and no gradient counts in n_readers: where the only reader leaves
     * it so. Where a convolution in bf16 made the value and the readers left f32, that convolution
     * rounds it into here. NULL: neither. */
    uint16_t *gradient_bf16;
} tr_value;

typedef struct tr_unit tr_unit;
struct tr_unit {
    int node; /* the last graph node that the unit stands for */
    rq_status (*forward)(rq_trainer *trainer, tr_unit *unit, rq_error *err);
    rq_status (*backward)(rq_trainer *trainer, tr_unit *unit, rq_error *err);
    void (*destroy)(tr_unit *unit);
    tr_value *src[RQ_MAX_INPUTS]; /* read */
    int n_src;
    float *dsrc[RQ_MAX_INPUTS]; /* where the gradient of src[k] goes; NULL: not needed, or bf16 */
    tr_value *dst;
    size_t finished; /* elements of all_gradients that are complete after its backward */
    bool in_place;   /* backward writes the gradient of src[0] where dst's first one stood */
    double forward_s, backward_s; /* time spent */
    struct conv_unit *conv;       /* one of these, or none */
    struct eltwise_unit *eltwise;
    struct product_unit *product;
};

/* The gradients of all parameters (parameter_gradients.c). */
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
    int n_threads; /* OpenMP's at creation: what scratch and primitives are made for */
    void *scratch; /* per-thread sums of mixes */
    size_t scratch_bytes;
    double *row_loss; /* [batch] */
    int *row_rank;    /* [batch] rank of the true class */
    float input_factor[3], input_offset[3];
    bool input_is_levels; /* whole pixels less the zero point, for a quantized layer */
    rq_trainer_profile profile;
};

/* The convolution of a conv or linear node. */
typedef struct conv_unit {
    rq_train_conv *conv;
    rq_conv_shape shape;
    rq_precision precision;
    const float *weight;
    float *dweight;
    bool leaves_bf16; /* the gradient of its source, see tr_value */
    /* quantized layers */
    bool quantized;
    rq_layer_view layer;
    float *stored_scale;        /* the graph's WEIGHT_SCALE */
    float *folded, *q, *dq;     /* [OC, IC/G, KH, KW] */
    float s_x;                  /* of the source, this step; 1 for pixels */
    float *s_w, *channel_scale; /* [OC] */
    double *factor, *sigma; /* [OC] t and sqrt(var + eps) as folded: the mix moves var afterwards */
    float *dgamma;          /* of the batch norm behind it, or NULL */
    double *du_dot_u;       /* [OC] sum of du * u in real units, left by the mix */
} conv_unit;

/* What ends a chain: ReLU and fake quantization, each optional. */
typedef struct tr_act {
    bool relu, quantize;
    float *min, *max, *scale; /* fake_quant's MIN, MAX and SCALE */
    uint8_t *zero_point;      /* fake_quant's ZERO_POINT; NULL: values are not negative */
} tr_act;

enum term_kind { TERM_PLAIN, TERM_BIAS, TERM_SCALE, TERM_BN };

typedef struct eltwise_term {
    enum term_kind kind;
    const float *gamma, *beta; /* gamma: the weight of TERM_SCALE; beta: the bias of TERM_BIAS */
    float *mean, *var;         /* running */
    int64_t *tracked;
    float *dgamma, *dbeta;
    double eps;
    bool frozen; /* TERM_BN: running statistics, always */
    /* this step */
    double *mu, *sigma;  /* [C] of u in real units: mean and sqrt(var + eps) */
    float *a;            /* [C] z = sum a u + c */
    float *pivot;        /* [C] near the mean of the numbers u; TERM_SCALE: 0 */
    float *da, *db, *dc; /* [C] du = da dz + db (u - pivot) + dc */
} eltwise_term;

typedef struct eltwise_unit {
    eltwise_term terms[RQ_MAX_TERMS];
    int n_terms;
    tr_act act;
    float *c;                           /* [C] */
    float *one;                         /* [C] of ones: acc = 1 * u */
    float *rule_bias, *rule_multiplier; /* [C] output rule */
    bool by_rule;                       /* this step computes z by the output rule */
    const float *extremes; /* [2, C] smallest and largest u of this step; NULL: not known */
    size_t pixels, channels;
} eltwise_unit;

/* x [N, H, W, C] times a gate [N, 1, 1, C]. */
typedef struct product_unit {
    tr_act act;
    float *a;                           /* [N, C] z = a u in real units, by image */
    float *zero;                        /* [C] of zeros */
    float *rule_bias, *rule_multiplier; /* [C] output rule, acc = gate * u */
    bool by_rule;
    size_t images, pixels, channels; /* pixels of one image */
} product_unit;

/* From the trainer's graph to its values and units (build.c), then a buffer for every gradient
 * (gradient_plan.c). */
RQ_NODISCARD rq_status tr_build_units(rq_trainer *trainer, rq_error *err);
RQ_NODISCARD rq_status tr_plan_gradients(rq_trainer *trainer, rq_error *err);

/* Memory for gradients; when units are complete, when each part of it is; and in backward, behind
 * this unit: begin to sum over the ranks what is complete by then. */
RQ_NODISCARD rq_status tr_gradients_allocate(rq_trainer *trainer, rq_error *err);
void tr_gradients_plan_sums(rq_trainer *trainer);
void tr_gradients_sum(rq_trainer *trainer, int unit);

/* Fill a unit whose src, dst and node are set: its buffers and functions. */
RQ_NODISCARD rq_status tr_conv_create(rq_trainer *trainer, tr_unit *unit, int node, rq_error *err);
RQ_NODISCARD rq_status tr_eltwise_create(rq_trainer *trainer, tr_unit *unit, rq_error *err);
RQ_NODISCARD rq_status tr_product_create(rq_trainer *trainer, tr_unit *unit, rq_error *err);
void tr_sigmoid_init(tr_unit *unit, bool quantize); /* quantize: its value is a gate */
void tr_pool_init(tr_unit *unit);
void tr_avg_pool_init(tr_unit *unit);
void tr_max_pool_init(tr_unit *unit);

/* The gradients that all readers left, added up in the first's buffer, which is returned. */
float *tr_summed_gradient(const tr_value *value);

/* The unit that writes the value; NULL for the image, or while that unit is not made yet. */
const tr_unit *tr_producer(const rq_trainer *trainer, const tr_value *value);

/* Does the unit's own pass write its value as bf16 and u8, where asked? The others write f32. */
bool tr_writes_all_types(const tr_unit *unit);

/* n elements of f32 as bf16, by all threads. */
void tr_round(uint16_t *dst, const float *src, size_t n);

/* ---- what ends a chain (act.c) ---- */

/* Take the range of fake_quant at node. */
void tr_act_quantize(tr_act *act, const rq_graph *graph, int node);

/* Let the range follow what was seen, lo to hi: m <- m + 0.01 (seen - m), the first batch copied.
 */
void tr_act_observe(const tr_act *act, float lo, float hi);

/* Scale and zero point of the value that act ends in: the range's. */
void tr_act_settle(const tr_act *act, tr_value *value);

/* Errors: RQ_ERR_RANGE when the range has not been observed yet. */
RQ_NODISCARD rq_status tr_act_check(const tr_act *act, rq_error *err);

/* y = act(z) for a range of the value's numbers that begins at element `first`: as f32, as u8, or
 * both, as the value has memory for. */
void tr_act_apply(const eltwise_args *args, const tr_value *value, size_t first);

/* dz is so many times the gradient that act lets pass: 1, or 1 / scale of a quantized value, whose
 * gradients are with respect to its numbers. */
float tr_act_factor(const tr_act *act, const tr_value *value);

/* The gradients of a value from element `first` on. */
eltwise_gradients tr_gradients_from(const tr_value *value, size_t first);

void tr_act_args(const tr_act *act, const tr_value *value, eltwise_args *args);

/* Pixels to the numbers of the input value: normalised, and mixed where mix is not NULL; or p - z
 * where a quantized layer reads them. */
void tr_input_init(rq_trainer *trainer, bool quantized);
void tr_input_forward(const rq_trainer *trainer, const uint8_t *pixels, const rq_mix *mix,
                      tr_value *value);

/* Run units first, first + 1, … forward, or the last … first backward (the output's first gradient
 * buffer is then filled). What a step is made of; tests start in the middle. */
RQ_NODISCARD rq_status tr_run_forward(rq_trainer *trainer, int first, rq_error *err);
RQ_NODISCARD rq_status tr_run_backward(rq_trainer *trainer, int first, rq_error *err);

/* Softmax cross-entropy with label smoothing over logits [n, classes]: dlogits = gradient of the
 * mean over counted rows. mix [n]: labels are mixed with those of the partners, which must be
 * counted ones; NULL: they are not. row_loss and row_rank [n]: loss of each row, and how many
 * classes score above the true (own) one. */
RQ_NODISCARD rq_status tr_loss(const float *logits, const int32_t *labels, const rq_mix *mix,
                               size_t n, size_t classes, double smoothing, float *dlogits,
                               double *row_loss, int *row_rank, rq_step_result *result,
                               rq_error *err);

#endif
