/* compare as typed. The accuracy gate is tested with models that must fail it, in
 * tests/cli/test_compare_command.c. */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "tests/support/small_set.h"

static double top1_of(const char *model)
{
    rq_cli evaluate = RQ_CLI_INIT;
    rq_cli_run(&evaluate, "evaluate", small.images, model, "--json");
    json_t *json = rq_cli_json(&evaluate);
    const double top1 = rq_json_double(json, "top1");
    json_decref(json);
    rq_cli_deinit(&evaluate);
    return top1;
}

static void test_compare__json_agrees_with_evaluate(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "compare", small.images, small.deploy, small.int8, "--qat", small.qat,
               "--json", "--threads", "1", "-b", "2");
    assert_exit(&small.run, 0);
    json_t *json = rq_cli_json(&small.run);
    const json_t *columns[3] = {json_object_get(json, "fp32"), json_object_get(json, "qat"),
                                json_object_get(json, "int8")};
    const char *const models[3] = {small.deploy, small.qat, small.int8};
    for (int k = 0; k < 3; k++) {
        assert_close(rq_json_double(columns[k], "top1"), top1_of(models[k]), 1e-9, 0);
        assert_true(rq_json_double(columns[k], "size_mb") > 0.0 &&
                    rq_json_double(columns[k], "batch1_ms") > 0.0);
    }
    assert_close(rq_json_double(columns[0], "agreement"), 100.0, 0, 0);
    assert_close(rq_json_double(json, "agreement"), rq_json_double(columns[2], "agreement"), 0, 0);
    assert_close(rq_json_double(json, "qat_int8_differ"), 0, 0, 0);
    assert_close(rq_json_double(json, "images"), SMALL_VAL, 0, 0);
    assert_close(rq_json_double(json, "top1_drop"),
                 rq_json_double(columns[0], "top1") - rq_json_double(columns[2], "top1"), 1e-9, 0);
    assert_close(rq_json_double(json, "speedup"),
                 rq_json_double(columns[2], "img_per_s") / rq_json_double(columns[0], "img_per_s"),
                 0, 1e-6);
    assert_close(rq_json_double(json, "batch"), 2, 0, 0);
    json_decref(json);
}

static void test_compare__prints_a_table(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "compare", small.images, small.deploy, small.int8, "--max-drop", "100");
    assert_exit(&small.run, 0);
    assert_says_out(&small.run, "        FP32        INT8\nAcc@1 ");
    assert_says_out(&small.run, "\nagrees with FP32           100.000 %");
    assert_says_out(&small.run, "\nimages/s at batch 32 ");
    assert_says_out(&small.run, "points of Acc@1 on 5 images\n");
    assert_not_out(&small.run, "fake-quant");
}

static void test_compare__wants_the_right_forms(void **state)
{
    (void)state;
    rq_cli_run(&small.run, "compare", small.images, small.int8, small.deploy);
    assert_one_line(&small.run, "compare", "int8.bin: form is int8, this takes ");
    rq_cli_run(&small.run, "compare", small.images, small.deploy, small.qat);
    assert_one_line(&small.run, "compare", "qat.bin: form is qat, this takes int8");
    rq_cli_run(&small.run, "compare", small.images, small.deploy, small.int8, "--qat", small.int8);
    assert_one_line(&small.run, "compare", "int8.bin: form is int8, this takes qat");
}

static void test_compare__refuses_bad_input(void **state)
{
    (void)state;
    const char *cut = small_cut(small.int8, rq_test_path("%s/cut.bin", small.dir));
    rq_cli_run(&small.run, "compare", small.images, small.deploy, cut);
    assert_one_line(&small.run, "compare", "/cut.bin: ");
    rq_cli_run(&small.run, "compare", rq_test_path("%s/none", small.dir), small.deploy, small.int8);
    assert_one_line(&small.run, "compare", "/none");
    rq_cli_run(&small.run, "compare", small.images, small.deploy);
    assert_failure(&small.run, 2, "INT8");
    rq_cli_run(&small.run, "compare", small.images, small.deploy, small.int8, "--max-drop", "-1");
    assert_failure(&small.run, 2, "--max-drop");
    rq_cli_run(&small.run, "compare", small.images, small.deploy, small.int8, "--max-drop", "nan");
    assert_failure(&small.run, 2, "--max-drop");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare__json_agrees_with_evaluate),
        cmocka_unit_test(test_compare__prints_a_table),
        cmocka_unit_test(test_compare__wants_the_right_forms),
        cmocka_unit_test(test_compare__refuses_bad_input),
    };
    return cmocka_run_group_tests(tests, small_setup_int8, small_teardown);
}
