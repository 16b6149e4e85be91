/* The loss is computed in double per row; units run one after another, each by all threads. */
#include "qat/step/step.h"

#include <assert.h>
#include <math.h>

#include "qat/step/parameter_gradients.h"
#include "qat/step/values.h"
#include "runtime/base/clock.h"
#include "runtime/base/ranks.h"
#include "runtime/dnn/float_passes.h"
#include "runtime/eval/evaluate.h"
#include "runtime/model/quant.h"

#define AUXILIARY_WEIGHT 0.1

/* ---- pixels ---- */

void tr_input_init(rq_trainer *trainer, bool quantized)
{
    const rq_preprocess *p = &trainer->model->preprocess;
    trainer->input_is_levels = quantized;
    rq_preprocess_normalization(p, trainer->input_factor, trainer->input_offset);
    for (int c = 0; c < 3 && quantized; c++) {
        trainer->input_factor[c] = 1.0f;
        trainer->input_offset[c] = -(float)rq_pixel_zero_point(p->mean[c]);
    }
}

/* Image and partner, [pixels, 3] each, with their weights. */
static void mix_image(const uint8_t *own, const uint8_t *partner, float weight, const float *factor,
                      const float *offset, float *dst, size_t pixels)
{
    const float rest = 1.0f - weight;
    for (size_t i = 0; i < 3 * pixels; i++)
        dst[i] =
            (weight * (float)own[i] + rest * (float)partner[i]) * factor[i % 3] + offset[i % 3];
}

static void mix_images(const rq_trainer *trainer, const uint8_t *pixels, const rq_mix *mix,
                       const tr_value *value)
{
    const size_t n = (size_t)value->shape.n, per_image = rq_shape_elems(&value->shape) / n;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i++)
        mix_image(pixels + i * per_image, pixels + mix[i].partner * per_image, mix[i].lambda,
                  trainer->input_factor, trainer->input_offset, value->data + i * per_image,
                  per_image / 3);
}

/* From f32 to bf16, where it is read so. */
static void round_value(const tr_value *value)
{
    if (value->bf16)
        tr_round(value->bf16, value->data, rq_shape_elems(&value->shape));
}

void tr_input_forward(const rq_trainer *trainer, const uint8_t *pixels, const rq_mix *mix)
{
    const tr_value *value = trainer->values[0];
    assert(!mix || !trainer->input_is_levels);
    if (mix)
        mix_images(trainer, pixels, mix, value);
    else
        rq_normalize_u8(pixels, trainer->input_factor, trainer->input_offset, value->data,
                        rq_shape_elems(&value->shape) / 3);
    round_value(value);
}

/* ---- units ---- */

static rq_status run(rq_trainer *trainer, tr_unit *unit, bool forward, rq_error *err)
{
    const double start = rq_clock();
    const rq_status status = (forward ? unit->forward : unit->backward)(trainer, unit, err);
    if (status)
        rq_error_prefix(err, "%s", trainer->model->graph.nodes[unit->node].name);
    else if (forward && !tr_writes_all_types(unit))
        round_value(unit->dst);
    *(forward ? &unit->forward_s : &unit->backward_s) += rq_clock() - start;
    return status;
}

rq_status tr_run_forward(rq_trainer *trainer, int first, rq_error *err)
{
    assert(first >= 0);
    for (int i = first; i < trainer->n_units; i++)
        RQ_TRY(run(trainer, &trainer->units[i], true, err));
    return RQ_OK;
}

rq_status tr_run_backward(rq_trainer *trainer, int first, rq_error *err)
{
    assert(first >= 0);
    rq_status status = RQ_OK;
    for (int i = trainer->n_units - 1; i >= first && !status; i--)
        if (!(status = run(trainer, &trainer->units[i], false, err)))
            tr_gradients_sum(trainer, i);
    rq_ranks_await(); /* after an error too: sums are under way */
    return status;
}

/* ---- loss ---- */

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

rq_status tr_outputs_loss(rq_trainer *trainer, const int32_t *labels, const rq_mix *mix,
                          rq_step_result *result, rq_error *err)
{
    double auxiliary = 0.0;
    for (int i = 0; i < trainer->n_outputs; i++) {
        const tr_value *output = trainer->outputs[i];
        RQ_TRY(tr_loss(output->data, labels, mix, (size_t)trainer->options.batch,
                       (size_t)output->shape.c, trainer->options.label_smoothing,
                       output->gradient[0], trainer->row_loss, trainer->row_rank, result, err));
        if (i == trainer->n_outputs - 1)
            break;
        auxiliary += AUXILIARY_WEIGHT * result->loss;
        for (size_t k = 0; k < rq_shape_elems(&output->shape); k++)
            output->gradient[0][k] *= (float)AUXILIARY_WEIGHT;
    }
    result->loss += auxiliary;
    return RQ_OK;
}
