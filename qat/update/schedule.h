/* Learning rates, one per iteration: linear warm-up and cosine (Loshchilov and Hutter, arXiv
 * 1608.03983, equation 5, without restarts). */
#ifndef RQ_QAT_UPDATE_SCHEDULE_H
#define RQ_QAT_UPDATE_SCHEDULE_H

#include <stdint.h>

/* Two ways to count. With w warm-up steps of T, and
 * c(x) = min_lr + (lr - min_lr) / 2 * (1 + cos(pi * x)):
 *
 *   cosine  RepVGG's WarmupCosine, and with w = 0 its first training script:
 *             t < w: lr * t / w      else: c((t - w) / (T - w))
 *           The first update has rate 0 when there is a warm-up.
 *   timm    RepVGG's later script over timm's CosineLRScheduler: the cosine counts from the start
 *           of training (warmup_prefix off), so the rate drops where the warm-up ends:
 *             t < w: lr * t / w      else: c(t / T)
 *           and the scheduler moves after the update: update k has the rate of t = k - 1, the first
 *           two that of t = 0.
 *
 * From T on the rate is min_lr. */
typedef enum rq_schedule_kind { RQ_SCHEDULE_COSINE, RQ_SCHEDULE_TIMM } rq_schedule_kind;
extern const char *const rq_schedule_names[]; /* cosine timm, NULL at the end */

typedef struct rq_schedule {
    rq_schedule_kind kind;
    double lr, min_lr;
    int64_t warmup_steps, total_steps;
} rq_schedule;

/* The rate of an update, 0 for the first. */
double rq_schedule_lr(const rq_schedule *schedule, int64_t step);

#endif
