/* Softmax cross-entropy with label smoothing (Szegedy et al. 2016; torch.nn.CrossEntropyLoss) and
 * mixed labels (image/mixup.h), in double per row. */
#include <math.h>

#include "qat/step/units.h"
#include "runtime/base/ranks.h"
#include "runtime/eval/evaluate.h"

/* What a row should be: a class, and with the rest of the weight another one. */
typedef struct row_target {
    size_t label, other;
    double weight; /* of label; 1 where there is one only */
} row_target;

static row_target target_of(const int32_t *labels, const rq_mix *mix, size_t i)
{
    const size_t label = (size_t)labels[i];
    if (!mix)
        return (row_target){label, label, 1.0};
    return (row_target){label, (size_t)labels[mix[i].partner], (double)mix[i].lambda};
}

/* The loss of one row and its gradient, not yet divided by the number of rows. */
static double row_loss_and_gradient(const float *logits, size_t classes, row_target target,
                                    double smoothing, double share, float *dlogits)
{
    double largest = (double)logits[0];
    for (size_t k = 1; k < classes; k++)
        largest = fmax(largest, (double)logits[k]);
    double total = 0.0, sum_logits = 0.0;
    for (size_t k = 0; k < classes; k++) {
        total += exp((double)logits[k] - largest);
        sum_logits += (double)logits[k];
    }
    const double log_total = log(total) + largest;
    const double uniform = smoothing / (double)classes;
    const double own = (1.0 - smoothing) * target.weight, rest = 1.0 - smoothing - own;
    for (size_t k = 0; k < classes; k++) {
        const double p = exp((double)logits[k] - log_total);
        const double t =
            uniform + (k == target.label ? own : 0.0) + (k == target.other ? rest : 0.0);
        dlogits[k] = (float)((p - t) * share);
    }
    return log_total - own * (double)logits[target.label] - rest * (double)logits[target.other] -
           uniform * sum_logits;
}

rq_status tr_loss(const float *logits, const int32_t *labels, const rq_mix *mix, size_t n,
                  size_t classes, double smoothing, float *dlogits, double *row_loss, int *row_rank,
                  rq_step_result *result, rq_error *err)
{
    *result = (rq_step_result){0};
    for (size_t i = 0; i < n; i++) {
        if (labels[i] != RQ_LABEL_IGNORE && (labels[i] < 0 || (size_t)labels[i] >= classes))
            return rq_fail(err, RQ_ERR_RANGE, "label %d: the model has %zu classes", labels[i],
                           classes);
        result->n_counted += labels[i] != RQ_LABEL_IGNORE;
    }
    double counted = result->n_counted;
    rq_ranks_sum(&counted, 1);
    const double share = counted > 0.0 ? 1.0 / counted : 0.0;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * classes;
        float *drow = dlogits + i * classes;
        if (labels[i] == RQ_LABEL_IGNORE) {
            for (size_t k = 0; k < classes; k++)
                drow[k] = 0.0f;
            continue;
        }
        row_loss[i] =
            row_loss_and_gradient(row, classes, target_of(labels, mix, i), smoothing, share, drow);
        row_rank[i] = rq_logit_rank(row, (int)classes, labels[i]);
    }
    double sums[] = {0.0, 0.0, 0.0}; /* loss, top 1, top 5 */
    for (size_t i = 0; i < n; i++)
        if (labels[i] != RQ_LABEL_IGNORE) {
            sums[0] += row_loss[i];
            sums[1] += row_rank[i] < 1;
            sums[2] += row_rank[i] < 5;
        }
    rq_ranks_sum(sums, 3);
    result->n_counted = (int)counted;
    result->loss = sums[0] * share;
    result->top1 = (int)sums[1];
    result->top5 = (int)sums[2];
    if (!isfinite(result->loss))
        return rq_fail(err, RQ_ERR_RANGE, "the loss is not finite");
    return RQ_OK;
}
