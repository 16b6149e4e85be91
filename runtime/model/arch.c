/* RepVGG networks from a name or a description. */
#include "runtime/model/arch.h"

#include <math.h>
#include <string.h>

#include "runtime/base/random.h"

/* ---- names ---- */

#define A_MODEL(name, w0, w1, w2, w3, w4, groups)                                                  \
    {                                                                                              \
        name,                                                                                      \
        {                                                                                          \
            5, {1, 2, 4, 14, 1}, {w0, w1, w2, w3, w4}, {2, 2, 2, 2, 2}, groups, 1000               \
        }                                                                                          \
    }
#define B_MODEL(name, w0, w1, w2, w3, w4, groups)                                                  \
    {                                                                                              \
        name,                                                                                      \
        {                                                                                          \
            5, {1, 4, 6, 16, 1}, {w0, w1, w2, w3, w4}, {2, 2, 2, 2, 2}, groups, 1000               \
        }                                                                                          \
    }

static const struct {
    const char *name;
    rq_arch arch;
} known[] = {
    A_MODEL("RepVGG-A0", 48, 48, 96, 192, 1280, 1),
    A_MODEL("RepVGG-A1", 64, 64, 128, 256, 1280, 1),
    A_MODEL("RepVGG-A2", 64, 96, 192, 384, 1408, 1),
    B_MODEL("RepVGG-B0", 64, 64, 128, 256, 1280, 1),
    B_MODEL("RepVGG-B1", 64, 128, 256, 512, 2048, 1),
    B_MODEL("RepVGG-B1g2", 64, 128, 256, 512, 2048, 2),
    B_MODEL("RepVGG-B1g4", 64, 128, 256, 512, 2048, 4),
    B_MODEL("RepVGG-B2", 64, 160, 320, 640, 2560, 1),
    B_MODEL("RepVGG-B2g2", 64, 160, 320, 640, 2560, 2),
    B_MODEL("RepVGG-B2g4", 64, 160, 320, 640, 2560, 4),
    B_MODEL("RepVGG-B3", 64, 192, 384, 768, 2560, 1),
    B_MODEL("RepVGG-B3g2", 64, 192, 384, 768, 2560, 2),
    B_MODEL("RepVGG-B3g4", 64, 192, 384, 768, 2560, 4),
};

enum { N_KNOWN = sizeof known / sizeof known[0] };

void rq_arch_list(FILE *out)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        (void)fprintf(out, "%s\n", known[i].name);
}

