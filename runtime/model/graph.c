/* Building, searching and copying graphs. What operators mean is in ops.c. */
#include "runtime/model/graph.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/size.h"

const char *rq_slot_name(rq_slot slot)
{
    static const char *const names[RQ_N_SLOTS] = {
#define X(code, name) [RQ_SLOT_##code] = #name,
        RQ_SLOT_LIST(X)
#undef X
    };
    return names[slot];
}

void rq_graph_deinit(rq_graph *graph)
{
    for (const rq_owned *owned = graph->owned; owned; owned = owned->next)
        owned->close(owned->object);
    rq_arena_deinit(&graph->arena);
    *graph = (rq_graph)RQ_GRAPH_INIT;
}

/* items with room for one more than n: the same, or a larger copy, NULL without memory. The old
 * array stays in the arena until the graph goes. */
static void *grow(rq_arena *arena, void *items, int *cap, int n, size_t elem_size)
{
    if (n < *cap)
        return items;
    const int new_cap = *cap ? 2 * *cap : 32;
    void *grown = rq_arena_alloc(arena, (size_t)new_cap * elem_size);
    if (grown && n > 0)
        memcpy(grown, items, (size_t)n * elem_size);
    if (grown)
        *cap = new_cap;
    return grown;
}

static rq_status check_new_node(const rq_graph *graph, const char *name, int n_inputs,
                                const int *inputs, rq_error *err)
{
    if (!*name)
        return rq_fail(err, RQ_ERR_MODEL, "node %d has an empty name", graph->n_nodes);
    if (graph->n_nodes >= RQ_MAX_NODES)
        return rq_fail(err, RQ_ERR_MODEL, "%s: more than %d nodes", name, RQ_MAX_NODES);
    if (rq_graph_find_node(graph, name) >= 0)
        return rq_fail(err, RQ_ERR_MODEL, "%s: two nodes have this name", name);
    if (n_inputs < 0 || n_inputs > RQ_MAX_INPUTS)
        return rq_fail(err, RQ_ERR_MODEL, "%s: %d inputs, the limit is %d", name, n_inputs,
                       RQ_MAX_INPUTS);
    for (int i = 0; i < n_inputs; i++)
        if (inputs[i] < 0 || inputs[i] >= graph->n_nodes)
            return rq_fail(err, RQ_ERR_MODEL, "%s: input %d is node %d, not an earlier node", name,
                           i, inputs[i]);
    return RQ_OK;
}

rq_status rq_graph_add_node(rq_graph *graph, rq_op op, const char *name, int n_inputs,
                            const int *inputs, int *out, rq_error *err)
{
    RQ_TRY(check_new_node(graph, name, n_inputs, inputs, err));
    rq_node *nodes =
        grow(&graph->arena, graph->nodes, &graph->cap_nodes, graph->n_nodes, sizeof *nodes);
    if (!nodes)
        return rq_no_memory(err);
    graph->nodes = nodes;
    rq_node *node = &graph->nodes[graph->n_nodes];
    *node = (rq_node){.op = op, .n_inputs = n_inputs};
    node->name = rq_arena_strdup(&graph->arena, name);
    if (!node->name)
        return rq_no_memory(err);
    for (int i = 0; i < n_inputs; i++)
        node->input[i] = inputs[i];
    for (int slot = 0; slot < RQ_N_SLOTS; slot++)
        node->slot[slot] = -1;
    if (out)
        *out = graph->n_nodes;
    graph->n_nodes++;
    return RQ_OK;
}

static rq_status tensor_bytes(const char *name, const rq_tensor *tensor, size_t *size_bytes,
                              rq_error *err)
{
    size_t elems;
    if (tensor->rank < 0 || tensor->rank > RQ_MAX_RANK)
        return rq_fail(err, RQ_ERR_MODEL, "%s: rank %d, the limit is %d", name, tensor->rank,
                       RQ_MAX_RANK);
    if (!rq_dims_elems(tensor->dim, tensor->rank, &elems) ||
        !rq_mul_size(elems, rq_dtype_size(tensor->dtype), size_bytes))
        return rq_fail(err, RQ_ERR_MODEL, "%s: the size is negative or too large", name);
    return RQ_OK;
}

/* Append a parameter of *shape's type and size with values from shape->data (NULL = zeros), which
 * are copied unless it is to be a view of them. */
