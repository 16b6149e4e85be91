/* Creating and running sessions: shapes, rows to steps, the memory plan, the walk over the steps.
 */
#include "runtime/session/session.h"

#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/size.h"
#include "runtime/model/proofs.h"
#include "runtime/session/plan.h"
#include "runtime/session/streams.h"

static rq_status grow(void **items, int *capacity, int n, size_t size, rq_error *err)
{
    if (n < *capacity)
        return RQ_OK;
    const int larger = *capacity ? 2 * *capacity : 64;
    void *copy = NULL;
    const rq_status status = rq_alloc_array_old(&copy, (size_t)larger, size, err);
    if (status != RQ_OK)
        return status;
    if (n)
        memcpy(copy, *items, (size_t)n * size);
    rq_free(*items);
    *items = copy;
    *capacity = larger;
    return RQ_OK;
}

rq_status rq_plan_buffer(rq_session *session, size_t size_bytes, int *out, rq_error *err)
{
    void *buffers = session->buffers;
    const rq_status status =
        grow(&buffers, &session->cap_buffers, session->n_buffers, sizeof *session->buffers, err);
    session->buffers = buffers;
    if (status != RQ_OK)
        return status;
    session->buffers[session->n_buffers] =
        (rq_buffer){.size_bytes = size_bytes, .first = session->n_steps, .last = session->n_steps};
    *out = session->n_buffers++;
    return RQ_OK;
}

rq_status rq_plan_step(rq_session *session, int node, const char *kind, const int *src_buffers,
                       int n_src, rq_step **out, rq_error *err)
{
    void *steps = session->steps;
    rq_status status =
        grow(&steps, &session->cap_steps, session->n_steps, sizeof *session->steps, err);
    session->steps = steps;
    if (status != RQ_OK)
        return status;
    const rq_node *graph_node = &session->model->graph.nodes[node];
    rq_step *step = &session->steps[session->n_steps];
    *step = (rq_step){.kind = kind, .node = node, .n_src = n_src, .dst = -1, .scratch = -1};
    step->name = rq_arena_strdup(&session->arena, graph_node->name);
    if (!step->name)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    if (graph_node->n_inputs)
        step->in = session->shapes[graph_node->input[0]];
    step->out = session->shapes[node];
    for (int i = 0; i < n_src; i++) {
        step->src[i] = src_buffers[i];
        session->buffers[src_buffers[i]].last = session->n_steps;
    }
    session->n_steps++;
    *out = step;
    return RQ_OK;
}

int rq_plan_next(const rq_session *session, int node, rq_op op)
{
    return rq_graph_next(&session->model->graph, node, op);
}

/* Place buffers one after another in order of size, each at the lowest offset where nothing alive
 * at the same time stands. n is small (a few per layer), so the plain quadratic search is fine. */
static rq_status place_buffers(rq_session *session, rq_error *err)
{
    const int n = session->n_buffers;
    int *order = NULL;
    void *memory = NULL;
    rq_status status = rq_alloc_array_old(&memory, (size_t)n + 1, sizeof *order, err);
    if (status != RQ_OK)
        return status;
    order = memory;
    for (int i = 0; i < n; i++) {
        int at = i;
        for (;
             at > 0 && session->buffers[order[at - 1]].size_bytes < session->buffers[i].size_bytes;
             at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    size_t total = 0;
    for (int i = 0; i < n; i++) {
        rq_buffer *b = &session->buffers[order[i]];
        size_t offset = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (int k = 0; k < i; k++) {
                const rq_buffer *other = &session->buffers[order[k]];
                const size_t other_end = other->offset + other->size_bytes;
                if (b->first <= other->last && other->first <= b->last && offset < other_end &&
                    other->offset < offset + b->size_bytes) {
                    offset = (other_end + RQ_ALIGNMENT - 1) & ~(size_t)(RQ_ALIGNMENT - 1);
                    moved = true;
                }
            }
        }
        b->offset = offset;
        if (offset + b->size_bytes > total)
            total = offset + b->size_bytes;
        if (b->size_bytes > session->info.largest_bytes)
            session->info.largest_bytes = b->size_bytes;
    }
    rq_free(order);
    session->info.activation_bytes = total;
    session->block = rq_alloc(total);
    return session->block
               ? RQ_OK
               : rq_fail(err, RQ_ERR_NOMEM, "out of memory (%zu bytes of activations)", total);
}

static rq_status add_steps(rq_session *session, const rq_model *model, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        if (session->done[i] || !session->needed[i])
            continue;
        const rq_status status = rq_session_rows[graph->nodes[i].op](session, i, err);
        if (status != RQ_OK) {
            rq_error_prefix(err, "%s", graph->nodes[i].name);
            return status;
        }
        rq_graph_release_node(graph, i); /* weights are packed now */
    }
    const rq_value *last = &session->values[graph->n_nodes - 1];
    if (last->repr != RQ_REPR_REAL)
        return rq_fail(err, RQ_ERR_MODEL, "the last operator does not give real values");
    session->output = last->buffer;
    session->buffers[last->buffer].last = session->n_steps;
    return RQ_OK;
}

