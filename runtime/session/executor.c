/* Creating an executor by a plan, and the walk over its steps. */
#include "runtime/session/executor.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/model/proofs.h"
#include "runtime/session/plan.h"
#include "runtime/session/rows.h"

static rq_status add_steps(rq_plan *plan, rq_error *err)
{
    const rq_graph *graph = &plan->model->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        if (plan->done[i] || !plan->needed[i])
            continue;
        const rq_status status = rq_rows[graph->nodes[i].op](plan, i, err);
        if (status) {
            rq_error_prefix(err, "%s", graph->nodes[i].name);
            return status;
        }
        rq_graph_release_node(graph, i); /* weights are packed now */
    }
    rq_executor *to = plan->executor;
    const rq_value *last = &plan->values[graph->n_nodes - 1];
    if (last->repr != RQ_REPR_REAL)
        return rq_fail(err, RQ_ERR_MODEL, "the last operator does not give real values");
    to->output = last->buffer;
    to->buffers[last->buffer].last = to->n_steps;
    return RQ_OK;
}

/* And a sixteenth for biases and for channels that kernels fill up: what does not fit would begin
 * another block as large. */
static size_t packed_weight_bytes(const rq_graph *graph)
{
    size_t total = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        const rq_tensor *weight = rq_graph_tensor(graph, i, RQ_SLOT_WEIGHT);
        if (weight)
            total += rq_tensor_elems(weight) * rq_dtype_size(weight->dtype);
    }
    return total + total / 16;
}

/* All of an executor that has its options. */
static rq_status make(rq_executor *executor, rq_plan *plan, rq_error *err)
{
    const rq_model *model = plan->model;
    RQ_TRY(rq_plan_init(plan, err));
    if (model->form == RQ_FORM_INT8 && !plan->weights_of)
        RQ_TRY(rq_integer_check(model, err));
    RQ_TRY(rq_dnn_create(&executor->dnn, err));
    if (!plan->weights_of)
        rq_dnn_expect_weights(executor->dnn, packed_weight_bytes(&model->graph));
    RQ_TRY(add_steps(plan, err));
    RQ_TRY(rq_plan_place_buffers(plan, err));
    executor->info.n_classes = (int)plan->shapes[model->graph.n_nodes - 1].c;
    for (int i = 0; i < executor->n_steps; i++)
        executor->info.macs += executor->steps[i].macs;
    executor->info.n_streams = 1;
    executor->info.stream_batch = executor->options.batch;
    return RQ_OK;
}

rq_status rq_executor_create(rq_executor **out, const rq_model *model,
                             const rq_session_options *options, const rq_executor *weights_of,
                             rq_error *err)
{
    assert(options->batch >= 1);
    rq_executor *executor = rq_alloc(sizeof *executor);
    if (!executor)
        return rq_no_memory(err);
    executor->options = *options;
    rq_plan plan = {.executor = executor, .weights_of = weights_of, .model = model};
    const rq_status status = make(executor, &plan, err);
    rq_plan_deinit(&plan);
    if (status)
        rq_executor_destroy(executor);
    else
        *out = executor;
    return status;
}

void rq_executor_destroy(rq_executor *executor)
{
    if (!executor)
        return;
    for (int i = 0; i < executor->n_steps; i++) {
        rq_float_conv_destroy(executor->steps[i].conv);
        rq_iconv_destroy(executor->steps[i].iconv);
    }
    rq_dnn_destroy(executor->dnn);
    rq_free(executor->steps);
    rq_free(executor->buffers);
    rq_free(executor->block);
    rq_arena_deinit(&executor->arena);
    rq_free(executor);
}

rq_status rq_executor_run(rq_executor *executor, const uint8_t *pixels, int n, float *logits,
                          rq_step_time *times, rq_error *err)
{
    const rq_session_options *options = &executor->options;
    assert(n >= 1 && n <= options->batch);
    executor->pixels = pixels;
    executor->n_images = n;
    for (int i = 0; i < executor->n_steps; i++) {
        rq_step *step = &executor->steps[i];
        const double start = times ? rq_clock() : 0.0;
        const rq_status status = step->run(executor, step, err);
        if (status) {
            rq_error_prefix(err, "%s", step->name);
            return status;
        }
        if (times)
            times[i] = (rq_step_time){step->name, step->kind, step->macs, step->is_int8,
                                      rq_clock() - start};
        if (options->observer && step->node >= 0)
            options->observer(options->observer_context, step->node, rq_dst(executor, step),
                              &step->out);
    }
    memcpy(logits, rq_buffer_at(executor, executor->output),
           (size_t)n * (size_t)executor->info.n_classes * sizeof *logits);
    return RQ_OK;
}

int rq_executor_n_steps(const rq_executor *executor)
{
    return executor->n_steps;
}

rq_session_info rq_executor_get_info(const rq_executor *executor)
{
    return executor->info;
}
