/* Models without their files: forms, copies of what a model says about itself, checks. */
#include "runtime/model/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/command.h"
#include "runtime/base/file.h"

const char *rq_form_name(rq_form form)
{
    static const char *const names[RQ_N_FORMS] = {
#define X(code, name) [RQ_FORM_##code] = #name,
        RQ_FORM_LIST(X)
#undef X
    };
    return names[form];
}

void rq_preprocess_normalization(const rq_preprocess *preprocess, float factor[3], float offset[3])
{
    for (int c = 0; c < 3; c++) {
        const double mean = (double)preprocess->mean[c], std = (double)preprocess->std[c];
        factor[c] = (float)(1.0 / (255.0 * std));
        offset[c] = (float)(-mean / std);
    }
}

void rq_model_deinit(rq_model *model)
{
    rq_graph_deinit(&model->graph);
    *model = (rq_model)RQ_MODEL_INIT;
}

/* A copy of text, which may be NULL. */
static rq_status copy_text(rq_arena *arena, const char **out, const char *text, rq_error *err)
{
    *out = text ? rq_arena_strdup(arena, text) : NULL;
    return text && !*out ? rq_no_memory(err) : RQ_OK;
}

rq_status rq_model_copy_info(rq_model *out, const rq_model *source, rq_error *err)
{
    rq_arena *arena = &out->graph.arena;
    out->form = source->form;
    out->n_classes = source->n_classes;
    out->preprocess = source->preprocess;
    out->seed = source->seed;
    RQ_TRY(copy_text(arena, &out->arch, source->arch, err));
    RQ_TRY(copy_text(arena, &out->parent, source->parent, err));
    if (!source->class_names)
        return RQ_OK;
    out->class_names = rq_arena_array(arena, const char *, source->n_classes);
    if (!out->class_names)
        return rq_no_memory(err);
    for (int i = 0; i < source->n_classes; i++)
        RQ_TRY(copy_text(arena, &out->class_names[i], source->class_names[i], err));
    return RQ_OK;
}

static rq_status set_parent(rq_model *model, const char *path, rq_error *err)
{
    rq_mapping mapping = {NULL, 0};
    char id[RQ_FILE_ID_SIZE];
    RQ_TRY(rq_mapping_open(&mapping, path, err));
    rq_file_id(&mapping, id);
    rq_mapping_close(&mapping);
    return copy_text(&model->graph.arena, &model->parent, id, err);
}

rq_status rq_model_set_origin(rq_model *model, const char *parent_path, int argc, char **argv,
                              rq_error *err)
{
    char *line = rq_command_line(argc, argv);
    if (!line)
        return rq_no_memory(err);
    const rq_status status = copy_text(&model->graph.arena, &model->command, line, err);
    rq_free(line);
    model->parent = NULL;
    return status || !parent_path ? status : set_parent(model, parent_path, err);
}

/* Which command makes a model of this form. */
static const char *const makers[RQ_N_FORMS] = {
    [RQ_FORM_TRAIN] = "repqat train DIR -a ARCH -o OUT",
    [RQ_FORM_DEPLOY] = "repqat convert IN OUT",
    [RQ_FORM_WITHBN] = "repqat insert_bn DIR IN OUT",
    [RQ_FORM_QAT] = "repqat qat_train DIR --base-weights IN -o OUT",
    [RQ_FORM_INT8] = "repqat export_int8 IN OUT",
};

rq_status rq_model_require_form(const rq_model *model, const char *path, unsigned allowed,
                                rq_error *err)
{
    if (allowed & (1u << model->form))
        return RQ_OK;
    char names[64] = "";
    const char *maker = "";
    for (int form = RQ_N_FORMS - 1; form >= 0; form--) {
        if (!(allowed & (1u << form)))
            continue;
        char rest[sizeof names];
        memcpy(rest, names, sizeof rest);
        (void)snprintf(names, sizeof names, "%s%s%.40s", rq_form_name((rq_form)form),
                       *rest ? " or " : "", rest);
        maker = makers[form];
    }
    return rq_fail(err, RQ_ERR_MODEL, "%s: form is %s, this takes %s (make one with: %s)", path,
                   rq_form_name(model->form), names, maker);
}

rq_status rq_model_check_finite(const rq_model *model, rq_error *err)
{
    for (int i = 0; i < model->graph.n_params; i++) {
        const rq_param *param = &model->graph.params[i];
        if (param->tensor.dtype != RQ_F32)
            continue;
        const float *values = rq_tensor_f32(&param->tensor);
        const size_t n = rq_tensor_elems(&param->tensor);
        for (size_t k = 0; k < n; k++)
            if (!isfinite(values[k]))
                return rq_fail(err, RQ_ERR_MODEL, "%s: value %zu is %g", param->name, k,
                               (double)values[k]);
        rq_graph_release(&model->graph, &param->tensor);
    }
    return RQ_OK;
}
