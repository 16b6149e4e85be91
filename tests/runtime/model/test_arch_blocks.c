/* The graphs of architectures against the published counts, names and shapes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/model/arch.h"
#include "tests/support/test.h"

static rq_error err;

typedef rq_status arch_builder(rq_model *out, const char *text, int n_classes, rq_error *err_);

/* Counts at 224 x 224, 1000 classes (hs: 100). Trained parameters and multiply-adds of
 * convolutions and linear layers, in the training form (without auxiliary heads) and merged.
 * RepVGG: paper, tables 2 to 5, and timm; RepOpt-VGG: RepOptimizer's repository, table 2. Of csla
 * and QARepVGG the rule is known that leads from one published count to the other. */
static const struct {
    const char *name;
    int64_t train, deploy;
    double gmac_train, gmac_deploy; /* 0: not published */
} published[] = {
    {"RepVGG-A0", 9108968, 8309384, 1.513, 1.361},
    {"RepVGG-A1", 14092264, 12789864, 2.626, 2.364},
    {"RepVGG-A2", 28210600, 25499944, 5.685, 5.117},
    {"RepVGG-B0", 15817960, 14339048, 3.397, 3.058},
    {"RepVGG-B1", 57415016, 51829480, 13.128, 11.815},
    {"RepVGG-B1g2", 45782376, 41360104, 9.788, 8.810},
    {"RepVGG-B1g4", 39966056, 36125416, 8.119, 7.307},
    {"RepVGG-B2", 89022376, 80315112, 20.418, 18.377},
    {"RepVGG-B2g2", 70846376, 63956712, 15.200, 13.680},
    {"RepVGG-B2g4", 61758376, 55777512, 12.591, 11.332},
    {"RepVGG-B3", 123085288, 110960872, 29.121, 26.209},
    {"RepVGG-B3g2", 96911848, 87404776, 21.606, 19.446},
    {"RepVGG-B3g4", 83825128, 75626728, 17.849, 16.064},
    {"RepVGG-D2se", 133334836, 120387572, 36.48, 32.83},
    {"RepVGGplus-L2pse", 140099224, 127151960, 36.48, 32.84},
    {"QARepVGG-B0", 15808616, 14339048, 3.397, 3.058},
    {"RepOpt-VGG-B1-target", 51841832, 51829480, 11.82, 11.82},
    {"RepOpt-VGG-B2-target", 80330536, 80315112, 18.38, 18.38},
    {"RepOpt-VGG-L1-target", 76037928, 76018920, 21.06, 21.06},
    {"RepOpt-VGG-L2-target", 118132776, 118109032, 32.83, 32.83},
    {"RepOpt-VGG-B1-repvgg", 57415016, 51829480, 0, 11.82},
    {"RepOpt-VGG-B2-repvgg", 89022376, 80315112, 0, 18.38},
    {"RepOpt-VGG-L1-repvgg", 84324712, 76018920, 0, 21.06},
    {"RepOpt-VGG-L2-repvgg", 131056296, 118109032, 0, 32.83},
    {"RepOpt-VGG-B1-hs", 55561572, 51829480 - 900 * 2049, 0, 0},
    {"RepOpt-VGG-B2-hs", 86705796, 80315112 - 900 * 2561, 0, 0},
    {"RepOpt-VGG-L1-hs", 82464612, 76018920 - 900 * 2049, 0, 0},
    {"RepOpt-VGG-L2-hs", 128731396, 118109032 - 900 * 2561, 0, 0},
    {"RepOpt-VGG-B1-csla", 55561572 + 900 * 2049, 51829480, 0, 11.82},
    {"RepOpt-VGG-B2-csla", 86705796 + 900 * 2561, 80315112, 0, 18.38},
    {"RepOpt-VGG-L1-csla", 82464612 + 900 * 2049, 76018920, 0, 21.06},
    {"RepOpt-VGG-L2-csla", 128731396 + 900 * 2561, 118109032, 0, 32.83},
};

static int64_t count_trained(const rq_graph *graph, int node)
{
    int64_t n = 0;
    for (int slot = RQ_SLOT_WEIGHT; slot <= RQ_SLOT_BIAS; slot++) {
        const rq_tensor *tensor = rq_graph_tensor(graph, node, (rq_slot)slot);
        n += tensor ? (int64_t)rq_tensor_elems(tensor) : 0;
    }
    return n;
}

