/* Inside a training run: what its files share. A run's place is (epoch, steps done in it). An
 * epoch whose steps are all done still has to be finished: validated, and its models and its run
 * file saved. */
#ifndef RQ_QAT_RUN_RUN_H
#define RQ_QAT_RUN_RUN_H

#include "qat/run/run_file.h"
#include "qat/run/train_data.h"
#include "qat/run/train_log.h"
#include "qat/run/train_options.h"
#include "qat/update/custom_l2.h"

typedef struct rq_run {
    const rq_train_options *options;
    double budget_seconds; /* 0: none */
    rq_model *model;
    rq_train_data data;
    rq_trainer *trainer;
    rq_optimizer *optimizer;
    rq_custom_l2 *custom_l2; /* or NULL */
    rq_ema *ema;             /* or NULL */
    rq_progress progress;
    rq_train_log log;
    rq_arena arena;
    const char *run_file, *best_ema; /* paths */
    const char *settings;            /* the options on which the course of training depends */
    const char *identity; /* these and the model: what a run file must have been made with */
    int64_t n_batches;    /* of a whole epoch */
    int signal;           /* that ends the run; 0: none */
    bool resumed;
    bool has_state; /* the run file is of this run */
    /* this process: */
    double started, saved; /* rq_clock() at the beginning, and when the run file was written */
    double used_before;    /* seconds of the budget, in earlier processes */
    double train_seconds, epoch_seconds, first_seconds; /* of all steps, the epoch's, the first */
    double lr;                                          /* of the last step */
    double finish_seconds;                              /* of the last epoch's end; 0: none yet */
    int64_t steps, epoch_steps, epochs;                 /* done */
} rq_run;

/* ---- run.c: its parts and its place ---- */

/* To be destroyed in any case. */
RQ_NODISCARD rq_status run_create(rq_run *run, rq_model *model, const rq_train_options *options,
                                  rq_error *err);
void run_destroy(rq_run *run);

int64_t run_planned_steps(const rq_run *run);
int64_t run_planned_epochs(const rq_run *run);
int64_t run_steps_of_epoch(const rq_run *run); /* of the one under way; 0: the run is finished */
int64_t run_steps_done(const rq_run *run);

/* ---- run_budget.c: how many steps there is time for; nothing without a budget ---- */

double run_seconds_used(const rq_run *run);

/* After a step: plan as soon as the speed is known; end the epoch here when time is out. */
void run_watch_budget(rq_run *run);

/* After an epoch, whose speed is the best guess for the next: shorten the plan, or lengthen it by
 * no less than a tenth (after the first epoch by anything). The learning rate follows. */
void run_revise_plan(rq_run *run);

/* ---- run_state.c: the file to continue from ---- */

/* Write down settings and identity. Errors: RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status run_describe(rq_run *run, rq_error *err);

/* Errors: RQ_ERR_MODEL (a parameter that is not finite; nothing is written then), and those of
 * rq_run_file_save. */
RQ_NODISCARD rq_status run_save(rq_run *run, rq_error *err);

/* Within an epoch, when it is time to. A full disk does not end the training: the next time may be
 * better, and the file of before stays. Errors: RQ_ERR_RANGE (a parameter that is not finite). */
RQ_NODISCARD rq_status run_save_sometimes(rq_run *run, rq_error *err);

/* As the options say. Errors: those of rq_run_file_load; RQ_ERR_FILE (a place outside of the
 * run). */
RQ_NODISCARD rq_status run_resume(rq_run *run, rq_error *err);

/* ---- run_best.c: validation, and the models to keep ---- */

/* Accuracy in percent of the model as it is, -1 without validation images. what: in front of
 * the log's line. Errors: RQ_ERR_INTERRUPTED, and those of sessions and rq_evaluate. */
RQ_NODISCARD rq_status run_validate(rq_run *run, const char *what, double *top1, double *top5,
                                    rq_error *err);

/* At the end of an epoch: validate the model, and the average, and save either that is the best so
 * far. report receives the results. */
RQ_NODISCARD rq_status run_keep_best(rq_run *run, rq_epoch_report *report, rq_error *err);

#endif
