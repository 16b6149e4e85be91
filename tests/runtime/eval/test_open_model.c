/* What is refused between a model file and its use. */
#include "runtime/eval/open_model.h"

#include <math.h>
#include <string.h>

#include "runtime/model/arch.h"
#include "runtime/modelfile/modelfile.h"
#include "runtime/modelfile/tensorfile.h"
#include "tests/runtime/tiny_models.h"

static rq_error err;
static const char *dir, *path;
static rq_model model;

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    path = rq_test_path("%s/model.bin", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_model_deinit(&model);
    rq_test_rmdir(dir);
    return 0;
}

static rq_tensor *tensor(const char *node, rq_slot slot)
{
    return rq_graph_tensor(&model.graph, rq_graph_find_node(&model.graph, node), slot);
}

static void check_opens(unsigned forms)
{
    rq_model opened;
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_ok(rq_open_model(&opened, path, NULL, forms, &err), &err);
    assert_int_equal(opened.form, model.form);
    rq_model_deinit(&opened);
}

static void check_refused(unsigned forms, const char *part)
{
    rq_model opened;
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_fails(rq_open_model(&opened, path, NULL, forms, &err), RQ_ERR_MODEL, &err);
    assert_memory_equal(err.text, path, strlen(path));
    assert_says(&err, part);
}

static void test_open_model__takes_the_forms_asked_for(void **state)
{
    (void)state;
    tiny_int8(&model);
    check_opens(RQ_ANY_FORM);
    check_opens(1u << RQ_FORM_INT8 | 1u << RQ_FORM_QAT);
    check_refused(1u << RQ_FORM_QAT, "form is int8");
    assert_null(strstr(strstr(err.text, path) + 1, path)); /* the path stands there once */
}

static void test_open_model__refuses_what_is_not_finite(void **state)
{
    (void)state;
    tiny_deploy(&model);
    check_opens(RQ_ANY_FORM);
    rq_tensor_f32(tensor("linear", RQ_SLOT_BIAS))[1] = NAN;
    check_refused(RQ_ANY_FORM, "linear.bias");
}

static void test_open_model__refuses_a_broken_integer_contract(void **state)
{
    (void)state;
    tiny_int8(&model);
    ((int64_t *)tensor("conv", RQ_SLOT_ACC_MAX)->data)[2] += 1;
    check_refused(RQ_ANY_FORM, "acc_max of channel 1");
}

static void test_open_model__refuses_a_scale_of_zero(void **state)
{
    (void)state;
    tiny_qat(&model);
    check_opens(RQ_ANY_FORM);
    rq_tensor_f32(tensor("conv.quant", RQ_SLOT_SCALE))[0] = 0.0f;
    check_refused(RQ_ANY_FORM, "conv.quant: scale 0 is 0");
}

static void test_open_model__refuses_a_negative_weight_scale(void **state)
{
    (void)state;
    tiny_qat(&model);
    rq_tensor_f32(tensor("linear", RQ_SLOT_WEIGHT_SCALE))[2] = -1.0f;
    check_refused(RQ_ANY_FORM, "linear: weight scale 2 is -1");
}

static void test_open_model__names_a_missing_file(void **state)
{
    (void)state;
    rq_model opened;
    assert_fails(rq_open_model(&opened, path, NULL, RQ_ANY_FORM, &err), RQ_ERR_IO, &err);
    assert_says(&err, path);
}

/* Open the file as a command with -a and --classes would. */
static rq_status open_asked(const char *arch, int64_t classes)
{
    rq_model opened;
    const rq_open_options asked = {arch, classes};
    const rq_status status = rq_open_model(&opened, path, &asked, RQ_ANY_FORM, &err);
    if (!status)
        rq_model_deinit(&opened);
    return status;
}

