/* Models apart from their files: names of forms, copies of what a model says about itself, checks.
 */
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

void rq_model_deinit(rq_model *model)
{
    rq_graph_deinit(&model->graph);
    *model = (rq_model)RQ_MODEL_INIT;
}

/* A copy of text, which may be NULL. */
static rq_status copy_text(rq_arena *arena, const char **out, const char *text, rq_error *err)
{
    *out = text ? rq_arena_strdup(arena, text) : NULL;
    return text && !*out ? rq_fail(err, RQ_ERR_NOMEM, "out of memory") : RQ_OK;
}

rq_status rq_model_copy_info(rq_model *out, const rq_model *source, rq_error *err)
{
    rq_arena *arena = &out->graph.arena;
    out->form = source->form;
    out->n_classes = source->n_classes;
    out->preprocess = source->preprocess;
    out->seed = source->seed;
    rq_status status = copy_text(arena, &out->arch, source->arch, err);
    if (!status)
        status = copy_text(arena, &out->parent, source->parent, err);
    if (status || !source->class_names)
        return status;
    void *names;
    status = rq_arena_array_old(arena, &names, (size_t)source->n_classes, sizeof(char *), err);
    if (status)
        return status;
    out->class_names = names;
    for (int i = 0; i < source->n_classes && !status; i++)
        status = copy_text(arena, &out->class_names[i], source->class_names[i], err);
    return status;
}

static rq_status set_parent(rq_model *model, const char *path, rq_error *err)
{
    rq_mapping mapping = {NULL, 0};
    char id[RQ_FILE_ID_SIZE];
    const rq_status status = rq_mapping_open(&mapping, path, err);
    if (status)
        return status;
    rq_file_id(&mapping, id);
    rq_mapping_close(&mapping);
    return copy_text(&model->graph.arena, &model->parent, id, err);
}

rq_status rq_model_set_origin(rq_model *model, const char *parent_path, int argc, char **argv,
                              rq_error *err)
{
    char *line = rq_command_line(argc, argv);
    rq_status status = line ? copy_text(&model->graph.arena, &model->command, line, err)
                            : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    rq_free(line);
    model->parent = NULL;
    if (!status && parent_path)
        status = set_parent(model, parent_path, err);
    return status;
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
