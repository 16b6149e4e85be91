/* Model files: what is saved comes back; what is damaged, incomplete or contradictory is refused. */
#include "runtime/modelfile/modelfile.h"

#include <float.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/memory.h"
#include "runtime/base/random.h"
#include "runtime/model/arch.h"
#include "tests/support/test.h"

static rq_error err;
static const char *dir;

static int setup(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rq_test_rmdir(dir);
    return 0;
}

static const char *class_names[3] = {"tench", "gr\xc3\xbc\xc3\x9f\x65", "a \"b\""};

static void make_model(rq_model *model, const char *arch)
{
    assert_ok(rq_arch_build(model, arch, 3, &err), &err);
    rq_model_init_weights(model, UINT64_MAX);
    model->class_names = class_names;
    model->preprocess.resize = 9;
    model->preprocess.crop = 8;
    model->command = "repqat train 'my dir'";
    model->parent = "crc32:00000000:1";
}

static const char *save_tiny(const char *name)
{
    rq_model model;
    const char *path = rq_test_path("%s/%s", dir, name);
    make_model(&model, "repvgg:depth=1;width=1");
    assert_ok(rq_model_save(&model, path, &err), &err);
    rq_model_deinit(&model);
    return path;
}

static void assert_same_graph(const rq_graph *a, const rq_graph *b)
{
    assert_int_equal(a->n_nodes, b->n_nodes);
    assert_int_equal(a->n_params, b->n_params);
    for (int i = 0; i < a->n_nodes; i++) {
        const rq_node *x = &a->nodes[i], *y = &b->nodes[i];
        assert_int_equal(x->op, y->op);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->n_inputs, y->n_inputs);
        assert_memory_equal(x->input, y->input, sizeof x->input);
        assert_memory_equal(&x->conv, &y->conv, sizeof x->conv);
        assert_memory_equal(&x->eps, &y->eps, sizeof x->eps);
        assert_int_equal(x->constant, y->constant);
        for (int slot = 0; slot < RQ_N_SLOTS; slot++) {
            assert_int_equal(x->slot[slot] < 0, y->slot[slot] < 0);
            if (x->slot[slot] < 0)
                continue;
            const rq_param *p = &a->params[x->slot[slot]], *q = &b->params[y->slot[slot]];
            assert_string_equal(p->name, q->name);
            assert_int_equal(p->tensor.dtype, q->tensor.dtype);
            assert_int_equal(p->tensor.rank, q->tensor.rank);
            assert_memory_equal(p->tensor.data, q->tensor.data,
                                rq_tensor_elems(&p->tensor) * rq_dtype_size(p->tensor.dtype));
        }
    }
}