static double count_macs(const rq_graph *graph, int node, const rq_shape *shape)
{
    const rq_op op = graph->nodes[node].op;
    const rq_tensor *weight = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT);
    return op == RQ_OP_CONV || op == RQ_OP_LINEAR
               ? (double)rq_tensor_elems(weight) * (double)(shape->h * shape->w)
               : 0.0;
}

typedef struct counts {
    int64_t params, aux_params;
    double macs; /* of the main output */
} counts;

static counts count(const rq_graph *graph, int64_t side)
{
    static rq_shape shapes[RQ_MAX_NODES];
    static bool needed[RQ_MAX_NODES];
    counts c = {0, 0, 0.0};
    assert_ok(rq_graph_shapes(graph, 1, side, side, shapes, &err), &err);
    rq_graph_find_needed(graph, needed);
    for (int i = 0; i < graph->n_nodes; i++) {
        *(needed[i] ? &c.params : &c.aux_params) += count_trained(graph, i);
        c.macs += needed[i] ? count_macs(graph, i, &shapes[i]) : 0.0;
    }
    return c;
}

static counts count_form(arch_builder *build, const char *name, int64_t side)
{
    rq_model model;
    assert_ok(build(&model, name, 0, &err), &err);
    const counts c = count(&model.graph, side);
    assert_string_equal(model.arch, name);
    assert_int_equal(model.n_classes, strstr(name, "-hs") ? 100 : 1000);
    rq_model_deinit(&model);
    return c;
}

static void test_arch_build__published_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        const char *name = published[i].name;
        const counts train = count_form(rq_arch_build, name, 224);
        const counts deploy = count_form(rq_arch_build_deploy, name, 224);
        /* the tables print 2 or 3 digits after the point */
        const double places = i < 13 || i == 15 ? 5.1e-4 : 5.1e-3;
        if (train.params != published[i].train || deploy.params != published[i].deploy)
            fail_msg("%s: %lld trained, %lld merged", name, (long long)train.params,
                     (long long)deploy.params);
        if (published[i].gmac_train > 0)
            assert_close(1e-9 * train.macs, published[i].gmac_train, places, 0);
        if (published[i].gmac_deploy > 0)
            assert_close(1e-9 * deploy.macs, published[i].gmac_deploy, places, 0);
        assert_int_equal(train.aux_params, strstr(name, "plus") ? 5963640 : 0);
        assert_int_equal(deploy.aux_params, 0);
    }
}

/* D2se and plus-L2pse at the resolution at which they were tested. */
static void test_arch_build__published_counts_at_320(void **state)
{
    (void)state;
    assert_close(1e-9 * count_form(rq_arch_build_deploy, "RepVGG-D2se", 320).macs, 66.99, 5.1e-3,
                 0);
    assert_close(1e-9 * count_form(rq_arch_build_deploy, "RepVGGplus-L2pse", 320).macs, 67.00,
                 5.1e-3, 0);
}

/* A QARepVGG has as many parameters as the RepVGG of its size without its identity branches. */
static void test_arch_build__counts_of_qarepvgg(void **state)
{
    (void)state;
    int n = 0;
    for (int i = 0; rq_arch_name(i); i++) {
        const char *qa = rq_arch_name(i), *plain = qa + 2;
        if (strncmp(qa, "QA", 2) != 0)
            continue;
        rq_model model;
        int64_t identities = 0;
        assert_ok(rq_arch_build(&model, plain, 0, &err), &err);
        for (int k = 0; k < model.graph.n_nodes; k++)
            if (strstr(model.graph.nodes[k].name, "rbr_identity"))
                identities += count_trained(&model.graph, k);
        rq_model_deinit(&model);
        assert_int_equal(count_form(rq_arch_build, qa, 224).params,
                         count_form(rq_arch_build, plain, 224).params - identities);
        assert_int_equal(count_form(rq_arch_build_deploy, qa, 224).params,
                         count_form(rq_arch_build_deploy, plain, 224).params);
        n++;
    }
    assert_int_equal(n, 10);
}

/* ---- state_dict ---- */

/* "name[d0,d1]" of every parameter, in the graph's order; a batch norm's five entries as
 * "name.*[C]". */
