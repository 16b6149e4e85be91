/* The evaluation loop. Rows of a batch are scored in parallel and summed in their order, so the
 * result does not depend on the number of threads. */
#include "runtime/eval/evaluate.h"

#include <math.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/ranks.h"

#define PROGRESS_SECONDS 0.2 /* between two progress lines */

typedef struct row_score {
    double loss;
    int rank;
} row_score;

typedef struct evaluator {
    rq_arena arena;
    int n_sessions;
    int n_classes[RQ_EVALUATE_MAX_SESSIONS];
    float *logits[RQ_EVALUATE_MAX_SESSIONS]; /* [batch, classes] */
    row_score *scores;                       /* [batch] */
    double start, last_progress;
} evaluator;

int rq_logit_rank(const float *logits, int n_classes, int label)
{
    int above = 0;
    for (int k = 0; k < n_classes; k++)
        above += logits[k] > logits[label] || (logits[k] == logits[label] && k < label);
    return above;
}

int rq_top_class(const float *logits, int n_classes)
{
    int top = 0;
    for (int k = 1; k < n_classes; k++)
        if (logits[k] > logits[top])
            top = k;
    return top;
}

/* Softmax cross-entropy; NaN when a logit is NaN or +infinite. */
static double cross_entropy(const float *logits, int n_classes, int label)
{
    double largest = (double)logits[0], sum = 0.0;
    for (int k = 1; k < n_classes; k++)
        largest = fmax(largest, (double)logits[k]);
    for (int k = 0; k < n_classes; k++)
        sum += exp((double)logits[k] - largest);
    return log(sum) + largest - (double)logits[label];
}

static rq_status check_labels(const rq_batch *batch, int n_classes, rq_error *err)
{
    for (int i = 0; i < batch->n; i++) {
        const int32_t label = batch->labels[i];
        if (label != RQ_LABEL_IGNORE && (label < 0 || label >= n_classes))
            return rq_fail(err, RQ_ERR_RANGE, "image %u has label %d, the model has %d classes",
                           batch->index[i], label, n_classes);
    }
    return RQ_OK;
}

static rq_status score_batch(const evaluator *self, int k, const rq_batch *batch,
                             rq_evaluation *out, rq_error *err)
{
    const int n_classes = self->n_classes[k];
    RQ_TRY(check_labels(batch, n_classes, err));
#pragma omp parallel for schedule(static)
    for (int i = 0; i < batch->n; i++) {
        const float *row = self->logits[k] + (size_t)i * (size_t)n_classes;
        const int label = batch->labels[i];
        if (label != RQ_LABEL_IGNORE)
            self->scores[i] = (row_score){cross_entropy(row, n_classes, label),
                                          rq_logit_rank(row, n_classes, label)};
    }
    for (int i = 0; i < batch->n; i++) {
        if (batch->labels[i] == RQ_LABEL_IGNORE) {
            out->n_skipped++;
            continue;
        }
        if (!isfinite(self->scores[i].loss))
            return rq_fail(err, RQ_ERR_RANGE, "the logits of image %u are not finite",
                           batch->index[i]);
        out->n_images++;
        out->n_top1 += self->scores[i].rank < 1;
        out->n_top5 += self->scores[i].rank < 5;
        out->loss += self->scores[i].loss;
    }
    return RQ_OK;
}

/* Buffers for batches of up to n images. */
static rq_status allocate(evaluator *self, int n, rq_error *err)
{
    self->scores = rq_arena_array(&self->arena, row_score, n);
    if (!self->scores)
        return rq_no_memory(err);
    for (int k = 0; k < self->n_sessions; k++) {
        const size_t n_logits = (size_t)n * (size_t)self->n_classes[k];
        self->logits[k] = rq_arena_array(&self->arena, float, n_logits);
        if (!self->logits[k])
            return rq_no_memory(err);
    }
    return RQ_OK;
}

