/* Warm-up and cosine. */
#include "qat/schedule.h"

#include <math.h>

double rq_schedule_lr(const rq_schedule *schedule, int64_t step)
{
    const int64_t w = schedule->warmup_steps;
    if (step < w)
        return schedule->lr * (double)step / (double)w;
    const int64_t rest = schedule->total_steps - w;
    const double done = rest > 0 ? (double)(step - w) / (double)rest : 1.0;
    return schedule->lr * 0.5 * (1.0 + cos(3.141592653589793 * (done < 1.0 ? done : 1.0)));
}