static void test_model_save__round_trip(void **state)
{
    (void)state;
    rq_model model, loaded;
    const char *path = rq_test_path("%s/model.bin", dir);
    make_model(&model, "repvgg:depth=1,3;width=8,12;groups=2");
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_ok(rq_model_load(&loaded, path, &err), &err);
    assert_same_graph(&model.graph, &loaded.graph);
    assert_int_equal(loaded.form, RQ_FORM_TRAIN);
    assert_string_equal(loaded.arch, model.arch);
    assert_int_equal(loaded.n_classes, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(loaded.class_names[i], class_names[i]);
    assert_memory_equal(&loaded.preprocess, &model.preprocess, sizeof model.preprocess);
    assert_string_equal(loaded.command, model.command);
    assert_string_equal(loaded.parent, model.parent);
    assert_true(loaded.seed == UINT64_MAX);
    assert_false(loaded.isa_proof);

    const char *again = rq_test_path("%s/again.bin", dir);
    size_t n, n_again;
    assert_ok(rq_model_save(&loaded, again, &err), &err);
    uint8_t *a = rq_test_read_file(path, &n), *b = rq_test_read_file(again, &n_again);
    assert_int_equal(n, n_again);
    assert_memory_equal(a, b, n);
    rq_free(a);
    rq_free(b);
    rq_model_deinit(&model);
    rq_model_deinit(&loaded);
}

/* Reals in the JSON text are the same f32 again, bit by bit. */
static void test_model_save__reals_come_back_bit_equal(void **state)
{
    (void)state;
    static const float odd[] = {FLT_MIN, FLT_MAX, FLT_EPSILON, 0x1p-149f, 1e-5f, 0x1.fffffep-17f};
    rq_model model, loaded;
    const char *path = rq_test_path("%s/model.bin", dir);
    make_model(&model, "repvgg:depth=1,3;width=8,12;groups=2");
    size_t n_eps = 0;
    for (int i = 0; i < model.graph.n_nodes; i++)
        if (model.graph.nodes[i].op == RQ_OP_BATCH_NORM)
            model.graph.nodes[i].eps = odd[n_eps++ % (sizeof odd / sizeof odd[0])];
    assert_true(n_eps >= sizeof odd / sizeof odd[0]);
    rq_random random = {1};
    for (int k = 0; k < 3; k++) {
        model.preprocess.mean[k] = (float)rq_random_normal(&random);
        model.preprocess.std[k] = (float)(0.1 + rq_random_unit(&random));
    }
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_ok(rq_model_load(&loaded, path, &err), &err);
    assert_same_graph(&model.graph, &loaded.graph);
    assert_memory_equal(&loaded.preprocess, &model.preprocess, sizeof model.preprocess);
    rq_model_deinit(&model);
    rq_model_deinit(&loaded);
}

static void test_model_save__what_is_unknown_stays_unknown(void **state)
{
    (void)state;
    rq_model model, loaded;
    const char *path = rq_test_path("%s/model.bin", dir);
    make_model(&model, "repvgg:depth=1;width=1");
    model.class_names = NULL;
    model.command = model.parent = NULL;
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_ok(rq_model_load(&loaded, path, &err), &err);
    assert_null(loaded.class_names);
    assert_null(loaded.command);
    assert_null(loaded.parent);
    rq_model_deinit(&model);
    rq_model_deinit(&loaded);
}

static void test_model_copy_info__is_deep(void **state)
{
    (void)state;
    rq_model model, copy = RQ_MODEL_INIT;
    make_model(&model, "repvgg:depth=1;width=1");
    model.form = RQ_FORM_DEPLOY;
    assert_ok(rq_model_copy_info(&copy, &model, &err), &err);
    rq_model_deinit(&model);
    assert_int_equal(copy.form, RQ_FORM_DEPLOY);
    assert_string_equal(copy.arch, "repvgg:depth=1;width=1");
    assert_string_equal(copy.class_names[1], class_names[1]);
    assert_ptr_not_equal(copy.class_names[1], class_names[1]);
    assert_string_equal(copy.parent, "crc32:00000000:1");
    assert_int_equal(copy.preprocess.crop, 8);
    assert_null(copy.command);
    assert_int_equal(copy.graph.n_nodes, 0);
    rq_model_deinit(&copy);
}

static void test_model_require_form__says_what_to_do(void **state)
{
    (void)state;
    const rq_model model = {.form = RQ_FORM_TRAIN};
    assert_ok(rq_model_require_form(&model, "x.bin", 1u << RQ_FORM_TRAIN, &err), &err);
    assert_fails(rq_model_require_form(&model, "x.bin", 1u << RQ_FORM_DEPLOY, &err), RQ_ERR_MODEL,
                 &err);
    assert_string_equal(err.text, "x.bin: form is train, this takes deploy (make one with: repqat "
                                  "convert IN OUT)");
    assert_fails(
        rq_model_require_form(&model, "x.bin",
                              1u << RQ_FORM_WITHBN | 1u << RQ_FORM_QAT | 1u << RQ_FORM_INT8, &err),
        RQ_ERR_MODEL, &err);
    assert_says(&err, "takes withbn or qat or int8 (make one with: repqat insert_bn");
}

/* ---- damage ---- */

static void expect_refused(const char *path, const char *what, size_t at)
{
    rq_model model;
    const rq_status status = rq_model_load(&model, path, &err);
    if (status == RQ_OK)
        fail_msg("%s at byte %zu went unnoticed", what, at);
    assert_true(status == RQ_ERR_FILE || status == RQ_ERR_MODEL);
    assert_memory_equal(err.text, path, strlen(path));
    assert_int_equal(model.graph.n_nodes, 0);
}

/* One byte of a file, in place. */
static void poke(const char *path, size_t at, uint8_t byte)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc(byte, file), byte);
    assert_int_equal(fclose(file), 0);
}

