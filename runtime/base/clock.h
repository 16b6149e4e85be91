/* Monotonic wall time in seconds. */
#ifndef RQ_RUNTIME_BASE_CLOCK_H
#define RQ_RUNTIME_BASE_CLOCK_H

#include <time.h>

static inline double rq_clock(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
