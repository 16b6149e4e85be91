/* One draw for the batch, then each image and its mirror position. */
#include "runtime/image/mixup.h"

#include <assert.h>

void rq_mixup_draw(rq_random *random, double alpha, const int32_t *labels, size_t n, rq_mix *out)
{
    assert(alpha > 0.0);
    const float lambda = (float)rq_random_beta(random, alpha, alpha);
    for (size_t i = 0; i < n; i++) {
        const size_t partner = n - 1 - i;
        if (labels[i] < 0 || labels[partner] < 0)
            out[i] = (rq_mix){.lambda = 1.0f, .partner = (uint32_t)i};
        else
            out[i] = (rq_mix){.lambda = lambda, .partner = (uint32_t)partner};
    }
}