static void list_params(const rq_graph *graph, char *text, size_t size_bytes)
{
    size_t used = 0;
    for (int i = 0; i < graph->n_params; i++) {
        const rq_tensor *tensor = &graph->params[i].tensor;
        const char *name = graph->params[i].name;
        const int n = (int)strlen(name);
        const bool is_bn = i + 4 < graph->n_params &&
                           strstr(graph->params[i + 2].name, ".running_mean") &&
                           strncmp(name, graph->params[i + 2].name, (size_t)n - 6) == 0;
        used += (size_t)snprintf(text + used, size_bytes - used, "%s%.*s%s[", used ? " " : "",
                                 is_bn ? n - 6 : n, name, is_bn ? "*" : "");
        for (int k = 0; k < tensor->rank; k++)
            used += (size_t)snprintf(text + used, size_bytes - used, "%s%d", k ? "," : "",
                                     (int)tensor->dim[k]);
        used += (size_t)snprintf(text + used, size_bytes - used, "]");
        assert_true(used < size_bytes);
        static const char *const entries[] = {"weight", "bias", "running_mean", "running_var",
                                              "num_batches_tracked"};
        for (int k = 0; k < 5 && is_bn; k++) {
            char want[128];
            (void)snprintf(want, sizeof want, "%.*s%s", n - 6, name, entries[k]);
            assert_string_equal(graph->params[i + k].name, want);
            assert_int_equal(graph->params[i + k].tensor.rank, k < 4 ? 1 : 0);
            assert_int_equal(graph->params[i + k].tensor.dtype, k < 4 ? RQ_F32 : RQ_S64);
        }
        i += is_bn ? 4 : 0;
    }
}

/* Two blocks of each kind, the first without identity, the second with: all keys and shapes. */
static const struct {
    const char *fields, *params;
} dicts[] = {
    {"", "stage0.rbr_dense.conv.weight[8,3,3,3] stage0.rbr_dense.bn.*[8] "
         "stage0.rbr_1x1.conv.weight[8,3,1,1] stage0.rbr_1x1.bn.*[8] "
         "stage1.0.rbr_dense.conv.weight[8,8,3,3] stage1.0.rbr_dense.bn.*[8] "
         "stage1.0.rbr_1x1.conv.weight[8,8,1,1] stage1.0.rbr_1x1.bn.*[8] "
         "stage1.0.rbr_identity.*[8] linear.weight[5,8] linear.bias[5]"},
    {";block=qarepvgg", "stage0.rbr_dense.conv.weight[8,3,3,3] stage0.rbr_dense.bn.*[8] "
                        "stage0.rbr_1x1.weight[8,3,1,1] stage0.bn.*[8] "
                        "stage1.0.rbr_dense.conv.weight[8,8,3,3] stage1.0.rbr_dense.bn.*[8] "
                        "stage1.0.rbr_1x1.weight[8,8,1,1] stage1.0.bn.*[8] "
                        "linear.weight[5,8] linear.bias[5]"},
    {";block=target", "stage0.conv.weight[8,3,3,3] stage0.bn.*[8] "
                      "stage1.0.conv.weight[8,8,3,3] stage1.0.bn.*[8] "
                      "linear.weight[5,8] linear.bias[5]"},
    {";block=hs", "stage0.conv.weight[8,3,3,3] stage0.scale_conv.weight[8] "
                  "stage0.conv_1x1.weight[8,3,1,1] stage0.scale_1x1.weight[8] stage0.bn.*[8] "
                  "stage1.0.conv.weight[8,8,3,3] stage1.0.scale_conv.weight[8] "
                  "stage1.0.conv_1x1.weight[8,8,1,1] stage1.0.scale_1x1.weight[8] "
                  "stage1.0.scale_identity.weight[8] stage1.0.bn.*[8] "
                  "linear.weight[5,8] linear.bias[5]"},
    {";block=csla", "stage0.conv.weight[8,3,3,3] stage0.scale_conv.weight[8] "
                    "stage0.conv_1x1.weight[8,3,1,1] stage0.scale_1x1.weight[8] stage0.bn.*[8] "
                    "stage1.0.conv.weight[8,8,3,3] stage1.0.scale_conv.weight[8] "
                    "stage1.0.conv_1x1.weight[8,8,1,1] stage1.0.scale_1x1.weight[8] "
                    "stage1.0.scale_identity.weight[8] stage1.0.bn.*[8] "
                    "linear.weight[5,8] linear.bias[5]"},
    {";block=repopt-repvgg", "stage0.conv_3x3.weight[8,3,3,3] stage0.bn_3x3.*[8] "
                             "stage0.conv_1x1.weight[8,3,1,1] stage0.bn_1x1.*[8] "
                             "stage1.0.conv_3x3.weight[8,8,3,3] stage1.0.bn_3x3.*[8] "
                             "stage1.0.conv_1x1.weight[8,8,1,1] stage1.0.bn_1x1.*[8] "
                             "stage1.0.bn_identity.*[8] linear.weight[5,8] linear.bias[5]"},
    {";block=target;se=pre/4;groups=2",
     "stage0.conv.weight[8,3,3,3] stage0.bn.*[8] stage0.se.down.weight[2,8,1,1] "
     "stage0.se.down.bias[2] stage0.se.up.weight[8,2,1,1] stage0.se.up.bias[8] "
     "stage1.0.conv.weight[8,8,3,3] stage1.0.bn.*[8] stage1.0.se.down.weight[2,8,1,1] "
     "stage1.0.se.down.bias[2] stage1.0.se.up.weight[8,2,1,1] stage1.0.se.up.bias[8] "
     "linear.weight[5,8] linear.bias[5]"},
    {";block=target;se=post/3;aux=1;names=stage0,stage1_first.blocks",
     "stage0.conv.weight[8,3,3,3] stage0.bn.*[8] stage0.post_se.down.weight[2,8,1,1] "
     "stage0.post_se.down.bias[2] stage0.post_se.up.weight[8,2,1,1] stage0.post_se.up.bias[8] "
     "stage1_first.blocks.0.conv.weight[8,8,3,3] stage1_first.blocks.0.bn.*[8] "
     "stage1_first.blocks.0.post_se.down.weight[2,8,1,1] "
     "stage1_first.blocks.0.post_se.down.bias[2] "
     "stage1_first.blocks.0.post_se.up.weight[8,2,1,1] "
     "stage1_first.blocks.0.post_se.up.bias[8] stage1_first_aux.0.conv.weight[8,8,3,3] "
     "stage1_first_aux.0.bn.*[8] stage1_first_aux.3.weight[5,8] stage1_first_aux.3.bias[5] "
     "linear.weight[5,8] linear.bias[5]"},
};

