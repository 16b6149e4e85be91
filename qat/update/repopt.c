/* The csla network of the same description is built, filled with the scales, and merged block by
 * block. */
#include "qat/update/repopt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/model/arch.h"
#include "runtime/torch/checkpoint.h"

enum { NAME_BYTES = 256, TAPS = 9, CENTRE = 4 };

struct rq_repopt {
    rq_arena arena;
    const float **multipliers; /* [n_params] */
};

double rq_repopt_multiplier(const rq_repopt_scales *scales, rq_optimizer_kind kind, bool centre,
                            bool diagonal)
{
    const bool squared = kind == RQ_OPTIMIZER_SGD;
    double sum = squared ? scales->s * scales->s : scales->s;
    if (centre)
        sum += squared ? scales->t * scales->t : scales->t;
    if (centre && diagonal && scales->identity)
        sum += 1.0;
    return sum;
}

/* ---- the csla network ---- */

static rq_status build_csla(rq_model *csla, const rq_model *target, rq_error *err)
{
    char text[RQ_ARCH_TEXT_BYTES];
    rq_arch arch;
    RQ_TRY(rq_arch_parse(&arch, target->arch, err));
    if (arch.block != RQ_BLOCK_TARGET || target->form != RQ_FORM_TRAIN)
        return rq_fail(err, RQ_ERR_USAGE,
                       "--scales: only a plain network (block=target, as RepOpt-VGG-B1-target) is "
                       "trained by RepOptimizer, not %s",
                       target->arch);
    arch.block = RQ_BLOCK_CSLA;
    rq_arch_describe(&arch, text);
    RQ_TRY(rq_arch_build(csla, text, target->n_classes, err));
    rq_model_init_weights(csla, target->seed);
    return RQ_OK;
}

/* The parameter "<block>.<name>", NULL: none. block: "stage1.0." with n characters. */
static rq_tensor *find_tensor(rq_graph *graph, const char *block, size_t n, const char *name)
{
    char text[NAME_BYTES];
    (void)snprintf(text, sizeof text, "%.*s%s", (int)n, block, name);
    const int param = rq_graph_find_param(graph, text);
    return param >= 0 ? &graph->params[param].tensor : NULL;
}

/* ---- reading ---- */

/* Nothing else in RepOptimizer's networks is called so. */
static bool is_scale(const char *name)
{
    return strstr(name, ".scale_") != NULL;
}

static rq_status read_scale(rq_checkpoint *file, rq_param *param, rq_error *err)
{
    const int i = rq_checkpoint_find(file, param->name);
    if (i < 0)
        return rq_fail(err, RQ_ERR_MODEL, "%s: %s is missing: these are not the network's scales",
                       rq_checkpoint_path(file), param->name);
    const rq_checkpoint_tensor *found = rq_checkpoint_get(file, i);
    if (!found->other && (found->rank != 1 || found->dim[0] != param->tensor.dim[0]))
        return rq_fail(err, RQ_ERR_MODEL, "%s: %s has not the %lld values of the network's",
                       rq_checkpoint_path(file), param->name, (long long)param->tensor.dim[0]);
    float *values = rq_tensor_f32(&param->tensor);
    RQ_TRY(rq_checkpoint_read(file, i, RQ_F32, values, err));
    for (size_t k = 0; k < rq_tensor_elems(&param->tensor); k++)
        if (!isfinite(values[k]))
            return rq_fail(err, RQ_ERR_MODEL, "%s: %s[%zu] is not finite", rq_checkpoint_path(file),
                           param->name, k);
    return RQ_OK;
}

static rq_status read_all(rq_checkpoint *file, const rq_graph *graph, rq_error *err)
{
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i].op == RQ_OP_SCALE)
            RQ_TRY(read_scale(file, &graph->params[graph->nodes[i].slot[RQ_SLOT_WEIGHT]], err));
    for (int i = 0; i < rq_checkpoint_count(file); i++) {
        const char *name = rq_checkpoint_get(file, i)->name;
        if (is_scale(name) && rq_graph_find_param(graph, name) < 0)
            return rq_fail(err, RQ_ERR_MODEL, "%s: %s is of a layer that the network has not",
                           rq_checkpoint_path(file), name);
    }
    return RQ_OK;
}

static rq_status read_scales(rq_model *csla, const char *path, rq_error *err)
{
    rq_checkpoint *file;
    RQ_TRY(rq_checkpoint_open(&file, path, err));
    const rq_status status = read_all(file, &csla->graph, err);
    rq_checkpoint_close(file);
    return status;
}

/* ---- one block ---- */

typedef struct block {
    const rq_tensor *k3, *k1, *s, *t, *r; /* of the csla network; r NULL without identity */
    rq_tensor *target;
    int param; /* of the target network */
} block;

static rq_repopt_scales scales_of(const block *b, int64_t oc)
{
    return (rq_repopt_scales){
        .s = (double)rq_tensor_f32(b->s)[oc],
        .t = (double)rq_tensor_f32(b->t)[oc],
        .r = b->r ? (double)rq_tensor_f32(b->r)[oc] : 0.0,
        .identity = b->r != NULL,
    };
}