static rq_status allocate(rq_session *session, const rq_model *model, rq_error *err)
{
    const size_t n = (size_t)model->graph.n_nodes;
    const struct {
        void **items;
        size_t size;
    } arrays[] = {
        {(void **)&session->shapes, sizeof *session->shapes},
        {(void **)&session->values, sizeof *session->values},
        {(void **)&session->done, sizeof *session->done},
        {(void **)&session->needed, sizeof *session->needed},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        const rq_status status =
            rq_arena_array_old(&session->arena, arrays[i].items, n, arrays[i].size, err);
        if (status != RQ_OK)
            return status;
    }
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

static double total_macs(const rq_session *session)
{
    double total = 0.0;
    for (int i = 0; i < session->n_steps; i++)
        total += session->steps[i].macs;
    return total;
}

/* Steps and memory of a session that does its own work. */
static rq_status plan_steps(rq_session *session, const rq_model *model, rq_error *err)
{
    rq_status status = allocate(session, model, err);
    if (status == RQ_OK)
        status = rq_graph_shapes(&model->graph, session->batch, session->height, session->width,
                                 session->shapes, err);
    if (status == RQ_OK && model->form == RQ_FORM_INT8 && !session->options.weights_of)
        status = rq_integer_check(model, err);
    if (status == RQ_OK)
        status = rq_dnn_create(&session->dnn, err);
    if (status == RQ_OK) {
        if (!session->options.weights_of)
            rq_dnn_expect_weights(session->dnn, packed_weight_bytes(&model->graph));
        rq_graph_find_needed(&model->graph, session->needed);
        status = add_steps(session, model, err);
    }
    if (status == RQ_OK)
        status = place_buffers(session, err);
    if (status != RQ_OK)
        return status;
    session->n_classes = (int)session->shapes[model->graph.n_nodes - 1].c;
    session->info.n_classes = session->n_classes;
    session->info.macs = total_macs(session);
    session->info.n_streams = 1;
    session->info.stream_batch = session->batch;
    return RQ_OK;
}

static rq_status plan_streams(rq_session *session, const rq_model *model, rq_stream_plan plan,
                              rq_error *err)
{
    if (session->options.observer)
        return rq_fail(err, RQ_ERR_ARG, "no observer of %d streams", plan.n_streams);
    const rq_status status =
        rq_streams_create(&session->streams, model, &session->options, plan, err);
    if (status == RQ_OK)
        session->info = rq_streams_get_info(session->streams);
    return status;
}

rq_status rq_session_create(rq_session **out, const rq_model *model,
                            const rq_session_options *options, rq_error *err)
{
    if (options->batch < 1)
        return rq_fail(err, RQ_ERR_ARG, "batch %d: at least 1 image", options->batch);
    rq_stream_plan plan;
    rq_session *session = rq_alloc(sizeof *session);
    if (!session)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    session->model = model;
    session->options = *options;
    session->batch = options->batch;
    session->height = options->height ? options->height : model->preprocess.crop;
    session->width = options->width ? options->width : model->preprocess.crop;
    rq_status status = rq_plan_streams(&plan, model, options, err);
    if (status == RQ_OK)
        status = plan.n_streams > 1 ? plan_streams(session, model, plan, err)
                                    : plan_steps(session, model, err);
    session->model = NULL;
    if (status == RQ_OK)
        *out = session;
    else
        rq_session_destroy(session);
    return status;
}

void rq_session_destroy(rq_session *session)
{
    if (!session)
        return;
    rq_streams_destroy(session->streams);
    for (int i = 0; i < session->n_steps; i++) {
        rq_float_conv_destroy(session->steps[i].conv);
        rq_iconv_destroy(session->steps[i].iconv);
    }
    rq_dnn_destroy(session->dnn);
    rq_free(session->steps);
    rq_free(session->buffers);
    rq_free(session->block);
    rq_arena_deinit(&session->arena);
    rq_free(session);
}

static rq_status run_steps(rq_session *session, const uint8_t *pixels, int n, float *logits,
                           rq_step_time *times, rq_error *err)
{
    if (n < 1 || n > session->batch)
        return rq_fail(err, RQ_ERR_ARG, "%d images in a session made for 1 to %d", n,
                       session->batch);
    if (session->streams)
        return times ? rq_fail(err, RQ_ERR_ARG, "streams have no common steps")
                     : rq_streams_run(session->streams, pixels, n, logits, err);
    session->pixels = pixels;
    session->n_images = n;
    for (int i = 0; i < session->n_steps; i++) {
        rq_step *step = &session->steps[i];
        const double start = times ? rq_clock() : 0.0;
        const rq_status status = step->run(session, step, err);
        if (status != RQ_OK) {
            rq_error_prefix(err, "%s", step->name);
            return status;
        }
        if (times)
            times[i] = (rq_step_time){step->name, step->kind, step->macs, step->is_int8,
                                      rq_clock() - start};
        if (session->options.observer && step->node >= 0)
            session->options.observer(session->options.observer_context, step->node,
                                      rq_plan_at(session, step->dst), &step->out);
    }
    memcpy(logits, rq_plan_at(session, session->output),
           (size_t)n * (size_t)session->n_classes * sizeof *logits);
    return RQ_OK;
}

rq_status rq_session_run(rq_session *session, const uint8_t *pixels, int n, float *logits,
                         rq_error *err)
{
    return run_steps(session, pixels, n, logits, NULL, err);
}

rq_status rq_session_run_timed(rq_session *session, const uint8_t *pixels, int n, float *logits,
                               rq_step_time *times, rq_error *err)
{
    return run_steps(session, pixels, n, logits, times, err);
}

int rq_session_n_steps(const rq_session *session)
{
    return session->n_steps;
}

rq_session_info rq_session_get_info(const rq_session *session)
{
    return session->info;
}
