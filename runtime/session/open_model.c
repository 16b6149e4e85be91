/* Checks between a model file and its use. */
#include "runtime/session/open_model.h"

#include <math.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/model/arch.h"
#include "runtime/model/quant.h"

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

rq_status rq_open_model(rq_model *out, const char *path, unsigned forms, rq_error *err)
{
    rq_model model;
    rq_status status = rq_model_load(&model, path, err);
    if (status != RQ_OK)
        return status;
    status = rq_model_require_form(&model, path, forms, err);
    if (status != RQ_OK)
        goto out;
    status = rq_model_check_finite(&model, err);
    if (status == RQ_OK)
        status = rq_integer_check(&model, err);
    if (status == RQ_OK)
        status = check_weight_scales(&model, err);
    if (status != RQ_OK)
        rq_error_prefix(err, "%s", path);
out:
    if (status == RQ_OK)
        *out = model;
    else
        rq_model_deinit(&model);
    return status;
}

rq_status rq_open_session(rq_session **out, const rq_model *model, const char *path, int batch,
                          int size, rq_error *err)
{
    const rq_session_options options = {.batch = batch, .height = size, .width = size};
    const rq_status status = rq_session_create(out, model, &options, err);
    if (status != RQ_OK)
        rq_error_prefix(err, "%s", path);
    else if (rq_session_get_info(*out).saturation_safe)
        rq_log(RQ_LOG_WARN,
               "%s: this CPU's INT8 instructions could saturate with these weights; slower, exact "
               "kernels are used (export_int8 --isa-proof makes a model that does not need them)",
               path);
    return status;
}

rq_status rq_require_arch(const rq_model *model, const char *path, const char *asked, rq_error *err)
{
    rq_arch want, have;
    if (!asked)
        return RQ_OK;
    const rq_status status = rq_arch_parse(&want, asked, err);
    if (status != RQ_OK)
        return status;
    if (model->arch && rq_arch_parse(&have, model->arch, NULL) == RQ_OK &&
        rq_arch_is_same(&want, &have))
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL, "%s: is a %.120s, not the %.120s of -a", path,
                   model->arch ? model->arch : "network without a name", asked);
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
