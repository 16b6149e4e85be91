/* What qat_train asks of its base weights beyond a sound file: finite parameters, the architecture
 * that -a names, a graph that can be quantized. */
#include "cli/commands.h"

#include <math.h>
#include <stdio.h>

#include "runtime/modelfile/modelfile.h"
#include "tests/qat/net.h"
#include "tests/support/capture.h"
#include "tests/support/test.h"

enum { SIDE = 8, CLASSES = 2 };

static char path[128];

static int setup(void **state)
{
    *state = (void *)(uintptr_t)rq_test_mkdir();
    (void)snprintf(path, sizeof path, "%s/withbn.bin", (const char *)*state);
    return 0;
}

static int teardown(void **state)
{
    rq_test_rmdir(*state);
    return 0;
}

static void build(net *n)
{
    net_begin(n, RQ_FORM_WITHBN, SIDE, CLASSES, 1);
    n->model.arch = "repvgg:depth=1,1;width=4,4;classes=2";
    (void)net_head(n, net_block(n, "stage1.0", net_block(n, "stage0", 0, 4, NET_K3), 4, NET_K3));
}

static void save(net *n)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_model_save(&n->model, path, &err), &err);
    rq_model_deinit(&n->model);
}

/* The command must fail; there are no images in /nowhere, which is found out last. */
static void check_says(const char *arch, const char *part)
{
    rq_error err;
    const char *text;
    assert_int_not_equal(rq_test_command(&rq_command_qat_train, &text, &err, "/nowhere", "-o",
                                         "/tmp/never.bin", "--base-weights", path,
                                         arch ? "-a" : NULL, arch),
                         RQ_OK);
    assert_says(&err, part);
}

static void test_base__architecture(void **state)
{
    (void)state;
    net n;
    build(&n);
    save(&n);
    check_says(NULL, "/nowhere: "); /* fine so far */
    check_says("repvgg:depth=1,1;width=4,4;classes=2", "/nowhere: ");
    check_says("repvgg:width=4,4;depth=1,1;stride=2,2", "/nowhere: "); /* the same in other words */
    check_says("repvgg:depth=1,1;width=4,8;classes=2", "withbn.bin: ");
    check_says("RepVGG-A0", "withbn.bin: ");
    check_says("RepVGG-Z9", "RepVGG-Z9");
}

static void test_base__not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY};
    for (size_t i = 0; i < 2; i++) {
        net n;
        build(&n);
        net_values(&n.model, "stage1.0.conv", RQ_SLOT_WEIGHT)[7] = bad[i];
        save(&n);
        check_says(NULL, "withbn.bin: ");
        check_says(NULL, "stage1.0.conv.weight");
    }
}

static void test_base__graph_that_cannot_be_quantized(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 1);
    n.model.arch = "repvgg:depth=1,1;width=4,4;classes=2";
    (void)net_head(&n, net_relu(&n, "relu", net_conv(&n, "conv", 0, 4, NET_K3, true)));
    save(&n);
    check_says(NULL, "withbn.bin: conv: no batch_norm after it");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__architecture),
        cmocka_unit_test(test_base__not_finite),
        cmocka_unit_test(test_base__graph_that_cannot_be_quantized),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
