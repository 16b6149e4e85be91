/* Creating a trainer, a step, and what can be asked about it. */
#include "qat/step/trainer.h"

#include <assert.h>
#include <math.h>
#include <omp.h>

#include "qat/step/build.h"
#include "qat/step/convolution.h"
#include "qat/step/eltwise.h"
#include "qat/step/gates.h"
#include "qat/step/memory_plan.h"
#include "qat/step/parameter_gradients.h"
#include "qat/step/share.h"
#include "qat/step/step.h"
#include "runtime/base/bf16.h"
#include "runtime/base/clock.h"

/* ---- creation ---- */

static rq_status allocate(rq_trainer *trainer, rq_error *err)
{
    rq_arena *arena = &trainer->arena;
    const int n = trainer->model->graph.n_nodes, batch = trainer->options.batch;
    if (!(trainer->shapes = rq_arena_array(arena, rq_shape, n)) ||
        !(trainer->values = rq_arena_array(arena, tr_value *, n)) ||
        !(trainer->units = rq_arena_array(arena, tr_unit, 2 * (size_t)n)) ||
        !(trainer->outputs = rq_arena_array(arena, tr_value *, n)) ||
        !(trainer->gradients = rq_arena_array(arena, float *, trainer->model->graph.n_params)) ||
        !(trainer->row_loss = rq_arena_array(arena, double, batch)) ||
        !(trainer->row_rank = rq_arena_array(arena, int, batch)))
        return rq_no_memory(err);
    return RQ_OK;
}

static rq_status allocate_scratch(rq_trainer *trainer, rq_error *err)
{
    size_t channels = 1;
    for (int i = 0; i < trainer->n_units; i++)
        if ((size_t)trainer->units[i].dst->shape.c > channels)
            channels = (size_t)trainer->units[i].dst->shape.c;
    const size_t size_bytes = (size_t)trainer->n_threads * tr_sums_bytes(channels);
    trainer->scratch = rq_arena_alloc(&trainer->arena, size_bytes);
    return trainer->scratch ? RQ_OK : rq_no_memory(err);
}

static rq_status plan(rq_trainer *trainer, rq_error *err)
{
    RQ_TRY(rq_dnn_create(&trainer->dnn, err));
    RQ_TRY(allocate(trainer, err));
    RQ_TRY(tr_gradients_allocate(trainer, err));
    RQ_TRY(tr_build_units(trainer, err));
    RQ_TRY(tr_plan_numbers(trainer, err));
    RQ_TRY(allocate_scratch(trainer, err));
    RQ_TRY(tr_plan_gradients(trainer, err));
    tr_gradients_plan_sums(trainer);
    trainer->options.frozen_nodes = NULL;
    return RQ_OK;
}

rq_status rq_trainer_create(rq_trainer **out, rq_model *model, const rq_trainer_options *options,
                            rq_error *err)
{
    if (options->batch < 1)
        return rq_fail(err, RQ_ERR_ARG, "batch %d: at least 1 image", options->batch);
    rq_trainer *trainer = rq_alloc(sizeof *trainer);
    if (!trainer)
        return rq_no_memory(err);
    trainer->model = model;
    trainer->options = *options;
    trainer->observing = true;
    trainer->n_threads = omp_get_max_threads();
    if (!trainer->options.height)
        trainer->options.height = model->preprocess.crop;
    if (!trainer->options.width)
        trainer->options.width = model->preprocess.crop;
    const rq_status status = plan(trainer, err);
    if (status) {
        rq_trainer_destroy(trainer);
        return status;
    }
    *out = trainer;
    return RQ_OK;
}

void rq_trainer_destroy(rq_trainer *trainer)
{
    if (!trainer)
        return;
    for (int i = 0; i < trainer->n_units; i++)
        if (trainer->units[i].destroy)
            trainer->units[i].destroy(&trainer->units[i]);
    rq_dnn_destroy(trainer->dnn);
    rq_arena_deinit(&trainer->arena);
    rq_free(trainer);
}

void rq_trainer_freeze_bn(rq_trainer *trainer, bool frozen)
{
    trainer->bn_frozen = frozen;
}

void rq_trainer_observe(rq_trainer *trainer, bool observing)
{
    trainer->observing = observing;
}

/* ---- a step ---- */

rq_status rq_trainer_step_mixed(rq_trainer *trainer, const uint8_t *pixels, const int32_t *labels,
                                const rq_mix *mix, rq_step_result *result, rq_error *err)
{
    if (omp_get_max_threads() > trainer->n_threads)
        return rq_fail(err, RQ_ERR_ARG, "%d threads in a trainer that was made for %d",
                       omp_get_max_threads(), trainer->n_threads);
    if (mix && trainer->input_is_levels)
        return rq_fail(err, RQ_ERR_UNSUPPORTED,
                       "mixup: the first layer is quantized and reads whole pixels");
    tr_input_forward(trainer, pixels, mix);
    RQ_TRY(tr_run_forward(trainer, 0, err));
    const double start = rq_clock();
    const rq_status status = tr_outputs_loss(trainer, labels, mix, result, err);
    trainer->profile.loss += rq_clock() - start;
    return status ? status : tr_run_backward(trainer, 0, err);
}

rq_status rq_trainer_step(rq_trainer *trainer, const uint8_t *pixels, const int32_t *labels,
                          rq_step_result *result, rq_error *err)
{
    return rq_trainer_step_mixed(trainer, pixels, labels, NULL, result, err);
}