/* Number of the input channel, within its group, that output channel oc is the identity of. */
static int64_t diagonal_of(const block *b, int64_t oc)
{
    return oc % b->target->dim[1];
}

static void start_weights(const block *b)
{
    const int64_t ic_count = b->target->dim[1];
    for (int64_t oc = 0; oc < b->target->dim[0]; oc++) {
        const rq_repopt_scales scales = scales_of(b, oc);
        for (int64_t ic = 0; ic < ic_count; ic++) {
            const int64_t at = oc * ic_count + ic;
            float *dst = rq_tensor_f32(b->target) + at * TAPS;
            const float *k3 = rq_tensor_f32(b->k3) + at * TAPS;
            double centre = scales.t * (double)rq_tensor_f32(b->k1)[at];
            if (scales.identity && ic == diagonal_of(b, oc))
                centre += scales.r;
            for (int k = 0; k < TAPS; k++)
                dst[k] = (float)(scales.s * (double)k3[k] + (k == CENTRE ? centre : 0.0));
        }
    }
}

static void make_multipliers(const block *b, rq_optimizer_kind kind, float *dst)
{
    for (int64_t oc = 0; oc < b->target->dim[0]; oc++) {
        const rq_repopt_scales scales = scales_of(b, oc);
        for (int64_t ic = 0; ic < b->target->dim[1]; ic++)
            for (int k = 0; k < TAPS; k++)
                *dst++ = (float)rq_repopt_multiplier(&scales, kind, k == CENTRE,
                                                     ic == diagonal_of(b, oc));
    }
}

/* The block of this path ("stage1.0.", its first n characters), in both networks. */
static rq_status find_block(block *out, rq_model *target, rq_model *csla, const char *path,
                            size_t n, rq_error *err)
{
    *out = (block){
        .k3 = find_tensor(&csla->graph, path, n, "conv.weight"),
        .k1 = find_tensor(&csla->graph, path, n, "conv_1x1.weight"),
        .s = find_tensor(&csla->graph, path, n, "scale_conv.weight"),
        .t = find_tensor(&csla->graph, path, n, "scale_1x1.weight"),
        .r = find_tensor(&csla->graph, path, n, "scale_identity.weight"),
        .target = find_tensor(&target->graph, path, n, "conv.weight"),
    };
    if (!out->k3 || !out->k1 || !out->s || !out->t || !out->target)
        return rq_fail(err, RQ_ERR_MODEL, "%.*s is not a block of both forms", (int)n, path);
    while (&target->graph.params[out->param].tensor != out->target)
        out->param++;
    return RQ_OK;
}

static rq_status apply(rq_repopt *repopt, rq_model *model, rq_model *csla,
                       const rq_repopt_options *options, rq_error *err)
{
    repopt->multipliers = rq_arena_array(&repopt->arena, const float *, model->graph.n_params);
    if (!repopt->multipliers)
        return rq_no_memory(err);
    for (int i = 0; i < csla->graph.n_nodes; i++) {
        const rq_node *node = &csla->graph.nodes[i];
        const char *last = strrchr(node->name, '.');
        if (!last || strcmp(last, ".scale_conv") != 0)
            continue;
        block b;
        RQ_TRY(find_block(&b, model, csla, node->name, (size_t)(last + 1 - node->name), err));
        float *values = rq_arena_array(&repopt->arena, float, rq_tensor_elems(b.target));
        if (!values)
            return rq_no_memory(err);
        if (!options->keep_weights)
            start_weights(&b);
        make_multipliers(&b, options->kind, values);
        repopt->multipliers[b.param] = values;
    }
    return RQ_OK;
}

/* ---- all ---- */

static rq_status fill(rq_repopt *repopt, rq_model *model, rq_model *csla,
                      const rq_repopt_options *options, rq_error *err)
{
    RQ_TRY(build_csla(csla, model, err));
    RQ_TRY(read_scales(csla, options->scales, err));
    return apply(repopt, model, csla, options, err);
}

rq_status rq_repopt_create(rq_repopt **out, rq_model *model, const rq_repopt_options *options,
                           rq_error *err)
{
    rq_model csla = RQ_MODEL_INIT;
    rq_repopt *repopt = rq_alloc(sizeof *repopt);
    if (!repopt)
        return rq_no_memory(err);
    const rq_status status = fill(repopt, model, &csla, options, err);
    rq_model_deinit(&csla);
    if (status)
        rq_repopt_destroy(repopt);
    else
        *out = repopt;
    return status;
}

void rq_repopt_destroy(rq_repopt *repopt)
{
    if (!repopt)
        return;
    rq_arena_deinit(&repopt->arena);
    rq_free(repopt);
}

const float *const *rq_repopt_multipliers(const rq_repopt *repopt)
{
    return repopt->multipliers;
}
