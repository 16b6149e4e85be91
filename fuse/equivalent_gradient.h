/* The equivalent convolution as a differentiable function of the branches' parameters: given the
 * gradient of a loss with respect to K and b, the gradients with respect to the weights and biases
 * of convolutions, gamma and beta of batch norms, and weights of scales. Running means and
 * variances count as constants.
 *
 * What quantization-aware training of a training-form block and penalties on its merged weights
 * need: evaluate (equivalent.h), use K and b, pull their gradient back.
 *
 * The reverse of the recursion in equivalent.h, operator by operator; with y the operator's
 * equivalent and u that of its input:
 *   batch_norm, scale     dt_c = <dK_y,c, K_u,c> + db_y,c b_u,c, do_c = db_y,c;
 *                         dK_u = t dK_y, db_u = t db_y;
 *                         batch_norm: dgamma = (dt - mean do) / sqrt(var + eps), dbeta = do
 *   add                   each branch takes what dK holds at its taps
 *   conv, avg_pool        the product of dK_y with K_u (dweight), and with the weights (dK_u)
 * Values K_u are found again on the way, so nothing is kept between the calls. */
#ifndef RQ_FUSE_EQUIVALENT_GRADIENT_H
#define RQ_FUSE_EQUIVALENT_GRADIENT_H

#include "fuse/linear_part.h"

/* How many numbers of workspace rq_equivalent_backward takes. One workspace serves any number of
 * parts, one after another; for a RepVGG block it is about twice its merged weights in float64. */
size_t rq_equivalent_backward_workspace(const rq_linear_part *part);

/* Pull dweight [OC, IC/G, KH, KW] and dbias [OC], gradients with respect to what
 * rq_equivalent_evaluate gives for the parameters as they are now, back to the parameters:
 * gradients[i], of the size of parameter i of the graph, grows by that parameter's gradient; NULL
 * where it is not wanted (running statistics, and parameters of other parts, are not touched).
 * Computed in float64, rounded once for each way through the part. Allocates nothing. */
void rq_equivalent_backward(const rq_linear_part *part, double *workspace, const float *dweight,
                            const float *dbias, float *const *gradients);

#endif
