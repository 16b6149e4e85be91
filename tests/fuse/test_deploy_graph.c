/* The deploy form has two makers: merging a training form, and the architecture itself for weights
 * that were merged elsewhere. Both give the same graph. */
#include <string.h>

#include "fuse/fold.h"
#include "runtime/model/arch.h"
#include "tests/support/test.h"

static rq_error err;

#define SMALL "repvgg:depth=1,2,2;width=8,8,16;stride=2,1,2;classes=5"

static const char *const described[] = {
    SMALL,
    SMALL ";groups=4",
    SMALL ";se=pre/4",
    SMALL ";se=post/4;aux=1;names=stage0,stage1.blocks,stage2.blocks",
    SMALL ";block=qarepvgg",
    SMALL ";block=target",
    SMALL ";block=hs;se=post/4",
    SMALL ";block=csla",
    SMALL ";block=repopt-repvgg",
    "RepVGG-A0",
};

static void check_same_node(const rq_graph *got, const rq_graph *want, int i)
{
    const rq_node *a = &got->nodes[i], *b = &want->nodes[i];
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->n_inputs, b->n_inputs);
    assert_memory_equal(a->input, b->input, sizeof(int) * (size_t)b->n_inputs);
    if (b->op == RQ_OP_CONV)
        assert_memory_equal(&a->conv, &b->conv, sizeof b->conv);
    for (int slot = 0; slot < RQ_N_SLOTS; slot++) {
        assert_int_equal(a->slot[slot] < 0, b->slot[slot] < 0);
        if (b->slot[slot] < 0)
            continue;
        const rq_param *p = &got->params[a->slot[slot]], *q = &want->params[b->slot[slot]];
        assert_string_equal(p->name, q->name);
        assert_int_equal(p->tensor.dtype, q->tensor.dtype);
        assert_int_equal(p->tensor.rank, q->tensor.rank);
        assert_memory_equal(p->tensor.dim, q->tensor.dim, sizeof(int64_t) * (size_t)q->tensor.rank);
    }
}

static void test_arch_build_deploy__is_what_merging_gives(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof described / sizeof described[0]; i++) {
        rq_model train, merged, built;
        assert_ok(rq_arch_build(&train, described[i], 0, &err), &err);
        assert_ok(rq_fuse(&merged, &train, &err), &err);
        assert_ok(rq_arch_build_deploy(&built, described[i], 0, &err), &err);
        assert_int_equal(built.form, RQ_FORM_DEPLOY);
        assert_int_equal(built.n_classes, merged.n_classes);
        assert_string_equal(built.arch, merged.arch);
        assert_int_equal(built.graph.n_nodes, merged.graph.n_nodes);
        assert_int_equal(built.graph.n_params, merged.graph.n_params);
        for (int node = 0; node < merged.graph.n_nodes; node++)
            check_same_node(&built.graph, &merged.graph, node);
        rq_model_deinit(&train);
        rq_model_deinit(&merged);
        rq_model_deinit(&built);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arch_build_deploy__is_what_merging_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