static rq_status fail_unknown(const char *text, rq_error *err)
{
    char names[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < N_KNOWN && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s ", known[i].name);
    return rq_fail(err, RQ_ERR_USAGE,
                   "unknown architecture '%.80s'; known: %sor repvgg:depth=1,…;width=…", text,
                   names);
}

/* ---- descriptions ---- */

static const char prefix[] = "repvgg:";

typedef struct list {
    int n;
    int values[RQ_MAX_STAGES];
} list;

typedef enum field { DEPTH, WIDTH, STRIDE, GROUPS, CLASSES, N_FIELDS } field;

static const struct {
    const char *name;
    int max_values, max;
} fields[N_FIELDS] = {
    [DEPTH] = {"depth", RQ_MAX_STAGES, RQ_MAX_DEPTH},
    [WIDTH] = {"width", RQ_MAX_STAGES, RQ_MAX_CHANNELS},
    [STRIDE] = {"stride", RQ_MAX_STAGES, 8},
    [GROUPS] = {"groups", 1, RQ_MAX_CHANNELS},
    [CLASSES] = {"classes", 1, RQ_MAX_CHANNELS},
};

/* A decimal number in 1..max at *at, which moves behind it. */
static bool read_number(const char **at, int max, int *out)
{
    int value = 0;
    const char *digit = *at;
    for (; *digit >= '0' && *digit <= '9' && value <= max; digit++)
        value = 10 * value + (*digit - '0');
    if (digit == *at || value < 1 || value > max)
        return false;
    *at = digit;
    *out = value;
    return true;
}

/* "name=1,2,3" at *at, which moves to the ';' or the end behind it. */
static rq_status read_field(const char **at, list *lists, rq_error *err)
{
    const size_t name_size = strcspn(*at, "=;");
    int i = 0;
    while (i < N_FIELDS &&
           (strlen(fields[i].name) != name_size || strncmp(fields[i].name, *at, name_size) != 0))
        i++;
    if (i == N_FIELDS || (*at)[name_size] != '=')
        return rq_fail(err, RQ_ERR_USAGE,
                       "'%.40s' does not begin with depth=, width=, stride=, "
                       "groups= or classes=",
                       *at);
    if (lists[i].n > 0)
        return rq_fail(err, RQ_ERR_USAGE, "%s stands twice", fields[i].name);
    *at += name_size;
    do {
        ++*at; /* over '=' or ',' */
        if (lists[i].n == fields[i].max_values)
            return rq_fail(err, RQ_ERR_USAGE, "%s has more than %d values", fields[i].name,
                           fields[i].max_values);
        if (!read_number(at, fields[i].max, &lists[i].values[lists[i].n]))
            return rq_fail(err, RQ_ERR_USAGE, "%s: '%.40s' does not begin with a number in 1..%d",
                           fields[i].name, *at, fields[i].max);
        lists[i].n++;
    } while (**at == ',');
    if (**at && **at != ';')
        return rq_fail(err, RQ_ERR_USAGE, "%s: unexpected '%.40s'", fields[i].name, *at);
    return RQ_OK;
}

static rq_status fill_arch(rq_arch *out, const list *lists, rq_error *err)
{
    const int n = lists[DEPTH].n;
    for (int i = DEPTH; i <= WIDTH; i++)
        if (lists[i].n == 0)
            return rq_fail(err, RQ_ERR_USAGE, "%s is missing", fields[i].name);
    for (int i = WIDTH; i <= STRIDE; i++)
        if (lists[i].n > 0 && lists[i].n != n)
            return rq_fail(err, RQ_ERR_USAGE, "%s has %d values, depth has %d", fields[i].name,
                           lists[i].n, n);
    if (lists[DEPTH].values[0] != 1)
        return rq_fail(err, RQ_ERR_USAGE, "depth must begin with 1 (stage0 is one block)");
    *out = (rq_arch){.n_stages = n};
    int total_depth = 0;
    for (int i = 0; i < n; i++) {
        out->depth[i] = lists[DEPTH].values[i];
        out->width[i] = lists[WIDTH].values[i];
        out->stride[i] = lists[STRIDE].n ? lists[STRIDE].values[i] : 2;
        total_depth += out->depth[i];
    }
    if (total_depth > RQ_MAX_DEPTH)
        return rq_fail(err, RQ_ERR_USAGE, "depth sums to %d blocks, the limit is %d", total_depth,
                       RQ_MAX_DEPTH);
    out->groups = lists[GROUPS].n ? lists[GROUPS].values[0] : 1;
    out->classes = lists[CLASSES].n ? lists[CLASSES].values[0] : 1000;
    return RQ_OK;
}

static rq_status parse_description(rq_arch *out, const char *text, rq_error *err)
{
    list lists[N_FIELDS] = {{0}};
    const char *at = text + strlen(prefix);
    rq_status status = read_field(&at, lists, err);
    while (!status && *at) {
        at++;
        status = read_field(&at, lists, err);
    }
    return status ? status : fill_arch(out, lists, err);
}

/* Layers 2, 4, 6, … use the groups. */
static int layer_groups(const rq_arch *arch, int layer)
{
    return layer >= 2 && layer % 2 == 0 ? arch->groups : 1;
}

static rq_status check_groups(const rq_arch *arch, rq_error *err)
{
    int layer = 0, ic = 3;
    for (int stage = 0; stage < arch->n_stages; stage++)
        for (int block = 0; block < arch->depth[stage]; block++, layer++) {
            const int groups = layer_groups(arch, layer);
            if (ic % groups != 0 || arch->width[stage] % groups != 0)
                return rq_fail(err, RQ_ERR_USAGE,
                               "groups: %d does not divide the %d to %d channels of layer %d "
                               "(stage%d)",
                               groups, ic, arch->width[stage], layer, stage);
            ic = arch->width[stage];
        }
    return RQ_OK;
}

rq_status rq_arch_parse(rq_arch *out, const char *text, rq_error *err)
{
    for (size_t i = 0; i < N_KNOWN; i++)
        if (strcmp(text, known[i].name) == 0) {
            *out = known[i].arch;
            return RQ_OK;
        }
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        return fail_unknown(text, err);
    rq_arch arch;
    rq_status status = parse_description(&arch, text, err);
    if (!status)
        status = check_groups(&arch, err);
    if (status)
        rq_error_prefix(err, "architecture '%.120s'", text);
    else
        *out = arch;
    return status;
}

static size_t describe_list(char *text, size_t size_bytes, const char *name, const int *values,
                            int n)
{
    size_t used = 0;
    for (int i = 0; i < n; i++)
        used += (size_t)snprintf(used < size_bytes ? text + used : NULL,
                                 used < size_bytes ? size_bytes - used : 0, "%s%s%d",
                                 i ? "," : name, i ? "" : "=", values[i]);
    return used;
}

void rq_arch_describe(const rq_arch *arch, char *text, size_t size_bytes)
{
    char depth[128], width[128], stride[128];
    (void)describe_list(depth, sizeof depth, "depth", arch->depth, arch->n_stages);
    (void)describe_list(width, sizeof width, "width", arch->width, arch->n_stages);
    (void)describe_list(stride, sizeof stride, "stride", arch->stride, arch->n_stages);
    (void)snprintf(text, size_bytes, "%s%s;%s;%s;groups=%d;classes=%d", prefix, depth, width,
                   stride, arch->groups, arch->classes);
}

/* ---- graphs ---- */

/* Nodes are appended one by one; the first failure sticks and makes the rest do nothing. */
typedef struct builder {
    rq_graph *graph;
    rq_status status;
    rq_error *err;
} builder;

static int add_node(builder *b, rq_op op, const char *block, const char *name, int n_inputs,
                    const int *inputs)
{
    char full[64];
    int node = 0;
    (void)snprintf(full, sizeof full, "%s%s%s", block, *block && *name ? "." : "", name);
    if (!b->status)
        b->status = rq_graph_add_node(b->graph, op, full, n_inputs, inputs, &node, b->err);
    return node;
}

static void fill_constant(rq_tensor *tensor, float value)
{
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++)
        rq_tensor_f32(tensor)[i] = value;
}

