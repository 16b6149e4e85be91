/* repqat export_int8 qat.bin int8.bin: load, lower, save, report. */
#include "cli/commands.h"

#include "export/lower.h"
#include "runtime/base/file.h"
#include "runtime/base/json_line.h"
#include "runtime/modelfile/modelfile.h"

typedef struct export_options {
    const char *qat, *int8;
    bool isa_proof, json;
} export_options;

static const rq_option table[] = {
    RQ_POSITIONAL("QAT", export_options, qat, "model of form qat (from qat_train or calibrate)"),
    RQ_POSITIONAL("INT8", export_options, int8, "model of form int8 to write"),
    RQ_OPTION_FLAG("isa-proof", 0, export_options, isa_proof,
                   "change weights where two products could saturate 16 bits on CPUs without VNNI"),
    RQ_OPTION_FLAG("json", 0, export_options, json, "print the report as one JSON object"),
};

typedef struct export_report {
    rq_lower_report lower;
    bool isa_proof;
    size_t bytes_before, bytes_after;
} export_report;

/* Size and rq_file_id of a file; id may be NULL. */
static rq_status describe_file(const char *path, size_t *size_bytes, char *id, rq_error *err)
{
    rq_mapping mapping = {NULL, 0};
    RQ_TRY(rq_mapping_open(&mapping, path, err));
    *size_bytes = mapping.size_bytes;
    if (id)
        rq_file_id(&mapping, id);
    rq_mapping_close(&mapping);
    return RQ_OK;
}

/* Where the lowered model came from. */
static rq_status set_origin(rq_model *model, const char *command, const char *parent, rq_error *err)
{
    model->command = command ? rq_arena_strdup(&model->graph.arena, command) : NULL;
    model->parent = rq_arena_strdup(&model->graph.arena, parent);
    if (!model->command || !model->parent)
        return rq_no_memory(err);
    return RQ_OK;
}

static rq_status open_input(rq_model *qat, const export_options *options, char *id,
                            export_report *report, rq_error *err)
{
    RQ_TRY(describe_file(options->qat, &report->bytes_before, id, err));
    RQ_TRY(rq_model_load(qat, options->qat, err));
    RQ_TRY(rq_model_require_form(qat, options->qat, 1u << RQ_FORM_QAT, err));
    return rq_writer_probe(options->int8, err);
}

static rq_status lower(rq_model *lowered, const rq_model *qat, const export_options *options,
                       export_report *report, rq_error *err)
{
    const rq_lower_options lower_options = {.isa_repair = options->isa_proof,
                                            .report = &report->lower};
    const rq_status status = rq_lower(lowered, qat, &lower_options, err);
    if (status)
        rq_error_prefix(err, "%s", options->qat);
    report->isa_proof = lowered->isa_proof;
    return status;
}

static rq_status export_file(rq_model *qat, rq_model *lowered, const export_options *options,
                             const char *command, export_report *report, rq_error *err)
{
    char parent[RQ_FILE_ID_SIZE];
    RQ_TRY(open_input(qat, options, parent, report, err));
    RQ_TRY(lower(lowered, qat, options, report, err));
    RQ_TRY(set_origin(lowered, command, parent, err));
    RQ_TRY(rq_model_save(lowered, options->int8, err));
    return describe_file(options->int8, &report->bytes_after, NULL, err);
}

static void print_text(const export_options *options, const export_report *report)
{
    const rq_lower_report *lower = &report->lower;
    (void)printf("%s: %d integer layers, %d float layers\n", options->int8, lower->n_integer_layers,
                 lower->n_float_layers);
    (void)printf("size: %.2f MB -> %.2f MB\n", (double)report->bytes_before / 1e6,
                 (double)report->bytes_after / 1e6);
    (void)printf("accumulators: at most %lld; %d layers could exceed 2^24, where f32 rounds\n",
                 (long long)lower->acc_max, lower->n_wide_layers);
    if (lower->repair.n_channels > 0)
        (void)printf("isa proof: repaired %lld of %lld channels, changed %lld weights by at most "
                     "%.2f steps\n",
                     (long long)lower->repair.n_channels, (long long)lower->n_channels,
                     (long long)lower->repair.n_weights, lower->repair.max_change_steps);
    if (report->isa_proof)
        (void)printf("isa proof: holds, no pair of products can saturate 16 bits\n");
    else
        (void)printf("isa proof: none, %lld of %lld channels could saturate 16 bits; CPUs without "
                     "VNNI will use slower, safe kernels (or use --isa-proof)\n",
                     (long long)lower->n_unsafe_channels, (long long)lower->n_channels);
}

static rq_status print_json(const export_report *report, rq_error *err)
{
    const rq_lower_report *lower = &report->lower;
    json_t *json = json_object();
    rq_json_set(&json, "integer_layers", json_integer(lower->n_integer_layers));
    rq_json_set(&json, "float_layers", json_integer(lower->n_float_layers));
    rq_json_set(&json, "bytes_before", json_integer(report->bytes_before));
    rq_json_set(&json, "bytes_after", json_integer(report->bytes_after));
    rq_json_set(&json, "acc_max", json_integer(lower->acc_max));
    rq_json_set(&json, "layers_over_2_24", json_integer(lower->n_wide_layers));
    rq_json_set(&json, "isa_proof", json_boolean(report->isa_proof));
    rq_json_set(&json, "unsafe_channels", json_integer(lower->n_unsafe_channels));
    rq_json_set(&json, "repaired_channels", json_integer(lower->repair.n_channels));
    rq_json_set(&json, "changed_weights", json_integer(lower->repair.n_weights));
    rq_json_set(&json, "max_change_steps", rq_json_number(lower->repair.max_change_steps));
    return rq_json_print(json, stdout, err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    export_options options = {NULL, NULL, false, false};
    bool done = false;
    RQ_TRY(rq_command_options(self, table, sizeof table / sizeof table[0], argc, argv, &options,
                              &done, err));
    if (done)
        return RQ_OK;
    export_report report = {.isa_proof = false};
    rq_model qat = RQ_MODEL_INIT, lowered = RQ_MODEL_INIT;
    char *command = rq_command_line(argc, argv);
    const rq_status status = export_file(&qat, &lowered, &options, command, &report, err);
    rq_free(command);
    rq_model_deinit(&lowered);
    rq_model_deinit(&qat);
    if (status)
        return status;
    if (options.json)
        return print_json(&report, err);
    print_text(&options, &report);
    return RQ_OK;
}

const rq_command rq_command_export_int8 = {
    .name = "export_int8",
    .summary = "lower a quantized model to integers",
    .run = run,
};
