/* Learning rates, one per iteration. */
#ifndef RQ_QAT_SCHEDULE_H
#define RQ_QAT_SCHEDULE_H

#include <stdint.h>

/* Linear warm-up, then cosine to 0 (RepVGG's WarmupCosine): with w warm-up steps of T,
 *   t < w:  lr * t / w
 *   else:   lr / 2 * (1 + cos(pi * (t - w) / (T - w)))
 * The first step has lr 0 when there is a warm-up. */
typedef struct rq_schedule {
    double lr;
    int64_t warmup_steps, total_steps;
} rq_schedule;

double rq_schedule_lr(const rq_schedule *schedule, int64_t step);

#endif
