/* Checkpoints into models: what fits, and every way in which one does not. */
#include "runtime/torch/load.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/arch.h"
#include "runtime/modelfile/tensorfile.h"
#include "runtime/torch/names.h"
#include "tests/support/test.h"

#define SMALL "repvgg:depth=1,2;width=4,4;stride=2,1;classes=3"

enum { MAX_PARAMS = 128 };

static rq_error err;
static const char *dir, *path;
static rq_model source, loaded;
static rq_param written[MAX_PARAMS];
static char names[MAX_PARAMS][128];
static int n_written;
static char log_text[1 << 14];

static void collect_log(void *context, rq_log_level level, const char *line)
{
    (void)context;
    (void)level;
    const size_t used = strlen(log_text);
    (void)snprintf(log_text + used, sizeof log_text - used, "%s\n", line);
}

/* The parameters of SMALL with numbers in them, ready to be written under their names. */
static void start(rq_status (*build)(rq_model *, const char *, int, rq_error *))
{
    rq_model_deinit(&source);
    assert_ok(build(&source, SMALL, 0, &err), &err);
    rq_model_init_weights(&source, 7);
    n_written = source.graph.n_params;
    assert_true(n_written < MAX_PARAMS);
    for (int i = 0; i < n_written; i++) {
        written[i] = source.graph.params[i];
        (void)snprintf(names[i], sizeof names[i], "%s", written[i].name);
        written[i].name = names[i];
        if (written[i].tensor.dtype == RQ_S64)
            *(int64_t *)written[i].tensor.data = 100 + i;
    }
}

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    path = rq_test_path("%s/w.safetensors", dir);
    rq_log_set_sink(collect_log, NULL);
    log_text[0] = '\0';
    start(rq_arch_build);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_log_set_sink(NULL, NULL);
    rq_model_deinit(&source);
    rq_model_deinit(&loaded);
    rq_test_rmdir(dir);
    return 0;
}