static rq_status append_param(rq_graph *graph, int node, rq_slot slot, const char *name,
                              const rq_tensor *shape, bool is_view, rq_error *err)
{
    rq_tensor tensor = *shape;
    char *copied_name =
        name ? rq_arena_strdup(&graph->arena, name)
             : rq_arena_printf(&graph->arena, "%s.%s", graph->nodes[node].name, rq_slot_name(slot));
    if (!copied_name)
        return rq_no_memory(err);
    if (graph->nodes[node].slot[slot] >= 0 || rq_graph_find_param(graph, copied_name) >= 0)
        return rq_fail(err, RQ_ERR_MODEL, "%s: this parameter exists already", copied_name);
    if (graph->n_params >= RQ_MAX_PARAMS)
        return rq_fail(err, RQ_ERR_MODEL, "%s: more than %d parameters", copied_name,
                       RQ_MAX_PARAMS);
    size_t size_bytes = 0;
    RQ_TRY(tensor_bytes(copied_name, &tensor, &size_bytes, err));
    if (!is_view)
        tensor.data = rq_arena_alloc(&graph->arena, size_bytes);
    if (!tensor.data)
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory (%zu bytes)", copied_name, size_bytes);
    if (!is_view && shape->data && size_bytes > 0)
        memcpy(tensor.data, shape->data, size_bytes);

    rq_param *params =
        grow(&graph->arena, graph->params, &graph->cap_params, graph->n_params, sizeof *params);
    if (!params)
        return rq_no_memory(err);
    graph->params = params;
    graph->params[graph->n_params] = (rq_param){copied_name, tensor};
    graph->nodes[node].slot[slot] = graph->n_params++;
    return RQ_OK;
}

rq_status rq_graph_add_param(rq_graph *graph, int node, rq_slot slot, rq_dtype dtype, int rank,
                             const int64_t *dims, rq_error *err)
{
    rq_tensor shape = {.dtype = dtype, .rank = rank};
    for (int i = 0; i < rank && i < RQ_MAX_RANK; i++) /* append_param refuses more */
        shape.dim[i] = dims[i];
    return append_param(graph, node, slot, NULL, &shape, false, err);
}

rq_status rq_graph_copy_param(rq_graph *graph, int node, rq_slot slot, const char *name,
                              const rq_tensor *source, rq_error *err)
{
    return append_param(graph, node, slot, name, source, false, err);
}

rq_status rq_graph_view_param(rq_graph *graph, int node, rq_slot slot, const char *name,
                              const rq_tensor *source, rq_error *err)
{
    return append_param(graph, node, slot, name, source, true, err);
}

rq_status rq_graph_own(rq_graph *graph, void *object, void (*close)(void *object),
                       const rq_mapping *mapping, rq_error *err)
{
    rq_owned *owned = rq_arena_alloc(&graph->arena, sizeof *owned);
    if (!owned)
        return rq_no_memory(err);
    *owned = (rq_owned){graph->owned, object, close, *mapping};
    graph->owned = owned;
    return RQ_OK;
}

/* The mapping in which a tensor's values lie, NULL when they are the graph's own. */
static const rq_mapping *find_mapping(const rq_graph *graph, const rq_tensor *tensor,
                                      size_t *size_bytes)
{
    const uintptr_t data = (uintptr_t)tensor->data;
    *size_bytes = rq_tensor_elems(tensor) * rq_dtype_size(tensor->dtype);
    for (const rq_owned *owned = graph->owned; owned; owned = owned->next) {
        const uintptr_t start = (uintptr_t)owned->mapping.data;
        if (data >= start && data + *size_bytes <= start + owned->mapping.size_bytes)
            return &owned->mapping;
    }
    return NULL;
}

bool rq_graph_is_view(const rq_graph *graph, const rq_tensor *tensor)
{
    size_t size_bytes;
    return find_mapping(graph, tensor, &size_bytes) != NULL;
}

void rq_graph_release(const rq_graph *graph, const rq_tensor *tensor)
{
    size_t size_bytes;
    const rq_mapping *mapping = find_mapping(graph, tensor, &size_bytes);
    if (mapping)
        rq_mapping_release(mapping, tensor->data, size_bytes);
}

