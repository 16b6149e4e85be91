/* Graphs of architectures: one function per kind of block gives its linear part; ReLU,
 * squeeze-and-excitation, stages and heads around it are the same for all. */
#include <math.h>
#include <stdio.h>

#include "runtime/model/arch.h"

enum { NO_NODE = -1, PATH_BYTES = 64 };

/* Nodes are appended one by one; the first failure sticks and makes the rest do nothing. */
typedef struct builder {
    rq_graph *graph;
    rq_form form;
    rq_status status;
    rq_error *err;
} builder;

/* A block, or another module with nodes of its own: its place and its sizes. */
typedef struct module {
    char path[PATH_BYTES]; /* "": the network */
    int ic, oc, stride, groups;
    int index; /* of a block in its stage */
} module;

/* ---- nodes ---- */

static int add_node(builder *b, rq_op op, const module *m, const char *name, int n_inputs,
                    const int *inputs)
{
    char full[2 * PATH_BYTES];
    int node = 0;
    (void)snprintf(full, sizeof full, "%s%s%s", m->path, *m->path ? "." : "", name);
    if (!b->status)
        b->status = rq_graph_add_node(b->graph, op, full, n_inputs, inputs, &node, b->err);
    return node;
}

static int add_unary(builder *b, rq_op op, const module *m, const char *name, int x)
{
    return add_node(b, op, m, name, 1, &x);
}

static void add_param(builder *b, int node, rq_slot slot, rq_dtype dtype, int rank,
                      const int64_t *dims, float fill)
{
    if (!b->status)
        b->status = rq_graph_add_param(b->graph, node, slot, dtype, rank, dims, b->err);
    if (b->status || fill == 0.0f) /* zeroed already */
        return;
    const rq_tensor *tensor = rq_graph_tensor(b->graph, node, slot);
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
        rq_tensor_f32(tensor)[i] = fill;
}

static int add_batch_norm(builder *b, const module *m, const char *name, int x)
{
    const int64_t dims[1] = {m->oc};
    const int node = add_unary(b, RQ_OP_BATCH_NORM, m, name, x);
    add_param(b, node, RQ_SLOT_WEIGHT, RQ_F32, 1, dims, 1.0f);
    add_param(b, node, RQ_SLOT_BIAS, RQ_F32, 1, dims, 0.0f);
    add_param(b, node, RQ_SLOT_MEAN, RQ_F32, 1, dims, 0.0f);
    add_param(b, node, RQ_SLOT_VAR, RQ_F32, 1, dims, 1.0f);
    add_param(b, node, RQ_SLOT_TRACKED, RQ_S64, 0, NULL, 0.0f);
    if (!b->status)
        b->graph->nodes[node].eps = 1e-5f;
    return node;
}

/* kernel 1 or 3, padded to keep the size; no bias. */
static int add_conv(builder *b, const module *m, const char *name, int x, int kernel)
{
    const int64_t dims[4] = {m->oc, m->ic / m->groups, kernel, kernel};
    const int node = add_unary(b, RQ_OP_CONV, m, name, x);
    add_param(b, node, RQ_SLOT_WEIGHT, RQ_F32, 4, dims, 0.0f);
    if (!b->status)
        b->graph->nodes[node].conv = (rq_conv_attr){
            {kernel, kernel}, {m->stride, m->stride}, {kernel / 2, kernel / 2}, {1, 1}, m->groups};
    return node;
}

static int add_scale(builder *b, const module *m, const char *name, int x, double value,
                     bool constant)
{
    const int64_t dims[1] = {m->oc};
    const int node = add_unary(b, RQ_OP_SCALE, m, name, x);
    add_param(b, node, RQ_SLOT_WEIGHT, RQ_F32, 1, dims, (float)value);
    if (!b->status)
        b->graph->nodes[node].constant = constant;
    return node;
}

static int add_linear(builder *b, const module *m, const char *name, int x)
{
    const int64_t dims[2] = {m->oc, m->ic};
    const int node = add_unary(b, RQ_OP_LINEAR, m, name, x);
    add_param(b, node, RQ_SLOT_WEIGHT, RQ_F32, 2, dims, 0.0f);
    add_param(b, node, RQ_SLOT_BIAS, RQ_F32, 1, dims, 0.0f);
    return node;
}

/* ---- the linear parts of blocks, a function for each row of RQ_BLOCK_LIST ---- */

static int add_conv_bn(builder *b, const module *m, const char *conv, const char *bn, int x,
                       int kernel)
{
    return add_batch_norm(b, m, bn, add_conv(b, m, conv, x, kernel));
}

static bool has_identity(const module *m)
{
    return m->ic == m->oc && m->stride == 1;
}

