/* inspect as a function: what it prints of each form, and of networks with auxiliary heads. */
#include "cli/commands.h"

#include <math.h>
#include <string.h>

#include "runtime/model/arch.h"
#include "runtime/modelfile/modelfile.h"
#include "tests/runtime/tiny_models.h"
#include "tests/support/capture.h"
#include "tests/support/cli.h"

enum { COLUMNS = 100 };

static rq_error err;
static rq_model model;
static const char *dir, *path, *text;

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

/* Save the model and inspect its file; stdout is then in text. */
static void inspect(const char *flag)
{
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_ok(rq_test_command(&rq_command_inspect, &text, &err, path, *flag ? flag : NULL), &err);
}

static void expect(const char *part)
{
    if (!strstr(text, part))
        fail_msg("no '%s' in:\n%s", part, text);
}

/* No line of the table is longer than a terminal, or ends in blanks. */
static void check_lines(void)
{
    const char *line = strstr(text, "\n\n");
    assert_non_null(line);
    for (line += 2; *line; line += strcspn(line, "\n") + 1) {
        const size_t size = strcspn(line, "\n");
        assert_int_equal(line[size], '\n');
        assert_true(size > 0 && size <= COLUMNS && line[size - 1] != ' ');
    }
}

static json_t *inspect_json(void)
{
    json_error_t error;
    inspect("--json");
    assert_memory_equal(text, "{\"schema\": 1, ", 14);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        fail_msg("%s", error.text);
    return json;
}

static const json_t *layer(const json_t *json, const char *name)
{
    const json_t *layers = json_object_get(json, "layers");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *one = json_array_get(layers, i);
        if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0)
            return one;
    }
    fail_msg("no layer '%s'", name);
    return NULL;
}

/* The table of a small network, to the letter. */
static void test_inspect__table(void **state)
{
    (void)state;
    assert_ok(rq_arch_build(&model, "repvgg:depth=1,1;width=8,8;stride=2,1;block=target;se=post/4",
                            5, &err),
              &err);
    model.preprocess.resize = model.preprocess.crop = 16;
    model.seed = 18446744073709551615ULL;
    inspect("");
    check_lines();
    expect(path);
    expect(
        "\nform           train\narchitecture   repvgg:depth=1,1;width=8,8;stride=2,1;block="
        "target;se=post/4\nclasses        5\npreprocessing  resize 16, crop 16, mean 0.485 0.456 "
        "0.406, std 0.229 0.224 0.225\ncommand        (unknown)\nparent         (none)\nseed     "
        "      18446744073709551615\n"
        "parameters     953 weights and biases, 34 others\n"
        "MACs           0.051 M multiply-adds per image of 16 x 16 pixels\n"
        "size           3956 bytes of tensors (0.0 MB)\n"
        "\n"
        "layer                     operator         output   params  M MACs\n"
        "input                     input            16x16x3\n"
        "stage0.conv               conv 3x3/2       8x8x8       216   0.014\n"
        "stage0.bn                 batch_norm       8x8x8        16\n"
        "stage0.relu               relu             8x8x8\n"
        "stage0.post_se.gap        global_avg_pool  1x1x8\n"
        "stage0.post_se.down       conv 1x1/1       1x1x2        18   0.000\n"
        "stage0.post_se.relu       relu             1x1x2\n"
        "stage0.post_se.up         conv 1x1/1       1x1x8        24   0.000\n"
        "stage0.post_se.sigmoid    sigmoid          1x1x8\n"
        "stage0.post_se            mul              8x8x8\n"
        "stage1.0.conv             conv 3x3/1       8x8x8       576   0.037\n");
    expect("\ngap                       global_avg_pool  1x1x8\n"
           "linear                    linear           1x1x5        45   0.000\n");
}

static void test_inspect__geometry(void **state)
{
    (void)state;
    tiny_deploy(&model);
    rq_conv_attr *conv = &model.graph.nodes[1].conv;
    conv->dilation[1] = 2;
    conv->stride[0] = 1;
    inspect("");
    check_lines();
    expect("\nconv    conv 3x3/1x2 d1x2  16x7x4 ");
    json_t *json = inspect_json();
    const json_t *one = layer(json, "conv");
    static const char *const pairs[] = {"kernel", "stride", "pad", "dilation"};
    static const int values[4][2] = {{3, 3}, {1, 2}, {1, 1}, {1, 2}};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 2; k++)
            assert_int_equal(json_integer_value(json_array_get(json_object_get(one, pairs[i]), k)),
                             values[i][k]);
    assert_close(rq_json_double(one, "groups"), 1, 0, 0);
    assert_close(rq_json_double(one, "params"), 108 + 4, 0, 0);
    assert_close(rq_json_double(one, "macs"), 16.0 * 7 * 108, 0, 0);
    const json_t *inputs = json_object_get(layer(json, "linear"), "inputs");
    assert_string_equal(json_string_value(json_array_get(inputs, 0)), "gap");
    assert_int_equal(json_array_size(json_object_get(layer(json, "input"), "inputs")), 0);
    assert_int_equal(json_array_size(json_object_get(json, "layers")), 5);
    assert_null(json_object_get(json, "isa_proof"));
    json_decref(json);
}