static void test_model_load__every_flipped_byte_and_every_cut(void **state)
{
    (void)state;
    size_t n;
    uint8_t *bytes = rq_test_read_file(save_tiny("good.bin"), &n);
    const char *path = rq_test_path("%s/bad.bin", dir);
    rq_model model;
    rq_test_write_file(path, bytes, n);
    assert_ok(rq_model_load(&model, path, &err), &err);
    rq_model_deinit(&model);
    for (size_t i = 0; i < n; i++) {
        static const uint8_t masks[] = {0x01, 0x20, 0x80, 0xff};
        poke(path, i, bytes[i] ^ masks[i % sizeof masks]);
        expect_refused(path, "a flip", i);
        poke(path, i, bytes[i]);
    }
    assert_ok(rq_model_load(&model, path, &err), &err);
    rq_model_deinit(&model);
    poke(path, n, 0);
    expect_refused(path, "a byte more", n);
    for (size_t i = n; i-- > 0;) {
        assert_int_equal(truncate(path, (off_t)i), 0);
        expect_refused(path, "a cut", i);
    }
    rq_free(bytes);
}

/* ---- contradictions in files with valid checksums ---- */

static const char *const keys[] = {"format",  "version",     "form",          "arch",
                                   "classes", "class_names", "preprocessing", "graph",
                                   "command", "seed",        "parent",        "isa_proof"};
enum { N_KEYS = sizeof keys / sizeof keys[0] };

/* Replace the first occurrence of old in text. */
static void replace(char *out, size_t out_bytes, const char *text, const char *old, const char *now)
{
    const char *at = text ? strstr(text, old) : NULL;
    if (!at) {
        fail_msg("'%s' is not in '%s'", old, text ? text : "nothing");
        return;
    }
    assert_true(strlen(text) + strlen(now) < out_bytes);
    memcpy(out, text, (size_t)(at - text));
    (void)stpcpy(stpcpy(out + (at - text), now), at + strlen(old));
}

/* Rewrite a file with one metadata entry edited: old -> now inside the entry, or (old NULL) the
 * whole entry, or (now NULL too) without it. n_dropped tensors are left out at the end. */
static void rewrite(const char *from, const char *to, const char *key, const char *old,
                    const char *now, int n_dropped)
{
    rq_tensorfile *file;
    static char edited[16384];
    rq_text_pair pairs[N_KEYS];
    int n = 0;
    assert_ok(rq_tensorfile_open(&file, from, &err), &err);
    for (size_t i = 0; i < N_KEYS; i++) {
        pairs[n] = (rq_text_pair){keys[i], rq_tensorfile_metadata(file, keys[i])};
        if (strcmp(keys[i], key) == 0) {
            if (old) {
                replace(edited, sizeof edited, pairs[n].value, old, now);
                now = edited;
            }
            pairs[n].value = now;
        }
        n += pairs[n].value != NULL;
    }
    rq_param tensors[64];
    const int n_tensors = rq_tensorfile_count(file);
    assert_true(n_tensors <= 64);
    for (int i = 0; i < n_tensors; i++) {
        tensors[i].name = rq_tensorfile_get_entry(file, i)->name;
        assert_ok(rq_tensorfile_find(file, tensors[i].name, &tensors[i].tensor, &err), &err);
    }
    assert_ok(rq_tensorfile_write(to, tensors, n_tensors - n_dropped, pairs, n, &err), &err);
    rq_tensorfile_close(file);
}

static bool is_constant(const rq_model *model, const char *node)
{
    return model->graph.nodes[rq_graph_find_node(&model->graph, node)].constant;
}

