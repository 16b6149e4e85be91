/* Creating a trainer, a step, and what can be asked about it. */
#include "qat/step/trainer.h"

#include <omp.h>
#include <string.h>

#include "qat/step/share.h"
#include "runtime/base/bf16.h"
#include "runtime/base/clock.h"
#include "runtime/base/ranks.h"

#define AUXILIARY_WEIGHT 0.1

/* ---- creation ---- */

static rq_status allocate(rq_trainer *trainer, rq_error *err)
{
    const rq_graph *graph = &trainer->model->graph;
    const size_t n = (size_t)graph->n_nodes, batch = (size_t)trainer->options.batch;
    const struct {
        void **array;
        size_t n, size;
    } arrays[] = {
        {(void **)&trainer->shapes, n, sizeof *trainer->shapes},
        {(void **)&trainer->values, n, sizeof(tr_value *)},
        {(void **)&trainer->units, 2 * n, sizeof *trainer->units},
        {(void **)&trainer->gradients, (size_t)graph->n_params, sizeof *trainer->gradients},
        {(void **)&trainer->row_loss, batch, sizeof *trainer->row_loss},
        {(void **)&trainer->row_rank, batch, sizeof *trainer->row_rank},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        const rq_status status =
            rq_arena_array_old(&trainer->arena, arrays[i].array, arrays[i].n, arrays[i].size, err);
        if (status != RQ_OK)
            return status;
    }
    return tr_gradients_allocate(trainer, err);
}

static rq_status allocate_scratch(rq_trainer *trainer, rq_error *err)
{
    size_t channels = 1;
    for (int i = 0; i < trainer->n_units; i++)
        if ((size_t)trainer->units[i].dst->shape.c > channels)
            channels = (size_t)trainer->units[i].dst->shape.c;
    trainer->scratch_bytes = (size_t)trainer->n_threads * tr_sums_bytes(channels);
    return rq_arena_array_old(&trainer->arena, &trainer->scratch, trainer->scratch_bytes, 1, err);
}