/* identity may be NO_NODE. */
static int add_sum(builder *b, const module *m, int dense, int point, int identity)
{
    const int branches[3] = {dense, point, identity};
    return add_node(b, RQ_OP_ADD, m, "add", identity == NO_NODE ? 2 : 3, branches);
}

static int build_repvgg(builder *b, const module *m, int x)
{
    const int dense = add_conv_bn(b, m, "rbr_dense.conv", "rbr_dense.bn", x, 3);
    const int point = add_conv_bn(b, m, "rbr_1x1.conv", "rbr_1x1.bn", x, 1);
    const int identity = has_identity(m) ? add_batch_norm(b, m, "rbr_identity", x) : NO_NODE;
    return add_sum(b, m, dense, point, identity);
}

static int build_repopt_repvgg(builder *b, const module *m, int x)
{
    const int dense = add_conv_bn(b, m, "conv_3x3", "bn_3x3", x, 3);
    const int point = add_conv_bn(b, m, "conv_1x1", "bn_1x1", x, 1);
    const int identity = has_identity(m) ? add_batch_norm(b, m, "bn_identity", x) : NO_NODE;
    return add_sum(b, m, dense, point, identity);
}

static int build_qarepvgg(builder *b, const module *m, int x)
{
    const int dense = add_conv_bn(b, m, "rbr_dense.conv", "rbr_dense.bn", x, 3);
    const int point = add_conv(b, m, "rbr_1x1", x, 1);
    const int sum = add_sum(b, m, dense, point, has_identity(m) ? x : NO_NODE);
    return add_batch_norm(b, m, "bn", sum);
}

static int build_target(builder *b, const module *m, int x)
{
    return add_conv_bn(b, m, "conv", "bn", x, 3);
}

/* The deeper a block is in its stage, the less its convolutions weigh against its identity
 * (RepOptimizer, appendix B). */
static int build_scaled(builder *b, const module *m, int x, bool constant)
{
    const double init = m->index > 0 ? sqrt(2.0 / m->index) : 1.0;
    int dense = add_conv(b, m, "conv", x, 3);
    dense = add_scale(b, m, "scale_conv", dense, init, constant);
    int point = add_conv(b, m, "conv_1x1", x, 1);
    point = add_scale(b, m, "scale_1x1", point, init, constant);
    const int identity =
        has_identity(m) ? add_scale(b, m, "scale_identity", x, 1.0, false) : NO_NODE;
    return add_batch_norm(b, m, "bn", add_sum(b, m, dense, point, identity));
}

static int build_hs(builder *b, const module *m, int x)
{
    return build_scaled(b, m, x, false);
}

static int build_csla(builder *b, const module *m, int x)
{
    return build_scaled(b, m, x, true);
}

static const struct {
    int (*build)(builder *b, const module *m, int x); /* gives the last node */
    const char *activation;
} blocks[RQ_N_BLOCKS] = {
#define X(code, function, word, activation) [RQ_BLOCK_##code] = {build_##function, (activation)},
    RQ_BLOCK_LIST(X)
#undef X
};

/* ---- what is around them ---- */

static int add_conv_bias(builder *b, const module *m, const char *name, int x, int kernel)
{
    const int64_t dims[1] = {m->oc};
    const int node = add_conv(b, m, name, x, kernel);
    add_param(b, node, RQ_SLOT_BIAS, RQ_F32, 1, dims, 0.0f);
    return node;
}

/* x times a gate per channel: sigmoid(up(relu(down(mean of x)))). The product is the module's own
 * value and has its name. */
static int add_se(builder *b, const module *block, const char *name, int x, int reduction)
{
    const int hidden = block->oc / reduction;
    module down = {.ic = block->oc, .oc = hidden, .stride = 1, .groups = 1};
    (void)snprintf(down.path, sizeof down.path, "%.*s.%s", PATH_BYTES - 16, block->path, name);
    module up = down;
    up.ic = hidden;
    up.oc = block->oc;
    int gate = add_unary(b, RQ_OP_GLOBAL_AVG_POOL, &down, "gap", x);
    gate = add_conv_bias(b, &down, "down", gate, 1);
    gate = add_unary(b, RQ_OP_RELU, &down, "relu", gate);
    gate = add_conv_bias(b, &up, "up", gate, 1);
    gate = add_unary(b, RQ_OP_SIGMOID, &down, "sigmoid", gate);
    return add_node(b, RQ_OP_MUL, block, name, 2, (const int[]){x, gate});
}

/* With se=pre the gate follows the whole linear part, after qarepvgg's last batch norm too: that
 * is what a merged block can compute. (The original puts it before that batch norm in training and
 * after it in deployment, which are two functions.) */
