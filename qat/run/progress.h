/* How far a training run is. */
#ifndef RQ_QAT_RUN_PROGRESS_H
#define RQ_QAT_RUN_PROGRESS_H

#include <stdint.h>

/* Sums over the steps of one epoch. */
typedef struct rq_meters {
    double loss;                 /* sum over counted images */
    int64_t counted, top1, top5; /* images */
} rq_meters;

typedef struct rq_progress {
    int64_t epoch;       /* epochs finished */
    int64_t step;        /* steps done of the epoch under way; all of them while it waits
                            for its validation */
    int64_t total_steps; /* planned for the whole run; 0: not yet */
    double best_top1, best_ema_top1; /* percent on validation; -1 before the first */
    double last_top1, last_top5;     /* of the last validation */
    double seconds;                  /* of a time budget that are used up */
    rq_meters meters;                /* of the epoch under way */
} rq_progress;

#define RQ_PROGRESS_INIT                                                                           \
    {                                                                                              \
        .best_top1 = -1.0, .best_ema_top1 = -1.0, .last_top1 = -1.0, .last_top5 = -1.0             \
    }

#endif