static void test_model_load__constant_scales(void **state)
{
    (void)state;
    const char *paths[4];
    for (int i = 0; i < 4; i++)
        paths[i] = rq_test_path("%s/csla%d.bin", dir, i);
    rq_model model, loaded;
    make_model(&model, "repvgg:depth=1;width=3;stride=1;block=csla");
    assert_ok(rq_model_save(&model, paths[0], &err), &err);
    rewrite(paths[0], paths[1], "graph", ",\"constant\":true", "", 0);
    rewrite(paths[1], paths[2], "graph", ",\"constant\":true", "", 0); /* as in old files */
    rewrite(paths[0], paths[3], "arch", "csla", "hs", 0);
    for (int i = 0; i < 4; i++) {
        assert_ok(rq_model_load(&loaded, paths[i], &err), &err);
        assert_same_graph(&model.graph, &loaded.graph);
        assert_true(is_constant(&loaded, "stage0.scale_conv"));
        assert_true(is_constant(&loaded, "stage0.scale_1x1"));
        assert_false(is_constant(&loaded, "stage0.scale_identity"));
        assert_false(is_constant(&loaded, "stage0.conv"));
        rq_model_deinit(&loaded);
    }
    rewrite(paths[0], paths[1], "graph", "\"constant\":true", "\"constant\":1", 0);
    expect_refused(paths[1], "a number as constant", 0);
    assert_says(&err, "constant");
    rq_model_deinit(&model);
}

static void test_model_load__rejects_metadata(void **state)
{
    (void)state;
    static const struct {
        const char *key, *old, *now, *says;
    } cases[] = {
        {"format", NULL, NULL, "not a repqat model"},
        {"format", NULL, "pt", "not a repqat model"},
        {"version", NULL, NULL, "'version' is missing"},
        {"version", NULL, "2", "version is '2'"},
        {"form", NULL, NULL, "'form' is missing"},
        {"form", NULL, "Train", "unknown form 'Train'"},
        {"arch", NULL, NULL, "'arch' is missing"},
        {"classes", NULL, NULL, "'classes' is missing"},
        {"classes", NULL, "0", "classes is '0'"},
        {"classes", NULL, "-3", "classes"},
        {"classes", NULL, "3x", "classes"},
        {"classes", NULL, "99999999999", "classes"},
        {"classes", NULL, "4", "class_names: must be an array of 4"},
        {"class_names", NULL, "", "class_names"},
        {"class_names", NULL, "{}", "class_names"},
        {"class_names", NULL, "[\"a\",\"b\"]", "class_names"},
        {"class_names", NULL, "[\"a\",\"b\",3]", "item 2 is not a string"},
        {"preprocessing", NULL, NULL, "'preprocessing' is missing"},
        {"preprocessing", NULL, "[]", "preprocessing"},
        {"preprocessing", NULL, "{", "preprocessing"},
        {"preprocessing", "\"crop\":8", "\"crop\":0", "'crop' is 0"},
        {"preprocessing", "\"crop\":8", "\"crop\":100000", "crop"},
        {"preprocessing", "\"crop\":8", "\"crop\":8.5", "crop"},
        {"preprocessing", "\"resize\"", "\"size\"", "'resize' is missing"},
        {"preprocessing", "\"std\":[", "\"std\":[-1,", "std"},
        {"preprocessing", "\"std\":[0.", "\"std\":[-0.", "std[0]"},
        {"preprocessing", "\"mean\":[0.", "\"mean\":[1e300,0.", "mean"},
        {"preprocessing", "bilinear", "bicubic", "interpolation is 'bicubic'"},
        {"preprocessing", "RGB", "BGR", "colour_order"},
        {"graph", NULL, NULL, "'graph' is missing"},
        {"seed", NULL, NULL, "'seed' is missing"},
        {"seed", NULL, "", "seed"},
        {"seed", NULL, "-1", "seed"},
        {"seed", NULL, "01", "seed"},
        {"seed", NULL, "18446744073709551616", "seed"},
        {"isa_proof", NULL, NULL, "isa_proof"},
        {"isa_proof", NULL, "yes", "isa_proof"},
    };
    const char *good = save_tiny("good.bin"), *bad = rq_test_path("%s/bad.bin", dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rewrite(good, bad, cases[i].key, cases[i].old, cases[i].now, 0);
        expect_refused(bad, cases[i].says, i);
        assert_says(&err, cases[i].says);
    }
}

