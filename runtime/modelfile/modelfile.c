/* Loading and saving model files (format: modelfile.h). */
#include "runtime/modelfile/modelfile.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/options.h"
#include "runtime/model/arch.h"

static const char format_name[] = "repqat", format_version[] = "1";

/* ---- loading ---- */

/* A metadata entry that must be there. */
static rq_status get_text(const rq_tensorfile *file, const char *key, const char **out,
                          rq_error *err)
{
    *out = rq_tensorfile_metadata(file, key);
    return *out ? RQ_OK : rq_fail(err, RQ_ERR_FILE, "metadata: '%s' is missing", key);
}

/* One that may be absent (NULL), copied. */
static rq_status copy_text(rq_model *model, const rq_tensorfile *file, const char *key,
                           const char **out, rq_error *err)
{
    const char *text = rq_tensorfile_metadata(file, key);
    *out = text ? rq_arena_strdup(&model->graph.arena, text) : NULL;
    return text && !*out ? rq_no_memory(err) : RQ_OK;
}

bool rq_model_is_in(const rq_tensorfile *file)
{
    const char *format = rq_tensorfile_metadata(file, "format");
    return format && strcmp(format, format_name) == 0;
}

static rq_status check_format(const rq_tensorfile *file, rq_error *err)
{
    if (!rq_model_is_in(file)) {
        const char *format = rq_tensorfile_metadata(file, "format");
        return rq_fail(err, RQ_ERR_FILE, "not a repqat model (metadata: format is %.20s)",
                       format ? format : "absent");
    }
    const char *version = "";
    RQ_TRY(get_text(file, "version", &version, err));
    if (strcmp(version, format_version) != 0)
        return rq_fail(err, RQ_ERR_FILE, "version is '%.20s', this program reads %s", version,
                       format_version);
    if (!rq_tensorfile_is_guarded(file))
        return rq_fail(err, RQ_ERR_FILE, "damaged: metadata: header_crc32 is not where it must be");
    return RQ_OK;
}

static rq_status read_form(rq_model *model, const rq_tensorfile *file, rq_error *err)
{
    const char *name;
    RQ_TRY(get_text(file, "form", &name, err));
    for (int form = 0; form < RQ_N_FORMS; form++)
        if (strcmp(name, rq_form_name((rq_form)form)) == 0) {
            model->form = (rq_form)form;
            return RQ_OK;
        }
    return rq_fail(err, RQ_ERR_FILE, "metadata: unknown form '%.40s'", name);
}

/* *array: what text holds, for the caller to give back. */
static rq_status copy_class_names(rq_model *model, json_t **array, const char *text, rq_error *err)
{
    const size_t n = (size_t)model->n_classes;
    RQ_TRY(rq_json_parse(array, text, strlen(text), err));
    if (!json_is_array(*array) || json_array_size(*array) != n)
        return rq_fail(err, RQ_ERR_FILE, "must be an array of %zu strings", n);
    model->class_names = rq_arena_array(&model->graph.arena, const char *, n);
    if (!model->class_names)
        return rq_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(*array, i));
        if (!name)
            return rq_fail(err, RQ_ERR_FILE, "item %zu is not a string", i);
        model->class_names[i] = rq_arena_strdup(&model->graph.arena, name);
        if (!model->class_names[i])
            return rq_no_memory(err);
    }
    return RQ_OK;
}

static rq_status read_class_names(rq_model *model, const char *text, rq_error *err)
{
    json_t *array = NULL;
    const rq_status status = copy_class_names(model, &array, text, err);
    if (status)
        rq_error_prefix(err, "metadata: class_names");
    json_decref(array);
    return status;
}

static rq_status read_classes(rq_model *model, const rq_tensorfile *file, rq_error *err)
{
    const char *text;
    int64_t n = 0;
    RQ_TRY(get_text(file, "classes", &text, err));
    if (!rq_parse_int(text, 1, RQ_MAX_CHANNELS, &n))
        return rq_fail(err, RQ_ERR_FILE, "metadata: classes is '%.40s', must be in 1..%d", text,
                       RQ_MAX_CHANNELS);
    model->n_classes = (int)n;
    text = rq_tensorfile_metadata(file, "class_names");
    return text ? read_class_names(model, text, err) : RQ_OK;
}

