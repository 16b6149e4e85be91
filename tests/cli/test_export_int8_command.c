/* The command as a whole: what it writes, prints and refuses. */
#include "cli/commands.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "runtime/base/file.h"
#include "runtime/modelfile/modelfile.h"
#include "runtime/reference/integer.h"
#include "tests/export/qat_net.h"
#include "tests/support/capture.h"

typedef struct files {
    const char *dir;
    char qat[256], int8[256];
} files;

static const char *text;

static void setup(files *f)
{
    rq_model model;
    rq_error err = RQ_ERROR_INIT;
    f->dir = rq_test_mkdir();
    (void)snprintf(f->qat, sizeof f->qat, "%s/qat.bin", f->dir);
    (void)snprintf(f->int8, sizeof f->int8, "%s/int8.bin", f->dir);
    net_build(&model, &net_all_quantized);
    model.arch = "repvgg:depth=1,2,1;width=5,8,7;classes=5";
    assert_ok(rq_model_save(&model, f->qat, &err), &err);
    rq_model_deinit(&model);
}

/* Run with options or NULL; what it printed is in text. */
static rq_status run_command(const files *f, const char *option_a, const char *option_b,
                             rq_error *err)
{
    return rq_test_command(&rq_command_export_int8, &text, err, f->qat, f->int8, option_a,
                           option_b);
}

static void test_export_int8__writes_a_model_that_runs(void **state)
{
    (void)state;
    files f;
    setup(&f);
    rq_error err = RQ_ERROR_INIT;
    assert_ok(run_command(&f, NULL, NULL, &err), &err);
    assert_non_null(strstr(text, "int8.bin: 5 integer layers, 0 float layers\n"));
    assert_non_null(strstr(text, "0 layers could exceed 2^24"));
    assert_non_null(strstr(text, "isa proof: none"));

    rq_model model;
    assert_ok(rq_model_load(&model, f.int8, &err), &err);
    assert_int_equal(model.form, RQ_FORM_INT8);
    assert_false(model.isa_proof);
    assert_non_null(strstr(model.command, "repqat export_int8 "));
    rq_mapping mapping;
    char id[RQ_FILE_ID_SIZE];
    assert_ok(rq_mapping_open(&mapping, f.qat, &err), &err);
    rq_file_id(&mapping, id);
    rq_mapping_close(&mapping);
    assert_string_equal(model.parent, id);
    const uint8_t pixels[NET_SIDE * NET_SIDE * 3] = {200};
    float logits[5];
    assert_ok(rq_integer_run_ref(&model, pixels, 1, NET_SIDE, NET_SIDE, logits, NULL, NULL, &err),
              &err);
    for (int i = 0; i < 5; i++)
        assert_true(isfinite(logits[i]));
    rq_model_deinit(&model);
    rq_test_rmdir(f.dir);
}

static void test_export_int8__isa_proof_as_json(void **state)
{
    (void)state;
    files f;
    setup(&f);
    rq_error err = RQ_ERROR_INIT;
    assert_ok(run_command(&f, "--isa-proof", "--json", &err), &err);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    assert_true(strncmp(text, "{\"schema\": 1", 12) == 0);
    assert_int_equal(json_integer_value(json_object_get(json, "integer_layers")), 5);
    assert_true(json_is_true(json_object_get(json, "isa_proof")));
    assert_int_equal(json_integer_value(json_object_get(json, "unsafe_channels")), 0);
    assert_true(json_integer_value(json_object_get(json, "repaired_channels")) > 0);
    assert_true(json_integer_value(json_object_get(json, "changed_weights")) > 0);
    assert_true(json_number_value(json_object_get(json, "max_change_steps")) > 0.0);
    assert_true(json_integer_value(json_object_get(json, "bytes_before")) > 0);
    assert_true(json_integer_value(json_object_get(json, "bytes_after")) > 0);
    json_decref(json);

    rq_model model;
    assert_ok(rq_model_load(&model, f.int8, &err), &err);
    assert_true(model.isa_proof);
    assert_ok(rq_integer_check(&model, &err), &err);
    rq_model_deinit(&model);
    rq_test_rmdir(f.dir);
}

static void test_export_int8__refuses(void **state)
{
    (void)state;
    files f;
    rq_error err = RQ_ERROR_INIT;
    setup(&f);
    assert_fails(run_command(&f, "--no-such", NULL, &err), RQ_ERR_USAGE, &err);
    (void)snprintf(f.int8, sizeof f.int8, "%s/missing/int8.bin", f.dir);
    assert_fails(run_command(&f, NULL, NULL, &err), RQ_ERR_IO, &err);
    assert_says(&err, "missing");
    (void)snprintf(f.qat, sizeof f.qat, "%s/absent.bin", f.dir);
    assert_fails(run_command(&f, NULL, NULL, &err), RQ_ERR_IO, &err);
    assert_says(&err, "absent.bin");
    rq_test_rmdir(f.dir);

    setup(&f); /* an int8 model cannot be lowered again; nothing is written */
    assert_ok(run_command(&f, NULL, NULL, &err), &err);
    memcpy(f.qat, f.int8, sizeof f.qat);
    (void)snprintf(f.int8, sizeof f.int8, "%s/again.bin", f.dir);
    assert_fails(run_command(&f, NULL, NULL, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "int8.bin: form is int8, this takes qat");
    assert_int_equal(access(f.int8, F_OK), -1);
    rq_test_rmdir(f.dir);
}

static void test_export_int8__names_file_and_layer(void **state)
{
    (void)state;
    files f;
    setup(&f);
    rq_model model;
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_model_load(&model, f.qat, &err), &err);
    net_values(&model, "stage1.0.rbr_reparam.conv", RQ_SLOT_WEIGHT_SCALE)[0] = -1.0f;
    assert_ok(rq_model_save(&model, f.qat, &err), &err);
    rq_model_deinit(&model);
    assert_fails(run_command(&f, NULL, NULL, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "qat.bin: stage1.0.rbr_reparam.conv: weight scale 0 is -1");
    assert_int_equal(access(f.int8, F_OK), -1);
    rq_test_rmdir(f.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_export_int8__writes_a_model_that_runs),
        cmocka_unit_test(test_export_int8__isa_proof_as_json),
        cmocka_unit_test(test_export_int8__refuses),
        cmocka_unit_test(test_export_int8__names_file_and_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