static void test_arch_build__state_dicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++) {
        char text[4096];
        rq_model model;
        assert_ok(rq_arch_build(&model,
                                rq_test_path("repvgg:depth=1,1;width=8,8;stride=2,1;classes=5%s",
                                             dicts[i].fields),
                                0, &err),
                  &err);
        list_params(&model.graph, text, sizeof text);
        assert_string_equal(text, dicts[i].params);
        rq_model_deinit(&model);
    }
}

static void expect_param(const rq_graph *graph, const char *name, int rank, int64_t d0, int64_t d1)
{
    const int i = rq_graph_find_param(graph, name);
    if (i < 0)
        fail_msg("no parameter %s", name);
    const rq_tensor *tensor = &graph->params[i].tensor;
    assert_int_equal(tensor->rank, rank);
    assert_int_equal(tensor->dim[0], d0);
    if (rank > 1)
        assert_int_equal(tensor->dim[1], d1);
}

static void test_arch_build__groups_of_every_second_layer(void **state)
{
    (void)state;
    rq_model model;
    assert_ok(rq_arch_build(&model, "RepVGG-B1g4", 7, &err), &err);
    const rq_graph *graph = &model.graph;
    expect_param(graph, "stage1.0.rbr_1x1.conv.weight", 4, 128, 64);
    expect_param(graph, "stage1.1.rbr_dense.conv.weight", 4, 128, 32);
    expect_param(graph, "stage1.1.rbr_1x1.conv.weight", 4, 128, 32);
    expect_param(graph, "stage1.2.rbr_dense.conv.weight", 4, 128, 128);
    expect_param(graph, "stage3.15.rbr_dense.conv.weight", 4, 512, 128);
    expect_param(graph, "stage4.0.rbr_dense.conv.weight", 4, 2048, 512);
    expect_param(graph, "linear.weight", 2, 7, 2048);
    assert_int_equal(rq_graph_find_param(graph, "stage1.0.rbr_identity.weight"), -1);
    /* 28 blocks of 12, 23 identities of 5, linear */
    assert_int_equal(graph->n_params, 28 * 12 + 23 * 5 + 2);
    assert_int_equal(model.n_classes, 7);
    rq_model_deinit(&model);
}

