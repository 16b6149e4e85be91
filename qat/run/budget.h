/* A limit on a run's wall time: how many steps fit into it. */
#ifndef RQ_QAT_RUN_BUDGET_H
#define RQ_QAT_RUN_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known about a run's speed and place. */
typedef struct rq_pace {
    double seconds_left;        /* of the budget */
    double step_seconds;        /* of one step, loading included */
    double overhead_seconds;    /* of an epoch besides its steps: validation, saving */
    int64_t steps_per_epoch;    /* > 0 */
    int64_t epochs, max_epochs; /* finished; at most */
} rq_pace;

/* Steps of the whole run (those of finished epochs included) that fit: whole epochs, and where not
 * even the first one fits, as many steps of it as leave time for its end; at least one. 3 % of the
 * time are kept back. */
int64_t rq_budget_plan(const rq_pace *pace);

/* "2h", "90m", "45s", "1h30m", "1d", or seconds as a plain number; more than 0, at most 10 years.
 * False: none of these, and *seconds untouched. */
bool rq_parse_duration(const char *text, double *seconds);

/* The same way back, rounded: "2h03m", "4m10s", "59s". */
void rq_print_duration(double seconds, char *text, size_t size_bytes);

#endif
