/* Growing lists of steps and buffers, and the places of the latter. */
#include "runtime/session/plan.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "runtime/dnn/float_passes.h"
#include "runtime/dnn/integer_passes.h"

rq_status rq_plan_init(rq_plan *plan, rq_error *err)
{
    const rq_graph *graph = &plan->model->graph;
    const rq_session_options *options = &plan->executor->options;
    const int n = graph->n_nodes;
    plan->shapes = rq_arena_array(&plan->arena, rq_shape, n);
    plan->values = rq_arena_array(&plan->arena, rq_value, n);
    plan->done = rq_arena_array(&plan->arena, bool, n);
    plan->needed = rq_arena_array(&plan->arena, bool, n);
    if (!plan->shapes || !plan->values || !plan->done || !plan->needed)
        return rq_no_memory(err);
    rq_graph_find_needed(graph, plan->needed);
    return rq_graph_shapes(graph, options->batch, options->height, options->width, plan->shapes,
                           err);
}

void rq_plan_deinit(rq_plan *plan)
{
    rq_arena_deinit(&plan->arena);
}

/* ---- what the graph says ---- */

double rq_plan_macs(const rq_conv_shape *shape)
{
    const int64_t taps =
        shape->ic / shape->conv.groups * shape->conv.kernel[0] * shape->conv.kernel[1];
    return (double)(shape->oh * shape->ow * shape->oc) * (double)taps;
}

rq_status rq_plan_qparams(const rq_plan *plan, int node, int i, rq_qparams *out, rq_error *err)
{
    const rq_graph *graph = &plan->model->graph;
    const rq_tensor *zero_point = rq_graph_tensor(graph, node, RQ_SLOT_ZERO_POINT);
    out->scale = rq_tensor_f32(rq_graph_tensor(graph, node, RQ_SLOT_SCALE))[i];
    out->zero_point = zero_point ? ((const uint8_t *)zero_point->data)[i] : 0;
    if (!(out->scale >= RQ_SCALE_MIN) || !isfinite(out->scale))
        return rq_fail(err, RQ_ERR_MODEL, "%s: scale %g: no range has been observed yet",
                       graph->nodes[node].name, (double)out->scale);
    return RQ_OK;
}

/* ---- buffers, steps and values ---- */

/* items [n], or a larger copy, with room for one more; NULL, and nothing done, without memory. */
static void *with_room(void *items, int n, int *capacity, size_t item_bytes)
{
    if (n < *capacity)
        return items;
    const int larger = *capacity ? 2 * *capacity : 64;
    void *copy = rq_alloc((size_t)larger * item_bytes);
    if (!copy)
        return NULL;
    if (n)
        memcpy(copy, items, (size_t)n * item_bytes);
    rq_free(items);
    *capacity = larger;
    return copy;
}

rq_status rq_plan_buffer(rq_plan *plan, size_t size_bytes, int *out, rq_error *err)
{
    rq_executor *to = plan->executor;
    rq_buffer *buffers =
        with_room(to->buffers, to->n_buffers, &to->cap_buffers, sizeof *to->buffers);
    if (!buffers)
        return rq_no_memory(err);
    to->buffers = buffers;
    buffers[to->n_buffers] =
        (rq_buffer){.size_bytes = size_bytes, .first = to->n_steps, .last = to->n_steps};
    *out = to->n_buffers++;
    return RQ_OK;
}

rq_status rq_plan_value_buffer(rq_plan *plan, int node, size_t elem_bytes, int *out, rq_error *err)
{
    return rq_plan_buffer(plan, rq_shape_elems(&plan->shapes[node]) * elem_bytes, out, err);
}

rq_status rq_plan_step(rq_plan *plan, int node, const char *kind, const int *src_buffers, int n_src,
                       rq_step **out, rq_error *err)
{
    const rq_node *graph_node = rq_plan_node(plan, node);
    rq_executor *to = plan->executor;
    rq_step *steps = with_room(to->steps, to->n_steps, &to->cap_steps, sizeof *to->steps);
    if (!steps)
        return rq_no_memory(err);
    to->steps = steps;
    rq_step *step = &steps[to->n_steps];
    *step = (rq_step){.kind = kind, .node = node, .n_src = n_src, .dst = -1, .scratch = -1};
    step->name = rq_arena_strdup(&to->arena, graph_node->name);
    if (!step->name)
        return rq_no_memory(err);
    if (graph_node->n_inputs)
        step->in = plan->shapes[graph_node->input[0]];
    step->out = plan->shapes[node];
    for (int i = 0; i < n_src; i++) {
        step->src[i] = src_buffers[i];
        to->buffers[src_buffers[i]].last = to->n_steps;
    }
    to->n_steps++;
    *out = step;
    return RQ_OK;
}

void rq_plan_merge(const rq_plan *plan, int first, int last)
{
    for (int i = last; i != first; i = rq_plan_node(plan, i)->input[0])
        plan->done[i] = true;
}

/* ---- real values ---- */