/* The deploy form of all kinds: one convolution per block, SE and linear as they were, no heads. */
static void test_arch_build_deploy__state_dicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dicts / sizeof dicts[0]; i++) {
        char text[4096], want[4096];
        rq_model model;
        assert_ok(
            rq_arch_build_deploy(
                &model,
                rq_test_path("repvgg:depth=1,1;width=8,8;stride=2,1;classes=5%s", dicts[i].fields),
                0, &err),
            &err);
        list_params(&model.graph, text, sizeof text);
        const bool pre = strstr(dicts[i].fields, "pre/") != NULL;
        const bool post = strstr(dicts[i].fields, "post/") != NULL;
        size_t used = 0;
        for (int k = 0; k < 2; k++) {
            const char *path = k == 0                              ? "stage0"
                               : strstr(dicts[i].fields, "names=") ? "stage1_first.blocks.0"
                                                                   : "stage1.0";
            used += (size_t)snprintf(want + used, sizeof want - used,
                                     "%s.rbr_reparam.weight[8,%d,3,3] %s.rbr_reparam.bias[8] ",
                                     path, k == 0 ? 3 : 8, path);
            static const char *const ses[] = {"down.weight[2,8,1,1]", "down.bias[2]",
                                              "up.weight[8,2,1,1]", "up.bias[8]"};
            for (int m = 0; m < 4 && (pre || post); m++)
                used += (size_t)snprintf(want + used, sizeof want - used, "%s.%s.%s ", path,
                                         pre ? "se" : "post_se", ses[m]);
        }
        (void)snprintf(want + used, sizeof want - used, "linear.weight[5,8] linear.bias[5]");
        assert_string_equal(text, want);
        assert_int_equal(model.form, RQ_FORM_DEPLOY);
        rq_model_deinit(&model);
    }
}

static void test_arch_build__repvggplus(void **state)
{
    (void)state;
    rq_model model;
    assert_ok(rq_arch_build(&model, "RepVGGplus-L2pse", 9, &err), &err);
    const rq_graph *graph = &model.graph;
    expect_param(graph, "stage0.post_se.down.weight", 4, 16, 64);
    expect_param(graph, "stage1.blocks.7.rbr_identity.running_var", 1, 160, 0);
    expect_param(graph, "stage2.blocks.13.post_se.up.bias", 1, 320, 0);
    expect_param(graph, "stage3_first.blocks.11.rbr_1x1.conv.weight", 4, 640, 640);
    /* stride 1 and equal widths: the second half begins with an identity */
    expect_param(graph, "stage3_second.blocks.0.rbr_identity.weight", 1, 640, 0);
    expect_param(graph, "stage3_second.blocks.11.post_se.down.bias", 1, 160, 0);
    expect_param(graph, "stage4.blocks.0.post_se.up.weight", 4, 2560, 640);
    expect_param(graph, "stage1_aux.0.conv.weight", 4, 160, 160);
    expect_param(graph, "stage2_aux.0.bn.running_mean", 1, 320, 0);
    expect_param(graph, "stage3_first_aux.3.weight", 2, 9, 640);
    expect_param(graph, "linear.bias", 1, 9, 0);
    /* 48 blocks of 12 and SE of 4, 43 identities of 5, three heads of 8, linear */
    assert_int_equal(graph->n_params, 48 * 16 + 43 * 5 + 3 * 8 + 2);
    rq_model_deinit(&model);
}

/* ---- structure ---- */

/* "op name < inputs", one node a line. */
static void list_nodes(const rq_graph *graph, char *text, size_t size_bytes)
{
    size_t used = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        const rq_node *node = &graph->nodes[i];
        used += (size_t)snprintf(text + used, size_bytes - used, "%s %s", rq_op_name(node->op),
                                 node->name);
        for (int k = 0; k < node->n_inputs; k++)
            used += (size_t)snprintf(text + used, size_bytes - used, "%s%s", k ? ", " : " < ",
                                     graph->nodes[node->input[k]].name);
        used += (size_t)snprintf(text + used, size_bytes - used, "\n");
        assert_true(used < size_bytes);
    }
}

static void expect_nodes(const char *arch, const char *want)
{
    char text[4096];
    rq_model model;
    assert_ok(rq_arch_build(&model, arch, 0, &err), &err);
    list_nodes(&model.graph, text, sizeof text);
    assert_string_equal(text, want);
    rq_model_deinit(&model);
}

