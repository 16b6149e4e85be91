/* Mixup (Zhang et al. 2017, arXiv 1710.09412) in the batch mode of timm's Mixup, probability 1: all
 * images of a batch are mixed in the same proportion, image i with image n - 1 - i,
 *
 *   lambda  ~ Beta(alpha, alpha)
 *   x'_i    = lambda x_i + (1 - lambda) x_p         of normalised images, p = n - 1 - i
 *   t'_i    = lambda t(y_i) + (1 - lambda) t(y_p)   soft targets [classes]
 *   t(y)[c] = (1 - s) [c = y] + s / classes         s: label smoothing
 *   loss_i  = -sum_c t'_i[c] log softmax(z_i)[c]
 *           = lambda l(z_i, y_i) + (1 - lambda) l(z_i, y_p),   l: cross-entropy smoothed by s
 *
 * The weights of a mix sum to 1, so normalising before or after it is the same. What is drawn here
 * describes a batch's mix; whoever normalises the pixels mixes them, before they are rounded to
 * anything again. */
#ifndef RQ_RUNTIME_IMAGE_MIXUP_H
#define RQ_RUNTIME_IMAGE_MIXUP_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/random.h"

/* What becomes of one image. */
typedef struct rq_mix {
    float lambda;     /* its own weight, 0…1 */
    uint32_t partner; /* position in the batch of the other image, whose weight is 1 - lambda */
} rq_mix;

/* Draw lambda once and fill out [n]. An image without label (negative: a skipped one), and an image
 * whose partner has none, stays as it is: lambda = 1, its own partner. */
void rq_mixup_draw(rq_random *random, double alpha, const int32_t *labels, size_t n, rq_mix *out);

#endif