static int add_block(builder *b, const rq_arch *arch, const module *m, int x)
{
    int value = b->form == RQ_FORM_DEPLOY ? add_conv_bias(b, m, "rbr_reparam", x, 3)
                                          : blocks[arch->block].build(b, m, x);
    if (arch->se == RQ_SE_PRE)
        value = add_se(b, m, "se", value, arch->se_reduction);
    value = add_unary(b, RQ_OP_RELU, m, blocks[arch->block].activation, value);
    if (arch->se == RQ_SE_POST)
        value = add_se(b, m, "post_se", value, arch->se_reduction);
    return value;
}

/* RepVGGplus' auxiliary head: Sequential(conv 3x3 + bn + relu, pool, flatten, linear). */
static void add_aux_head(builder *b, const rq_arch *arch, int stage, int x)
{
    const int channels = arch->width[stage];
    module head = {.ic = channels, .oc = channels, .stride = 2, .groups = 1};
    rq_arch_aux_path(arch, stage, head.path);
    int value = add_conv_bn(b, &head, "0.conv", "0.bn", x, 3);
    value = add_unary(b, RQ_OP_RELU, &head, "0.relu", value);
    value = add_unary(b, RQ_OP_GLOBAL_AVG_POOL, &head, "1", value);
    head.oc = arch->classes;
    (void)add_linear(b, &head, "3", value);
}

static int add_max_pool(builder *b, const module *m, int x, int size)
{
    const int node = add_unary(b, RQ_OP_MAX_POOL, m, "pool", x);
    if (!b->status)
        b->graph->nodes[node].conv = (rq_conv_attr){{size, size}, {size, size}, {0, 0}, {1, 1}, 1};
    return node;
}

static void name_block(const rq_arch *arch, int stage, module *m)
{
    if (stage == 0)
        (void)snprintf(m->path, sizeof m->path, "%s", arch->name[stage]);
    else
        (void)snprintf(m->path, sizeof m->path, "%s.%d", arch->name[stage], m->index);
}

static rq_status build_graph(rq_graph *graph, const rq_arch *arch, rq_form form, rq_error *err)
{
    builder b = {graph, form, RQ_OK, err};
    const module network = {.ic = arch->width[arch->n_stages - 1], .oc = arch->classes};
    int value = add_node(&b, RQ_OP_INPUT, &network, "input", 0, NULL);
    module m = {.ic = 3};
    for (int stage = 0, layer = 0; stage < arch->n_stages; stage++) {
        for (m.index = 0; m.index < arch->depth[stage]; m.index++, layer++) {
            m.oc = arch->width[stage];
            const int stride = m.index == 0 ? arch->stride[stage] : 1;
            m.stride = arch->max_pool ? 1 : stride;
            m.groups = rq_arch_layer_groups(arch, layer);
            name_block(arch, stage, &m);
            value = add_block(&b, arch, &m, value);
            if (m.stride != stride)
                value = add_max_pool(&b, &m, value, stride);
            m.ic = m.oc;
        }
        if (arch->aux[stage] && form == RQ_FORM_TRAIN)
            add_aux_head(&b, arch, stage, value);
    }
    value = add_unary(&b, RQ_OP_GLOBAL_AVG_POOL, &network, "gap", value);
    (void)add_linear(&b, &network, "linear", value);
    return b.status;
}

static rq_status build_model(rq_model *out, const char *text, int n_classes_override, rq_form form,
                             rq_error *err)
{
    *out = (rq_model)RQ_MODEL_INIT;
    rq_arch arch;
    RQ_TRY(rq_arch_parse(&arch, text, err));
    if (n_classes_override < 0 || n_classes_override > RQ_MAX_CHANNELS)
        return rq_fail(err, RQ_ERR_USAGE, "%d classes, the limit is %d", n_classes_override,
                       RQ_MAX_CHANNELS);
    if (n_classes_override > 0)
        arch.classes = n_classes_override;
    out->form = form;
    out->n_classes = arch.classes;
    out->arch = rq_arena_strdup(&out->graph.arena, text);
    const rq_status status =
        out->arch ? build_graph(&out->graph, &arch, form, err) : rq_no_memory(err);
    if (status)
        rq_model_deinit(out);
    return status;
}

rq_status rq_arch_build(rq_model *out, const char *text, int n_classes_override, rq_error *err)
{
    return build_model(out, text, n_classes_override, RQ_FORM_TRAIN, err);
}

rq_status rq_arch_build_deploy(rq_model *out, const char *text, int n_classes_override,
                               rq_error *err)
{
    return build_model(out, text, n_classes_override, RQ_FORM_DEPLOY, err);
}