static void add_param(builder *b, int node, rq_slot slot, rq_dtype dtype, int rank,
                      const int64_t *dims, float fill)
{
    if (!b->status)
        b->status = rq_graph_add_param(b->graph, node, slot, dtype, rank, dims, b->err);
    if (!b->status && fill != 0.0f)
        fill_constant(rq_graph_tensor(b->graph, node, slot), fill);
}

static int add_batch_norm(builder *b, const char *block, const char *name, int input, int channels)
{
    const int64_t dims[1] = {channels};
    const int node = add_node(b, RQ_OP_BATCH_NORM, block, name, 1, &input);
    add_param(b, node, RQ_SLOT_WEIGHT, RQ_F32, 1, dims, 1.0f);
    add_param(b, node, RQ_SLOT_BIAS, RQ_F32, 1, dims, 0.0f);
    add_param(b, node, RQ_SLOT_MEAN, RQ_F32, 1, dims, 0.0f);
    add_param(b, node, RQ_SLOT_VAR, RQ_F32, 1, dims, 1.0f);
    add_param(b, node, RQ_SLOT_TRACKED, RQ_S64, 0, NULL, 0.0f);
    if (!b->status)
        b->graph->nodes[node].eps = 1e-5f;
    return node;
}

static int add_conv(builder *b, const char *block, const char *name, int input, int ic, int oc,
                    rq_conv_attr conv)
{
    const int64_t dims[4] = {oc, ic / conv.groups, conv.kernel[0], conv.kernel[1]};
    const int node = add_node(b, RQ_OP_CONV, block, name, 1, &input);
    add_param(b, node, RQ_SLOT_WEIGHT, RQ_F32, 4, dims, 0.0f);
    if (!b->status)
        b->graph->nodes[node].conv = conv;
    return node;
}

