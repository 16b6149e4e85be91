/* Architectures: functions that build graphs in training form.
 *
 * A name ("RepVGG-A0" … "RepVGG-B3g4", see the table in arch.c) or a description, one entry per
 * stage, stage0 first:
 *     repvgg:depth=1,2,4,14,1;width=48,48,96,192,1280;stride=2,2,2,2,2;groups=1;classes=1000
 * depth[0] must be 1. groups=G makes the layers 2, 4, 6, … (counted over the whole network from 0)
 * use G groups, as the g2 and g4 models do. stride applies to the first block of a stage. stride
 * defaults to 2 everywhere, groups to 1, classes to 1000. 1 to 8 stages.
 *
 * Sources: RepVGG (arXiv 2101.03697) tables 2 to 5 and repvgg.py. */
#ifndef RQ_RUNTIME_MODEL_ARCH_H
#define RQ_RUNTIME_MODEL_ARCH_H

#include <stdio.h>

#include "runtime/model/model.h"

enum { RQ_MAX_STAGES = 8, RQ_MAX_DEPTH = 256 };

typedef struct rq_arch {
    int n_stages;
    int depth[RQ_MAX_STAGES], width[RQ_MAX_STAGES], stride[RQ_MAX_STAGES];
    int groups;
    int classes;
} rq_arch;

/* Parse a name or description. Errors: RQ_ERR_USAGE naming the part that is wrong; an unknown name
 * lists the known. */
RQ_NODISCARD rq_status rq_arch_parse(rq_arch *out, const char *text, rq_error *err);

/* The description of arch, in the form above, into text. */
void rq_arch_describe(const rq_arch *arch, char *text, size_t size_bytes);

/* Build the training form (three branches per block): parameters zeroed but BN weight, variance 1.
 *
 * text becomes model->arch. n_classes_override: 0 = as text says. Errors: RQ_ERR_USAGE,
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_arch_build(rq_model *out, const char *text, int n_classes_override,
                                     rq_error *err);

/* PyTorch's default initialisation, from seed: conv and linear weights (and the linear bias)
 * uniform in ±1/sqrt(fan_in), BN 1 and 0, mean 0, var 1. A parameter's values depend on seed and
 * its name only. Sets model->seed. */
void rq_model_init_weights(rq_model *model, uint64_t seed);

/* One known name per line. */
void rq_arch_list(FILE *out);

#endif
