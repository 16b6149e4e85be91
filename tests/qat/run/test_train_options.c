/* Options as texts: every recipe can be read, later words win, and what is wrong is named. */
#include "qat/run/train_options.h"

#include "qat/run/recipe.h"
#include "tests/support/test.h"

static rq_error err;
static rq_arena arena;

static int teardown(void **state)
{
    (void)state;
    rq_arena_deinit(&arena);
    return 0;
}

static void test_read__recipes(void **state)
{
    (void)state;
    for (int i = 0; rq_recipe_names[i]; i++) {
        rq_train_options options = rq_train_options_init();
        assert_ok(rq_train_options_read(&options, rq_recipe_texts[i], &arena, &err), &err);
        assert_int_equal(options.epochs > 0, i != RQ_RECIPE_NONE);
        assert_null(options.output);
    }
}

static void test_read__nested_members(void **state)
{
    (void)state;
    rq_train_options options = rq_train_options_init();
    assert_ok(rq_train_options_read(&options,
                                    "--momentum 0.5 --wd 1e-3 --optimizer adamw --freeze stage0 "
                                    "--augment raug15 --ema-rule plain --wd 2e-3 -o a.bin",
                                    &arena, &err),
              &err);
    assert_close(options.optimizer.sgd.momentum, 0.5, 0.0, 0.0);
    assert_close(options.optimizer.weight_decay, 2e-3, 0.0, 0.0);
    assert_int_equal(options.optimizer.kind, RQ_OPTIMIZER_ADAMW);
    assert_string_equal(options.optimizer.rules.freeze, "stage0");
    assert_int_equal(options.augment.kind, RQ_AUGMENT_RAUG15);
    assert_int_equal(options.ema_rule, RQ_EMA_PLAIN);
    assert_string_equal(options.output, "a.bin");
    assert_close(options.optimizer.adamw.beta1, 0.9, 0.0, 0.0); /* as it was */
}

static void test_read__wrong_words(void **state)
{
    (void)state;
    rq_train_options options = rq_train_options_init();
    assert_fails(rq_train_options_read(&options, "--epochs 0", &arena, &err), RQ_ERR_USAGE, &err);
    assert_says(&err, "--epochs");
    assert_fails(rq_train_options_read(&options, "images", &arena, &err), RQ_ERR_USAGE, &err);
    assert_says(&err, "images");
}

static void test_lr_factor__by_batch(void **state)
{
    (void)state;
    rq_train_options options = rq_train_options_init();
    options.batch = 64;
    assert_close(rq_train_lr_factor(&options), 1.0, 0.0, 0.0);
    options.scale_lr = true;
    assert_close(rq_train_lr_factor(&options), 0.25, 0.0, 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_read__recipes, teardown),
        cmocka_unit_test_teardown(test_read__nested_members, teardown),
        cmocka_unit_test_teardown(test_read__wrong_words, teardown),
        cmocka_unit_test(test_lr_factor__by_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