/* Three numbers that are finite as f32 and, for std, positive. */
static rq_status read_channels(const json_t *json, const char *key, double min, float out[3],
                               rq_error *err)
{
    double values[3] = {0};
    RQ_TRY(rq_json_get_numbers(json, key, 3, values, err));
    for (int i = 0; i < 3; i++) {
        out[i] = (float)values[i];
        if (!(values[i] >= min && values[i] <= 1e6))
            return rq_fail(err, RQ_ERR_FILE, "%s[%d] is %g, must be in %g..1e6", key, i, values[i],
                           min);
    }
    return RQ_OK;
}

static rq_status expect_word(const json_t *json, const char *key, const char *want, rq_error *err)
{
    const char *word = "";
    RQ_TRY(rq_json_get_string(json, key, &word, err));
    return strcmp(word, want) == 0
               ? RQ_OK
               : rq_fail(err, RQ_ERR_FILE, "%s is '%.40s', only '%s' is known", key, word, want);
}

/* *tree: what text holds, for the caller to give back. */
static rq_status copy_preprocessing(rq_preprocess *out, json_t **tree, const char *text,
                                    rq_error *err)
{
    int64_t resize = 0, crop = 0;
    RQ_TRY(rq_json_parse(tree, text, strlen(text), err));
    const json_t *json = *tree;
    RQ_TRY(rq_json_get_int(json, "resize", 1, RQ_MAX_SIDE, &resize, err));
    RQ_TRY(rq_json_get_int(json, "crop", 1, RQ_MAX_SIDE, &crop, err));
    out->resize = (int)resize;
    out->crop = (int)crop;
    RQ_TRY(read_channels(json, "mean", -1e6, out->mean, err));
    RQ_TRY(read_channels(json, "std", 1e-6, out->std, err));
    RQ_TRY(expect_word(json, "interpolation", "bilinear", err));
    return expect_word(json, "colour_order", "RGB", err);
}

static rq_status read_preprocessing(rq_model *model, const rq_tensorfile *file, rq_error *err)
{
    json_t *json = NULL;
    const char *text;
    RQ_TRY(get_text(file, "preprocessing", &text, err));
    const rq_status status = copy_preprocessing(&model->preprocess, &json, text, err);
    if (status)
        rq_error_prefix(err, "metadata: preprocessing");
    json_decref(json);
    return status;
}

static rq_status read_seed(rq_model *model, const rq_tensorfile *file, rq_error *err)
{
    const char *text;
    RQ_TRY(get_text(file, "seed", &text, err));
    char canonical[24];
    model->seed = strtoull(text, NULL, 10);
    (void)snprintf(canonical, sizeof canonical, "%" PRIu64, model->seed);
    return strcmp(text, canonical) == 0
               ? RQ_OK
               : rq_fail(err, RQ_ERR_FILE, "metadata: seed '%.40s' is no 64-bit number", text);
}

static rq_status read_isa_proof(rq_model *model, const rq_tensorfile *file, rq_error *err)
{
    const char *text = NULL;
    RQ_TRY(get_text(file, "isa_proof", &text, err));
    model->isa_proof = strcmp(text, "true") == 0;
    return model->isa_proof || strcmp(text, "false") == 0
               ? RQ_OK
               : rq_fail(err, RQ_ERR_FILE, "metadata: isa_proof is '%.40s'", text);
}

static bool ends_with(const char *text, const char *tail)
{
    const size_t n = strlen(text), n_tail = strlen(tail);
    return n >= n_tail && strcmp(text + n - n_tail, tail) == 0;
}

/* Old files do not say what is constant: in block csla the scales of convolutions are. */
static void mark_constants(rq_model *model)
{
    rq_arch arch;
    if (rq_arch_parse(&arch, model->arch, NULL) || arch.block != RQ_BLOCK_CSLA)
        return;
    for (int i = 0; i < model->graph.n_nodes; i++) {
        rq_node *node = &model->graph.nodes[i];
        if (node->op == RQ_OP_SCALE &&
            (ends_with(node->name, ".scale_conv") || ends_with(node->name, ".scale_1x1")))
            node->constant = true;
    }
}

/* Integer and fake-quantized operators belong to their forms. */
static rq_status check_form(const rq_model *model, rq_error *err)
{
    for (int i = 0; i < model->graph.n_nodes; i++) {
        const rq_node *node = &model->graph.nodes[i];
        const bool fits = node->op == RQ_OP_FAKE_QUANT ? model->form == RQ_FORM_QAT
                          : rq_op_is_integer(node->op) ? model->form == RQ_FORM_INT8
                                                       : true;
        if (!fits || (node->slot[RQ_SLOT_WEIGHT_SCALE] >= 0 && model->form != RQ_FORM_QAT))
            return rq_fail(err, RQ_ERR_MODEL, "%s: this %s does not belong to a %s model",
                           node->name, rq_op_name(node->op), rq_form_name(model->form));
    }
    return RQ_OK;
}

