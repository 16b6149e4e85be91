/* Blocks are found by their operators; sums per output channel in double. */
#include "qat/update/custom_l2.h"

#include <math.h>

enum { TAPS = 9, CENTRE = 4 };

/* A convolution and the batch norm after it. */
typedef struct branch {
    int param; /* of the weight k */
    const float *k, *gamma, *var;
    float *gradient; /* of k */
    double eps;
} branch;

typedef struct block {
    branch dense, point; /* 3x3, 1x1 */
    size_t channels;     /* of the output */
    size_t inputs;       /* of one of them */
} block;

struct rq_custom_l2 {
    rq_arena arena;
    double weight_decay;
    block *blocks;
    int n_blocks;
    bool *weights;  /* [n_params] */
    double *values; /* [the most channels] */
};

/* ---- the blocks ---- */

static bool is_square(const rq_node *conv, int side)
{
    return conv->op == RQ_OP_CONV && conv->conv.kernel[0] == side && conv->conv.kernel[1] == side;
}

/* The branch of the sum `node` with a kernel of this side; false: it has none. */
static bool find_branch(branch *out, const rq_graph *graph, const rq_node *node, int side)
{
    for (int i = 0; i < node->n_inputs; i++) {
        const int bn = node->input[i];
        if (graph->nodes[bn].op != RQ_OP_BATCH_NORM)
            continue;
        const int conv = graph->nodes[bn].input[0];
        if (!is_square(&graph->nodes[conv], side))
            continue;
        out->param = graph->nodes[conv].slot[RQ_SLOT_WEIGHT];
        out->k = rq_tensor_f32(&graph->params[out->param].tensor);
        out->gamma = rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_WEIGHT));
        out->var = rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_VAR));
        out->eps = (double)graph->nodes[bn].eps;
        return true;
    }
    return false;
}

static void find_blocks(rq_custom_l2 *l2, const rq_trainer *trainer, const rq_graph *graph)
{
    for (int i = 0; i < graph->n_nodes; i++) {
        block *b = &l2->blocks[l2->n_blocks];
        if (graph->nodes[i].op != RQ_OP_ADD ||
            !find_branch(&b->dense, graph, &graph->nodes[i], 3) ||
            !find_branch(&b->point, graph, &graph->nodes[i], 1))
            continue;
        const rq_tensor *weight = &graph->params[b->point.param].tensor;
        b->channels = (size_t)weight->dim[0];
        b->inputs = (size_t)weight->dim[1];
        b->dense.gradient = rq_trainer_gradient(trainer, b->dense.param);
        b->point.gradient = rq_trainer_gradient(trainer, b->point.param);
        l2->weights[b->dense.param] = l2->weights[b->point.param] = true;
        l2->n_blocks++;
    }
}

static rq_status fill(rq_custom_l2 *l2, const rq_trainer *trainer, const rq_graph *graph,
                      rq_error *err)
{
    l2->blocks = rq_arena_array(&l2->arena, block, graph->n_nodes);
    l2->weights = rq_arena_array(&l2->arena, bool, graph->n_params);
    if (!l2->blocks || !l2->weights)
        return rq_no_memory(err);
    find_blocks(l2, trainer, graph);
    if (!l2->n_blocks)
        return rq_fail(err, RQ_ERR_USAGE,
                       "--custom-l2: the network has no block that adds a 3x3 and a 1x1 "
                       "convolution with batch norms");
    size_t channels = 1;
    for (int i = 0; i < l2->n_blocks; i++)
        if (l2->blocks[i].channels > channels)
            channels = l2->blocks[i].channels;
    l2->values = rq_arena_array(&l2->arena, double, channels);
    return l2->values ? RQ_OK : rq_no_memory(err);
}

rq_status rq_custom_l2_create(rq_custom_l2 **out, const rq_trainer *trainer, const rq_model *model,
                              double weight_decay, rq_error *err)
{
    rq_custom_l2 *l2 = rq_alloc(sizeof *l2);
    if (!l2)
        return rq_no_memory(err);
    l2->weight_decay = weight_decay;
    const rq_status status = fill(l2, trainer, &model->graph, err);
    if (status)
        rq_custom_l2_destroy(l2);
    else
        *out = l2;
    return status;
}

void rq_custom_l2_destroy(rq_custom_l2 *l2)
{
    if (!l2)
        return;
    rq_arena_deinit(&l2->arena);
    rq_free(l2);
}

const bool *rq_custom_l2_weights(const rq_custom_l2 *l2)
{
    return l2->weights;
}

/* ---- value and gradient ---- */

static double fold_factor(const branch *b, size_t channel)
{
    return (double)b->gamma[channel] / sqrt((double)b->var[channel] + b->eps);
}

/* One output channel: its part of the block's value; gradients grow by decay / 2 times its
 * derivative. */
static double add_channel(const block *b, size_t channel, double decay)
{
    const double t3 = fold_factor(&b->dense, channel), t1 = fold_factor(&b->point, channel);
    const double squares = t3 * t3 + t1 * t1;
    const double share = squares > 0.0 ? 1.0 / squares : 0.0;
    double value = 0.0;
    for (size_t i = 0; i < b->inputs; i++) {
        const size_t at = channel * b->inputs + i;
        const float *k3 = b->dense.k + at * TAPS;
        float *g3 = b->dense.gradient + at * TAPS;
        for (int tap = 0; tap < TAPS; tap++) {
            if (tap == CENTRE)
                continue;
            value += (double)k3[tap] * (double)k3[tap];
            g3[tap] += (float)(decay * (double)k3[tap]);
        }
        const double merged = t3 * (double)k3[CENTRE] + t1 * (double)b->point.k[at];
        value += merged * merged * share;
        g3[CENTRE] += (float)(decay * merged * share * t3);
        b->point.gradient[at] += (float)(decay * merged * share * t1);
    }
    return value;
}

double rq_custom_l2_add(const rq_custom_l2 *l2)
{
    double total = 0.0;
    for (int i = 0; i < l2->n_blocks; i++) {
        const block *b = &l2->blocks[i];
#pragma omp parallel for schedule(static)
        for (size_t c = 0; c < b->channels; c++)
            l2->values[c] = add_channel(b, c, l2->weight_decay);
        for (size_t c = 0; c < b->channels; c++)
            total += l2->values[c];
    }
    return 0.5 * l2->weight_decay * total;
}
