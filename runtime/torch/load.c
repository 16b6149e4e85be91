/* Matching a checkpoint's names with a model's, and copying what matches. */
#include "runtime/torch/load.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/arch.h"
#include "runtime/torch/names.h"

enum {
    KEEP = -1,
    NAME_BYTES = 2 * RQ_CHECKPOINT_MAX_NAME,
    DIMS_BYTES = 256,
    SUGGESTION_BYTES = 128,
};

/* ---- what the names say ---- */

typedef struct facts {
    rq_naming naming;
    bool is_deploy, has_inserted_bn;
    int n_classes, n_features; /* rows and columns of the head's weight, 0 when there is none */
} facts;

/* timm's convention when there is one name of it and none of ours. */
static rq_naming find_naming(const rq_checkpoint *checkpoint)
{
    bool seen[2] = {false, false};
    for (int i = 0; i < rq_checkpoint_count(checkpoint); i++) {
        rq_naming naming;
        if (rq_naming_of(rq_checkpoint_get(checkpoint, i)->name, &naming))
            seen[naming] = true;
    }
    return seen[RQ_NAMING_TIMM] && !seen[RQ_NAMING_OWN] ? RQ_NAMING_TIMM : RQ_NAMING_OWN;
}

/* The entry of our name, -1 when there is none. */
static int find_entry(const rq_checkpoint *checkpoint, rq_naming naming, const char *name)
{
    char other[NAME_BYTES];
    if (!rq_rename(other, sizeof other, name, RQ_NAMING_OWN, naming))
        return -1;
    return rq_checkpoint_find(checkpoint, other);
}

static facts find_facts(const rq_checkpoint *checkpoint)
{
    facts found = {.naming = find_naming(checkpoint)};
    for (int i = 0; i < rq_checkpoint_count(checkpoint); i++) {
        const char *name = rq_checkpoint_get(checkpoint, i)->name;
        found.is_deploy = found.is_deploy || strstr(name, ".rbr_reparam.weight") ||
                          strstr(name, ".reparam_conv.weight");
        found.has_inserted_bn = found.has_inserted_bn || strstr(name, ".rbr_reparam.bn.");
    }
    const int head = find_entry(checkpoint, found.naming, "linear.weight");
    if (head >= 0 && !rq_checkpoint_get(checkpoint, head)->other) {
        const rq_checkpoint_tensor *tensor = rq_checkpoint_get(checkpoint, head);
        if (tensor->rank == 2 && tensor->dim[0] <= RQ_MAX_CHANNELS &&
            tensor->dim[1] <= RQ_MAX_CHANNELS) {
            found.n_classes = (int)tensor->dim[0];
            found.n_features = (int)tensor->dim[1];
        }
    }
    return found;
}

/* ---- matching ---- */

typedef enum difference { MISSING, UNEXPECTED, MISSHAPEN, N_DIFFERENCES } difference;

typedef struct match {
    const rq_model *model;
    const rq_checkpoint *checkpoint;
    bool keep_head, is_silent;
    rq_arena arena;
    int *entries; /* by parameter: the checkpoint's entry, or KEEP */
    bool *used;   /* by entry */
    int n[N_DIFFERENCES], n_kept;
    char first[320];
} match;

static void format_dims(char text[DIMS_BYTES], const int64_t *dims, int rank)
{
    size_t used = (size_t)snprintf(text, DIMS_BYTES, "[");
    for (int i = 0; i < rank && used < DIMS_BYTES; i++)
        used += (size_t)snprintf(text + used, DIMS_BYTES - used, "%s%lld", i ? ", " : "",
                                 (long long)dims[i]);
    if (used < DIMS_BYTES)
        (void)snprintf(text + used, DIMS_BYTES - used, "]");
}

static void note(match *m, difference kind, const char *format, ...) RQ_PRINTF(3, 4);

static void note(match *m, difference kind, const char *format, ...)
{
    char line[sizeof m->first];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (m->n[MISSING] + m->n[UNEXPECTED] + m->n[MISSHAPEN] == 0)
        memcpy(m->first, line, sizeof line);
    m->n[kind]++;
    if (!m->is_silent)
        rq_log(RQ_LOG_INFO, "%s: %s", rq_checkpoint_path(m->checkpoint), line);
}