/* Each parameter is used once already; are there others? */
static rq_status check_all_used(const rq_model *model, const rq_tensorfile *file, rq_error *err)
{
    const int n = rq_tensorfile_count(file);
    if (n == model->graph.n_params)
        return RQ_OK;
    for (int i = 0; i < n; i++) {
        const char *name = rq_tensorfile_get_entry(file, i)->name;
        if (rq_graph_find_param(&model->graph, name) < 0)
            return rq_fail(err, RQ_ERR_FILE, "%.200s: no node uses this tensor", name);
    }
    return RQ_OK;
}

/* The shapes fit and the output is one row of logits. shapes: [n_nodes], scratch. */
static rq_status check_shapes(const rq_model *model, rq_shape *shapes, rq_error *err)
{
    const int crop = model->preprocess.crop;
    RQ_TRY(rq_graph_shapes(&model->graph, 1, crop, crop, shapes, err));
    const int last = model->graph.n_nodes - 1;
    const rq_shape *out = &shapes[last];
    if (out->h == 1 && out->w == 1 && out->c == model->n_classes && out->dtype == RQ_F32)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL,
                   "%s: the output is %lldx%lldx%lld %s (HxWxC), not one F32 logit for each of %d "
                   "classes",
                   model->graph.nodes[last].name, (long long)out->h, (long long)out->w,
                   (long long)out->c, rq_dtype_name(out->dtype), model->n_classes);
}

static rq_status check_graph(const rq_model *model, rq_error *err)
{
    RQ_TRY(check_form(model, err));
    rq_shape *shapes = rq_alloc_array(rq_shape, model->graph.n_nodes);
    if (!shapes)
        return rq_no_memory(err);
    const rq_status status = check_shapes(model, shapes, err);
    rq_free(shapes);
    return status;
}

static rq_status read_model(rq_model *model, rq_tensorfile *file, bool as_views, rq_error *err)
{
    const char *text = NULL;
    RQ_TRY(check_format(file, err));
    RQ_TRY(read_form(model, file, err));
    RQ_TRY(get_text(file, "arch", &text, err));
    RQ_TRY(copy_text(model, file, "arch", &model->arch, err));
    RQ_TRY(read_classes(model, file, err));
    RQ_TRY(read_preprocessing(model, file, err));
    RQ_TRY(copy_text(model, file, "command", &model->command, err));
    RQ_TRY(read_seed(model, file, err));
    RQ_TRY(copy_text(model, file, "parent", &model->parent, err));
    RQ_TRY(read_isa_proof(model, file, err));
    RQ_TRY(get_text(file, "graph", &text, err));
    RQ_TRY(rq_graph_read_json(&model->graph, text, file, as_views, err));
    RQ_TRY(check_all_used(model, file, err));
    RQ_TRY(check_graph(model, err));
    mark_constants(model);
    return RQ_OK;
}

static rq_status read_file(rq_model *out, rq_tensorfile *file, bool as_views, const char *path,
                           rq_error *err)
{
    *out = (rq_model)RQ_MODEL_INIT;
    const rq_status status = read_model(out, file, as_views, err);
    if (status) {
        rq_error_prefix(err, "%s", path);
        rq_model_deinit(out);
    }
    return status;
}

rq_status rq_model_view(rq_model *out, rq_tensorfile *file, const char *path, rq_error *err)
{
    return read_file(out, file, true, path, err);
}

rq_status rq_model_load(rq_model *out, const char *path, rq_error *err)
{
    rq_tensorfile *file;
    *out = (rq_model)RQ_MODEL_INIT;
    RQ_TRY(rq_tensorfile_open(&file, path, err));
    const rq_status status = read_file(out, file, false, path, err);
    rq_tensorfile_close(file);
    return status;
}

static void close_file(void *file)
{
    rq_tensorfile_close(file);
}

static rq_status view_own(rq_model *out, rq_tensorfile *file, const char *path, rq_error *err)
{
    RQ_TRY(rq_model_view(out, file, path, err));
    return rq_graph_own(&out->graph, file, close_file, rq_tensorfile_mapping(file), err);
}

