/* All networks at full size: their deploy forms have the published numbers of parameters. */
#include "fuse/fold.h"
#include "runtime/model/arch.h"
#include "tests/support/test.h"

static rq_error err;

static const struct {
    const char *name;
    size_t n_deployed; /* parameters of the deploy form (published) */
} published[] = {
    {"RepVGG-A0", 8309384},    {"RepVGG-A1", 12789864},  {"RepVGG-A2", 25499944},
    {"RepVGG-B0", 14339048},   {"RepVGG-B1", 51829480},  {"RepVGG-B1g2", 41360104},
    {"RepVGG-B1g4", 36125416}, {"RepVGG-B2", 80315112},  {"RepVGG-B2g2", 63956712},
    {"RepVGG-B2g4", 55777512}, {"RepVGG-B3", 110960872}, {"RepVGG-B3g2", 87404776},
    {"RepVGG-B3g4", 75626728},
};

static void test_fuse__published_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        rq_model train, deploy;
        assert_ok(rq_arch_build(&train, published[i].name, 0, &err), &err);
        assert_ok(rq_fuse(&deploy, &train, &err), &err);
        rq_model_deinit(&train);
        size_t n = 0;
        for (int k = 0; k < deploy.graph.n_params; k++)
            n += rq_tensor_elems(&deploy.graph.params[k].tensor);
        assert_int_equal(n, published[i].n_deployed);
        assert_int_equal(deploy.form, RQ_FORM_DEPLOY);
        assert_string_equal(deploy.arch, published[i].name);
        assert_true(rq_graph_find_param(&deploy.graph, "stage0.rbr_reparam.weight") >= 0);
        assert_true(rq_graph_find_param(&deploy.graph, "stage4.0.rbr_reparam.bias") >= 0);
        rq_model_deinit(&deploy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fuse__published_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
