/* RepOptimizer: training a plain network (block=target) exactly as its multi-branch sibling
 * (block=csla, constant scales, one batch norm after the sum) would train, by multiplying
 * gradients (gradient re-parameterization; Ding et al., arXiv 2205.15242, section 3).
 *
 * With s, t the scales of the 3x3 and 1x1 branch, per output channel c, and r those of the identity
 * branch, which exists where channels and stride stay the same:
 *
 *   start       W' = s K3 + centre(t K1) + centre-diagonal(r), K3 and K1 fresh weights (equation 3)
 *   multiplier  SGD:   s^2 everywhere, + t^2 in the centre, + 1 on its diagonal (equation 4)
 *               AdamW: s, + t, + 1 (adamw.h counts them twice); equivalent where no scale is
 *               negative and eps is negligible
 *
 * The diagonal's 1 is for an identity branch whose scale is trained itself. In grouped
 * convolutions the diagonal is that of each group, input channel c mod (OC / G). */
#ifndef RQ_QAT_UPDATE_REPOPT_H
#define RQ_QAT_UPDATE_REPOPT_H

#include "qat/update/optimizer.h"

/* Scales of one output channel; r counts where there is an identity branch. */
typedef struct rq_repopt_scales {
    double s, t, r;
    bool identity;
} rq_repopt_scales;

/* The multiplier in the 1x1 convolution's place (centre) or not, and in the identity's (diagonal,
 * which counts in the centre only). */
double rq_repopt_multiplier(const rq_repopt_scales *scales, rq_optimizer_kind kind, bool centre,
                            bool diagonal);

typedef struct rq_repopt_options {
    const char *scales; /* file of the searched scales: a model of hyper_search, or a checkpoint of
                           PyTorch (checkpoint.h) with RepOptimizer's names */
    rq_optimizer_kind kind; /* that the multipliers are for */
    bool keep_weights;      /* do not start anew: the model's weights are trained already */
} rq_repopt_options;

typedef struct rq_repopt rq_repopt;

/* Read the scales, give the model's 3x3 convolutions their start (fresh weights from model->seed,
 * those of a csla network of the same seed), and make the multipliers. The file must have exactly
 * the network's scales. Errors: RQ_ERR_USAGE (the model is no target network), RQ_ERR_MODEL (scales
 * that are missing, of another length, not finite, or of layers that the network does not have;
 * starts with the path), those of checkpoints, RQ_ERR_NOMEM. The model's weights are then
 * undefined. */
RQ_NODISCARD rq_status rq_repopt_create(rq_repopt **out, rq_model *model,
                                        const rq_repopt_options *options, rq_error *err);
void rq_repopt_destroy(rq_repopt *repopt); /* NULL is fine */

/* For rq_optimizer_options: [n_params], NULL for all but the weights of 3x3 convolutions. */
const float *const *rq_repopt_multipliers(const rq_repopt *repopt);

#endif
