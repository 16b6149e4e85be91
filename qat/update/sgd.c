/* One flat loop; a second one where there is a multiplier. */
#include "qat/update/sgd.h"

#include <assert.h>

#include "runtime/base/simd.h"

RQ_SIMD static void update(float *restrict p, const float *restrict gradient,
                           float *restrict velocity, size_t n, float lr, float clip, float momentum,
                           float decay, bool nesterov)
{
    for (size_t i = 0; i < n; i++) {
        const float d = clip * gradient[i] + decay * p[i];
        const float v = momentum * velocity[i] + d;
        velocity[i] = v;
        p[i] -= lr * (nesterov ? d + momentum * v : v);
    }
}

RQ_SIMD static void update_multiplied(float *restrict p, const float *restrict gradient,
                                      const float *restrict multiplier, float *restrict velocity,
                                      size_t n, float lr, float momentum, float decay,
                                      bool nesterov)
{
    for (size_t i = 0; i < n; i++) {
        const float d = multiplier[i] * gradient[i] + decay * p[i];
        const float v = momentum * velocity[i] + d;
        velocity[i] = v;
        p[i] -= lr * (nesterov ? d + momentum * v : v);
    }
}

void rq_sgd_update(const rq_update *u, const rq_sgd_options *options)
{
    assert(!u->multiplier || u->clip == 1.0);
    const float lr = (float)u->lr, decay = (float)u->decay, momentum = (float)options->momentum;
    if (u->multiplier)
        update_multiplied(u->p, u->gradient, u->multiplier, u->state[0], u->n, lr, momentum, decay,
                          options->nesterov);
    else
        update(u->p, u->gradient, u->state[0], u->n, lr, (float)u->clip, momentum, decay,
               options->nesterov);
}