static void note_shape(match *m, const rq_param *param, const rq_checkpoint_tensor *tensor)
{
    char got[DIMS_BYTES], want[DIMS_BYTES];
    format_dims(got, tensor->dim, tensor->rank);
    format_dims(want, param->tensor.dim, param->tensor.rank);
    note(m, MISSHAPEN, "%.100s is %s, the network has %s", tensor->name, got, want);
}

/* The same but for the first dimension, the number of outputs. */
static bool differs_in_outputs(const rq_tensor *want, const rq_checkpoint_tensor *got)
{
    return want->rank == got->rank && want->dim[0] != got->dim[0] &&
           memcmp(want->dim + 1, got->dim + 1, sizeof(int64_t) * (size_t)(want->rank - 1)) == 0;
}

static void match_tensor(match *m, const rq_node *node, int param_index,
                         const rq_checkpoint_tensor *tensor)
{
    const rq_param *param = &m->model->graph.params[param_index];
    const rq_tensor *want = &param->tensor;
    const rq_element_kind kind = want->dtype == RQ_F32 ? RQ_ELEMENT_REAL : RQ_ELEMENT_INTEGER;
    const bool is_same = want->rank == tensor->rank &&
                         memcmp(want->dim, tensor->dim, sizeof(int64_t) * (size_t)want->rank) == 0;
    if (rq_element_kind_of(tensor->element) != kind) {
        note(m, MISSHAPEN, "%.100s holds %s, not %s", tensor->name,
             rq_element_name(tensor->element), kind == RQ_ELEMENT_REAL ? "floats" : "integers");
    } else if (!is_same && m->keep_head && node->op == RQ_OP_LINEAR &&
               differs_in_outputs(want, tensor)) {
        m->entries[param_index] = KEEP;
        m->n_kept++;
        if (!m->is_silent)
            rq_log(RQ_LOG_WARN, "%s: %.100s has %lld outputs, not %lld: it is not loaded",
                   rq_checkpoint_path(m->checkpoint), tensor->name, (long long)tensor->dim[0],
                   (long long)want->dim[0]);
    } else if (!is_same) {
        note_shape(m, param, tensor);
    }
}

static void match_param(match *m, const facts *found, const rq_node *node, rq_slot slot)
{
    const int param = node->slot[slot];
    if (param < 0)
        return;
    const char *name = m->model->graph.params[param].name;
    const int i = find_entry(m->checkpoint, found->naming, name);
    m->entries[param] = i < 0 ? KEEP : i;
    if (i < 0) {
        if (slot != RQ_SLOT_TRACKED)
            note(m, MISSING, "%.100s is missing", name);
        return;
    }
    const rq_checkpoint_tensor *tensor = rq_checkpoint_get(m->checkpoint, i);
    m->used[i] = true;
    if (tensor->other)
        note(m, MISSING, "%.100s is %.160s, not a tensor", tensor->name, tensor->other);
    else
        match_tensor(m, node, param, tensor);
}

static void match_unused(match *m)
{
    for (int i = 0; i < rq_checkpoint_count(m->checkpoint); i++) {
        const rq_checkpoint_tensor *tensor = rq_checkpoint_get(m->checkpoint, i);
        char dims[DIMS_BYTES];
        if (m->used[i])
            continue;
        if (tensor->other) {
            if (!m->is_silent)
                rq_log(RQ_LOG_DEBUG, "%s: %.100s is %s; left out",
                       rq_checkpoint_path(m->checkpoint), tensor->name, tensor->other);
            continue;
        }
        format_dims(dims, tensor->dim, tensor->rank);
        note(m, UNEXPECTED, "%.100s %s is unexpected", tensor->name, dims);
    }
}

/* Fill in m, whose first four members are set. */
static rq_status find_match(match *m, const facts *found, rq_error *err)
{
    const rq_graph *graph = &m->model->graph;
    m->entries = rq_arena_array(&m->arena, int, graph->n_params);
    m->used = rq_arena_array(&m->arena, bool, rq_checkpoint_count(m->checkpoint));
    if (!m->entries || !m->used)
        return rq_no_memory(err);
    for (int node = 0; node < graph->n_nodes; node++)
        for (int slot = 0; slot < RQ_N_SLOTS; slot++)
            match_param(m, found, &graph->nodes[node], (rq_slot)slot);
    match_unused(m);
    return RQ_OK;
}