static void test_open_model__compares_networks(void **state)
{
    (void)state;
    assert_ok(rq_arch_build(&model, "repvgg:depth=1,2;width=8,8;classes=3", 5, &err), &err);
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_ok(open_asked(NULL, 0), &err);
    assert_ok(open_asked("repvgg:depth=1,2;width=8,8;classes=3", 0), &err);
    assert_ok(open_asked("repvgg:width=8,8;depth=1,2;stride=2,2", 5), &err);
    assert_fails(open_asked("repvgg:depth=1,3;width=8,8", 0), RQ_ERR_MODEL, &err);
    assert_says(&err, path);
    assert_fails(open_asked("repvgg:depth=1,2;width=8,8;se=pre/4", 0), RQ_ERR_MODEL, &err);
    assert_fails(open_asked("RepVGG-A0", 0), RQ_ERR_MODEL, &err);
    assert_fails(open_asked("RepVGG-A9", 0), RQ_ERR_USAGE, &err);
    assert_fails(open_asked(NULL, 3), RQ_ERR_MODEL, &err);
    assert_says(&err, "has 5 classes, not the 3 of --classes");
}

static void test_open_model__takes_checkpoints(void **state)
{
    (void)state;
    static const char arch[] = "repvgg:depth=1,2;width=8,8;classes=5";
    assert_ok(rq_arch_build_deploy(&model, arch, 0, &err), &err);
    assert_ok(rq_tensorfile_write(path, model.graph.params, model.graph.n_params, NULL, 0, &err),
              &err);
    assert_ok(open_asked(arch, 0), &err);
    assert_ok(open_asked("repvgg:depth=1,2;width=8,8", 5), &err);
    assert_fails(open_asked(NULL, 0), RQ_ERR_USAGE, &err);
    assert_says(&err, "a checkpoint does not say its architecture");
    assert_fails(open_asked("repvgg:depth=1,2;width=8,8", 0), RQ_ERR_MODEL, &err);
    assert_says(&err, "it loads with --classes 5");
    rq_model opened;
    const rq_open_options asked = {arch, 0};
    assert_fails(rq_open_model(&opened, path, &asked, 1u << RQ_FORM_TRAIN, &err), RQ_ERR_MODEL,
                 &err);
    assert_says(&err, "form is deploy");
}

static void test_require_classes__compares_numbers_and_names(void **state)
{
    (void)state;
    const char *folders[] = {"cat", "cow", "dog"}, *same[] = {"cat", "cow", "dog"};
    const char *other[] = {"cat", "dog", "hen"};
    rq_dataset dataset = {.root = "set/val", .class_names = folders, .n_classes = 3};
    tiny_deploy(&model);
    assert_ok(rq_require_classes(&model, path, &dataset, &err), &err);
    model.class_names = same;
    assert_ok(rq_require_classes(&model, path, &dataset, &err), &err);
    model.class_names = other;
    assert_fails(rq_require_classes(&model, path, &dataset, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "class 1 is 'dog', but folder 1 of set/val is 'cow'");
    dataset.n_classes = 2;
    assert_fails(rq_require_classes(&model, path, &dataset, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "3 classes, but set/val has 2 class folders");
    model.class_names = NULL;
}

static void test_open_session__names_the_file(void **state)
{
    (void)state;
    rq_session *session = NULL;
    tiny_qat(&model);
    assert_ok(rq_open_session(&session, &model, path, 2, 8, 1, &err), &err);
    rq_session_destroy(session);
    assert_fails(rq_open_session(&session, &model, path, 0, 8, RQ_STREAMS_AUTO, &err), RQ_ERR_ARG,
                 &err);
    assert_says(&err, path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open_model__takes_the_forms_asked_for),
        TEST(test_open_model__refuses_what_is_not_finite),
        TEST(test_open_model__refuses_a_broken_integer_contract),
        TEST(test_open_model__refuses_a_scale_of_zero),
        TEST(test_open_model__refuses_a_negative_weight_scale),
        TEST(test_open_model__names_a_missing_file),
        TEST(test_open_model__compares_networks),
        TEST(test_open_model__takes_checkpoints),
        TEST(test_require_classes__compares_numbers_and_names),
        TEST(test_open_session__names_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