rq_status rq_trainer_settle(rq_trainer *trainer, rq_error *err)
{
    (void)err;
    for (int i = 0; i < trainer->n_units; i++) {
        tr_unit *unit = &trainer->units[i];
        if (unit->conv)
            tr_conv_settle(unit);
        if (unit->eltwise)
            tr_act_settle(&unit->eltwise->act, unit->dst);
        if (unit->product)
            tr_act_settle(&unit->product->act, unit->dst);
    }
    return RQ_OK;
}

/* ---- what can be asked ---- */

float *rq_trainer_gradient(const rq_trainer *trainer, int param)
{
    return trainer->gradients[param];
}

const float *rq_trainer_logits(const rq_trainer *trainer)
{
    return trainer->outputs[trainer->n_outputs - 1]->data;
}

static const float *expand(rq_trainer *trainer, tr_value *value)
{
    const size_t n = rq_shape_elems(&value->shape);
    if (!value->expanded)
        value->expanded = rq_arena_alloc(&trainer->arena, n * sizeof *value->expanded);
    for (size_t i = 0; value->expanded && i < n; i++)
        value->expanded[i] = value->u8 ? (float)value->u8[i] : rq_from_bf16(value->bf16[i]);
    return value->expanded;
}

const float *rq_trainer_value(rq_trainer *trainer, int node, float *scale)
{
    tr_value *value = trainer->values[node];
    if (!value)
        return NULL;
    *scale = value->scale;
    return value->data ? value->data : expand(trainer, value);
}

static bool is_finite(const float *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(numbers[i]))
            return false;
    return true;
}

const char *rq_trainer_first_not_finite(rq_trainer *trainer)
{
    const rq_graph *graph = &trainer->model->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        float scale;
        const float *numbers = rq_trainer_value(trainer, i, &scale);
        if (numbers &&
            !(isfinite(scale) && is_finite(numbers, rq_shape_elems(&trainer->shapes[i]))))
            return graph->nodes[i].name;
    }
    return NULL;
}

/* ---- where the time went ---- */

rq_trainer_profile rq_trainer_get_profile(const rq_trainer *trainer)
{
    return trainer->profile;
}

static double value_bytes(const tr_value *value)
{
    return (double)rq_shape_elems(&value->shape) * sizeof(float);
}

/* As the convolution reads it. */
static double source_bytes(const tr_unit *unit)
{
    const rq_train_conv *conv = unit->conv->conv;
    const size_t size = rq_train_conv_reads_u8(conv)     ? sizeof(uint8_t)
                        : rq_train_conv_reads_bf16(conv) ? sizeof(uint16_t)
                                                         : sizeof(float);
    return (double)(rq_shape_elems(&unit->src[0]->shape) * size);
}

static double gradient_bytes(const tr_value *value)
{
    return value_bytes(value) / (value->gradient_bf16 ? 2.0 : 1.0);
}

static double weight_bytes(const tr_conv *conv)
{
    const rq_conv_shape *s = &conv->shape;
    const int64_t inputs = s->ic / s->conv.groups;
    return (double)(s->oc * inputs * s->conv.kernel[0] * s->conv.kernel[1]) * sizeof(float);
}

static void conv_bytes(const tr_unit *unit, rq_unit_profile *out)
{
    const double src = source_bytes(unit), dst = value_bytes(unit->dst);
    const double weights = weight_bytes(unit->conv);
    out->forward_bytes = src + weights + dst;
    const double ddst = gradient_bytes(unit->dst);
    out->backward_bytes = src + ddst + weights;
    if (unit->src[0]->needs_gradient)
        out->backward_bytes += ddst + weights + gradient_bytes(unit->src[0]);
}

/* Forward: batch norms' sources once more, for the moments. */
static void eltwise_bytes(const rq_trainer *trainer, const tr_unit *unit, rq_unit_profile *out)
{
    const tr_eltwise *eltwise = unit->eltwise;
    const tr_value *dst = unit->dst;
    const double n = value_bytes(dst);
    out->forward_bytes =
        (dst->data ? n : 0.0) + (dst->bf16 ? n / 2.0 : 0.0) + (dst->u8 ? n / 4.0 : 0.0);
    const double g = gradient_bytes(dst);
    out->backward_bytes = dst->gradient_bf16 ? 2.0 * g : g * (dst->n_readers + 1);
    for (int k = 0; k < eltwise->n_terms; k++) {
        const tr_term *term = &eltwise->terms[k];
        const bool live = tr_term_is_live(trainer, term);
        out->forward_bytes += n * (live ? 2 : 1);
        out->backward_bytes += n;
        if (unit->dsrc[k] || unit->src[k]->gradient_bf16)
            out->backward_bytes += g + (live ? n : 0.0) + gradient_bytes(unit->src[k]);
    }
}

static void other_bytes(const tr_unit *unit, rq_unit_profile *out)
{
    double n = value_bytes(unit->dst);
    for (int k = 0; k < unit->n_src; k++)
        n += value_bytes(unit->src[k]);
    out->forward_bytes = out->backward_bytes = n;
}

int rq_trainer_n_units(const rq_trainer *trainer)
{
    return trainer->n_units;
}

rq_unit_profile rq_trainer_unit(const rq_trainer *trainer, int i)
{
    const tr_unit *unit = &trainer->units[i];
    rq_unit_profile out = {
        .layer = trainer->model->graph.nodes[unit->node].name,
        .kind = unit->conv      ? unit->conv->quantized ? "quantized conv" : "conv"
                : unit->eltwise ? "norm, sum, act"
                                : "other",
        .forward_s = unit->forward_s,
        .backward_s = unit->backward_s,
    };
    if (unit->conv)
        conv_bytes(unit, &out);
    else if (unit->eltwise)
        eltwise_bytes(trainer, unit, &out);
    else
        other_bytes(unit, &out);
    return out;
}
