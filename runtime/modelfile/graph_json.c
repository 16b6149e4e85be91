/* Graphs as JSON text and back (format: modelfile.h). The text is untrusted. */
#include <assert.h>
#include <float.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/modelfile/modelfile.h"

/* ---- reading ---- */

static rq_status read_op(const json_t *json, rq_op *out, rq_error *err)
{
    const char *name;
    RQ_TRY(rq_json_get_string(json, "op", &name, err));
    for (int op = 0; op < RQ_N_OPS; op++)
        if (strcmp(name, rq_op_name((rq_op)op)) == 0) {
            *out = (rq_op)op;
            return RQ_OK;
        }
    return rq_fail(err, RQ_ERR_FILE, "unknown operator '%.40s'", name);
}

static rq_status read_inputs(const rq_graph *graph, const json_t *json, int *inputs, int *n_inputs,
                             rq_error *err)
{
    json_t *names = NULL;
    RQ_TRY(rq_json_get_array(json, "inputs", 0, RQ_MAX_INPUTS, &names, err));
    *n_inputs = (int)json_array_size(names);
    for (int i = 0; i < *n_inputs; i++) {
        const char *name = json_string_value(json_array_get(names, (size_t)i));
        inputs[i] = name ? rq_graph_find_node(graph, name) : -1;
        if (inputs[i] < 0)
            return rq_fail(err, RQ_ERR_FILE, "input %d is not the name of an earlier node", i);
    }
    return RQ_OK;
}

static rq_status read_pair(const json_t *json, const char *key, int min, int out[2], rq_error *err)
{
    int64_t values[2];
    RQ_TRY(rq_json_get_ints(json, key, 2, min, RQ_MAX_SIDE, values, err));
    out[0] = (int)values[0];
    out[1] = (int)values[1];
    return RQ_OK;
}

static rq_status read_conv(const json_t *json, rq_conv_attr *out, rq_error *err)
{
    int64_t groups = 0;
    RQ_TRY(read_pair(json, "kernel", 1, out->kernel, err));
    RQ_TRY(read_pair(json, "stride", 1, out->stride, err));
    RQ_TRY(read_pair(json, "pad", 0, out->pad, err));
    RQ_TRY(read_pair(json, "dilation", 1, out->dilation, err));
    RQ_TRY(rq_json_get_int(json, "groups", 1, RQ_MAX_CHANNELS, &groups, err));
    out->groups = (int)groups;
    return RQ_OK;
}

/* The operator's attributes; *n_members grows by how many members hold them. */
static rq_status read_attributes(const json_t *json, rq_node *node, size_t *n_members,
                                 rq_error *err)
{
    double eps = 0.0;
    if (rq_op_has_window(node->op)) {
        *n_members += 5;
        RQ_TRY(read_conv(json, &node->conv, err));
    }
    if (node->op == RQ_OP_BATCH_NORM) {
        *n_members += 1;
        RQ_TRY(rq_json_get_number(json, "eps", 0.0, (double)FLT_MAX, &eps, err));
        node->eps = (float)eps;
    }
    if (!rq_json_has(json, "constant"))
        return RQ_OK;
    *n_members += 1;
    return rq_json_get_bool(json, "constant", &node->constant, err);
}

static bool find_slot(const char *name, rq_slot *out)
{
    for (int slot = 0; slot < RQ_N_SLOTS; slot++)
        if (strcmp(name, rq_slot_name((rq_slot)slot)) == 0) {
            *out = (rq_slot)slot;
            return true;
        }
    return false;
}

/* Where values come from, and how. */
typedef struct tensor_source {
    rq_tensorfile *file;
    bool as_views;
} tensor_source;

static rq_status read_param(rq_graph *graph, int node, rq_slot slot, const char *name,
                            const tensor_source *source, rq_error *err)
{
    rq_tensor view;
    RQ_TRY(rq_tensorfile_find(source->file, name, &view, err));
    const rq_status status = source->as_views
                                 ? rq_graph_view_param(graph, node, slot, name, &view, err)
                                 : rq_graph_copy_param(graph, node, slot, name, &view, err);
    rq_tensorfile_release(source->file, name);
    return status;
}

static rq_status read_params(rq_graph *graph, int node, json_t *params, const tensor_source *source,
                             rq_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(params, key, value)
    {
        rq_slot slot;
        const char *name = json_string_value(value);
        if (!name || !find_slot(key, &slot))
            return rq_fail(err, RQ_ERR_FILE, "params: '%.40s' is no slot with a tensor's name",
                           key);
        RQ_TRY(read_param(graph, node, slot, name, source, err));
    }
    return RQ_OK;
}

