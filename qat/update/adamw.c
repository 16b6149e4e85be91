/* Constants in double, rounded once; then one flat loop. */
#include "qat/update/adamw.h"

#include <assert.h>
#include <math.h>

#include "runtime/base/simd.h"

typedef struct constants {
    float beta1, beta2, one_beta1, one_beta2; /* one_x: 1 - x */
    float keep;                               /* 1 - lr * decay */
    float size;                               /* lr / (1 - beta1^k) */
    float root;                               /* sqrt(1 - beta2^k) */
    float eps, clip;
} constants;

RQ_SIMD static void update(float *restrict p, const float *restrict gradient, float *restrict m,
                           float *restrict v, size_t n, constants c)
{
    for (size_t i = 0; i < n; i++) {
        const float g = c.clip * gradient[i];
        m[i] = c.beta1 * m[i] + c.one_beta1 * g;
        v[i] = c.beta2 * v[i] + c.one_beta2 * g * g;
        p[i] = c.keep * p[i] - c.size * (m[i] / (sqrtf(v[i]) / c.root + c.eps));
    }
}

RQ_SIMD static void update_multiplied(float *restrict p, const float *restrict gradient,
                                      const float *restrict multiplier, float *restrict m,
                                      float *restrict v, size_t n, constants c)
{
    for (size_t i = 0; i < n; i++) {
        const float g = multiplier[i] * gradient[i];
        m[i] = c.beta1 * m[i] + c.one_beta1 * g;
        v[i] = c.beta2 * v[i] + c.one_beta2 * g * g;
        p[i] = c.keep * p[i] - c.size * (multiplier[i] * m[i] / (sqrtf(v[i]) / c.root + c.eps));
    }
}

void rq_adamw_update(const rq_update *u, const rq_adamw_options *options)
{
    assert(u->step >= 1 && (!u->multiplier || u->clip == 1.0));
    const double k = (double)u->step;
    const constants c = {
        .beta1 = (float)options->beta1,
        .beta2 = (float)options->beta2,
        .one_beta1 = (float)(1.0 - options->beta1),
        .one_beta2 = (float)(1.0 - options->beta2),
        .keep = (float)(1.0 - u->lr * u->decay),
        .size = (float)(u->lr / (1.0 - pow(options->beta1, k))),
        .root = (float)sqrt(1.0 - pow(options->beta2, k)),
        .eps = (float)options->eps,
        .clip = (float)u->clip,
    };
    if (u->multiplier)
        update_multiplied(u->p, u->gradient, u->multiplier, u->state[0], u->state[1], u->n, c);
    else
        update(u->p, u->gradient, u->state[0], u->state[1], u->n, c);
}
