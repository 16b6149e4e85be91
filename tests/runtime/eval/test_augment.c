/* What --augment and the options next to it make of the transform of evaluation. */
#include "runtime/eval/augment.h"

#include <string.h>

#include "runtime/eval/data_options.h"
#include "tests/support/test.h"

static const rq_preprocess imagenet = RQ_PREPROCESS_IMAGENET;

static rq_status transform_of(rq_transform *out, const rq_augment_options *options,
                              int64_t resolution, rq_error *err)
{
    return rq_augment_transform(out, options, rq_eval_transform(&imagenet, resolution), &imagenet,
                                err);
}

static void check_transform(rq_augment augment, int64_t resolution, rq_transform_kind kind,
                            int resize, int size)
{
    rq_error err = RQ_ERROR_INIT;
    rq_augment_options options = RQ_AUGMENT_OPTIONS_INIT;
    rq_transform transform;
    options.kind = augment;
    assert_ok(transform_of(&transform, &options, resolution, &err), &err);
    assert_int_equal(transform.kind, kind);
    assert_int_equal(transform.resize, resize);
    assert_int_equal(transform.size, size);
    assert_int_equal(transform.padding, RQ_USUAL_PADDING);
    assert_int_equal(transform.padding_mode, RQ_PADDING_CONSTANT);
    assert_int_equal(transform.flip, RQ_FLIP_BY_CHANCE);
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

static void test_transform__takes_every_option(void **state)
{
    (void)state;
    const rq_augment_options options = {.kind = RQ_AUGMENT_CUTOUT,
                                        .resize = 40,
                                        .padding = 3,
                                        .padding_mode = RQ_PADDING_REFLECT,
                                        .cutout_side = 8,
                                        .color_jitter = 0.25};
    rq_error err = RQ_ERROR_INIT;
    rq_transform transform;
    assert_ok(transform_of(&transform, &options, 32, &err), &err);
    assert_int_equal(transform.kind, RQ_TRANSFORM_PAD_CROP);
    assert_int_equal(transform.resize, 40);
    assert_int_equal(transform.size, 32);
    assert_int_equal(transform.padding, 3);
    assert_int_equal(transform.padding_mode, RQ_PADDING_REFLECT);
    assert_int_equal(transform.cutout.side, 8);
    assert_close(transform.color_jitter, 0.25, 0, 0);
    assert_ok(rq_transform_check(&transform, &err), &err);
}

/* An option is refused where it would change nothing. */
static void test_transform__refuses_what_the_kind_has_no_use_for(void **state)
{
    (void)state;
    static const struct {
        rq_augment_options options;
        int64_t resolution;
        const char *says;
    } wrong[] = {
        {{.kind = RQ_AUGMENT_CROP, .padding = RQ_USUAL_PADDING, .resize = 40}, 32, "--resize"},
        {{.kind = RQ_AUGMENT_AUTO, .padding = RQ_USUAL_PADDING, .resize = 256}, 224, "--resize"},
        {{.kind = RQ_AUGMENT_RAUG15, .padding = 2}, 32, "--padding"},
        {{.kind = RQ_AUGMENT_FLIP, .padding = 0}, 32, "--padding"},
        {{.kind = RQ_AUGMENT_NONE, .padding = RQ_USUAL_PADDING, .padding_mode = RQ_PADDING_REFLECT},
         32,
         "--padding-mode"},
        {{.kind = RQ_AUGMENT_AUTO, .padding = RQ_USUAL_PADDING, .cutout_side = 8},
         32,
         "--cutout-side"},
        {{.kind = RQ_AUGMENT_NONE, .padding = RQ_USUAL_PADDING, .color_jitter = 0.1},
         32,
         "--color-jitter"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        rq_error err = RQ_ERROR_INIT;
        rq_transform transform;
        assert_fails(transform_of(&transform, &wrong[i].options, wrong[i].resolution, &err),
                     RQ_ERR_USAGE, &err);
        assert_non_null(strstr(err.text, wrong[i].says));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transform__of_each_word),
        cmocka_unit_test(test_transform__takes_every_option),
        cmocka_unit_test(test_transform__refuses_what_the_kind_has_no_use_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
