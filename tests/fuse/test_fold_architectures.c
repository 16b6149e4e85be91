/* What merging makes of an architecture's training form is its deploy form, to the last name and
 * attribute: rq_fuse and rq_arch_build_deploy describe one graph. */
#include "fuse/fold.h"

#include <stdio.h>
#include <string.h>

#include "runtime/model/arch.h"
#include "tests/support/test.h"

static rq_error err;

static void check_nodes(const rq_graph *got, const rq_graph *want)
{
    assert_int_equal(got->n_nodes, want->n_nodes);
    for (int i = 0; i < got->n_nodes; i++) {
        const rq_node *a = &got->nodes[i], *b = &want->nodes[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->op, b->op);
        assert_int_equal(a->n_inputs, b->n_inputs);
        for (int k = 0; k < a->n_inputs; k++)
            assert_int_equal(a->input[k], b->input[k]);
        if (a->op == RQ_OP_CONV)
            assert_memory_equal(&a->conv, &b->conv, sizeof a->conv);
    }
}

static void check_params(const rq_graph *got, const rq_graph *want)
{
    assert_int_equal(got->n_params, want->n_params);
    for (int i = 0; i < got->n_params; i++) {
        const rq_tensor *a = &got->params[i].tensor, *b = &want->params[i].tensor;
        assert_string_equal(got->params[i].name, want->params[i].name);
        assert_int_equal(a->dtype, b->dtype);
        assert_int_equal(a->rank, b->rank);
        assert_memory_equal(a->dim, b->dim, sizeof a->dim);
    }
}

static void check(const char *arch)
{
    rq_model train, got, want;
    assert_ok(rq_arch_build(&train, arch, 0, &err), &err);
    assert_ok(rq_fuse(&got, &train, &err), &err);
    rq_model_deinit(&train);
    assert_ok(rq_arch_build_deploy(&want, arch, 0, &err), &err);
    check_nodes(&got.graph, &want.graph);
    check_params(&got.graph, &want.graph);
    assert_int_equal(got.form, want.form);
    assert_int_equal(got.n_classes, want.n_classes);
    assert_string_equal(got.arch, arch);
    rq_model_deinit(&got);
    rq_model_deinit(&want);
}

/* Every named network whose merging takes a moment; the published counts of all of them are
 * compared with what rq_arch_build_deploy builds (tests/runtime/model/test_arch_blocks.c). */
static void test_fuse__named_networks(void **state)
{
    (void)state;
    static const char *const names[] = {"RepVGG-A0",   "RepVGG-A1",     "RepVGG-B0",
                                        "QARepVGG-A0", "RepVGG-B1g4",   "RepOpt-VGG-B1-hs",
                                        "QARepVGG-B0", "QARepVGG-B1g2", "RepOpt-VGG-B1-target"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        check(names[i]);
}

/* Every named network with a sixteenth of its channels. */
static void test_fuse__narrow_networks(void **state)
{
    (void)state;
    for (int i = 0; rq_arch_name(i); i++) {
        rq_arch arch;
        char text[RQ_ARCH_TEXT_BYTES];
        assert_ok(rq_arch_parse(&arch, rq_arch_name(i), &err), &err);
        for (int k = 0; k < arch.n_stages; k++)
            arch.width[k] = arch.width[k] / 64 * 4 + 4;
        arch.se_reduction = arch.se == RQ_SE_NONE ? 0 : 4;
        rq_arch_describe(&arch, text);
        check(text);
    }
}

static void test_fuse__kinds_of_blocks(void **state)
{
    (void)state;
    static const char *const blocks[] = {
#define X(code, function, word, activation) word,
        RQ_BLOCK_LIST(X)
#undef X
    };
    static const char *const rest[] = {"se=none", "se=pre/2;groups=2", "se=post/4;aux=0,1",
                                       "aux=1;names=stem,body.blocks;groups=4"};
    for (size_t i = 0; i < RQ_N_BLOCKS; i++)
        for (size_t k = 0; k < sizeof rest / sizeof rest[0]; k++)
            check(rq_test_path("repvgg:depth=1,3;width=8,8;stride=1,2;classes=5;block=%s;%s",
                               blocks[i], rest[k]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fuse__named_networks),
        cmocka_unit_test(test_fuse__narrow_networks),
        cmocka_unit_test(test_fuse__kinds_of_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