static void test_arch_build__nodes_of_each_kind(void **state)
{
    (void)state;
    expect_nodes("repvgg:depth=1;width=3;stride=1", "input input\n"
                                                    "conv stage0.rbr_dense.conv < input\n"
                                                    "batch_norm stage0.rbr_dense.bn < "
                                                    "stage0.rbr_dense.conv\n"
                                                    "conv stage0.rbr_1x1.conv < input\n"
                                                    "batch_norm stage0.rbr_1x1.bn < "
                                                    "stage0.rbr_1x1.conv\n"
                                                    "batch_norm stage0.rbr_identity < input\n"
                                                    "add stage0.add < stage0.rbr_dense.bn, "
                                                    "stage0.rbr_1x1.bn, stage0.rbr_identity\n"
                                                    "relu stage0.nonlinearity < stage0.add\n"
                                                    "global_avg_pool gap < stage0.nonlinearity\n"
                                                    "linear linear < gap\n");
    expect_nodes("repvgg:depth=1;width=3;stride=1;block=qarepvgg",
                 "input input\n"
                 "conv stage0.rbr_dense.conv < input\n"
                 "batch_norm stage0.rbr_dense.bn < stage0.rbr_dense.conv\n"
                 "conv stage0.rbr_1x1 < input\n"
                 "add stage0.add < stage0.rbr_dense.bn, stage0.rbr_1x1, input\n"
                 "batch_norm stage0.bn < stage0.add\n"
                 "relu stage0.nonlinearity < stage0.bn\n"
                 "global_avg_pool gap < stage0.nonlinearity\n"
                 "linear linear < gap\n");
    expect_nodes("repvgg:depth=1;width=3;stride=1;block=hs",
                 "input input\n"
                 "conv stage0.conv < input\n"
                 "scale stage0.scale_conv < stage0.conv\n"
                 "conv stage0.conv_1x1 < input\n"
                 "scale stage0.scale_1x1 < stage0.conv_1x1\n"
                 "scale stage0.scale_identity < input\n"
                 "add stage0.add < stage0.scale_conv, stage0.scale_1x1, stage0.scale_identity\n"
                 "batch_norm stage0.bn < stage0.add\n"
                 "relu stage0.relu < stage0.bn\n"
                 "global_avg_pool gap < stage0.relu\n"
                 "linear linear < gap\n");
}

static void test_arch_build__nodes_of_se_and_heads(void **state)
{
    (void)state;
    expect_nodes("repvgg:depth=1;width=8;block=target;se=pre/2;aux=0",
                 "input input\n"
                 "conv stage0.conv < input\n"
                 "batch_norm stage0.bn < stage0.conv\n"
                 "global_avg_pool stage0.se.gap < stage0.bn\n"
                 "conv stage0.se.down < stage0.se.gap\n"
                 "relu stage0.se.relu < stage0.se.down\n"
                 "conv stage0.se.up < stage0.se.relu\n"
                 "sigmoid stage0.se.sigmoid < stage0.se.up\n"
                 "mul stage0.se < stage0.bn, stage0.se.sigmoid\n"
                 "relu stage0.relu < stage0.se\n"
                 "conv stage0_aux.0.conv < stage0.relu\n"
                 "batch_norm stage0_aux.0.bn < stage0_aux.0.conv\n"
                 "relu stage0_aux.0.relu < stage0_aux.0.bn\n"
                 "global_avg_pool stage0_aux.1 < stage0_aux.0.relu\n"
                 "linear stage0_aux.3 < stage0_aux.1\n"
                 "global_avg_pool gap < stage0.relu\n"
                 "linear linear < gap\n");
    expect_nodes("repvgg:depth=1;width=8;block=target;se=post/2",
                 "input input\n"
                 "conv stage0.conv < input\n"
                 "batch_norm stage0.bn < stage0.conv\n"
                 "relu stage0.relu < stage0.bn\n"
                 "global_avg_pool stage0.post_se.gap < stage0.relu\n"
                 "conv stage0.post_se.down < stage0.post_se.gap\n"
                 "relu stage0.post_se.relu < stage0.post_se.down\n"
                 "conv stage0.post_se.up < stage0.post_se.relu\n"
                 "sigmoid stage0.post_se.sigmoid < stage0.post_se.up\n"
                 "mul stage0.post_se < stage0.relu, stage0.post_se.sigmoid\n"
                 "global_avg_pool gap < stage0.post_se\n"
                 "linear linear < gap\n");
}