static int find(const char *name)
{
    for (int i = 0; i < n_written; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    fail_msg("no parameter %s", name);
    return -1;
}

static void drop(const char *name)
{
    const int i = find(name);
    n_written--;
    written[i] = written[n_written];
    memcpy(names[i], names[n_written], sizeof names[i]);
    written[i].name = names[i];
}

static rq_status load_written(const rq_load_options *options)
{
    rq_weight_file *file;
    RQ_TRY(rq_weight_file_open(&file, path, &err));
    const rq_status status = rq_model_from_checkpoint(&loaded, file, options, &err);
    rq_weight_file_close(file); /* the model holds it too */
    return status;
}

static rq_status load(const char *arch, int n_classes)
{
    const rq_load_options options = {arch, n_classes};
    rq_model_deinit(&loaded);
    assert_ok(rq_tensorfile_write(path, written, n_written, NULL, 0, &err), &err);
    return load_written(&options);
}

static void check_refused(const char *arch, const char *part)
{
    assert_fails(load(arch, 0), RQ_ERR_MODEL, &err);
    assert_memory_equal(err.text, path, strlen(path));
    assert_says(&err, part);
}

static void check_same(rq_form form)
{
    assert_int_equal(loaded.form, form);
    assert_int_equal(loaded.graph.n_params, source.graph.n_params);
    for (int i = 0; i < source.graph.n_params; i++) {
        const rq_tensor *want = &source.graph.params[i].tensor;
        const rq_tensor *got = &loaded.graph.params[i].tensor;
        assert_string_equal(loaded.graph.params[i].name, source.graph.params[i].name);
        assert_memory_equal(got->data, want->data,
                            rq_tensor_elems(want) * rq_dtype_size(want->dtype));
    }
}

/* ---- what fits ---- */

static void test_load__training_form(void **state)
{
    (void)state;
    assert_ok(load(SMALL, 0), &err);
    check_same(RQ_FORM_TRAIN);
    assert_string_equal(loaded.arch, SMALL);
}

static void test_load__deploy_form(void **state)
{
    (void)state;
    start(rq_arch_build_deploy);
    assert_ok(load(SMALL, 0), &err);
    check_same(RQ_FORM_DEPLOY);
}

static void rename_all(bool with_module)
{
    for (int i = 0; i < n_written; i++) {
        char own[128];
        memcpy(own, names[i], sizeof own);
        const int n = snprintf(names[i], sizeof names[i], "%s", with_module ? "module." : "");
        assert_true(rq_rename(names[i] + n, sizeof names[i] - (size_t)n, own, RQ_NAMING_OWN,
                              RQ_NAMING_TIMM));
    }
}

static void test_load__timm_names(void **state)
{
    (void)state;
    rename_all(false);
    assert_ok(load(SMALL, 0), &err);
    check_same(RQ_FORM_TRAIN);
    start(rq_arch_build_deploy);
    rename_all(true);
    assert_ok(load(SMALL, 0), &err);
    check_same(RQ_FORM_DEPLOY);
}

static void test_load__counters_may_be_absent(void **state)
{
    (void)state;
    drop("stage0.rbr_dense.bn.num_batches_tracked");
    drop("stage1.1.rbr_identity.num_batches_tracked");
    assert_ok(load(SMALL, 0), &err);
    const int i = rq_graph_find_param(&loaded.graph, "stage0.rbr_dense.bn.num_batches_tracked");
    assert_true(*(int64_t *)loaded.graph.params[i].tensor.data == 0);
}

/* ---- what does not ---- */

static void test_load__lists_all_differences(void **state)
{
    (void)state;
    static const int64_t other[1] = {4};
    static float values[4];
    drop("stage0.rbr_dense.conv.weight");
    drop("stage1.0.rbr_1x1.bn.running_var");
    const int i = find("stage1.0.rbr_dense.conv.weight");
    written[i].tensor.rank = 3;
    written[i].tensor.dim[2] = 9;
    written[n_written++] = (rq_param){"extra", {.dtype = RQ_F32, .rank = 1, .data = values}};
    written[n_written - 1].tensor.dim[0] = other[0];
    check_refused(SMALL, "does not fit " SMALL ": 2 missing, 1 unexpected, 1 of another shape or "
                         "type; first: stage0.rbr_dense.conv.weight is missing");
    assert_non_null(strstr(log_text, "stage0.rbr_dense.conv.weight is missing\n"));
    assert_non_null(strstr(log_text, "stage1.0.rbr_1x1.bn.running_var is missing\n"));
    assert_non_null(strstr(log_text, "stage1.0.rbr_dense.conv.weight is [4, 4, 9], the network has "
                                     "[4, 4, 3, 3]\n"));
    assert_non_null(strstr(log_text, "extra [4] is unexpected\n"));
    assert_true(loaded.graph.n_params == 0);
}

static void test_load__refuses_values_of_another_kind(void **state)
{
    (void)state;
    static int64_t counts[4];
    static float half = 0.5f;
    const int bias = find("stage0.rbr_dense.bn.bias");
    const int tracked = find("stage0.rbr_dense.bn.num_batches_tracked");
    written[bias].tensor.dtype = RQ_S64;
    written[bias].tensor.data = counts;
    check_refused(SMALL, "stage0.rbr_dense.bn.bias holds int64, not floats");
    start(rq_arch_build);
    written[tracked].tensor.dtype = RQ_F32;
    written[tracked].tensor.data = &half;
    check_refused(SMALL, "num_batches_tracked holds float32, not integers");
}

static void test_load__refuses_values_that_are_not_finite(void **state)
{
    (void)state;
    rq_tensor_f32(&written[find("stage1.1.rbr_1x1.bn.weight")].tensor)[2] = NAN;
    check_refused(SMALL, "stage1.1.rbr_1x1.bn.weight: value 2 is nan");
}

/* ---- the head ---- */

static void test_load__keeps_the_head_only_when_asked(void **state)
{
    (void)state;
    check_refused("repvgg:depth=1,2;width=4,4;stride=2,1;classes=5",
                  "first: linear.weight is [3, 4], the network has [5, 4]; it loads with "
                  "--classes 3");
    assert_ok(load(SMALL, 5), &err);
    assert_int_equal(loaded.n_classes, 5);
    assert_non_null(strstr(log_text, "linear.weight has 3 outputs, not 5: it is not loaded\n"));
    assert_non_null(strstr(log_text, "linear.bias has 3 outputs, not 5: it is not loaded\n"));
    rq_model fresh;
    assert_ok(rq_arch_build(&fresh, SMALL, 5, &err), &err);
    rq_model_init_weights(&fresh, 0);
    for (int i = 0; i < fresh.graph.n_params; i++) {
        const rq_param *got = &loaded.graph.params[i];
        const bool is_head = strncmp(got->name, "linear.", 7) == 0;
        const rq_tensor *want = &(is_head ? &fresh : &source)->graph.params[i].tensor;
        assert_memory_equal(got->tensor.data, want->data,
                            rq_tensor_elems(want) * rq_dtype_size(want->dtype));
    }
    rq_model_deinit(&fresh);
    assert_ok(load(SMALL, 3), &err); /* asked for what it has */
    check_same(RQ_FORM_TRAIN);
}

static void test_load__only_outputs_may_differ(void **state)
{
    (void)state;
    const int i = find("linear.weight");
    static float values[15];
    written[i].tensor.dim[1] = 5;
    written[i].tensor.data = values;
    assert_fails(load(SMALL, 4), RQ_ERR_MODEL, &err);
    assert_says(&err, "linear.weight is [3, 5], the network has [4, 4]");
}

/* ---- the architecture ---- */

static void test_load__names_an_architecture_that_fits(void **state)
{
    (void)state;
    rq_model a0;
    assert_ok(rq_arch_build(&a0, "RepVGG-A0", 10, &err), &err);
    assert_ok(rq_tensorfile_write(path, a0.graph.params, a0.graph.n_params, NULL, 0, &err), &err);
    rq_model_deinit(&a0);
    const rq_load_options none = {NULL, 0}, wrong = {"RepVGG-B0", 0};
    assert_fails(load_written(&none), RQ_ERR_USAGE, &err);
    assert_says(&err,
                "does not say its architecture; this one loads with -a RepVGG-A0 --classes 10");
    assert_fails(load_written(&wrong), RQ_ERR_MODEL, &err);
    assert_says(&err, "it loads with -a RepVGG-A0 --classes 10");
}

static void test_load__refuses_no_and_unknown_architectures(void **state)
{
    (void)state;
    assert_fails(load(NULL, 0), RQ_ERR_USAGE, &err);
    assert_says(&err, "fits none that has a name");
    assert_fails(load("RepVGG-Z9", 0), RQ_ERR_USAGE, &err);
}

static void test_load__refuses_inserted_batch_norms(void **state)
{
    (void)state;
    static float values[4];
    n_written = 1;
    written[0] = (rq_param){"stage1.0.rbr_reparam.bn.weight",
                            {.dtype = RQ_F32, .rank = 1, .dim = {4}, .data = values}};
    assert_fails(load(SMALL, 0), RQ_ERR_UNSUPPORTED, &err);
    assert_says(&err, "batch norms were inserted");
}

/* Floats are read where they lie in the file, which stays open when another takes its name. */
static void test_load__views(void **state)
{
    (void)state;
    assert_ok(load(SMALL, 0), &err);
    const rq_mapping *mapping = &loaded.graph.owned->mapping;
    for (int i = 0; i < loaded.graph.n_params; i++) {
        const rq_tensor *tensor = &loaded.graph.params[i].tensor;
        const unsigned char *data = tensor->data;
        const bool is_view = data >= mapping->data && data < mapping->data + mapping->size_bytes;
        assert_int_equal(is_view, tensor->dtype == RQ_F32);
    }
    assert_ok(rq_tensorfile_write(path, NULL, 0, NULL, 0, &err), &err);
    for (int i = 0; i < loaded.graph.n_nodes; i++)
        rq_graph_release_node(&loaded.graph, i);
    check_same(RQ_FORM_TRAIN);
}

static void test_load__no_memory(void **state)
{
    (void)state;
    assert_ok(load(SMALL, 0), &err);
    const rq_load_options options = {SMALL, 0};
    rq_status status = RQ_ERR_NOMEM;
    for (long n = 0; status; n++) {
        rq_model_deinit(&loaded);
        rq_alloc_test_fail_after(n);
        status = load_written(&options);
        rq_alloc_test_fail_after(-1);
        assert_true(!status || status == RQ_ERR_NOMEM);
        assert_true(!status || !loaded.graph.owned);
    }
    check_same(RQ_FORM_TRAIN);
}

static void test_fill__a_model_that_was_built(void **state)
{
    (void)state;
    rq_checkpoint *checkpoint;
    assert_ok(rq_tensorfile_write(path, written, n_written, NULL, 0, &err), &err);
    assert_ok(rq_checkpoint_open(&checkpoint, path, &err), &err);
    assert_ok(rq_arch_build(&loaded, SMALL, 0, &err), &err);
    assert_ok(rq_model_fill(&loaded, checkpoint, false, &err), &err);
    check_same(RQ_FORM_TRAIN);
    rq_model_deinit(&loaded);
    assert_ok(rq_arch_build(&loaded, SMALL, 4, &err), &err);
    assert_fails(rq_model_fill(&loaded, checkpoint, false, &err), RQ_ERR_MODEL, &err);
    rq_checkpoint_close(checkpoint);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_load__training_form),
        TEST(test_load__deploy_form),
        TEST(test_load__timm_names),
        TEST(test_load__counters_may_be_absent),
        TEST(test_load__lists_all_differences),
        TEST(test_load__refuses_values_of_another_kind),
        TEST(test_load__refuses_values_that_are_not_finite),
        TEST(test_load__keeps_the_head_only_when_asked),
        TEST(test_load__only_outputs_may_differ),
        TEST(test_load__names_an_architecture_that_fits),
        TEST(test_load__refuses_no_and_unknown_architectures),
        TEST(test_load__refuses_inserted_batch_norms),
        TEST(test_load__views),
        TEST(test_load__no_memory),
        TEST(test_fill__a_model_that_was_built),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
