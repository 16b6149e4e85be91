/* Checks between a model file and its use. */
#include "runtime/eval/open_model.h"

#include <math.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/arch.h"
#include "runtime/model/proofs.h"
#include "runtime/model/quant.h"
#include "runtime/modelfile/modelfile.h"
#include "runtime/torch/load.h"

/* Form qat: scales of weights are what rq_weight_scale gives. */
static rq_status check_weight_scales(const rq_model *model, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    for (int node = 0; node < graph->n_nodes; node++) {
        const rq_tensor *scale = rq_graph_tensor(graph, node, RQ_SLOT_WEIGHT_SCALE);
        for (size_t i = 0; scale && i < rq_tensor_elems(scale); i++)
            if (!(rq_tensor_f32(scale)[i] >= RQ_SCALE_MIN))
                return rq_fail(err, RQ_ERR_MODEL, "%s: weight scale %zu is %g",
                               graph->nodes[node].name, i, (double)rq_tensor_f32(scale)[i]);
    }
    return RQ_OK;
}

/* Is it of the architecture that was asked for? The number of classes may differ. */
static rq_status require_arch(const rq_model *model, const char *path, const char *asked,
                              rq_error *err)
{
    rq_arch want, have;
    if (!asked)
        return RQ_OK;
    RQ_TRY(rq_arch_parse(&want, asked, err));
    if (model->arch && !rq_arch_parse(&have, model->arch, NULL) && rq_arch_is_same(&want, &have))
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL, "%s: is a %.120s, not the %.120s of -a", path,
                   model->arch ? model->arch : "network without a name", asked);
}

/* What was asked for must be in a file that describes itself. */
static rq_status require_options(const rq_model *model, const char *path,
                                 const rq_open_options *options, rq_error *err)
{
    RQ_TRY(require_arch(model, path, options->arch, err));
    if (!options->classes || options->classes == model->n_classes)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL, "%s: has %d classes, not the %d of --classes", path,
                   model->n_classes, (int)options->classes);
}

static rq_status check_values(const rq_model *model, rq_error *err)
{
    RQ_TRY(rq_model_check_finite(model, err));
    RQ_TRY(rq_integer_check(model, err));
    return check_weight_scales(model, err);
}

static rq_status check_model(const rq_model *model, const char *path, unsigned forms, rq_error *err)
{
    RQ_TRY(rq_model_require_form(model, path, forms, err));
    const rq_status status = check_values(model, err);
    if (status)
        rq_error_prefix(err, "%s", path);
    return status;
}

/* *out is initialised; on errors it may hold what was read so far. */
static rq_status load(rq_model *out, rq_weight_file *file, const rq_open_options *options,
                      rq_error *err)
{
    const rq_load_options asked = {options->arch, (int)options->classes};
    if (rq_weight_file_is_checkpoint(file))
        return rq_model_from_checkpoint(out, file, &asked, err);
    if (!file->tensorfile) /* of no known kind: the reader says what is wrong with it */
        RQ_TRY(rq_tensorfile_take(&file->tensorfile, &file->mapping, file->path, err));
    RQ_TRY(rq_model_view(out, file->tensorfile, file->path, err));
    RQ_TRY(rq_weight_file_give(file, &out->graph, err));
    return require_options(out, file->path, options, err);
}

static const rq_option open_table[] = {
    RQ_OPTION_STRING("arch", 'a', rq_open_options, arch, "ARCH",
                     "architecture of a checkpoint (.pth, .safetensors); a model file says its "
                     "own, which must be this one"),
    RQ_OPTION_INT("classes", 0, rq_open_options, classes, "N", 1, RQ_MAX_CHANNELS,
                  "of the network, where the checkpoint has others: its last layer then gets "
                  "initial values"),
};

rq_option_set rq_open_option_set(rq_open_options *fields)
{
    return (rq_option_set){open_table, sizeof open_table / sizeof open_table[0], fields};
}

static rq_status load_checked(rq_model *out, rq_weight_file *file, const rq_open_options *options,
                              unsigned forms, rq_error *err)
{
    RQ_TRY(load(out, file, options, err));
    return check_model(out, file->path, forms, err);
}

rq_status rq_open_model_from(rq_model *out, rq_weight_file *file, const rq_open_options *options,
                             unsigned forms, rq_error *err)
{
    static const rq_open_options none = {NULL, 0};
    rq_model model = RQ_MODEL_INIT;
    const rq_status status = load_checked(&model, file, options ? options : &none, forms, err);
    if (status)
        rq_model_deinit(&model);
    else
        *out = model;
    return status;
}

rq_status rq_open_model(rq_model *out, const char *path, const rq_open_options *options,
                        unsigned forms, rq_error *err)
{
    rq_weight_file *file;
    RQ_TRY(rq_weight_file_open(&file, path, err));
    const rq_status status = rq_open_model_from(out, file, options, forms, err);
    rq_weight_file_close(file);
    return status;
}

rq_status rq_open_session(rq_session **out, const rq_model *model, const char *path, int batch,
                          int size, int n_streams, rq_error *err)
{
    const rq_session_options options = {
        .batch = batch, .height = size, .width = size, .n_streams = n_streams};
    const rq_status status = rq_session_create(out, model, &options, err);
    if (status)
        rq_error_prefix(err, "%s", path);
    else if (rq_session_get_info(*out).saturation_safe)
        rq_log(RQ_LOG_WARN,
               "%s: this CPU's INT8 instructions could saturate with these weights; slower, exact "
               "kernels are used (export_int8 --isa-proof makes a model that does not need them)",
               path);
    return status;
}

rq_status rq_require_classes(const rq_model *model, const char *path, const rq_dataset *dataset,
                             rq_error *err)
{
    if (model->n_classes != dataset->n_classes)
        return rq_fail(err, RQ_ERR_MODEL, "%s has %d classes, but %s has %d class folders", path,
                       model->n_classes, dataset->root, dataset->n_classes);
    for (int i = 0; model->class_names && i < model->n_classes; i++)
        if (strcmp(model->class_names[i], dataset->class_names[i]) != 0)
            return rq_fail(err, RQ_ERR_MODEL,
                           "%s: class %d is '%.80s', but folder %d of %s is '%.80s'", path, i,
                           model->class_names[i], i, dataset->root, dataset->class_names[i]);
    return RQ_OK;
}