static void check_conv(const rq_graph *graph, const char *name, int kernel, int stride, int groups)
{
    const int i = rq_graph_find_node(graph, name);
    assert_true(i > 0);
    const rq_conv_attr *conv = &graph->nodes[i].conv;
    for (int k = 0; k < 2; k++) {
        assert_int_equal(conv->kernel[k], kernel);
        assert_int_equal(conv->stride[k], stride);
        assert_int_equal(conv->pad[k], kernel / 2);
        assert_int_equal(conv->dilation[k], 1);
    }
    assert_int_equal(conv->groups, groups);
}

static void test_arch_build__geometry(void **state)
{
    (void)state;
    rq_model model;
    assert_ok(rq_arch_build(&model, "repvgg:depth=1,3;width=8,8;stride=1,3;groups=2;se=pre/2;aux=1",
                            0, &err),
              &err);
    const rq_graph *graph = &model.graph;
    check_conv(graph, "stage0.rbr_dense.conv", 3, 1, 1);
    check_conv(graph, "stage1.0.rbr_dense.conv", 3, 3, 1);
    check_conv(graph, "stage1.0.rbr_1x1.conv", 1, 3, 1);
    check_conv(graph, "stage1.1.rbr_dense.conv", 3, 1, 2);
    check_conv(graph, "stage1.1.rbr_1x1.conv", 1, 1, 2);
    check_conv(graph, "stage1.1.se.down", 1, 1, 1);
    check_conv(graph, "stage1.1.se.up", 1, 1, 1);
    check_conv(graph, "stage1_aux.0.conv", 3, 2, 1);
    const int bn = rq_graph_find_node(graph, "stage1.1.rbr_identity");
    assert_int_equal(graph->nodes[bn].op, RQ_OP_BATCH_NORM);
    assert_close(graph->nodes[bn].eps, 1e-5f, 0, 0);
    rq_model_deinit(&model);
}

/* The convolutions go over every pixel, so an identity is possible too. */
static void test_arch_build__max_pool(void **state)
{
    (void)state;
    expect_nodes("repvgg:depth=1,1;width=3,5;stride=1,3;pool=max;block=target",
                 "input input\n"
                 "conv stage0.conv < input\n"
                 "batch_norm stage0.bn < stage0.conv\n"
                 "relu stage0.relu < stage0.bn\n"
                 "conv stage1.0.conv < stage0.relu\n"
                 "batch_norm stage1.0.bn < stage1.0.conv\n"
                 "relu stage1.0.relu < stage1.0.bn\n"
                 "max_pool stage1.0.pool < stage1.0.relu\n"
                 "global_avg_pool gap < stage1.0.pool\n"
                 "linear linear < gap\n");
    rq_model model;
    assert_ok(rq_arch_build(&model, "repvgg:depth=1,2;width=3,3;stride=2,3;pool=max", 0, &err),
              &err);
    const rq_graph *graph = &model.graph;
    check_conv(graph, "stage0.rbr_dense.conv", 3, 1, 1);
    check_conv(graph, "stage1.0.rbr_1x1.conv", 1, 1, 1);
    assert_true(rq_graph_find_node(graph, "stage1.0.rbr_identity") >= 0);
    assert_int_equal(rq_graph_find_node(graph, "stage1.1.pool"), -1);
    const int pool = rq_graph_find_node(graph, "stage1.0.pool");
    const rq_conv_attr window = {{3, 3}, {3, 3}, {0, 0}, {1, 1}, 1};
    assert_int_equal(graph->nodes[pool].op, RQ_OP_MAX_POOL);
    assert_memory_equal(&graph->nodes[pool].conv, &window, sizeof window);
    rq_model_deinit(&model);
}

static void test_arch_build__equal_width_with_stride_has_no_identity(void **state)
{
    (void)state;
    rq_model model;
    assert_ok(rq_arch_build(&model, "RepVGG-A0", 0, &err), &err);
    assert_int_equal(rq_graph_find_node(&model.graph, "stage1.0.rbr_identity"), -1);
    assert_true(rq_graph_find_node(&model.graph, "stage1.1.rbr_identity") > 0);
    rq_model_deinit(&model);
}

