/* From measured seconds to a number of steps. */
#include <math.h>

#include "qat/run/budget.h"
#include "qat/run/run.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/ranks.h"

double run_seconds_used(const rq_run *run)
{
    return run->used_before + rq_clock() - run->started;
}

static double seconds_left(const rq_run *run)
{
    return run->budget_seconds - run_seconds_used(run);
}

/* Of this epoch, as far as it has come; its first step in this process is not like the others. */
static double step_seconds(const rq_run *run)
{
    const bool has_first = run->epoch_steps == run->steps && run->steps > 1;
    const double seconds = run->epoch_seconds - (has_first ? run->first_seconds : 0.0);
    const int64_t steps = run->epoch_steps - has_first;
    return steps > 0 ? seconds / (double)steps : 0.0;
}

/* Seconds that finishing an epoch takes: as the last time, or guessed from the size of the
 * validation split, forward being about a third of a training step. */
static double finish_seconds(const rq_run *run)
{
    if (run->finish_seconds > 0.0)
        return run->finish_seconds;
    return 0.5 * step_seconds(run) * (double)run->data.val_set.n_images /
           (double)run->options->batch;
}

static int64_t plan(const rq_run *run)
{
    return rq_budget_plan(&(rq_pace){
        .seconds_left = seconds_left(run),
        .step_seconds = step_seconds(run) + 1e-9,
        .overhead_seconds = finish_seconds(run),
        .steps_per_epoch = run->n_batches,
        .epochs = run->progress.epoch,
        .max_epochs = run->options->epochs,
    });
}

static void set_plan(rq_run *run, int64_t steps)
{
    if (steps == run->progress.total_steps)
        return;
    run->progress.total_steps = steps;
    char budget[32];
    rq_print_duration(run->budget_seconds, budget, sizeof budget);
    rq_log(RQ_LOG_INFO,
           "budget %s: %.4g of %lld epochs (%.3f s per step, %.1f s at an epoch's end)", budget,
           (double)steps / (double)run->n_batches, (long long)run->options->epochs,
           step_seconds(run), finish_seconds(run));
}

static void watch_budget(rq_run *run)
{
    enum { MIN_STEPS = 4 }; /* until the speed is known */
    const double budget = run->budget_seconds;
    const bool is_known = run->steps >= MIN_STEPS;
    const int64_t done = run_steps_done(run);
    if (seconds_left(run) <= (is_known ? finish_seconds(run) : 0.0) &&
        done < run_planned_steps(run)) {
        rq_log(RQ_LOG_INFO, "the budget is used up");
        run->progress.total_steps = done;
    } else if (!run->progress.total_steps && is_known &&
               run_seconds_used(run) >= fmin(0.02 * budget, 30.0)) {
        const int64_t steps = plan(run);
        set_plan(run, steps > done ? steps : done);
    }
}

static void revise_plan(rq_run *run)
{
    const int64_t planned = run->progress.total_steps;
    const bool was_cut = planned % run->n_batches != 0; /* it was the last */
    if (was_cut || !run->epoch_steps)
        return;
    const int64_t steps = plan(run), done = run->progress.epoch * run->n_batches;
    const bool is_longer = done < planned && 10 * steps > 11 * planned;
    if (!planned || run->epochs == 1 || steps < planned || is_longer)
        set_plan(run, steps);
}

/* The processes' clocks differ: rank 0's plan holds for all. */
static void plan_by(rq_run *run, void (*change)(rq_run *run))
{
    if (!(run->budget_seconds > 0.0))
        return;
    if (rq_rank() == 0)
        change(run);
    rq_ranks_share(&run->progress.total_steps);
}

void run_watch_budget(rq_run *run)
{
    plan_by(run, watch_budget);
}

void run_revise_plan(rq_run *run)
{
    plan_by(run, revise_plan);
}