static void test_model_load__rejects_graphs(void **state)
{
    (void)state;
    static const struct {
        const char *old, *now, *says;
    } cases[] = {
        {NULL, "", "graph"},
        {NULL, "{\"nodes\":[]}", "nodes"},
        {NULL, "{\"nodes\":{}}", "nodes"},
        {NULL, "[]", "graph"},
        {NULL, "{\"nodes\":[3]}", "node 0"},
        {"{\"nodes\":", "{\"x\":1,\"nodes\":", "members besides"},
        {"\"op\":\"relu\"", "\"op\":\"gelu\"", "unknown operator 'gelu'"},
        {"\"op\":\"relu\"", "\"op\":7", "'op'"},
        {"\"op\":\"relu\"", "\"op\":\"input\"", "input takes 0 to 0 inputs"},
        {"\"op\":\"relu\"", "\"op\":\"fake_quant\"", "does not belong to a train model"},
        {"\"op\":\"relu\"", "\"op\":\"quantize\"", "does not belong to a train model"},
        {"\"op\":\"relu\"", "\"op\":\"linear\"", "weight is missing"},
        {"\"op\":\"relu\"", "\"op\":\"conv\"", "'kernel' is missing"},
        {"\"op\":\"input\"", "\"op\":\"relu\"", "first node must be its input"},
        {"\"name\":\"gap\"", "\"name\":\"stage0.add\"", "two nodes have this name"},
        {"\"name\":\"gap\"", "\"name\":\"\"", "empty name"},
        {"\"name\":\"gap\"", "\"name\":null", "'name'"},
        {"\"inputs\":[\"stage0.add\"]", "\"inputs\":[\"linear\"]", "input 0 is not the name"},
        {"\"inputs\":[\"stage0.add\"]", "\"inputs\":[5]", "input 0 is not the name"},
        {"\"inputs\":[\"stage0.add\"]", "\"inputs\":[]", "relu takes 1 to 1 inputs, this has 0"},
        {"\"inputs\":[\"stage0.add\"]",
         "\"inputs\":[\"input\",\"input\",\"input\",\"input\",\"input\"]", "'inputs'"},
        {"\"inputs\":[\"stage0.add\"]", "\"inputs\":[\"input\"]",
         "weight has 1 in dimension 1, it must have 3"},
        {"\"kernel\":[3,3]", "\"kernel\":[3,5]", "weight has 3 in dimension 3"},
        {"\"kernel\":[3,3]", "\"kernel\":[3]", "'kernel'"},
        {"\"kernel\":[3,3]", "\"kernel\":[3,-3]", "'kernel'"},
        {"\"kernel\":[3,3]", "\"kernel\":3", "'kernel'"},
        {"\"stride\":[2,2]", "\"stride\":[2,0]", "'stride'"},
        {"\"stride\":[2,2]", "\"stride\":[2,1]", "input 1 is 4x4x1"},
        {"\"pad\":[1,1]", "\"pad\":[1,99999999999]", "'pad'"},
        {"\"pad\":[1,1]", "\"pad\":[1,16384]", "beyond the limits"},
        {"\"groups\":1", "\"groups\":0", "'groups'"},
        {"\"groups\":1", "\"groups\":2", "2 groups do not divide"},
        {"\"groups\":1", "\"group\":1", "'groups' is missing"},
        {"\"groups\":1", "\"groups\":1,\"bits\":4", "members"},
        {"\"eps\":", "\"eps\":-", "'eps'"},
        {"\"eps\":", "\"eps\":0,\"x\":", "members"},
        {"\"weight\":\"linear.weight\"", "\"weight\":\"no.weight\"",
         "no.weight: the file has no such"},
        {"\"weight\":\"linear.weight\"", "\"weight\":\"linear.bias\"", "exists already"},
        {"\"weight\":\"linear.weight\"", "\"wait\":\"linear.weight\"", "'wait' is no slot"},
        {"\"weight\":\"linear.weight\"", "\"scale\":\"linear.weight\"", "weight is missing"},
        {"\"weight\":\"linear.weight\"", "\"weight\":1", "no slot with a tensor's name"},
        {"\"weight\":\"linear.weight\",\"bias\":\"linear.bias\"", "\"weight\":\"linear.weight\"",
         "linear.bias: no node uses this tensor"},
        {"\"params\":{\"weight\":\"linear.weight\"",
         "\"params\":[1],\"x\":{\"weight\":\"linear.weight\"", "'params'"},
    };
    const char *good = save_tiny("good.bin"), *bad = rq_test_path("%s/bad.bin", dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rewrite(good, bad, "graph", cases[i].old, cases[i].now, 0);
        expect_refused(bad, cases[i].says, i);
        assert_says(&err, cases[i].says);
    }
}