static void test_inspect__ranges_and_scales(void **state)
{
    (void)state;
    tiny_qat(&model);
    inspect("");
    check_lines();
    expect("  scale ");
    expect("\nconv.quant  fake_quant       8x8x4                    0.0312 (0..7.97)\n");
    json_t *json = inspect_json();
    const json_t *quant = layer(json, "conv.quant"), *conv = layer(json, "conv");
    assert_close(rq_json_double(quant, "scale"), TINY_SCALE, 0, 1e-7);
    assert_close(rq_json_double(quant, "min"), 0, 0, 0);
    assert_close(rq_json_double(quant, "max"), 255.0 * (double)TINY_SCALE, 0, 1e-7);
    assert_close(rq_json_double(conv, "weight_scale_max"), 0x1p-12, 0, 1e-7);
    assert_close(rq_json_double(conv, "buffers"), TINY_CHANNELS, 0, 0);
    /* the largest accumulator is shown as a power of 2 */
    const double acc_max = rq_json_double(conv, "acc_max");
    json_decref(json);
    inspect("");
    expect(rq_test_path("  0.00024..0.00024  2^%.1f\n", log2(acc_max)));
}

static void test_inspect__integers(void **state)
{
    (void)state;
    static const char *names[] = {"cat", "cow", "dog"};
    tiny_int8(&model);
    model.class_names = names;
    inspect("");
    check_lines();
    expect("\nclasses        3 (cat ... dog)\n");
    expect("\nisa proof      no: CPUs without VNNI use slower kernels that cannot saturate\n");
    expect("  multiplier ");
    expect("\ngap     qglobal_avg_pool  1x1x4                    scale 0.0312\n");
    model.isa_proof = true; /* weights of at most 5 */
    json_t *json = inspect_json();
    assert_true(json_is_true(json_object_get(json, "isa_proof")));
    assert_close(rq_json_double(layer(json, "linear"), "multiplier_min"), 0.01, 0, 1e-6);
    assert_close(rq_json_double(json, "params"), 4 * 27 + 4 + 3 * 4 + 3, 0, 0);
    /* 4 bytes of bias and multiplier and 16 of bounds per channel, 3 of zero points, 8 of scales */
    assert_close(rq_json_double(json, "size_bytes"), 4 * 27 + 3 * 4 + 7 * 24 + 3 + 8, 0, 0);
    json_decref(json);
    inspect("");
    expect("\nisa proof      yes: every CPU can use its INT8 instructions\n");
    model.class_names = NULL;
}

/* Auxiliary heads are counted apart. */
static void test_inspect__auxiliary_heads(void **state)
{
    (void)state;
    assert_ok(
        rq_arch_build(&model, "repvgg:depth=1,1;width=8,8;stride=2,1;block=target;aux=0", 5, &err),
        &err);
    model.preprocess.crop = 16;
    inspect("");
    check_lines();
    expect("\nparameters     869 weights and biases, 34 others\n");
    expect("\nauxiliary      637 weights and biases, 17 others, 0.009 M MACs more, for training "
           "alone\n");
    json_t *json = inspect_json();
    const json_t *aux = json_object_get(json, "auxiliary");
    assert_close(rq_json_double(json, "params"), 869, 0, 0);
    assert_close(rq_json_double(json, "macs"), 64.0 * 216 + 64.0 * 576 + 40, 0, 0);
    assert_close(rq_json_double(aux, "params"), 576 + 16 + 45, 0, 0);
    assert_close(rq_json_double(aux, "macs"), 16.0 * 576 + 40, 0, 0);
    assert_true(json_is_true(json_object_get(layer(json, "stage0_aux.3"), "auxiliary")));
    assert_null(json_object_get(layer(json, "linear"), "auxiliary"));
    json_decref(json);
}

/* The longest names and the largest numbers of all named networks fit into a terminal. */
static void test_inspect__fits_into_a_terminal(void **state)
{
    (void)state;
    assert_ok(rq_arch_build(&model,
                            "repvgg:depth=1,1,1,12,1,1;width=64,160,320,640,16,2560;stride=2,1,1,1,"
                            "1,2;se=post/4;names=stage0,stage1.blocks,stage2.blocks,"
                            "stage3_second.blocks,stage3.blocks,stage4.blocks",
                            5, &err),
              &err);
    inspect("");
    check_lines();
    expect("\nstage3_second.blocks.11.post_se.sigmoid  sigmoid ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_inspect__table),
        TEST(test_inspect__geometry),
        TEST(test_inspect__ranges_and_scales),
        TEST(test_inspect__integers),
        TEST(test_inspect__auxiliary_heads),
        TEST(test_inspect__fits_into_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
