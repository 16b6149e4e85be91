/* repqat inspect model.bin: what a model file says about itself, and its layers. */
#include "runtime/session/inspect_command.h"

#include <inttypes.h>

#include "runtime/base/json_writer.h"
#include "runtime/session/layer_facts.h"
#include "runtime/session/open_model.h"

typedef struct options {
    const char *model;
    rq_open_options open;
    bool json;
} options;

static const rq_option table[] = {
    RQ_POSITIONAL("MODEL", options, model, "model file or checkpoint, any form"),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

typedef struct inspection {
    const char *path;
    const rq_model *model;
    rq_arena arena;
    rq_shape *shapes;      /* [n_nodes] of one image at the model's crop */
    rq_layer_facts *facts; /* [n_nodes] */
    int64_t n_trained;     /* parameters in the slots weight and bias */
    int64_t n_buffers;     /* all others */
    double macs;           /* per image */
} inspection;

static void count_params(inspection *self)
{
    const rq_graph *graph = &self->model->graph;
    for (int node = 0; node < graph->n_nodes; node++)
        for (int slot = 0; slot < RQ_N_SLOTS; slot++) {
            const rq_tensor *tensor = rq_graph_tensor(graph, node, (rq_slot)slot);
            const bool is_trained = slot == RQ_SLOT_WEIGHT || slot == RQ_SLOT_BIAS;
            if (tensor)
                *(is_trained ? &self->n_trained : &self->n_buffers) +=
                    (int64_t)rq_tensor_elems(tensor);
        }
}

static rq_status inspect(inspection *self, rq_error *err)
{
    const rq_graph *graph = &self->model->graph;
    const int crop = self->model->preprocess.crop;
    const size_t n = (size_t)graph->n_nodes;
    void *memory = NULL;
    rq_status status = rq_arena_array(&self->arena, &memory, n, sizeof *self->shapes, err);
    self->shapes = memory;
    if (status == RQ_OK)
        status = rq_arena_array(&self->arena, &memory, n, sizeof *self->facts, err);
    self->facts = memory;
    if (status == RQ_OK)
        status = rq_graph_shapes(graph, 1, crop, crop, self->shapes, err);
    for (int node = 0; node < graph->n_nodes && status == RQ_OK; node++) {
        status = rq_layer_facts_get(&self->facts[node], self->model, node, self->shapes, err);
        self->macs += self->facts[node].macs;
    }
    count_params(self);
    return status;
}

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
        (void)printf("safe without VNNI  %s\n", model->isa_proof ? "proven" : "not proven");
    (void)printf("parameters     %" PRId64 " trained, %" PRId64 " others\n", self->n_trained,
                 self->n_buffers);
    (void)printf("multiply-adds  %.4g M per image\n\n", 1e-6 * self->macs);
}

/* "3x3/2 g4": kernel, stride, groups. */
static void format_conv(const rq_node *node, char *text, size_t size_bytes)
{
    const rq_conv_attr *conv = &node->conv;
    if (node->op == RQ_OP_CONV || node->op == RQ_OP_QCONV)
        (void)snprintf(text, size_bytes, "%dx%d/%d g%d", conv->kernel[0], conv->kernel[1],
                       conv->stride[0], conv->groups);
    else
        text[0] = '\0';
}

static void print_layer(const inspection *self, int i)
{
    const rq_node *node = &self->model->graph.nodes[i];
    const rq_shape *shape = &self->shapes[i];
    const rq_layer_facts *facts = &self->facts[i];
    char conv[64], size[64];
    format_conv(node, conv, sizeof conv);
    (void)snprintf(size, sizeof size, "%" PRId64 "x%" PRId64 "x%" PRId64, shape->h, shape->w,
                   shape->c);
    (void)printf("%-32s %-16s %-14s %-12s %10" PRId64 " %10.4g", node->name, rq_op_name(node->op),
                 size, conv, facts->n_params, 1e-6 * facts->macs);
    if (facts->has_scale)
        (void)printf("  scale %.4g", (double)facts->scale);
    if (facts->has_weight_scale)
        (void)printf("  %s %.3g to %.3g",
                     self->model->form == RQ_FORM_INT8 ? "multiplier" : "scale",
                     (double)facts->weight_scale_min, (double)facts->weight_scale_max);
    if (facts->has_acc)
        (void)printf("  |acc| <= %" PRId64, facts->acc_max);
    (void)printf("\n");
}

static void print_text(const inspection *self)
{
    print_head(self);
    (void)printf("%-32s %-16s %-14s %-12s %10s %10s  %s\n", "layer", "operator", "output HxWxC",
                 "kernel", "params", "M madds", "quantization");
    for (int i = 0; i < self->model->graph.n_nodes; i++)
        print_layer(self, i);
}

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
    rq_json_add_int(json, "params", self->n_trained);
    rq_json_add_int(json, "buffers", self->n_buffers);
    rq_json_add_number(json, "macs", self->macs);
}

static void add_pair(rq_json_writer *json, const char *key, const int values[2])
{
    rq_json_open_array(json, key);
    rq_json_add_int(json, NULL, values[0]);
    rq_json_add_int(json, NULL, values[1]);
    rq_json_close(json);
}

static void add_layer(rq_json_writer *json, const inspection *self, int i)
{
    const rq_node *node = &self->model->graph.nodes[i];
    const rq_shape *shape = &self->shapes[i];
    const rq_layer_facts *facts = &self->facts[i];
    const bool is_int8 = self->model->form == RQ_FORM_INT8;
    rq_json_open_object(json, NULL);
    rq_json_add_string(json, "name", node->name);
    rq_json_add_string(json, "op", rq_op_name(node->op));
    rq_json_open_array(json, "output");
    rq_json_add_int(json, NULL, shape->h);
    rq_json_add_int(json, NULL, shape->w);
    rq_json_add_int(json, NULL, shape->c);
    rq_json_close(json);
    if (node->op == RQ_OP_CONV || node->op == RQ_OP_QCONV) {
        add_pair(json, "kernel", node->conv.kernel);
        add_pair(json, "stride", node->conv.stride);
        rq_json_add_int(json, "groups", node->conv.groups);
    }
    rq_json_add_int(json, "params", facts->n_params);
    rq_json_add_number(json, "macs", facts->macs);
    if (facts->has_scale)
        rq_json_add_number(json, "scale", (double)facts->scale);
    if (facts->has_weight_scale) {
        rq_json_add_number(json, is_int8 ? "multiplier_min" : "weight_scale_min",
                           (double)facts->weight_scale_min);
        rq_json_add_number(json, is_int8 ? "multiplier_max" : "weight_scale_max",
                           (double)facts->weight_scale_max);
    }
    if (facts->has_acc)
        rq_json_add_int(json, "acc_max", facts->acc_max);
    rq_json_close(json);
}

static void print_json(const inspection *self)
{
    rq_json_writer json = rq_json_begin(stdout);
    add_head(&json, self);
    rq_json_open_array(&json, "layers");
    for (int i = 0; i < self->model->graph.n_nodes; i++)
        add_layer(&json, self, i);
    rq_json_end(&json);
}

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
    if (status != RQ_OK)
        rq_error_prefix(err, "%s", given.model);
    else if (given.json)
        print_json(&report);
    else
        print_text(&report);
    rq_arena_deinit(&report.arena);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_inspect = {"inspect", "what is in a model file, layer by layer", run};
