/* repqat inspect model.bin: what a model file says about itself, and its layers. */
#include "cli/commands.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "runtime/base/json_writer.h"
#include "runtime/eval/layer_facts.h"
#include "runtime/eval/open_model.h"

typedef struct options {
    const char *model;
    rq_open_options open;
    bool json;
} options;

static const rq_option table[] = {
    RQ_POSITIONAL("MODEL", options, model, "model file or checkpoint, any form"),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

typedef struct totals {
    int64_t n_params, n_buffers;
    double macs; /* per image */
} totals;

typedef struct inspection {
    const char *path;
    const rq_model *model;
    rq_arena arena;
    rq_shape *shapes;      /* [n_nodes] of one image at the model's crop */
    rq_layer_facts *facts; /* [n_nodes] */
    bool *needed;          /* [n_nodes] for the output; the others belong to auxiliary heads */
    totals main, aux;
    size_t size_bytes; /* of all tensors */
} inspection;

/* ---- gathering ---- */

static void sum_up(inspection *self)
{
    const rq_graph *graph = &self->model->graph;
    for (int i = 0; i < graph->n_nodes; i++) {
        totals *sum = self->needed[i] ? &self->main : &self->aux;
        sum->n_params += self->facts[i].n_params;
        sum->n_buffers += self->facts[i].n_buffers;
        sum->macs += self->facts[i].macs;
    }
    for (int i = 0; i < graph->n_params; i++) {
        const rq_tensor *tensor = &graph->params[i].tensor;
        self->size_bytes += rq_tensor_elems(tensor) * rq_dtype_size(tensor->dtype);
    }
}

static rq_status inspect(inspection *self, rq_error *err)
{
    const rq_graph *graph = &self->model->graph;
    const int crop = self->model->preprocess.crop;
    const size_t n = (size_t)graph->n_nodes;
    void *memory = NULL;
    rq_status status = rq_arena_array_old(&self->arena, &memory, n, sizeof *self->shapes, err);
    self->shapes = memory;
    if (status == RQ_OK)
        status = rq_arena_array_old(&self->arena, &memory, n, sizeof *self->facts, err);
    self->facts = memory;
    if (status == RQ_OK)
        status = rq_arena_array_old(&self->arena, &memory, n, sizeof *self->needed, err);
    self->needed = memory;
    if (status == RQ_OK)
        status = rq_graph_shapes(graph, 1, crop, crop, self->shapes, err);
    for (int node = 0; node < graph->n_nodes && status == RQ_OK; node++)
        status = rq_layer_facts_get(&self->facts[node], self->model, node, self->shapes, err);
    if (status == RQ_OK) {
        rq_graph_find_needed(graph, self->needed);
        sum_up(self);
    }
    return status;
}

/* ---- text: what stands above the layers ---- */

static void print_head(const inspection *self)
{
    const rq_model *model = self->model;
    const rq_preprocess *p = &model->preprocess;
    (void)printf("file           %s\n", self->path);
    (void)printf("form           %s\n", rq_form_name(model->form));
    (void)printf("architecture   %s\n", model->arch);
    (void)printf("classes        %d", model->n_classes);
    if (model->class_names)
        (void)printf(" (%s%s%s)", model->class_names[0], model->n_classes > 1 ? " ... " : "",
                     model->n_classes > 1 ? model->class_names[model->n_classes - 1] : "");
    (void)printf("\npreprocessing  resize %d, crop %d, mean %.4g %.4g %.4g, std %.4g %.4g %.4g\n",
                 p->resize, p->crop, (double)p->mean[0], (double)p->mean[1], (double)p->mean[2],
                 (double)p->std[0], (double)p->std[1], (double)p->std[2]);
    (void)printf("command        %s\n", model->command ? model->command : "(unknown)");
    (void)printf("parent         %s\n", model->parent ? model->parent : "(none)");
    (void)printf("seed           %" PRIu64 "\n", model->seed);
    if (model->form == RQ_FORM_INT8)
        (void)printf("isa proof      %s\n",
                     model->isa_proof
                         ? "yes: every CPU can use its INT8 instructions"
                         : "no: CPUs without VNNI use slower kernels that cannot saturate");
}

static void print_totals(const inspection *self)
{
    const int crop = self->model->preprocess.crop;
    (void)printf("parameters     %" PRId64 " weights and biases, %" PRId64 " others\n",
                 self->main.n_params, self->main.n_buffers);
    (void)printf("MACs           %.3f M multiply-adds per image of %d x %d pixels\n",
                 1e-6 * self->main.macs, crop, crop);
    if (self->aux.n_params > 0)
        (void)printf("auxiliary      %" PRId64 " weights and biases, %" PRId64
                     " others, %.3f M MACs more, for training alone\n",
                     self->aux.n_params, self->aux.n_buffers, 1e-6 * self->aux.macs);
    (void)printf("size           %zu bytes of tensors (%.1f MB)\n\n", self->size_bytes,
                 1e-6 * (double)self->size_bytes);
}

/* ---- text: the layers ---- */

enum { LAYER, OPERATOR, OUTPUT, PARAMS, MACS, SCALE, ACC, N_COLUMNS };

typedef struct row {
    const char *cells[N_COLUMNS];
} row;

static const bool is_number[N_COLUMNS] = {[PARAMS] = true, [MACS] = true, [ACC] = true};

/* "conv 3x3/2 g4 d2x2": kernel, stride; groups and dilation where there are any. */
static const char *operator_text(rq_arena *arena, const rq_node *node)
{
    const rq_conv_attr *conv = &node->conv;
    char stride[32], groups[16] = "", dilation[32] = "";
    if (!rq_op_has_window(node->op))
        return rq_op_name(node->op);
    if (conv->stride[0] == conv->stride[1])
        (void)snprintf(stride, sizeof stride, "%d", conv->stride[0]);
    else
        (void)snprintf(stride, sizeof stride, "%dx%d", conv->stride[0], conv->stride[1]);
    if (conv->groups != 1)
        (void)snprintf(groups, sizeof groups, " g%d", conv->groups);
    if (conv->dilation[0] != 1 || conv->dilation[1] != 1)
        (void)snprintf(dilation, sizeof dilation, " d%dx%d", conv->dilation[0], conv->dilation[1]);
    return rq_arena_printf(arena, "%s %dx%d/%s%s%s", rq_op_name(node->op), conv->kernel[0],
                           conv->kernel[1], stride, groups, dilation);
}

static const char *scale_text(rq_arena *arena, const rq_layer_facts *facts)
{
    if (facts->has_range)
        return rq_arena_printf(arena, "%.3g (%.2g..%.3g)", (double)facts->scale, (double)facts->min,
                               (double)facts->max);
    if (facts->has_scale)
        return rq_arena_printf(arena, "scale %.3g", (double)facts->scale);
    if (facts->has_weight_scale)
        return rq_arena_printf(arena, "%.2g..%.2g", (double)facts->weight_scale_min,
                               (double)facts->weight_scale_max);
    return "";
}

static void fill_row(inspection *self, int i, row *out)
{
    const rq_node *node = &self->model->graph.nodes[i];
    const rq_shape *shape = &self->shapes[i];
    const rq_layer_facts *facts = &self->facts[i];
    rq_arena *arena = &self->arena;
    out->cells[LAYER] = node->name;
    out->cells[OPERATOR] = operator_text(arena, node);
    out->cells[OUTPUT] =
        rq_arena_printf(arena, "%" PRId64 "x%" PRId64 "x%" PRId64, shape->h, shape->w, shape->c);
    out->cells[PARAMS] = facts->n_params ? rq_arena_printf(arena, "%" PRId64, facts->n_params) : "";
    out->cells[MACS] = facts->macs > 0.0 ? rq_arena_printf(arena, "%.3f", 1e-6 * facts->macs) : "";
    out->cells[SCALE] = scale_text(arena, facts);
    out->cells[ACC] = facts->has_acc && facts->acc_max > 0
                          ? rq_arena_printf(arena, "2^%.1f", log2((double)facts->acc_max))
                          : "";
}

/* A line without blanks at its end; columns of width 0 are left out. */
static void print_row(const row *r, const int *width)
{
    int pending = 0; /* blanks before the next text */
    for (int k = 0; k < N_COLUMNS; k++) {
        const int used = (int)strlen(r->cells[k]), rest = width[k] > used ? width[k] - used : 0;
        if (width[k] == 0)
            continue;
        pending += is_number[k] ? rest : 0;
        if (used > 0) {
            (void)printf("%*s%s", pending, "", r->cells[k]);
            pending = 0;
        }
        pending += 2 + (is_number[k] ? 0 : rest);
    }
    (void)printf("\n");
}

/* Columns are as wide as their widest cell; one that is empty everywhere does not appear. */
static rq_status print_layers(inspection *self, rq_error *err)
{
    const int n = self->model->graph.n_nodes;
    const bool is_int8 = self->model->form == RQ_FORM_INT8;
    const row title = {{"layer", "operator", "output", "params", "M MACs",
                        is_int8 ? "multiplier" : "scale", "|acc|"}};
    int width[N_COLUMNS] = {0};
    void *memory = NULL;
    const rq_status status = rq_arena_array_old(&self->arena, &memory, (size_t)n, sizeof(row), err);
    if (status != RQ_OK)
        return status;
    row *rows = memory;
    for (int i = 0; i < n; i++) {
        fill_row(self, i, &rows[i]);
        for (int k = 0; k < N_COLUMNS; k++) {
            if (!rows[i].cells[k])
                return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
            const int used = (int)strlen(rows[i].cells[k]);
            width[k] = used > width[k] ? used : width[k];
        }
    }
    for (int k = 0; k < N_COLUMNS; k++)
        if (width[k] > 0 && width[k] < (int)strlen(title.cells[k]))
            width[k] = (int)strlen(title.cells[k]);
    print_head(self);
    print_totals(self);
    print_row(&title, width);
    for (int i = 0; i < n; i++)
        print_row(&rows[i], width);
    return RQ_OK;
}

/* ---- JSON ---- */

static void add_triple(rq_json_writer *json, const char *key, const float values[3])
{
    rq_json_open_array(json, key);
    for (int i = 0; i < 3; i++)
        rq_json_add_number(json, NULL, (double)values[i]);
    rq_json_close(json);
}

static void add_head(rq_json_writer *json, const inspection *self)
{
    const rq_model *model = self->model;
    rq_json_add_string(json, "form", rq_form_name(model->form));
    rq_json_add_string(json, "arch", model->arch);
    rq_json_add_int(json, "classes", model->n_classes);
    if (model->class_names) {
        rq_json_open_array(json, "class_names");
        for (int i = 0; i < model->n_classes; i++)
            rq_json_add_string(json, NULL, model->class_names[i]);
        rq_json_close(json);
    }
    rq_json_open_object(json, "preprocessing");
    rq_json_add_int(json, "resize", model->preprocess.resize);
    rq_json_add_int(json, "crop", model->preprocess.crop);
    add_triple(json, "mean", model->preprocess.mean);
    add_triple(json, "std", model->preprocess.std);
    rq_json_close(json);
    rq_json_add_string(json, "command", model->command);
    rq_json_add_string(json, "parent", model->parent);
    char seed[24]; /* 64 bits do not fit into JSON's numbers */
    (void)snprintf(seed, sizeof seed, "%" PRIu64, model->seed);
    rq_json_add_string(json, "seed", seed);
    if (model->form == RQ_FORM_INT8)
        rq_json_add_bool(json, "isa_proof", model->isa_proof);
}

static void add_totals(rq_json_writer *json, const inspection *self)
{
    rq_json_add_int(json, "params", self->main.n_params);
    rq_json_add_int(json, "buffers", self->main.n_buffers);
    rq_json_add_number(json, "macs", self->main.macs);
    if (self->aux.n_params > 0) {
        rq_json_open_object(json, "auxiliary");
        rq_json_add_int(json, "params", self->aux.n_params);
        rq_json_add_int(json, "buffers", self->aux.n_buffers);
        rq_json_add_number(json, "macs", self->aux.macs);
        rq_json_close(json);
    }
    rq_json_add_int(json, "size_bytes", (int64_t)self->size_bytes);
}

static void add_pair(rq_json_writer *json, const char *key, const int values[2])
{
    rq_json_open_array(json, key);
    rq_json_add_int(json, NULL, values[0]);
    rq_json_add_int(json, NULL, values[1]);
    rq_json_close(json);
}

static void add_window(rq_json_writer *json, const rq_conv_attr *conv)
{
    add_pair(json, "kernel", conv->kernel);
    add_pair(json, "stride", conv->stride);
    add_pair(json, "pad", conv->pad);
    add_pair(json, "dilation", conv->dilation);
    rq_json_add_int(json, "groups", conv->groups);
}

static void add_quantization(rq_json_writer *json, const inspection *self, int i)
{
    const rq_layer_facts *facts = &self->facts[i];
    const bool is_int8 = self->model->form == RQ_FORM_INT8;
    if (facts->has_scale)
        rq_json_add_number(json, "scale", (double)facts->scale);
    if (facts->has_range) {
        rq_json_add_number(json, "min", (double)facts->min);
        rq_json_add_number(json, "max", (double)facts->max);
    }
    if (facts->has_weight_scale) {
        rq_json_add_number(json, is_int8 ? "multiplier_min" : "weight_scale_min",
                           (double)facts->weight_scale_min);
        rq_json_add_number(json, is_int8 ? "multiplier_max" : "weight_scale_max",
                           (double)facts->weight_scale_max);
    }
    if (facts->has_acc)
        rq_json_add_int(json, "acc_max", facts->acc_max);
}

static void add_layer(rq_json_writer *json, const inspection *self, int i)
{
    const rq_graph *graph = &self->model->graph;
    const rq_node *node = &graph->nodes[i];
    const rq_shape *shape = &self->shapes[i];
    rq_json_open_object(json, NULL);
    rq_json_add_string(json, "name", node->name);
    rq_json_add_string(json, "op", rq_op_name(node->op));
    rq_json_open_array(json, "inputs");
    for (int k = 0; k < node->n_inputs; k++)
        rq_json_add_string(json, NULL, graph->nodes[node->input[k]].name);
    rq_json_close(json);
    rq_json_open_array(json, "output");
    rq_json_add_int(json, NULL, shape->h);
    rq_json_add_int(json, NULL, shape->w);
    rq_json_add_int(json, NULL, shape->c);
    rq_json_close(json);
    if (rq_op_has_window(node->op))
        add_window(json, &node->conv);
    rq_json_add_int(json, "params", self->facts[i].n_params);
    rq_json_add_int(json, "buffers", self->facts[i].n_buffers);
    rq_json_add_number(json, "macs", self->facts[i].macs);
    add_quantization(json, self, i);
    if (!self->needed[i])
        rq_json_add_bool(json, "auxiliary", true);
    rq_json_close(json);
}

static void print_json(const inspection *self)
{
    rq_json_writer json = rq_json_begin(stdout);
    add_head(&json, self);
    add_totals(&json, self);
    rq_json_open_array(&json, "layers");
    for (int i = 0; i < self->model->graph.n_nodes; i++)
        add_layer(&json, self, i);
    rq_json_end(&json);
}

/* ---- the command ---- */

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {.json = false};
    rq_model model;
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.open),
    };
    rq_status status = rq_command_option_sets(self, sets, 2, argc, argv, &done, err);
    if (status != RQ_OK || done)
        return status;
    status = rq_open_model(&model, given.model, &given.open, RQ_ANY_FORM, err);
    if (status != RQ_OK)
        return status;
    inspection report = {.path = given.model, .model = &model, .arena = RQ_ARENA_INIT};
    status = inspect(&report, err);
    if (status == RQ_OK && given.json)
        print_json(&report);
    else if (status == RQ_OK)
        status = print_layers(&report, err);
    if (status != RQ_OK)
        rq_error_prefix(err, "%s", given.model);
    rq_arena_deinit(&report.arena);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_inspect = {"inspect", "what is in a model file, layer by layer", run};
