/* Re-parameterisation: every linear part of a graph becomes one convolution. */
#ifndef RQ_FUSE_FOLD_H
#define RQ_FUSE_FOLD_H

#include "runtime/model/model.h"

/* The deploy form of a model in form train (branches are merged), withbn (batch norms are folded)
 * or deploy (a copy). A merged node takes the place of the sum or batch norm that ends the part; it
 * is called after its block, "stage1.0.rbr_reparam", with weight [OC, IC/G, KH, KW] and bias [OC],
 * computed in float64 (equivalent.h) and rounded once. A convolution that stands alone stays as it
 * is. *out is initialised by the call and owned by the caller.
 * Errors: RQ_ERR_MODEL with the node's name (form qat or int8; a sum that is not of one value's
 * linear branches; weights that are not finite as f32), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_fuse(rq_model *out, const rq_model *in, rq_error *err);

#endif