static void test_model_load__rejects_what_does_not_fit_together(void **state)
{
    (void)state;
    const char *good = save_tiny("good.bin"), *bad = rq_test_path("%s/bad.bin", dir);
    rewrite(good, bad, "classes", NULL, "3", 1);
    expect_refused(bad, "a missing tensor", 0);
    assert_says(&err, "the file has no such tensor");
    rewrite(good, bad, "graph", ",{\"op\":\"linear\"",
            ",{\"op\":\"relu\",\"name\":\"r\",\"inputs\":[\"gap\"]},{\"op\":\"linear\"", 0);
    rq_model model;
    assert_ok(rq_model_load(&model, bad, &err), &err); /* the editor itself works */
    rq_model_deinit(&model);

    make_model(&model, "repvgg:depth=1;width=1");
    model.n_classes = 2;
    model.class_names = NULL;
    assert_fails(rq_model_save(&model, bad, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "each of 2 classes");
    model.n_classes = 3;
    model.form = RQ_FORM_INT8;
    assert_ok(rq_model_save(&model, bad, &err), &err); /* float layers may stay in an int8 model */
    const int scale = rq_graph_find_node(&model.graph, "linear");
    const int64_t dims[1] = {3};
    assert_ok(rq_graph_add_param(&model.graph, scale, RQ_SLOT_WEIGHT_SCALE, RQ_F32, 1, dims, &err),
              &err);
    assert_fails(rq_model_save(&model, bad, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "linear: this linear does not belong to a int8 model");
    rq_model_deinit(&model);
}

static void test_model_load__rejects_other_files(void **state)
{
    (void)state;
    rq_model model;
    static const char foreign[] = "\x02\0\0\0\0\0\0\0{}";
    const char *path = rq_test_path("%s/foreign.safetensors", dir);
    rq_test_write_file(path, foreign, sizeof foreign - 1);
    expect_refused(path, "a foreign file", 0);
    assert_says(&err, "not a repqat model");
    assert_fails(rq_model_load(&model, rq_test_path("%s/none.bin", dir), &err), RQ_ERR_IO, &err);
    assert_says(&err, "none.bin");
    assert_fails(rq_model_load(&model, dir, &err), RQ_ERR_IO, &err);
}

/* The same model, in the file's own bytes. */
static void test_model_map__views(void **state)
{
    (void)state;
    rq_model model, mapped, copy;
    const char *path = rq_test_path("%s/model.bin", dir);
    const char *again = rq_test_path("%s/again.bin", dir);
    make_model(&model, "repvgg:depth=1,3;width=8,48;groups=2");
    assert_ok(rq_model_save(&model, path, &err), &err);
    assert_ok(rq_model_map(&mapped, path, &err), &err);
    assert_non_null(mapped.graph.owned);
    const rq_mapping *mapping = &mapped.graph.owned->mapping;
    for (int i = 0; i < mapped.graph.n_params; i++) {
        const unsigned char *data = mapped.graph.params[i].tensor.data;
        assert_true(data > mapping->data && data < mapping->data + mapping->size_bytes);
    }
    assert_same_graph(&model.graph, &mapped.graph);
    for (int i = 0; i < mapped.graph.n_nodes; i++)
        rq_graph_release_node(&mapped.graph, i);
    assert_same_graph(&model.graph, &mapped.graph);
    assert_ok(rq_model_save(&mapped, path, &err), &err); /* over itself: the old file stays open */
    assert_same_graph(&model.graph, &mapped.graph);
    assert_ok(rq_model_save(&mapped, again, &err), &err);
    assert_ok(rq_graph_clone(&copy.graph, &mapped.graph, &err), &err);
    rq_model_deinit(&mapped);
    assert_same_graph(&model.graph, &copy.graph);
    rq_graph_deinit(&copy.graph);
    assert_ok(rq_model_load(&copy, again, &err), &err);
    assert_same_graph(&model.graph, &copy.graph);
    assert_null(copy.graph.owned);
    rq_model_deinit(&copy);
    rq_model_deinit(&model);
}

static void test_model_map__rejects_damage(void **state)
{
    (void)state;
    rq_model model;
    size_t n;
    const char *path = save_tiny("good.bin");
    uint8_t *bytes = rq_test_read_file(path, &n);
    bytes[n - 1] ^= 1;
    rq_test_write_file(path, bytes, n);
    assert_fails(rq_model_map(&model, path, &err), RQ_ERR_FILE, &err);
    assert_says(&err, "checksum");
    assert_null(model.graph.owned);
    rq_test_write_file(path, bytes, n - 1);
    assert_fails(rq_model_map(&model, path, &err), RQ_ERR_FILE, &err);
    rq_free(bytes);
}

static void test_model_write__leaves_the_rest_to_the_writer(void **state)
{
    (void)state;
    rq_model model, mapped;
    rq_writer *writer;
    const char *temporary, *path = rq_test_path("%s/model.bin", dir);
    make_model(&model, "repvgg:depth=1;width=1");
    assert_ok(rq_writer_open(&writer, path, &err), &err);
    assert_ok(rq_model_write(&model, writer, &err), &err);
    assert_int_equal(access(path, F_OK), -1);
    assert_ok(rq_writer_flush(writer, &temporary, &err), &err);
    assert_ok(rq_model_map(&mapped, temporary, &err), &err);
    assert_ok(rq_writer_commit(writer, &err), &err);
    assert_same_graph(&model.graph, &mapped.graph);
    rq_model_deinit(&mapped);
    assert_ok(rq_model_load(&mapped, path, &err), &err);
    rq_model_deinit(&mapped);

    model.n_classes = 2;
    assert_ok(rq_writer_open(&writer, path, &err), &err);
    assert_fails(rq_model_write(&model, writer, &err), RQ_ERR_MODEL, &err);
    assert_says(&err, "model.bin: not saved");
    rq_writer_abort(writer);
    rq_model_deinit(&model);
}

static void test_model_map__no_memory(void **state)
{
    (void)state;
    const char *path = save_tiny("good.bin");
    rq_status status = RQ_ERR_NOMEM;
    for (long n = 0; status; n++) {
        rq_model model;
        rq_alloc_test_fail_after(n);
        status = rq_model_map(&model, path, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(!status || status == RQ_ERR_NOMEM);
        rq_model_deinit(&model);
    }
}

static void test_model_file__no_memory(void **state)
{
    (void)state;
    const char *path = save_tiny("good.bin"), *again = rq_test_path("%s/again.bin", dir);
    rq_model model;
    rq_status status = RQ_ERR_NOMEM;
    for (long n = 0; status; n++) {
        rq_alloc_test_fail_after(n);
        status = rq_model_load(&model, path, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(!status || status == RQ_ERR_NOMEM);
    }
    status = RQ_ERR_NOMEM;
    for (long n = 0; status; n++) {
        rq_alloc_test_fail_after(n);
        status = rq_model_save(&model, again, &err);
        rq_alloc_test_fail_after(-1);
        assert_true(!status || status == RQ_ERR_NOMEM);
    }
    rq_model_deinit(&model);
    assert_ok(rq_model_load(&model, again, &err), &err);
    rq_model_deinit(&model);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_model_save__round_trip),
        TEST(test_model_save__reals_come_back_bit_equal),
        TEST(test_model_save__what_is_unknown_stays_unknown),
        TEST(test_model_copy_info__is_deep),
        TEST(test_model_require_form__says_what_to_do),
        TEST(test_model_load__every_flipped_byte_and_every_cut),
        TEST(test_model_load__constant_scales),
        TEST(test_model_load__rejects_metadata),
        TEST(test_model_load__rejects_graphs),
        TEST(test_model_load__rejects_what_does_not_fit_together),
        TEST(test_model_load__rejects_other_files),
        TEST(test_model_map__views),
        TEST(test_model_map__rejects_damage),
        TEST(test_model_map__no_memory),
        TEST(test_model_write__leaves_the_rest_to_the_writer),
        TEST(test_model_file__no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
