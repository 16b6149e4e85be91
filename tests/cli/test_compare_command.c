/* compare's gate and agreement, with an FP32 and an INT8 model whose predictions are known. */
#include "cli/commands.h"

#include <string.h>

#include "cli/synthetic.h"
#include "runtime/modelfile/modelfile.h"
#include "tests/runtime/tiny_models.h"
#include "tests/support/capture.h"

enum { PER_CLASS = 2 };

static rq_error err;
static const char *dir, *fp32, *int8, *text;

/* A model that always says class k. */
static void save(rq_model *model, const char *path, int k)
{
    const int linear = rq_graph_find_node(&model->graph, "linear");
    const rq_tensor *bias = rq_graph_tensor(&model->graph, linear, RQ_SLOT_BIAS);
    const rq_tensor *weight = rq_graph_tensor(&model->graph, linear, RQ_SLOT_WEIGHT);
    if (bias->dtype == RQ_S32)
        ((int32_t *)bias->data)[k] = 1000000;
    else
        rq_tensor_f32(bias)[k] = 1000.0f;
    if (bias->dtype == RQ_S32) {
        int64_t *acc_max = rq_graph_tensor(&model->graph, linear, RQ_SLOT_ACC_MAX)->data;
        acc_max[2 * k + 1] = rq_acc_bias_bound((const int8_t *)weight->data + k * TINY_CHANNELS,
                                               TINY_CHANNELS, 1000000);
    }
    assert_ok(rq_model_save(model, path, &err), &err);
    rq_model_deinit(model);
}

static void save_models(int fp32_class, int int8_class)
{
    rq_model model;
    tiny_deploy(&model);
    save(&model, fp32, fp32_class);
    tiny_int8(&model);
    save(&model, int8, int8_class);
}

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    fp32 = rq_test_path("%s/fp32.bin", dir);
    int8 = rq_test_path("%s/int8.bin", dir);
    if (rq_synthetic_write(dir, TINY_CLASSES, 1, PER_CLASS, TINY_SIDE, 1, &err))
        return -1;
    /* class 0 has one image more, so that saying "class 0" is right more often */
    size_t size_bytes;
    const char *first = rq_synthetic_class_name(0);
    uint8_t *data = rq_test_read_file(rq_test_path("%s/val/%s/0000.jpg", dir, first), &size_bytes);
    rq_test_write_file(rq_test_path("%s/val/%s/0009.jpg", dir, first), data, size_bytes);
    rq_free(data);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_test_rmdir(dir);
    return 0;
}

/* Run with stdout in text. */
static rq_status compare(const char *max_drop)
{
    return rq_test_command(&rq_command_compare, &text, &err, dir, fp32, int8, "--max-drop",
                           max_drop, "-b4");
}

/* 3 of 7 images against 2 of 7. */
static void test_compare__fails_the_gate(void **state)
{
    (void)state;
    save_models(0, 2);
    assert_fails(compare("14.2"), RQ_ERR_GATE, &err);
    assert_says(&err, "Acc@1 drops by 14.286 points (42.857 to 28.571), --max-drop allows 14.200");
    assert_non_null(strstr(text, "INT8 loses 14.286 points of Acc@1 on 7 images\n"));
    assert_non_null(strstr(text, "agrees with FP32           100.000 %     0.000 %"));
    assert_ok(compare("14.3"), &err);
}

static void test_compare__a_gain_is_no_drop(void **state)
{
    (void)state;
    save_models(1, 0);
    assert_ok(compare("0"), &err);
    assert_non_null(strstr(text, "INT8 loses -14.286 points"));
    save_models(1, 1);
    assert_ok(compare("0"), &err);
    assert_non_null(strstr(text, "agrees with FP32           100.000 %   100.000 %"));
}

static void test_compare__wants_the_same_pixels(void **state)
{
    (void)state;
    rq_model model;
    save_models(0, 0);
    tiny_int8(&model);
    model.preprocess.resize = TINY_SIDE + 2;
    save(&model, int8, 0);
    assert_fails(compare("0"), RQ_ERR_MODEL, &err);
    assert_says(&err, "resizes images to 16 and crops 16, but");
    assert_string_equal(text, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_compare__fails_the_gate),
        TEST(test_compare__a_gain_is_no_drop),
        TEST(test_compare__wants_the_same_pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
