/* compare as typed. The accuracy gate is tested with models that must fail it, in
 * tests/cli/test_compare_command.c. */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "tests/cli/small_set.h"

static const char *dir, *images, *fp32, *qat, *int8;
static rq_cli run;

static int setup(void **state)
{
    (void)state;
    static char paths[4][128];
    static const char *const names[4] = {"images", "deploy.bin", "qat.bin", "int8.bin"};
    dir = rq_test_mkdir();
    for (int i = 0; i < 4; i++)
        (void)snprintf(paths[i], sizeof paths[i], "%s/%s", dir, names[i]);
    images = paths[0];
    fp32 = paths[1];
    qat = paths[2];
    int8 = paths[3];
    small_images(images);
    small_deploy(dir);
    small_quantize(dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_cli_deinit(&run);
    rq_test_rmdir(dir);
    return 0;
}

static double top1_of(const char *model)
{
    rq_cli evaluate = RQ_CLI_INIT;
    rq_cli_run(&evaluate, "evaluate", images, model, "--json");
    json_t *json = rq_cli_json(&evaluate);
    const double top1 = rq_json_double(json, "top1");
    json_decref(json);
    rq_cli_deinit(&evaluate);
    return top1;
}

static void test_compare__json_agrees_with_evaluate(void **state)
{
    (void)state;
    rq_cli_run(&run, "compare", images, fp32, int8, "--qat", qat, "--json", "--threads", "1", "-b",
               "2");
    assert_exit(&run, 0);
    json_t *json = rq_cli_json(&run);
    const json_t *columns[3] = {json_object_get(json, "fp32"), json_object_get(json, "qat"),
                                json_object_get(json, "int8")};
    const char *const models[3] = {fp32, qat, int8};
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
    rq_cli_run(&run, "compare", images, fp32, int8, "--max-drop", "100");
    assert_exit(&run, 0);
    assert_says_out(&run, "        FP32        INT8\nAcc@1 ");
    assert_says_out(&run, "\nagrees with FP32           100.000 %");
    assert_says_out(&run, "\nimages/s at batch 32 ");
    assert_says_out(&run, "points of Acc@1 on 5 images\n");
    assert_not_out(&run, "fake-quant");
}

static void test_compare__wants_the_right_forms(void **state)
{
    (void)state;
    rq_cli_run(&run, "compare", images, int8, fp32);
    assert_one_line(&run, "compare", "int8.bin: form is int8, this takes ");
    rq_cli_run(&run, "compare", images, fp32, qat);
    assert_one_line(&run, "compare", "qat.bin: form is qat, this takes int8");
    rq_cli_run(&run, "compare", images, fp32, int8, "--qat", int8);
    assert_one_line(&run, "compare", "int8.bin: form is int8, this takes qat");
}

static void test_compare__refuses_bad_input(void **state)
{
    (void)state;
    const char *cut = small_cut(int8, rq_test_path("%s/cut.bin", dir));
    rq_cli_run(&run, "compare", images, fp32, cut);
    assert_one_line(&run, "compare", "/cut.bin: ");
    rq_cli_run(&run, "compare", rq_test_path("%s/none", dir), fp32, int8);
    assert_one_line(&run, "compare", "/none");
    rq_cli_run(&run, "compare", images, fp32);
    assert_failure(&run, 2, "INT8");
    rq_cli_run(&run, "compare", images, fp32, int8, "--max-drop", "-1");
    assert_failure(&run, 2, "--max-drop");
    rq_cli_run(&run, "compare", images, fp32, int8, "--max-drop", "nan");
    assert_failure(&run, 2, "--max-drop");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare__json_agrees_with_evaluate),
        cmocka_unit_test(test_compare__prints_a_table),
        cmocka_unit_test(test_compare__wants_the_right_forms),
        cmocka_unit_test(test_compare__refuses_bad_input),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