static rq_status read_node(rq_graph *graph, const json_t *json, const tensor_source *source,
                           rq_error *err)
{
    rq_op op = RQ_OP_INPUT;
    const char *name = NULL;
    int inputs[RQ_MAX_INPUTS] = {0}, n_inputs = 0, node = 0;
    size_t n_members = 3;
    json_t *params = NULL;
    RQ_TRY(read_op(json, &op, err));
    RQ_TRY(rq_json_get_string(json, "name", &name, err));
    RQ_TRY(read_inputs(graph, json, inputs, &n_inputs, err));
    RQ_TRY(rq_graph_add_node(graph, op, name, n_inputs, inputs, &node, err));
    RQ_TRY(read_attributes(json, &graph->nodes[node], &n_members, err));
    if (json_object_get(json, "params")) {
        n_members++;
        RQ_TRY(rq_json_get_object(json, "params", &params, err));
        RQ_TRY(read_params(graph, node, params, source, err));
    }
    return json_object_size(json) == n_members
               ? RQ_OK
               : rq_fail(err, RQ_ERR_FILE, "%zu members, a %s has %zu", json_object_size(json),
                         rq_op_name(op), n_members);
}

/* *tree: what text holds, for the caller to give back. */
static rq_status read_nodes(rq_graph *graph, json_t **tree, const char *text,
                            const tensor_source *source, rq_error *err)
{
    json_t *nodes = NULL;
    RQ_TRY(rq_json_parse(tree, text, strlen(text), err));
    RQ_TRY(rq_json_get_array(*tree, "nodes", 1, RQ_MAX_NODES, &nodes, err));
    if (json_object_size(*tree) != 1)
        return rq_fail(err, RQ_ERR_FILE, "members besides 'nodes'");
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const rq_status status = read_node(graph, json_array_get(nodes, i), source, err);
        if (status) {
            rq_error_prefix(err, "node %zu", i);
            return status;
        }
    }
    return RQ_OK;
}

rq_status rq_graph_read_json(rq_graph *graph, const char *text, rq_tensorfile *file, bool as_views,
                             rq_error *err)
{
    assert(graph->n_nodes == 0);
    const tensor_source source = {file, as_views};
    json_t *tree = NULL;
    const rq_status status = read_nodes(graph, &tree, text, &source, err);
    if (status)
        rq_error_prefix(err, "graph");
    json_decref(tree);
    return status;
}

/* ---- writing; jansson passes a NULL on as a failure, so only the end is checked ---- */

static json_t *pair(const int values[2])
{
    return json_pack("[i, i]", values[0], values[1]);
}

static bool put_attributes(json_t *json, const rq_node *node)
{
    if (node->constant && json_object_set_new(json, "constant", json_true()) != 0)
        return false;
    if (rq_op_has_window(node->op))
        return json_object_set_new(json, "kernel", pair(node->conv.kernel)) == 0 &&
               json_object_set_new(json, "stride", pair(node->conv.stride)) == 0 &&
               json_object_set_new(json, "pad", pair(node->conv.pad)) == 0 &&
               json_object_set_new(json, "dilation", pair(node->conv.dilation)) == 0 &&
               json_object_set_new(json, "groups", json_integer(node->conv.groups)) == 0;
    return node->op != RQ_OP_BATCH_NORM ||
           json_object_set_new(json, "eps", json_real((double)node->eps)) == 0;
}

static bool put_params(json_t *json, const rq_graph *graph, const rq_node *node)
{
    json_t *params = NULL;
    bool ok = true;
    for (int slot = 0; slot < RQ_N_SLOTS && ok; slot++) {
        if (node->slot[slot] < 0)
            continue;
        if (!params) {
            params = json_object();
            ok = json_object_set_new(json, "params", params) == 0;
        }
        ok = ok && json_object_set_new(params, rq_slot_name((rq_slot)slot),
                                       json_string(graph->params[node->slot[slot]].name)) == 0;
    }
    return ok;
}

static json_t *node_json(const rq_graph *graph, const rq_node *node)
{
    json_t *inputs = json_array();
    bool ok = inputs != NULL;
    for (int i = 0; i < node->n_inputs && ok; i++)
        ok = json_array_append_new(inputs, json_string(graph->nodes[node->input[i]].name)) == 0;
    json_t *json = json_pack("{s:s, s:s, s:o}", "op", rq_op_name(node->op), "name", node->name,
                             "inputs", inputs);
    if (ok && json && put_attributes(json, node) && put_params(json, graph, node))
        return json;
    json_decref(json);
    return NULL;
}

char *rq_graph_write_json(const rq_graph *graph)
{
    json_t *nodes = json_array();
    bool ok = nodes != NULL;
    for (int i = 0; i < graph->n_nodes && ok; i++)
        ok = json_array_append_new(nodes, node_json(graph, &graph->nodes[i])) == 0;
    json_t *tree = json_pack("{s:o}", "nodes", nodes);
    char *text = ok ? json_dumps(tree, JSON_COMPACT) : NULL; /* NULL of a NULL tree */
    json_decref(tree);
    return text;
}
