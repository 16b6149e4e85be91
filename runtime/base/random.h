/* Seeded random numbers that are the same on every machine and at any number of threads.
 *
 * splitmix64 (Steele, Lea, Flood 2014): a 64-bit counter through a mixing function. Streams are
 * independent because their seeds are hashed: rq_random_stream(seed, epoch, sample) gives each
 * sample of each epoch a stream of its own, whichever thread draws from it. */
#ifndef RQ_RUNTIME_BASE_RANDOM_H
#define RQ_RUNTIME_BASE_RANDOM_H

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rq_random {
    uint64_t state;
} rq_random;

static inline uint64_t rq_random_u64(rq_random *random)
{
    uint64_t z = (random->state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* The stream of (seed, a, b). */
static inline rq_random rq_random_stream(uint64_t seed, uint64_t a, uint64_t b)
{
    rq_random random = {seed};
    random.state = rq_random_u64(&random) ^ (a * 0xd1342543de82ef95ULL);
    random.state = rq_random_u64(&random) ^ (b * 0xaf251af3b0f025b5ULL);
    random.state = rq_random_u64(&random);
    return random;
}

/* Uniform in [0, 1), 53 bits. */
static inline double rq_random_unit(rq_random *random)
{
    return (double)(rq_random_u64(random) >> 11) * 0x1p-53;
}

/* Uniform integer in [0, n), without modulo bias. */
static inline uint64_t rq_random_below(rq_random *random, uint64_t n)
{
    assert(n > 0);
    const uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    uint64_t x;
    do
        x = rq_random_u64(random);
    while (x >= limit);
    return x % n;
}

/* Standard normal (Box-Muller, one value per call). */
static inline double rq_random_normal(rq_random *random)
{
    const double u = 1.0 - rq_random_unit(random);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * rq_random_unit(random));
}

/* The logarithm of a gamma variate of scale 1: small shapes give values that a double would not
 * hold. Source: Marsaglia and Tsang 2000, with their G(a) = G(a + 1) U^(1/a) for shapes below 1. */
static inline double rq_random_log_gamma(rq_random *random, double shape)
{
    assert(shape > 0.0);
    const double boost = shape < 1.0 ? log(1.0 - rq_random_unit(random)) / shape : 0.0;
    const double d = (shape < 1.0 ? shape + 1.0 : shape) - 1.0 / 3.0;
    const double c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        const double x = rq_random_normal(random);
        const double root = 1.0 + c * x;
        if (root <= 0.0)
            continue;
        const double log_v = 3.0 * log(root);
        const double u = 1.0 - rq_random_unit(random);
        if (log(u) < 0.5 * x * x + d - d * root * root * root + d * log_v)
            return log(d) + log_v + boost;
    }
}

/* Beta(a, b) in [0, 1]. */
static inline double rq_random_beta(rq_random *random, double a, double b)
{
    const double x = rq_random_log_gamma(random, a);
    const double y = rq_random_log_gamma(random, b);
    return 1.0 / (1.0 + exp(y - x));
}

/* Fisher-Yates shuffle of n indices. */
static inline void rq_random_shuffle(rq_random *random, uint32_t *index, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        const size_t j = (size_t)rq_random_below(random, i);
        const uint32_t swapped = index[i - 1];
        index[i - 1] = index[j];
        index[j] = swapped;
    }
}

#endif
