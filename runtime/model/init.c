/* Initial weights. */
#include <math.h>

#include "runtime/base/random.h"
#include "runtime/model/arch.h"

/* FNV-1a, so that a parameter's values depend on its name and not on the order of parameters. */
static uint64_t name_hash(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3ULL;
    return hash;
}

static void fill_uniform(const rq_param *param, double bound, uint64_t seed)
{
    rq_random random = rq_random_stream(seed, name_hash(param->name), 0);
    float *values = rq_tensor_f32(&param->tensor);
    const size_t n = rq_tensor_elems(&param->tensor);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(bound * (2.0 * rq_random_unit(&random) - 1.0));
}

static void fill_constant(rq_tensor *tensor, float value)
{
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
        rq_tensor_f32(tensor)[i] = value;
}

static void init_batch_norm(rq_graph *graph, int node)
{
    fill_constant(rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT), 1.0f);
    fill_constant(rq_graph_tensor(graph, node, RQ_SLOT_BIAS), 0.0f);
    fill_constant(rq_graph_tensor(graph, node, RQ_SLOT_MEAN), 0.0f);
    fill_constant(rq_graph_tensor(graph, node, RQ_SLOT_VAR), 1.0f);
    rq_tensor *tracked = rq_graph_tensor(graph, node, RQ_SLOT_TRACKED);
    if (tracked)
        *(int64_t *)tracked->data = 0;
}

void rq_model_init_weights(rq_model *model, uint64_t seed)
{
    rq_graph *graph = &model->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        const rq_node *node = &graph->nodes[i];
        if (node->op == RQ_OP_BATCH_NORM) {
            init_batch_norm(graph, i);
        } else if (node->op == RQ_OP_CONV || node->op == RQ_OP_LINEAR) {
            const rq_tensor *weight = rq_graph_tensor(graph, i, RQ_SLOT_WEIGHT);
            const size_t fan_in = rq_tensor_elems(weight) / (size_t)weight->dim[0];
            const double bound = 1.0 / sqrt((double)fan_in);
            fill_uniform(&graph->params[node->slot[RQ_SLOT_WEIGHT]], bound, seed);
            if (node->slot[RQ_SLOT_BIAS] >= 0)
                fill_uniform(&graph->params[node->slot[RQ_SLOT_BIAS]], bound, seed);
        }
    }
    model->seed = seed;
}
