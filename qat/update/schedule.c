/* Warm-up and cosine. */
#include "qat/update/schedule.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

const char *const rq_schedule_names[] = {"cosine", "timm", NULL};

/* done: share of the cosine's way, 1 or more at its end. */
static double cosine(const rq_schedule *schedule, double done)
{
    if (done >= 1.0)
        return schedule->min_lr;
    return schedule->min_lr +
           (schedule->lr - schedule->min_lr) * 0.5 * (1.0 + cos(3.141592653589793 * done));
}

double rq_schedule_lr(const rq_schedule *schedule, int64_t step)
{
    const bool timm = schedule->kind == RQ_SCHEDULE_TIMM;
    const int64_t t = timm && step > 0 ? step - 1 : step, w = schedule->warmup_steps;
    if (t < w)
        return schedule->lr * (double)t / (double)w;
    const int64_t start = timm ? 0 : w, rest = schedule->total_steps - start;
    return cosine(schedule, rest > 0 ? (double)(t - start) / (double)rest : 1.0);
}