/* The description of a named network builds the same graph, to the last name and attribute. */
static void check_same_graph(const rq_graph *a, const rq_graph *b)
{
    assert_int_equal(a->n_nodes, b->n_nodes);
    assert_int_equal(a->n_params, b->n_params);
    for (int i = 0; i < a->n_nodes; i++) {
        const rq_node *x = &a->nodes[i], *y = &b->nodes[i];
        assert_int_equal(x->op, y->op);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->n_inputs, y->n_inputs);
        assert_memory_equal(x->input, y->input, sizeof x->input);
        assert_memory_equal(x->slot, y->slot, sizeof x->slot);
        assert_memory_equal(&x->conv, &y->conv, sizeof x->conv);
        assert_close(x->eps, y->eps, 0, 0);
    }
    for (int i = 0; i < a->n_params; i++) {
        const rq_tensor *x = &a->params[i].tensor, *y = &b->params[i].tensor;
        assert_string_equal(a->params[i].name, b->params[i].name);
        assert_int_equal(x->dtype, y->dtype);
        assert_int_equal(x->rank, y->rank);
        assert_memory_equal(x->dim, y->dim, sizeof x->dim);
    }
}

static void test_arch_build__descriptions_equal_names(void **state)
{
    (void)state;
    for (int i = 0; rq_arch_name(i); i++) {
        rq_arch arch;
        rq_model named, described;
        char text[RQ_ARCH_TEXT_BYTES];
        assert_ok(rq_arch_parse(&arch, rq_arch_name(i), &err), &err);
        rq_arch_describe(&arch, text);
        assert_ok(rq_arch_build(&named, rq_arch_name(i), 0, &err), &err);
        assert_ok(rq_arch_build(&described, text, 0, &err), &err);
        check_same_graph(&named.graph, &described.graph);
        assert_int_equal(named.n_classes, described.n_classes);
        assert_string_equal(described.arch, text);
        rq_model_deinit(&named);
        rq_model_deinit(&described);
    }
}

/* The deepest network of the most nodes stays within the limits of files. */
static void test_arch_build__deepest(void **state)
{
    (void)state;
    rq_model model;
    assert_ok(rq_arch_build(&model,
                            "repvgg:depth=1,249,1,1,1,1,1,1;width=8,8,8,8,8,8,8,8;"
                            "stride=1,1,1,1,1,1,1,1;block=hs;se=pre/2;aux=0,1,2,3,4,5,6,7;"
                            "names=aaaaaaaaaabbbbbbbbbbccccccccccd,stage1,stage2,stage3,stage4,"
                            "stage5,stage6,stage7",
                            2, &err),
              &err);
    assert_int_equal(model.graph.n_nodes, 1 + 256 * 14 - 1 + 8 * 5 + 2);
    assert_true(rq_graph_find_node(&model.graph, "aaaaaaaaaabbbbbbbbbbccccccccccd_aux.0.conv") > 0);
    assert_true(rq_graph_find_node(&model.graph, "stage1.248.se.sigmoid") > 0);
    rq_model_deinit(&model);
}

static void test_arch_build__no_memory(void **state)
{
    (void)state;
    for (long n = 0;; n++) {
        rq_model model;
        rq_alloc_test_fail_after(n);
        const rq_status status =
            rq_arch_build(&model, "repvgg:depth=1;width=2;se=pre/2;aux=0", 3, &err);
        rq_alloc_test_fail_after(-1);
        rq_model_deinit(&model);
        if (!status)
            break;
        assert_int_equal(status, RQ_ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arch_build__published_counts),
        cmocka_unit_test(test_arch_build__published_counts_at_320),
        cmocka_unit_test(test_arch_build__counts_of_qarepvgg),
        cmocka_unit_test(test_arch_build__state_dicts),
        cmocka_unit_test(test_arch_build_deploy__state_dicts),
        cmocka_unit_test(test_arch_build__groups_of_every_second_layer),
        cmocka_unit_test(test_arch_build__repvggplus),
        cmocka_unit_test(test_arch_build__nodes_of_each_kind),
        cmocka_unit_test(test_arch_build__nodes_of_se_and_heads),
        cmocka_unit_test(test_arch_build__geometry),
        cmocka_unit_test(test_arch_build__max_pool),
        cmocka_unit_test(test_arch_build__equal_width_with_stride_has_no_identity),
        cmocka_unit_test(test_arch_build__descriptions_equal_names),
        cmocka_unit_test(test_arch_build__deepest),
        cmocka_unit_test(test_arch_build__no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
