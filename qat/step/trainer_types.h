/* The types that those who use a trainer share with its parts. */
#ifndef RQ_QAT_STEP_TRAINER_TYPES_H
#define RQ_QAT_STEP_TRAINER_TYPES_H

#include <stdbool.h>

#include "runtime/dnn/dnn.h"

typedef struct rq_trainer rq_trainer;

typedef struct rq_trainer_options {
    int batch;         /* of this process */
    int height, width; /* of the images; 0 = the model's crop */
    double label_smoothing;
    rq_precision precision; /* of the convolutions' operands, where that is faster (train_conv.h) */
    /* [n_nodes] batch_norm nodes that use their running statistics from the first step on and leave
     * them as they are; NULL: none. Read at creation only. */
    const bool *frozen_nodes;
} rq_trainer_options;

/* Of the whole batch. */
typedef struct rq_step_result {
    double loss;    /* mean over counted images, label smoothing included, plus 0.1 times that of
                       each auxiliary output */
    int n_counted;  /* images whose label is not RQ_LABEL_IGNORE */
    int top1, top5; /* of those, in training mode */
} rq_step_result;

/* Where the time of all steps so far went, by kind of work, in seconds. */
typedef struct rq_trainer_profile {
    double forward_conv, forward_pass, backward_conv, backward_pass, weights, loss;
} rq_trainer_profile;

#endif
