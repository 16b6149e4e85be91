/* Batch norms after the convolutions of a merged network, so that it can be fine-tuned: the pass
 * from form deploy to form withbn. With fixed statistics the function stays what it was.
 *
 * A convolution P with weight W and bias b becomes
 *   P.conv  W, without bias
 *   P.bn    running_mean M, running_var V, weight sqrt(V + eps), bias b + M, num_batches_tracked 0,
 *           eps 1e-5
 * where M and V are mean and biased variance of the convolution's output before the bias. Computed
 * in double from M and V as stored (f32), rounded once. The names are those of the original
 * (RepVGG, insert_bn.py). */
#ifndef RQ_CALIB_INSERT_BN_H
#define RQ_CALIB_INSERT_BN_H

#include "calib/channel_stats.h"
#include "runtime/model/model.h"

#define RQ_BN_EPS 1e-5f

/* Does a batch norm belong after this node: a block's convolution? It has a bias, and its only
 * readers are a relu, or the pooling and the product of squeeze-and-excitation, whose own
 * convolutions take none (the original leaves them outside rbr_reparam). */
bool rq_takes_bn(const rq_graph *graph, int node);

/* stats: [n_nodes], the statistics of each node's value (bias included); n_channels 0 leaves the
 * node as it is. *out is initialised by the call and owned by the caller. Errors: RQ_ERR_MODEL
 * (form not deploy; statistics for a node that takes no batch norm, or of another number of
 * channels), RQ_ERR_RANGE (statistics that are empty or not finite, with layer and channel),
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_insert_bn(rq_model *out, const rq_model *deploy,
                                    const rq_channel_stats *stats, rq_error *err);

#endif
