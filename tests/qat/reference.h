/* Forward and loss of a graph in double, by plain loops over nodes: what the trainer's gradients
 * are held against by finite differences. Shares nothing with the trainer.
 *
 * Quantization is a staircase, whose slope training replaces (straight-through estimation). The
 * reference therefore computes the function that training differentiates: at the parameters of the
 * step each quantizer Q gives what the trainer's gave, and around them
 *
 *     Q(x) = Q(x0) + [x0 is not clamped] * (x - x0)
 *
 * with the scales held. reference_anchor takes x0 from the reference itself and Q(x0) from the
 * trainer, and checks that it is the nearest step. */
#ifndef RQ_TESTS_QAT_REFERENCE_H
#define RQ_TESTS_QAT_REFERENCE_H

#include "qat/step/trainer.h"
#include "tests/qat/net.h"

/* A quantizer over n numbers. */
typedef struct staircase {
    double *x0, *y0;
    bool *passes;
} staircase;

typedef struct reference {
    const rq_model *model;
    rq_shape shapes[NET_NODES];
    double *values[NET_NODES]; /* real, [N, H, W, C]; levels p - z where a quantized layer reads */
    double **params;           /* copies, by parameter; NULL: not f32 */
    bool frozen, image_is_levels;
    const bool *frozen_nodes; /* batch norms that are frozen besides; NULL: none */
    bool hold_factor; /* leave out gamma's way through the folding factor, to see it missed */
    double smoothing;
    const net_batch *batch;
    rq_trainer *anchor; /* set while anchors are taken */
    staircase weights[NET_NODES], activations[NET_NODES];
    double *offsets[NET_NODES]; /* [C] what rounding the bias to an integer adds */
    double *factors[NET_NODES]; /* [C] t = gamma / sigma at the anchors */
    bool *zeros[NET_NODES];     /* relu: of what was exactly 0 at the anchors */
    uint64_t signs;             /* hash of which values relu let through */
} reference;

/* Copies the parameters: to be called before the step, which moves running statistics. */
void reference_init(reference *r, const rq_model *model, const net_batch *batch, bool frozen,
                    double smoothing);
void reference_deinit(reference *r);

/* Mean over the counted rows of -sum target * log softmax, target = (1 - smoothing) at the label +
 * smoothing / classes everywhere. */
double reference_loss(const double *logits, const int32_t *labels, int n, int classes,
                      double smoothing);

/* The last node's loss and a tenth of every other output's. */
double reference_forward(reference *r);

/* Once, after the trainer's step: take anchors, and return the loss there. */
double reference_anchor(reference *r, rq_trainer *trainer);

/* Derivative of the loss by element i of a parameter, as a central difference of step H: its error
 * is some H^2 = 1e-12 of curvature and 1e-16 / H = 1e-10 of rounding. False when a relu switches in
 * between: the loss has a kink there. */
bool reference_slope(reference *r, int param, size_t i, double *slope);

#endif
