/* Re-parameterisation: every linear part of a graph becomes one convolution. */
#ifndef RQ_FUSE_FOLD_H
#define RQ_FUSE_FOLD_H

#include "runtime/model/model.h"

/* The deploy form of a model in form train (branches are merged), withbn (batch norms are folded)
 * or deploy (a copy). What is merged is a linear part (linear_part.h) that ends in a sum, a batch
 * norm or a scale; it begins at the nearest value through which all its ways lead, so layers that
 * follow one another stay layers. The merged node takes the place of the part's last; it is called
 * after its block, "stage1.0.rbr_reparam", with weight [OC, IC/G, KH, KW] and bias [OC], computed
 * in float64 (equivalent.h) and rounded once. A convolution or average pool on its own stays as
 * it is, and so does all that is not linear; auxiliary outputs are left out. in's parameters are
 * released once they are read (rq_graph_release). *out is initialised by the call and owned by the
 * caller; it does not refer to in.
 * Errors: RQ_ERR_MODEL with the node's name (form qat or int8; a sum that is not of one value's
 * linear branches, or of branches that do not fit; parts beyond the limits of linear_part.h;
 * weights that are not finite as f32), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_fuse(rq_model *out, const rq_model *in, rq_error *err);

#endif