rq_status rq_trainer_create(rq_trainer **out, rq_model *model, const rq_trainer_options *options,
                            rq_error *err)
{
    if (options->batch < 1)
        return rq_fail(err, RQ_ERR_ARG, "batch %d: at least 1 image", options->batch);
    rq_trainer *trainer = rq_alloc(sizeof *trainer);
    if (!trainer)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    trainer->model = model;
    trainer->options = *options;
    trainer->observing = true;
    trainer->n_threads = omp_get_max_threads();
    if (!trainer->options.height)
        trainer->options.height = model->preprocess.crop;
    if (!trainer->options.width)
        trainer->options.width = model->preprocess.crop;
    rq_status status = rq_dnn_create(&trainer->dnn, err);
    if (status == RQ_OK)
        status = allocate(trainer, err);
    if (status == RQ_OK)
        status = tr_build_units(trainer, err);
    if (status == RQ_OK)
        status = allocate_scratch(trainer, err);
    if (status == RQ_OK)
        status = tr_plan_gradients(trainer, err);
    if (status == RQ_OK)
        tr_gradients_plan_sums(trainer);
    trainer->options.frozen_nodes = NULL;
    if (status != RQ_OK) {
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

static rq_status named(const rq_trainer *trainer, const tr_unit *unit, rq_status status,
                       rq_error *err)
{
    if (status != RQ_OK)
        rq_error_prefix(err, "%s", trainer->model->graph.nodes[unit->node].name);
    return status;
}

/* From f32 to bf16, where it is read so. */
static void round_value(const tr_value *value)
{
    if (value->bf16)
        tr_round(value->bf16, value->data, rq_shape_elems(&value->shape));
}

rq_status tr_run_forward(rq_trainer *trainer, int first, rq_error *err)
{
    rq_status status = RQ_OK;
    for (int i = first; i < trainer->n_units && status == RQ_OK; i++) {
        tr_unit *unit = &trainer->units[i];
        const double start = rq_clock();
        status = named(trainer, unit, unit->forward(trainer, unit, err), err);
        if (status == RQ_OK && !tr_writes_all_types(unit))
            round_value(unit->dst);
        unit->forward_s += rq_clock() - start;
    }
    return status;
}

rq_status tr_run_backward(rq_trainer *trainer, int first, rq_error *err)
{
    rq_status status = RQ_OK;
    for (int i = trainer->n_units - 1; i >= first && status == RQ_OK; i--) {
        tr_unit *unit = &trainer->units[i];
        const double start = rq_clock();
        status = named(trainer, unit, unit->backward(trainer, unit, err), err);
        unit->backward_s += rq_clock() - start;
        if (status == RQ_OK)
            tr_gradients_sum(trainer, i);
    }
    rq_ranks_await();
    return status;
}

/* The loss of the model's output and a tenth of each auxiliary one's (RepVGGplus). */
static rq_status find_loss(rq_trainer *trainer, const int32_t *labels, const rq_mix *mix,
                           rq_step_result *result, rq_error *err)
{
    double auxiliary = 0.0;
    rq_status status = RQ_OK;
    for (int i = 0; i < trainer->n_outputs && status == RQ_OK; i++) {
        const tr_value *output = trainer->outputs[i];
        status = tr_loss(output->data, labels, mix, (size_t)trainer->options.batch,
                         (size_t)output->shape.c, trainer->options.label_smoothing,
                         output->gradient[0], trainer->row_loss, trainer->row_rank, result, err);
        if (status != RQ_OK || i == trainer->n_outputs - 1)
            continue;
        auxiliary += AUXILIARY_WEIGHT * result->loss;
        for (size_t k = 0; k < rq_shape_elems(&output->shape); k++)
            output->gradient[0][k] *= (float)AUXILIARY_WEIGHT;
    }
    result->loss += auxiliary;
    return status;
}

rq_status rq_trainer_step_mixed(rq_trainer *trainer, const uint8_t *pixels, const int32_t *labels,
                                const rq_mix *mix, rq_step_result *result, rq_error *err)
{
    if (omp_get_max_threads() > trainer->n_threads)
        return rq_fail(err, RQ_ERR_ARG, "%d threads in a trainer that was made for %d",
                       omp_get_max_threads(), trainer->n_threads);
    if (mix && trainer->input_is_levels)
        return rq_fail(err, RQ_ERR_UNSUPPORTED,
                       "mixup: the first layer is quantized and reads whole pixels");
    tr_input_forward(trainer, pixels, mix, trainer->values[0]);
    round_value(trainer->values[0]);
    rq_status status = tr_run_forward(trainer, 0, err);
    if (status != RQ_OK)
        return status;
    const double start = rq_clock();
    status = find_loss(trainer, labels, mix, result, err);
    trainer->profile.loss += rq_clock() - start;
    return status == RQ_OK ? tr_run_backward(trainer, 0, err) : status;
}

rq_status rq_trainer_step(rq_trainer *trainer, const uint8_t *pixels, const int32_t *labels,
                          rq_step_result *result, rq_error *err)
{
    return rq_trainer_step_mixed(trainer, pixels, labels, NULL, result, err);
}

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

rq_status rq_trainer_settle(rq_trainer *trainer, rq_error *err)
{
    (void)err;
    for (int i = 0; i < trainer->n_units; i++) {
        tr_unit *unit = &trainer->units[i];
        conv_unit *conv = unit->conv;
        if (unit->eltwise)
            tr_act_settle(&unit->eltwise->act, unit->dst);
        if (unit->product)
            tr_act_settle(&unit->product->act, unit->dst);
        if (!conv || !conv->quantized)
            continue;
        conv->s_x = conv->layer.std ? 1.0f : unit->src[0]->scale;
        rq_layer_weight_scales(&conv->layer, conv->s_x, conv->s_w);
        memcpy(conv->stored_scale, conv->s_w, (size_t)conv->shape.oc * sizeof *conv->s_w);
    }
    return RQ_OK;
}

rq_trainer_profile rq_trainer_get_profile(const rq_trainer *trainer)
{
    return trainer->profile;
}