void rq_graph_release_node(const rq_graph *graph, int node)
{
    for (int slot = 0; slot < RQ_N_SLOTS; slot++) {
        const rq_tensor *tensor = rq_graph_tensor(graph, node, (rq_slot)slot);
        if (tensor)
            rq_graph_release(graph, tensor);
    }
}

rq_tensor *rq_graph_tensor(const rq_graph *graph, int node, rq_slot slot)
{
    assert(node >= 0 && node < graph->n_nodes);
    const int param = graph->nodes[node].slot[slot];
    return param < 0 ? NULL : &graph->params[param].tensor;
}

int rq_graph_find_node(const rq_graph *graph, const char *name)
{
    for (int i = 0; i < graph->n_nodes; i++)
        if (strcmp(graph->nodes[i].name, name) == 0)
            return i;
    return -1;
}

int rq_graph_find_param(const rq_graph *graph, const char *name)
{
    for (int i = 0; i < graph->n_params; i++)
        if (strcmp(graph->params[i].name, name) == 0)
            return i;
    return -1;
}

int rq_graph_only_reader(const rq_graph *graph, int node)
{
    int reader = -1;
    for (int i = node + 1; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_inputs; k++) {
            if (graph->nodes[i].input[k] != node)
                continue;
            if (reader >= 0)
                return -1;
            reader = i;
        }
    return reader;
}

int rq_graph_next(const rq_graph *graph, int node, rq_op op)
{
    const int reader = rq_graph_only_reader(graph, node);
    return reader >= 0 && graph->nodes[reader].op == op ? reader : -1;
}

bool rq_graph_is_output(const rq_graph *graph, int node)
{
    for (int i = node + 1; i < graph->n_nodes; i++)
        for (int k = 0; k < graph->nodes[i].n_inputs; k++)
            if (graph->nodes[i].input[k] == node)
                return false;
    return true;
}

void rq_graph_find_needed(const rq_graph *graph, bool *needed)
{
    for (int i = 0; i < graph->n_nodes; i++)
        needed[i] = i == graph->n_nodes - 1;
    for (int i = graph->n_nodes - 1; i >= 0; i--)
        for (int k = 0; k < graph->nodes[i].n_inputs && needed[i]; k++)
            needed[graph->nodes[i].input[k]] = true;
}

rq_conv_shape rq_graph_conv_shape(const rq_graph *graph, const rq_shape *shapes, int node)
{
    const rq_node *n = &graph->nodes[node];
    const bool is_linear = n->op == RQ_OP_LINEAR || n->op == RQ_OP_QLINEAR;
    assert(is_linear || rq_op_has_window(n->op));
    const rq_shape *in = &shapes[n->input[0]], *out = &shapes[node];
    const rq_conv_attr one_pixel = {{1, 1}, {1, 1}, {0, 0}, {1, 1}, 1};
    return (rq_conv_shape){in->n,  in->h,  in->w,  in->c,
                           out->h, out->w, out->c, is_linear ? one_pixel : n->conv};
}

rq_status rq_graph_copy_node(rq_graph *graph, const rq_graph *source, int i, const int *inputs,
                             int *out, rq_error *err)
{
    const rq_node *node = &source->nodes[i];
    int copy = 0;
    RQ_TRY(rq_graph_add_node(graph, node->op, node->name, node->n_inputs, inputs, &copy, err));
    graph->nodes[copy].conv = node->conv;
    graph->nodes[copy].eps = node->eps;
    graph->nodes[copy].constant = node->constant;
    for (int slot = 0; slot < RQ_N_SLOTS; slot++)
        if (node->slot[slot] >= 0) {
            const rq_param *param = &source->params[node->slot[slot]];
            RQ_TRY(
                rq_graph_copy_param(graph, copy, (rq_slot)slot, param->name, &param->tensor, err));
        }
    if (out)
        *out = copy;
    return RQ_OK;
}

rq_status rq_graph_clone(rq_graph *out, const rq_graph *source, rq_error *err)
{
    *out = (rq_graph)RQ_GRAPH_INIT;
    rq_status status = RQ_OK;
    for (int i = 0; i < source->n_nodes && !status; i++)
        status = rq_graph_copy_node(out, source, i, source->nodes[i].input, NULL, err);
    if (status)
        rq_graph_deinit(out);
    return status;
}
