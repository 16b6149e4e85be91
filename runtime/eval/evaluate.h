/* Accuracy of one or several sessions over the images of a loader, decoded once for all of them. */
#ifndef RQ_RUNTIME_EVAL_EVALUATE_H
#define RQ_RUNTIME_EVAL_EVALUATE_H

#include "runtime/image/loader.h"
#include "runtime/session/session.h"

enum { RQ_EVALUATE_MAX_SESSIONS = 4 };

typedef struct rq_evaluation {
    size_t n_images;  /* counted: all but those that the loader skipped */
    size_t n_skipped; /* rows with RQ_LABEL_IGNORE */
    size_t n_top1, n_top5;
    double top1, top5;   /* percent of n_images; top5 is 100 with 5 classes or fewer */
    double loss;         /* mean cross-entropy */
    double images_per_s; /* of the whole loop: loading, all sessions, the sink */
} rq_evaluation;

/* Called after each batch: logits[k] of session k, f32 [batch->n, its classes]. An error ends the
 * evaluation. */
typedef rq_status rq_logits_sink(void *context, const rq_batch *batch, const float *const *logits,
                                 rq_error *err);

/* Of several processes (ranks.h) each has its rows of the images, and all receive the results of
 * all images; the sink gets this process's rows.
 *
 * Run the sessions over epoch 0 of the loader, whose batch and image side they are made for.
 * sink may be NULL. out: one per session. Nothing is allocated after the first batch.
 * Errors: RQ_ERR_RANGE (a label that is not a class, logits that are not finite), RQ_ERR_IMAGE (no
 * image could be read), RQ_ERR_NOMEM, and those of the loader, the sessions and the sink. */
RQ_NODISCARD rq_status rq_evaluate(rq_session *const *sessions, int n_sessions, rq_loader *loader,
                                   rq_logits_sink *sink, void *sink_context, rq_evaluation *out,
                                   rq_error *err);

/* How many classes rank before class label: those with a larger logit, and among equals those
 * with a lower index. 0 is top 1. */
int rq_logit_rank(const float *logits, int n_classes, int label);

/* The class of rank 0. */
int rq_top_class(const float *logits, int n_classes);

#endif