static bool has_differences(const match *m)
{
    return m->n[MISSING] + m->n[UNEXPECTED] + m->n[MISSHAPEN] > 0;
}

/* ---- architectures ---- */

static rq_status build(rq_model *out, const char *arch, int n_classes, const facts *found,
                       rq_error *err)
{
    return found->is_deploy ? rq_arch_build_deploy(out, arch, n_classes, err)
                            : rq_arch_build(out, arch, n_classes, err);
}

/* Does the checkpoint fill this network, with the classes that it has? Only a network whose head
 * has the right size is built. */
static bool fits(const char *name, const rq_checkpoint *checkpoint, const facts *found)
{
    rq_arch arch;
    rq_model model;
    if (rq_arch_parse(&arch, name, NULL) || arch.width[arch.n_stages - 1] != found->n_features ||
        build(&model, name, found->n_classes, found, NULL))
        return false;
    match m = {.model = &model, .checkpoint = checkpoint, .is_silent = true};
    const bool is_fit = !find_match(&m, found, NULL) && !has_differences(&m);
    rq_arena_deinit(&m.arena);
    rq_model_deinit(&model);
    return is_fit;
}

/* The options with which it loads: "--classes 10" where only the head of the network asked for is
 * another, else "-a RepVGG-A0", or with both; "" when no network that has a name fits. */
static void suggest(char text[SUGGESTION_BYTES], const char *asked, const rq_checkpoint *checkpoint,
                    const facts *found)
{
    rq_arch arch;
    const char *name = NULL;
    text[0] = '\0';
    if (asked && fits(asked, checkpoint, found)) {
        (void)snprintf(text, SUGGESTION_BYTES, "--classes %d", found->n_classes);
        return;
    }
    for (int i = 0; !name && rq_arch_name(i); i++)
        if (fits(rq_arch_name(i), checkpoint, found))
            name = rq_arch_name(i);
    if (!name || rq_arch_parse(&arch, name, NULL))
        return;
    if (arch.classes == found->n_classes)
        (void)snprintf(text, SUGGESTION_BYTES, "-a %s", name);
    else
        (void)snprintf(text, SUGGESTION_BYTES, "-a %s --classes %d", name, found->n_classes);
}

/* ---- filling ---- */

static rq_status fail_differences(const match *m, const facts *found, rq_error *err)
{
    const char *arch = m->model->arch;
    char fitting[SUGGESTION_BYTES];
    suggest(fitting, arch, m->checkpoint, found);
    return rq_fail(
        err, RQ_ERR_MODEL,
        "%s: does not fit %.80s: %d missing, %d unexpected, %d of another shape or type; "
        "first: %s%s%s",
        rq_checkpoint_path(m->checkpoint), arch ? arch : "the network", m->n[MISSING],
        m->n[UNEXPECTED], m->n[MISSHAPEN], m->first, *fitting ? "; it loads with " : "", fitting);
}

/* The values of an entry as a view of the file where that can be, else copied. */
static rq_status take_values(rq_tensor *tensor, rq_checkpoint *checkpoint, int entry, bool as_views,
                             rq_error *err)
{
    const float *values = NULL;
    if (as_views && tensor->dtype == RQ_F32) {
        RQ_TRY(rq_checkpoint_borrow(checkpoint, entry, &values, err));
    }
    if (!values)
        return rq_checkpoint_read(checkpoint, entry, tensor->dtype, tensor->data, err);
    tensor->data = (void *)(uintptr_t)values;
    return RQ_OK;
}

