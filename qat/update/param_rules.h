/* Which parameters are trained, which decay, and at what share of the learning rate, by rank and
 * name:
 *
 *   weight decay   tensors of two or more dimensions, and with decay_identity those named
 *                  "…identity.weight" (a batch norm's), as RepVGG's training script has it; not
 *                  those of custom_l2, whose decay is part of the loss
 *   lr_scale       bias_lr for names that end in "bias" (the QAT script: 2), else 1; times the
 *                  factor of the longest matching prefix of lr_scales
 *   trained        not below a prefix of freeze
 *
 * A prefix is a node's or module's name: "stage1" is that of stage1.0.rbr_dense.conv.weight, not of
 * stage10.weight. */
#ifndef RQ_QAT_UPDATE_PARAM_RULES_H
#define RQ_QAT_UPDATE_PARAM_RULES_H

#include "runtime/model/graph.h"

typedef struct rq_rule_options {
    bool decay_identity;
    const bool *custom_l2; /* [n_params] weights that custom_l2.h decays, or NULL */
    double bias_lr;
    const char *freeze;    /* "stage0,stage1", or NULL */
    const char *lr_scales; /* "stage0=0.1,linear=10", or NULL */
} rq_rule_options;

typedef struct rq_param_rule {
    bool trained, decays;
    double lr_scale;
} rq_param_rule;

enum { RQ_MAX_LR_SCALE = 1000000 };

/* rules: [n_params]. Errors: RQ_ERR_USAGE (a list that cannot be read; a prefix that no parameter
 * has), in terms of the options --freeze and --lr-scale. */
RQ_NODISCARD rq_status rq_param_rules(rq_param_rule *rules, const rq_graph *graph,
                                      const rq_rule_options *options, rq_error *err);

/* The batch norms that are frozen with their parameters (trainer.h). frozen: [n_nodes]. Errors: as
 * above. */
RQ_NODISCARD rq_status rq_frozen_nodes(bool *frozen, const rq_graph *graph, const char *freeze,
                                       rq_error *err);

#endif