static void show_progress(evaluator *self, size_t n_done, size_t n_batches, size_t n_images)
{
    const double now = rq_clock();
    if (n_done < n_batches && now - self->last_progress < PROGRESS_SECONDS)
        return;
    self->last_progress = now;
    rq_log(RQ_LOG_PROGRESS, "evaluate: batch %zu/%zu, %.0f images/s", n_done, n_batches,
           (double)n_images / (now - self->start));
}

static rq_status run_batch(evaluator *self, rq_session *const *sessions, const rq_batch *batch,
                           rq_evaluation *out, rq_error *err)
{
    for (int k = 0; k < self->n_sessions; k++) {
        RQ_TRY(rq_session_run(sessions[k], batch->pixels, batch->n, self->logits[k], err));
        RQ_TRY(score_batch(self, k, batch, &out[k], err));
    }
    return RQ_OK;
}

/* Counts of all ranks. */
static void add_ranks(rq_evaluation *out)
{
    double sums[] = {(double)out->n_images, (double)out->n_skipped, (double)out->n_top1,
                     (double)out->n_top5, out->loss};
    rq_ranks_sum(sums, sizeof sums / sizeof sums[0]);
    out->n_images = (size_t)sums[0];
    out->n_skipped = (size_t)sums[1];
    out->n_top1 = (size_t)sums[2];
    out->n_top5 = (size_t)sums[3];
    out->loss = sums[4];
}

/* From counts to rates. */
static rq_status finish(const evaluator *self, rq_evaluation *out, rq_error *err)
{
    for (int k = 0; k < self->n_sessions; k++)
        add_ranks(&out[k]);
    const double seconds = rq_clock() - self->start;
    for (int k = 0; k < self->n_sessions; k++) {
        if (out[k].n_images == 0)
            return rq_fail(err, RQ_ERR_IMAGE, "none of %zu images could be read", out[k].n_skipped);
        const double n = (double)out[k].n_images;
        out[k].top1 = 100.0 * (double)out[k].n_top1 / n;
        out[k].top5 = 100.0 * (double)out[k].n_top5 / n;
        out[k].loss /= n;
        out[k].images_per_s = n / seconds;
    }
    return RQ_OK;
}

static rq_status run_batches(evaluator *self, rq_session *const *sessions, rq_loader *loader,
                             rq_logits_sink *sink, void *sink_context, rq_evaluation *out,
                             rq_error *err)
{
    const size_t n_batches = rq_loader_n_batches(loader);
    rq_batch batch;
    rq_loader_start(loader, 0, 0);
    for (size_t done = 0;; done++) {
        RQ_TRY(rq_loader_next(loader, &batch, err));
        if (batch.n == 0)
            return RQ_OK;
        if (done == 0) /* no later batch is larger */
            RQ_TRY(allocate(self, batch.n, err));
        RQ_TRY(run_batch(self, sessions, &batch, out, err));
        if (sink)
            RQ_TRY(sink(sink_context, &batch, (const float *const *)self->logits, err));
        show_progress(self, done + 1, n_batches, out[0].n_images);
    }
}

rq_status rq_evaluate(rq_session *const *sessions, int n_sessions, rq_loader *loader,
                      rq_logits_sink *sink, void *sink_context, rq_evaluation *out, rq_error *err)
{
    evaluator self = {.arena = RQ_ARENA_INIT, .n_sessions = n_sessions, .start = rq_clock()};
    if (n_sessions < 1 || n_sessions > RQ_EVALUATE_MAX_SESSIONS)
        return rq_fail(err, RQ_ERR_ARG, "%d sessions, from 1 to %d are possible", n_sessions,
                       RQ_EVALUATE_MAX_SESSIONS);
    for (int k = 0; k < n_sessions; k++) {
        out[k] = (rq_evaluation){0};
        self.n_classes[k] = rq_session_get_info(sessions[k]).n_classes;
    }
    const rq_status status = run_batches(&self, sessions, loader, sink, sink_context, out, err);
    rq_log(RQ_LOG_PROGRESS, "%s", "");
    rq_arena_deinit(&self.arena);
    return status ? status : finish(&self, out, err);
}
