/* What each word of --augment makes of the transform of evaluation. */
#include "runtime/session/augment.h"

#include "runtime/session/data_options.h"
#include "tests/support/test.h"

static void check_transform(rq_augment augment, int64_t resolution, rq_transform_kind kind,
                            int resize, int size)
{
    static const rq_preprocess imagenet = RQ_PREPROCESS_IMAGENET;
    rq_error err = RQ_ERROR_INIT;
    const rq_transform transform =
        rq_augment_transform(augment, rq_eval_transform(&imagenet, resolution), &imagenet);
    assert_int_equal(transform.kind, kind);
    assert_int_equal(transform.resize, resize);
    assert_int_equal(transform.size, size);
    assert_int_equal(transform.padding, kind == RQ_TRANSFORM_PAD_CROP ? RQ_USUAL_PADDING : 0);
    assert_int_equal(transform.randaug, augment == RQ_AUGMENT_RAUG15);
    assert_int_equal(transform.cutout.side, augment == RQ_AUGMENT_CUTOUT ? size / 2 : 0);
    assert_ok(rq_transform_check(&transform, &err), &err);
}

static void test_transform__of_each_word(void **state)
{
    (void)state;
    check_transform(RQ_AUGMENT_AUTO, 0, RQ_TRANSFORM_CROP, 256, 224);
    check_transform(RQ_AUGMENT_AUTO, 65, RQ_TRANSFORM_CROP, 65, 65);
    check_transform(RQ_AUGMENT_AUTO, 64, RQ_TRANSFORM_PAD_CROP, 64, 64);
    check_transform(RQ_AUGMENT_CROP, 32, RQ_TRANSFORM_CROP, 32, 32);
    check_transform(RQ_AUGMENT_WEAK, 32, RQ_TRANSFORM_CROP, 32, 32);
    check_transform(RQ_AUGMENT_RAUG15, 0, RQ_TRANSFORM_CROP, 256, 224);
    check_transform(RQ_AUGMENT_PAD_CROP, 0, RQ_TRANSFORM_PAD_CROP, 224, 224);
    check_transform(RQ_AUGMENT_CUTOUT, 32, RQ_TRANSFORM_PAD_CROP, 32, 32);
    check_transform(RQ_AUGMENT_FLIP, 0, RQ_TRANSFORM_FLIP, 256, 224);
    check_transform(RQ_AUGMENT_NONE, 0, RQ_TRANSFORM_EVAL, 256, 224);
    assert_string_equal(rq_augment_names[RQ_AUGMENT_NONE], "none");
    assert_null(rq_augment_names[RQ_AUGMENT_NONE + 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transform__of_each_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