static rq_status run_normalize(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    const size_t h = (size_t)executor->options.height, w = (size_t)executor->options.width;
    rq_normalize_u8(executor->pixels, step->factor, step->offset, rq_dst(executor, step),
                    (size_t)executor->n_images * h * w);
    return RQ_OK;
}

static rq_status add_normalize(rq_plan *plan, int *buffer, rq_error *err)
{
    rq_arena *arena = &plan->executor->arena;
    rq_step *step;
    RQ_TRY(rq_plan_value_buffer(plan, 0, sizeof(float), buffer, err));
    RQ_TRY(rq_plan_step(plan, 0, "normalize", NULL, 0, &step, err));
    step->run = run_normalize;
    step->dst = *buffer;
    step->factor = rq_arena_array(arena, float, 3);
    step->offset = rq_arena_array(arena, float, 3);
    if (!step->factor || !step->offset)
        return rq_no_memory(err);
    rq_preprocess_normalization(&plan->model->preprocess, step->factor, step->offset);
    rq_plan_set_value(plan, 0, RQ_REPR_REAL, *buffer);
    return RQ_OK;
}

static rq_status run_unfake(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_dequantize(rq_src(executor, step, 0), true, rq_dst(executor, step),
                  rq_shape_elems(&step->in), step->q);
    return RQ_OK;
}

static rq_status add_unfake(rq_plan *plan, int node, int source, int *buffer, rq_error *err)
{
    const rq_value *value = &plan->values[source];
    rq_step *step;
    RQ_TRY(rq_plan_value_buffer(plan, source, sizeof(float), buffer, err));
    RQ_TRY(rq_plan_step(plan, node, "unfake", &value->buffer, 1, &step, err));
    step->run = run_unfake;
    step->node = -1;
    step->dst = *buffer;
    step->q = value->q;
    return RQ_OK;
}

rq_status rq_plan_real_input(rq_plan *plan, int node, int k, int *buffer, rq_error *err)
{
    const rq_value *value = rq_plan_input(plan, node, k);
    switch (value->repr) {
    case RQ_REPR_REAL:
        *buffer = value->buffer;
        return RQ_OK;
    case RQ_REPR_IMAGE:
        return add_normalize(plan, buffer, err);
    case RQ_REPR_FAKE:
        return add_unfake(plan, node, rq_plan_node(plan, node)->input[k], buffer, err);
    case RQ_REPR_U8:
        break;
    }
    return rq_fail(err, RQ_ERR_MODEL, "a float operator reads a u8 value without dequantize");
}

rq_status rq_plan_real_step(rq_plan *plan, int node, const char *kind, rq_run *run, rq_step **out,
                            rq_error *err)
{
    const int n = rq_plan_node(plan, node)->n_inputs;
    int src[RQ_MAX_INPUTS], dst;
    for (int k = 0; k < n; k++)
        RQ_TRY(rq_plan_real_input(plan, node, k, &src[k], err));
    RQ_TRY(rq_plan_value_buffer(plan, node, sizeof(float), &dst, err));
    RQ_TRY(rq_plan_step(plan, node, kind, src, n, out, err));
    (*out)->run = run;
    (*out)->dst = dst;
    rq_plan_set_value(plan, node, RQ_REPR_REAL, dst);
    return RQ_OK;
}

/* ---- the block ---- */

/* In order of size, the largest first. */
static void sort_buffers(const rq_buffer *buffers, int n, int *order)
{
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && buffers[order[at - 1]].size_bytes < buffers[i].size_bytes; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

/* The lowest offset for a buffer where none of the n placed ones is that is alive at the same time. */
static size_t find_place(const rq_buffer *self, const rq_buffer *buffers, const int *placed, int n)
{
    size_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int k = 0; k < n; k++) {
            const rq_buffer *other = &buffers[placed[k]];
            const size_t other_end = other->offset + other->size_bytes;
            if (self->first <= other->last && other->first <= self->last && offset < other_end &&
                other->offset < offset + self->size_bytes) {
                offset = (other_end + RQ_ALIGNMENT - 1) & ~(size_t)(RQ_ALIGNMENT - 1);
                moved = true;
            }
        }
    }
    return offset;
}

/* There are few (some per layer), so the plain quadratic search is fine. */
rq_status rq_plan_place_buffers(const rq_plan *plan, rq_error *err)
{
    rq_executor *to = plan->executor;
    assert(!to->block);
    int *order = rq_alloc_array(int, to->n_buffers);
    if (!order)
        return rq_no_memory(err);
    size_t total = 0;
    sort_buffers(to->buffers, to->n_buffers, order);
    for (int i = 0; i < to->n_buffers; i++) {
        rq_buffer *buffer = &to->buffers[order[i]];
        buffer->offset = find_place(buffer, to->buffers, order, i);
        const size_t end = buffer->offset + buffer->size_bytes;
        total = end > total ? end : total;
    }
    to->info.largest_bytes = to->n_buffers ? to->buffers[order[0]].size_bytes : 0;
    to->info.activation_bytes = total;
    rq_free(order);
    to->block = rq_alloc(total);
    return to->block
               ? RQ_OK
               : rq_fail(err, RQ_ERR_NOMEM, "out of memory (%zu bytes of activations)", total);
}