/* Views are of the file that the model owns. What has been checked or copied leaves memory. */
static rq_status take_matched(rq_model *model, rq_checkpoint *checkpoint, const int *entries,
                              bool as_views, rq_error *err)
{
    enum { RELEASE_BYTES = 1 << 24 };
    const rq_mapping *file = rq_checkpoint_mapping(checkpoint);
    size_t pending_bytes = 0;
    for (int i = 0; i < model->graph.n_params; i++) {
        rq_tensor *tensor = &model->graph.params[i].tensor;
        if (entries[i] != KEEP)
            RQ_TRY(take_values(tensor, checkpoint, entries[i], as_views, err));
        pending_bytes += rq_tensor_elems(tensor) * rq_dtype_size(tensor->dtype);
        if (pending_bytes < RELEASE_BYTES && i + 1 < model->graph.n_params)
            continue;
        rq_mapping_release(file, file->data, file->size_bytes);
        pending_bytes = 0;
    }
    const rq_status status = rq_model_check_finite(model, err);
    if (status)
        rq_error_prefix(err, "%s", rq_checkpoint_path(checkpoint));
    return status;
}

static rq_status match_and_take(match *m, rq_model *model, rq_checkpoint *checkpoint,
                                const facts *found, bool as_views, rq_error *err)
{
    RQ_TRY(find_match(m, found, err));
    if (has_differences(m))
        return fail_differences(m, found, err);
    return take_matched(model, checkpoint, m->entries, as_views, err);
}

static rq_status fill(rq_model *model, rq_checkpoint *checkpoint, const facts *found,
                      bool keep_head, bool as_views, rq_error *err)
{
    match m = {.model = model, .checkpoint = checkpoint, .keep_head = keep_head};
    const rq_status status = match_and_take(&m, model, checkpoint, found, as_views, err);
    rq_arena_deinit(&m.arena);
    return status;
}

rq_status rq_model_fill(rq_model *model, rq_checkpoint *checkpoint, bool keep_head, rq_error *err)
{
    const facts found = find_facts(checkpoint);
    return fill(model, checkpoint, &found, keep_head, false, err);
}

/* ---- the whole way ---- */

static rq_status fail_unknown(const rq_checkpoint *checkpoint, const facts *found, rq_error *err)
{
    char fitting[SUGGESTION_BYTES];
    const char *path = rq_checkpoint_path(checkpoint);
    suggest(fitting, NULL, checkpoint, found);
    if (*fitting)
        return rq_fail(err, RQ_ERR_USAGE,
                       "%s: a checkpoint does not say its architecture; this one loads with %s",
                       path, fitting);
    return rq_fail(err, RQ_ERR_USAGE,
                   "%s: a checkpoint does not say its architecture, and this one fits none that "
                   "has a name; give -a repvgg:depth=…;width=…",
                   path);
}

static void close_checkpoint(void *checkpoint)
{
    rq_checkpoint_close(checkpoint);
}

/* The model owns the checkpoint once out->graph.owned is set, on errors too. */
static rq_status load(rq_model *out, rq_checkpoint *checkpoint, const rq_load_options *options,
                      rq_error *err)
{
    const facts found = find_facts(checkpoint);
    if (found.has_inserted_bn)
        return rq_fail(
            err, RQ_ERR_UNSUPPORTED,
            "%s: batch norms were inserted into it (rbr_reparam.bn); give the checkpoint "
            "that they were inserted into",
            rq_checkpoint_path(checkpoint));
    if (!options->arch)
        return fail_unknown(checkpoint, &found, err);
    RQ_TRY(build(out, options->arch, options->n_classes, &found, err));
    RQ_TRY(rq_graph_own(&out->graph, checkpoint, close_checkpoint,
                        rq_checkpoint_mapping(checkpoint), err));
    if (options->n_classes && options->n_classes != found.n_classes)
        rq_model_init_weights(out, 0);
    return fill(out, checkpoint, &found, options->n_classes > 0, true, err);
}

rq_status rq_model_from_checkpoint(rq_model *out, rq_weight_file *file,
                                   const rq_load_options *options, rq_error *err)
{
    *out = (rq_model)RQ_MODEL_INIT;
    rq_checkpoint *checkpoint;
    RQ_TRY(rq_checkpoint_of(&checkpoint, file, err));
    const char *where = rq_checkpoint_where(checkpoint);
    rq_log(RQ_LOG_DEBUG, "%s: %d entries%s%s", file->path, rq_checkpoint_count(checkpoint),
           *where ? " in " : "", where);
    const rq_status status = load(out, checkpoint, options, err);
    if (!status)
        return RQ_OK;
    if (!out->graph.owned)
        rq_checkpoint_close(checkpoint);
    rq_model_deinit(out);
    return status;
}
