/* Lists of prefixes: what they match, which of several wins, and what is refused. */
#include "qat/update/param_rules.h"

#include <string.h>

#include "runtime/model/arch.h"
#include "tests/support/test.h"

static rq_model model = RQ_MODEL_INIT;

static int setup(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    static const char arch[] = "repvgg:depth=1,2,12;width=4,4,4;stride=1,1,1;classes=2";
    assert_ok(rq_arch_build(&model, arch, 0, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_model_deinit(&model);
    return 0;
}

static rq_param_rule *rules_for(rq_rule_options options)
{
    static rq_param_rule rules[4096];
    rq_error err = RQ_ERROR_INIT;
    assert_true(model.graph.n_params <= 4096);
    assert_ok(rq_param_rules(rules, &model.graph, &options, &err), &err);
    return rules;
}

static rq_param_rule rule_of(const rq_param_rule *rules, const char *name)
{
    const int param = rq_graph_find_param(&model.graph, name);
    if (param < 0)
        fail_msg("no parameter %s", name);
    return rules[param];
}

static void test_freeze__below_its_prefixes(void **state)
{
    (void)state;
    const rq_param_rule *rules =
        rules_for((rq_rule_options){.bias_lr = 1.0, .freeze = "stage0,stage2.1,linear.bias"});
    assert_false(rule_of(rules, "stage0.rbr_dense.conv.weight").trained);
    assert_false(rule_of(rules, "stage0.rbr_1x1.bn.bias").trained);
    assert_false(rule_of(rules, "stage2.1.rbr_identity.weight").trained);
    assert_false(rule_of(rules, "linear.bias").trained);
    assert_true(rule_of(rules, "linear.weight").trained);
    assert_true(rule_of(rules, "stage1.0.rbr_dense.conv.weight").trained);
    assert_true(rule_of(rules, "stage2.10.rbr_dense.conv.weight").trained); /* not stage2.1 */
}

static void test_freeze__batch_norms(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    bool frozen[RQ_MAX_NODES];
    const rq_graph *graph = &model.graph;
    assert_ok(rq_frozen_nodes(frozen, graph, "stage0,stage1.1.rbr_1x1", &err), &err);
    int n = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        const char *name = graph->nodes[i].name;
        const bool want = strcmp(name, "stage0.rbr_dense.bn") == 0 ||
                          strcmp(name, "stage0.rbr_1x1.bn") == 0 ||
                          strcmp(name, "stage1.1.rbr_1x1.bn") == 0;
        assert_int_equal(frozen[i], want);
        n += frozen[i];
    }
    assert_int_equal(n, 3);
    assert_ok(rq_frozen_nodes(frozen, graph, NULL, &err), &err);
    for (int i = 0; i < graph->n_nodes; i++)
        assert_false(frozen[i]);
}

/* The longest prefix wins, in any order, and multiplies the biases' own factor. */
static void test_lr_scale__longest_prefix(void **state)
{
    (void)state;
    static const char *const lists[] = {"stage1=0.1,stage1.1.rbr_dense.conv=3",
                                        "stage1.1.rbr_dense.conv=3,stage1=0.1"};
    for (size_t i = 0; i < 2; i++) {
        const rq_param_rule *rules =
            rules_for((rq_rule_options){.bias_lr = 2.0, .lr_scales = lists[i]});
        assert_close(rule_of(rules, "stage1.1.rbr_dense.conv.weight").lr_scale, 3.0, 0, 0);
        assert_close(rule_of(rules, "stage1.0.rbr_dense.conv.weight").lr_scale, 0.1, 0, 0);
        assert_close(rule_of(rules, "stage1.1.rbr_dense.bn.bias").lr_scale, 0.2, 0, 1e-15);
        assert_close(rule_of(rules, "stage2.0.rbr_dense.bn.bias").lr_scale, 2.0, 0, 0);
        assert_close(rule_of(rules, "stage2.0.rbr_dense.bn.weight").lr_scale, 1.0, 0, 0);
    }
}

static void test_decay__by_rank_and_name(void **state)
{
    (void)state;
    for (int identity = 0; identity < 2; identity++) {
        const rq_param_rule *rules =
            rules_for((rq_rule_options){.bias_lr = 1.0, .decay_identity = identity});
        assert_true(rule_of(rules, "stage1.1.rbr_dense.conv.weight").decays);
        assert_true(rule_of(rules, "linear.weight").decays);
        assert_false(rule_of(rules, "stage1.1.rbr_dense.bn.weight").decays);
        assert_false(rule_of(rules, "stage1.1.rbr_identity.bias").decays);
        assert_int_equal(rule_of(rules, "stage1.1.rbr_identity.weight").decays, identity);
    }
}

static void test_lists__refused(void **state)
{
    (void)state;
    static const char *const freeze[] = {
        "", ",", "stage9", "stage1,", "stage", "stage1.0,nose", "stage0 ,stage1"};
    static const char *const scales[] = {
        "",          "stage1",      "stage1=",    "stage1=x",
        "stage1=-1", "stage1=1e99", "stage1=1,",  "stage9=1",
        "=1",        "stage1=nan",  "stage1=1=2", "stage1=1.0000000000000000000000000000000000001"};
    static rq_param_rule rules[4096];
    for (size_t i = 0; i < sizeof freeze / sizeof freeze[0]; i++) {
        rq_error err = RQ_ERROR_INIT;
        const rq_rule_options options = {.bias_lr = 1.0, .freeze = freeze[i]};
        assert_fails(rq_param_rules(rules, &model.graph, &options, &err), RQ_ERR_USAGE, &err);
        assert_says(&err, "--freeze: no parameter is below '");
        bool frozen[RQ_MAX_NODES];
        assert_fails(rq_frozen_nodes(frozen, &model.graph, freeze[i], &err), RQ_ERR_USAGE, &err);
    }
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        rq_error err = RQ_ERROR_INIT;
        const rq_rule_options options = {.bias_lr = 1.0, .lr_scales = scales[i]};
        assert_fails(rq_param_rules(rules, &model.graph, &options, &err), RQ_ERR_USAGE, &err);
        assert_says(&err, "--lr-scale: ");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_freeze__below_its_prefixes),
        cmocka_unit_test(test_freeze__batch_norms),
        cmocka_unit_test(test_lr_scale__longest_prefix),
        cmocka_unit_test(test_decay__by_rank_and_name),
        cmocka_unit_test(test_lists__refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
