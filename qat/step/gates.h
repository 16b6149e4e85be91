/* The units of squeeze-and-excitation, of which the classifier needs the first too: the mean over an
 * image, the sigmoid that makes a gate per image and channel, and the product of a value with it. */
#ifndef RQ_QAT_STEP_GATES_H
#define RQ_QAT_STEP_GATES_H

#include "qat/step/act.h"

/* y = act(x * gate), x [N, H, W, C], gate [N, 1, 1, C]. */
typedef struct tr_product {
    tr_act act;
    float *a;                           /* [N, C] z = a u in real units, by image */
    float *zero;                        /* [C] of zeros */
    float *rule_bias, *rule_multiplier; /* [C] output rule, acc = gate * u */
    bool by_rule;
    size_t images, pixels, channels; /* pixels of one image */
} tr_product;

/* Complete a unit whose src (x, gate), dst and act are set. */
RQ_NODISCARD rq_status tr_product_create(rq_trainer *trainer, tr_unit *unit, rq_error *err);

/* Complete a unit of global_avg_pool whose src and dst are set. */
void tr_pool_init(tr_unit *unit);

/* The same for a sigmoid; quantize: its value is a gate by the integer contract (model/gate.h). */
void tr_sigmoid_init(tr_unit *unit, bool quantize);

#endif
