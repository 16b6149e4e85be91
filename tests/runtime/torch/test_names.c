/* Names of the authors and of timm. */
#include "runtime/torch/names.h"

#include <string.h>

#include "tests/support/test.h"

/* own, timm */
static const char *const pairs[][2] = {
    {"stage0.rbr_dense.conv.weight", "stem.conv_kxk.conv.weight"},
    {"stage0.rbr_1x1.bn.running_var", "stem.conv_1x1.bn.running_var"},
    {"stage1.0.rbr_dense.bn.num_batches_tracked", "stages.0.0.conv_kxk.bn.num_batches_tracked"},
    {"stage3.13.rbr_identity.weight", "stages.2.13.identity.weight"},
    {"stage4.0.se.down.bias", "stages.3.0.attn.fc1.bias"},
    {"stage4.0.se.up.weight", "stages.3.0.attn.fc2.weight"},
    {"stage2.1.rbr_reparam.weight", "stages.1.1.reparam_conv.weight"},
    {"stage2.1.other.weight", "stages.1.1.other.weight"},
    {"linear.weight", "head.fc.weight"},
};

/* Of no convention, or of the other: they stay. */
static const char *const others[] = {
    "",
    "stage",
    "stage1",
    "stage1.",
    "stage1.x.rbr_dense.weight",
    "stage1.blocks.0.rbr_dense.conv.weight",
    "stages.0.rbr_dense.conv.weight",
    "stage3_first.blocks.0.rbr_1x1.conv.weight",
    "stage1_aux.0.conv.weight",
    "stage99999999999999999999.0.rbr_dense.conv.weight",
    "linear",
    "conv1.weight",
    "features.stage0.weight",
};

static void test_rename__both_ways(void **state)
{
    (void)state;
    char got[64];
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        assert_true(rq_rename(got, sizeof got, pairs[i][0], RQ_NAMING_OWN, RQ_NAMING_TIMM));
        assert_string_equal(got, pairs[i][1]);
        assert_true(rq_rename(got, sizeof got, pairs[i][1], RQ_NAMING_TIMM, RQ_NAMING_OWN));
        assert_string_equal(got, pairs[i][0]);
    }
}

static void test_rename__copies_others(void **state)
{
    (void)state;
    char got[64];
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        for (int from = 0; from < 2; from++) {
            assert_true(
                rq_rename(got, sizeof got, others[i], (rq_naming)from, (rq_naming)(1 - from)));
            assert_string_equal(got, others[i]);
        }
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) { /* what is there already */
        assert_true(rq_rename(got, sizeof got, pairs[i][0], RQ_NAMING_TIMM, RQ_NAMING_OWN));
        assert_string_equal(got, pairs[i][0]);
    }
}

static void test_rename__says_when_there_is_no_room(void **state)
{
    (void)state;
    char got[24];
    const char *name = "stages.0.0.identity.bias"; /* stage1.0.rbr_identity.bias */
    assert_false(rq_rename(got, sizeof got, name, RQ_NAMING_TIMM, RQ_NAMING_OWN));
    assert_true(strlen(got) < sizeof got);
}

static void test_naming_of(void **state)
{
    (void)state;
    rq_naming naming;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        for (int k = 0; k < 2; k++) {
            naming = (rq_naming)(1 - k);
            assert_true(rq_naming_of(pairs[i][k], &naming));
            assert_int_equal(naming, k);
        }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(rq_naming_of(others[i], &naming));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rename__both_ways),
        cmocka_unit_test(test_rename__copies_others),
        cmocka_unit_test(test_rename__says_when_there_is_no_room),
        cmocka_unit_test(test_naming_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