/* relu(bn(conv3x3(x)) + bn(conv1x1(x)) + bn(x)), the last only where the shapes allow it. */
static int add_block(builder *b, const char *block, int input, int ic, int oc, int stride,
                     int groups)
{
    const rq_conv_attr dense = {{3, 3}, {stride, stride}, {1, 1}, {1, 1}, groups};
    const rq_conv_attr point = {{1, 1}, {stride, stride}, {0, 0}, {1, 1}, groups};
    int branches[3], n_branches = 2;
    branches[0] = add_conv(b, block, "rbr_dense.conv", input, ic, oc, dense);
    branches[0] = add_batch_norm(b, block, "rbr_dense.bn", branches[0], oc);
    branches[1] = add_conv(b, block, "rbr_1x1.conv", input, ic, oc, point);
    branches[1] = add_batch_norm(b, block, "rbr_1x1.bn", branches[1], oc);
    if (ic == oc && stride == 1)
        branches[n_branches++] = add_batch_norm(b, block, "rbr_identity", input, oc);
    const int sum = add_node(b, RQ_OP_ADD, block, "add", n_branches, branches);
    return add_node(b, RQ_OP_RELU, block, "nonlinearity", 1, &sum);
}

static rq_status build_graph(rq_graph *graph, const rq_arch *arch, rq_error *err)
{
    builder b = {graph, RQ_OK, err};
    int value = add_node(&b, RQ_OP_INPUT, "", "input", 0, NULL);
    int layer = 0, channels = 3;
    for (int stage = 0; stage < arch->n_stages; stage++)
        for (int i = 0; i < arch->depth[stage]; i++, layer++) {
            char block[32];
            (void)snprintf(block, sizeof block, stage ? "stage%d.%d" : "stage%d", stage, i);
            value = add_block(&b, block, value, channels, arch->width[stage],
                              i ? 1 : arch->stride[stage], layer_groups(arch, layer));
            channels = arch->width[stage];
        }
    value = add_node(&b, RQ_OP_GLOBAL_AVG_POOL, "", "gap", 1, &value);
    const int linear = add_node(&b, RQ_OP_LINEAR, "", "linear", 1, &value);
    const int64_t dims[2] = {arch->classes, channels};
    add_param(&b, linear, RQ_SLOT_WEIGHT, RQ_F32, 2, dims, 0.0f);
    add_param(&b, linear, RQ_SLOT_BIAS, RQ_F32, 1, dims, 0.0f);
    return b.status;
}

rq_status rq_arch_build(rq_model *out, const char *text, int n_classes_override, rq_error *err)
{
    *out = (rq_model)RQ_MODEL_INIT;
    rq_arch arch;
    rq_status status = rq_arch_parse(&arch, text, err);
    if (status)
        return status;
    if (n_classes_override < 0 || n_classes_override > RQ_MAX_CHANNELS)
        return rq_fail(err, RQ_ERR_USAGE, "%d classes, the limit is %d", n_classes_override,
                       RQ_MAX_CHANNELS);
    if (n_classes_override > 0)
        arch.classes = n_classes_override;
    out->form = RQ_FORM_TRAIN;
    out->n_classes = arch.classes;
    out->arch = rq_arena_strdup(&out->graph.arena, text);
    status = out->arch ? build_graph(&out->graph, &arch, err)
                       : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    if (status)
        rq_model_deinit(out);
    return status;
}

/* ---- initial weights ---- */

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
