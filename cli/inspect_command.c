/* repqat inspect model.bin: what a model file says about itself, and its layers. */
#include "cli/commands.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "runtime/base/json_line.h"
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
    self->shapes = rq_arena_array(&self->arena, rq_shape, graph->n_nodes);
    self->facts = rq_arena_array(&self->arena, rq_layer_facts, graph->n_nodes);
    self->needed = rq_arena_array(&self->arena, bool, graph->n_nodes);
    if (!self->shapes || !self->facts || !self->needed)
        return rq_no_memory(err);
    RQ_TRY(rq_graph_shapes(graph, 1, crop, crop, self->shapes, err));
    for (int node = 0; node < graph->n_nodes; node++)
        RQ_TRY(rq_layer_facts_get(&self->facts[node], self->model, node, self->shapes, err));
    rq_graph_find_needed(graph, self->needed);
    sum_up(self);
    return RQ_OK;
}

/* ---- text: what is above the layers ---- */

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
    row *rows = rq_arena_array(&self->arena, row, n);
    if (!rows)
        return rq_no_memory(err);
    for (int i = 0; i < n; i++) {
        fill_row(self, i, &rows[i]);
        for (int k = 0; k < N_COLUMNS; k++) {
            if (!rows[i].cells[k])
                return rq_no_memory(err);
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

static json_t *triple_json(const float values[3])
{
    json_t *json = json_array();
    for (int i = 0; i < 3; i++)
        rq_json_append(&json, rq_json_number((double)values[i]));
    return json;
}

static json_t *preprocess_json(const rq_preprocess *preprocess)
{
    json_t *json = json_object();
    rq_json_set(&json, "resize", json_integer(preprocess->resize));
    rq_json_set(&json, "crop", json_integer(preprocess->crop));
    rq_json_set(&json, "mean", triple_json(preprocess->mean));
    rq_json_set(&json, "std", triple_json(preprocess->std));
    return json;
}

static json_t *strings_json(const char *const *strings, int n)
{
    json_t *json = json_array();
    for (int i = 0; i < n; i++)
        rq_json_append(&json, rq_json_string(strings[i]));
    return json;
}

static void add_head(json_t **json, const rq_model *model)
{
    rq_json_set(json, "form", rq_json_string(rq_form_name(model->form)));
    rq_json_set(json, "arch", rq_json_string(model->arch));
    rq_json_set(json, "classes", json_integer(model->n_classes));
    if (model->class_names)
        rq_json_set(json, "class_names", strings_json(model->class_names, model->n_classes));
    rq_json_set(json, "preprocessing", preprocess_json(&model->preprocess));
    rq_json_set(json, "command", rq_json_string(model->command));
    rq_json_set(json, "parent", rq_json_string(model->parent));
    char seed[24]; /* 64 bits do not fit into JSON's numbers */
    (void)snprintf(seed, sizeof seed, "%" PRIu64, model->seed);
    rq_json_set(json, "seed", rq_json_string(seed));
    if (model->form == RQ_FORM_INT8)
        rq_json_set(json, "isa_proof", json_boolean(model->isa_proof));
}

static void add_totals(json_t **json, const totals *sum)
{
    rq_json_set(json, "params", json_integer(sum->n_params));
    rq_json_set(json, "buffers", json_integer(sum->n_buffers));
    rq_json_set(json, "macs", rq_json_number(sum->macs));
}

static json_t *integers_json(const int *values, int n)
{
    json_t *json = json_array();
    for (int i = 0; i < n; i++)
        rq_json_append(&json, json_integer(values[i]));
    return json;
}

static void add_window(json_t **json, const rq_conv_attr *conv)
{
    rq_json_set(json, "kernel", integers_json(conv->kernel, 2));
    rq_json_set(json, "stride", integers_json(conv->stride, 2));
    rq_json_set(json, "pad", integers_json(conv->pad, 2));
    rq_json_set(json, "dilation", integers_json(conv->dilation, 2));
    rq_json_set(json, "groups", json_integer(conv->groups));
}

static void add_quantization(json_t **json, const rq_layer_facts *facts, bool is_int8)
{
    if (facts->has_scale)
        rq_json_set(json, "scale", rq_json_number((double)facts->scale));
    if (facts->has_range) {
        rq_json_set(json, "min", rq_json_number((double)facts->min));
        rq_json_set(json, "max", rq_json_number((double)facts->max));
    }
    if (facts->has_weight_scale) {
        rq_json_set(json, is_int8 ? "multiplier_min" : "weight_scale_min",
                    rq_json_number((double)facts->weight_scale_min));
        rq_json_set(json, is_int8 ? "multiplier_max" : "weight_scale_max",
                    rq_json_number((double)facts->weight_scale_max));
    }
    if (facts->has_acc)
        rq_json_set(json, "acc_max", json_integer(facts->acc_max));
}

static json_t *layer_json(const inspection *self, int i)
{
    const rq_graph *graph = &self->model->graph;
    const rq_node *node = &graph->nodes[i];
    const rq_shape *shape = &self->shapes[i];
    const rq_layer_facts *facts = &self->facts[i];
    const totals sum = {facts->n_params, facts->n_buffers, facts->macs};
    json_t *json = json_object(), *inputs = json_array();
    for (int k = 0; k < node->n_inputs; k++)
        rq_json_append(&inputs, rq_json_string(graph->nodes[node->input[k]].name));
    rq_json_set(&json, "name", rq_json_string(node->name));
    rq_json_set(&json, "op", rq_json_string(rq_op_name(node->op)));
    rq_json_set(&json, "inputs", inputs);
    rq_json_set(&json, "output",
                integers_json((const int[]){(int)shape->h, (int)shape->w, (int)shape->c}, 3));
    if (rq_op_has_window(node->op))
        add_window(&json, &node->conv);
    add_totals(&json, &sum);
    add_quantization(&json, facts, self->model->form == RQ_FORM_INT8);
    if (!self->needed[i])
        rq_json_set(&json, "auxiliary", json_true());
    return json;
}

static rq_status print_json(const inspection *self, rq_error *err)
{
    json_t *json = json_object(), *layers = json_array();
    add_head(&json, self->model);
    add_totals(&json, &self->main);
    if (self->aux.n_params > 0) {
        json_t *aux = json_object();
        add_totals(&aux, &self->aux);
        rq_json_set(&json, "auxiliary", aux);
    }
    rq_json_set(&json, "size_bytes", json_integer(self->size_bytes));
    for (int i = 0; i < self->model->graph.n_nodes; i++)
        rq_json_append(&layers, layer_json(self, i));
    rq_json_set(&json, "layers", layers);
    return rq_json_print(json, stdout, err);
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
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    if (done)
        return RQ_OK;
    RQ_TRY(rq_open_model(&model, given.model, &given.open, RQ_ANY_FORM, err));
    inspection report = {.path = given.model, .model = &model, .arena = RQ_ARENA_INIT};
    rq_status status = inspect(&report, err);
    if (!status)
        status = given.json ? print_json(&report, err) : print_layers(&report, err);
    if (status)
        rq_error_prefix(err, "%s", given.model);
    rq_arena_deinit(&report.arena);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_inspect = {"inspect", "what is in a model file, layer by layer", run};