rq_status rq_model_map(rq_model *out, const char *path, rq_error *err)
{
    rq_tensorfile *file;
    *out = (rq_model)RQ_MODEL_INIT;
    RQ_TRY(rq_tensorfile_open(&file, path, err));
    const rq_status status = view_own(out, file, path, err);
    if (status) {
        rq_model_deinit(out);
        rq_tensorfile_close(file);
    }
    return status;
}

/* ---- saving ---- */

/* The metadata entries in order; texts made here are freed with the list. */
enum { MAX_ENTRIES = 16 };
typedef struct entry_list {
    rq_text_pair pairs[MAX_ENTRIES];
    char *owned[MAX_ENTRIES];
    int n;
    bool failed;
} entry_list;

/* text NULL: the entry is left out. */
static void put(entry_list *list, const char *key, const char *text)
{
    assert(list->n < MAX_ENTRIES);
    if (text)
        list->pairs[list->n++] = (rq_text_pair){key, text};
}

/* The same with JSON's text from malloc, which the list takes; NULL is a failure. */
static void put_owned(entry_list *list, const char *key, char *text)
{
    list->failed = list->failed || !text;
    list->owned[list->n] = text;
    put(list, key, text);
}

static json_t *channels_json(const float values[3])
{
    return json_pack("[f, f, f]", (double)values[0], (double)values[1], (double)values[2]);
}

static char *preprocessing_text(const rq_preprocess *preprocess)
{
    json_t *json = json_pack("{s:i, s:i, s:o, s:o, s:s, s:s}", "resize", preprocess->resize, "crop",
                             preprocess->crop, "mean", channels_json(preprocess->mean), "std",
                             channels_json(preprocess->std), "interpolation", "bilinear",
                             "colour_order", "RGB");
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

static char *class_names_text(const rq_model *model)
{
    json_t *json = json_array();
    bool ok = json != NULL;
    for (int i = 0; i < model->n_classes && ok; i++)
        ok = json_array_append_new(json, rq_json_text(model->class_names[i])) == 0;
    char *text = ok ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

static void list_entries(entry_list *list, const rq_model *model, const char *classes,
                         const char *seed)
{
    put(list, "format", format_name);
    put(list, "version", format_version);
    put(list, "form", rq_form_name(model->form));
    put(list, "arch", model->arch ? model->arch : "");
    put(list, "classes", classes);
    if (model->class_names)
        put_owned(list, "class_names", class_names_text(model));
    put_owned(list, "preprocessing", preprocessing_text(&model->preprocess));
    put_owned(list, "graph", rq_graph_write_json(&model->graph));
    put(list, "command", model->command);
    put(list, "seed", seed);
    put(list, "parent", model->parent);
    put(list, "isa_proof", model->isa_proof ? "true" : "false");
}

static rq_status write_model(const rq_model *model, rq_writer *writer, rq_error *err)
{
    char classes[16], seed[24];
    entry_list list = {.n = 0};
    (void)snprintf(classes, sizeof classes, "%d", model->n_classes);
    (void)snprintf(seed, sizeof seed, "%" PRIu64, model->seed);
    list_entries(&list, model, classes, seed);
    const rq_status status =
        list.failed ? rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory or a name is not UTF-8",
                              rq_writer_path(writer))
                    : rq_tensorfile_write_to(writer, model->graph.params, model->graph.n_params,
                                             list.pairs, list.n, err);
    for (int i = 0; i < list.n; i++)
        free(list.owned[i]);
    return status;
}

static rq_status check_model(const rq_model *model, const char *path, rq_error *err)
{
    const rq_status status = check_graph(model, err);
    if (status)
        rq_error_prefix(err, "%s: not saved", path);
    return status;
}

rq_status rq_model_write(const rq_model *model, rq_writer *writer, rq_error *err)
{
    RQ_TRY(check_model(model, rq_writer_path(writer), err));
    return write_model(model, writer, err);
}

rq_status rq_model_save(const rq_model *model, const char *path, rq_error *err)
{
    rq_writer *writer = NULL;
    RQ_TRY(check_model(model, path, err));
    RQ_TRY(rq_writer_open(&writer, path, err));
    const rq_status status = write_model(model, writer, err);
    if (!status)
        return rq_writer_commit(writer, err);
    rq_writer_abort(writer);
    return status;
}
