/* Built from a description, then filled. */
#include "qat/run/start_model.h"

#include <string.h>

#include "runtime/eval/open_model.h"
#include "runtime/image/dataset.h"
#include "runtime/model/arch.h"
#include "runtime/torch/load.h"

static rq_status count_classes(const rq_start_options *options, int *n_classes, rq_error *err)
{
    rq_dataset set;
    *n_classes = options->n_classes;
    const rq_status status = rq_dataset_open(&set, options->dir, RQ_SPLIT_TRAIN, err);
    if (status != RQ_OK)
        return status;
    const bool arch_says = options->arch && strstr(options->arch, "classes=");
    if (!*n_classes && !arch_says)
        *n_classes = set.n_classes;
    rq_dataset_close(&set);
    return RQ_OK;
}

/* What a model file says about itself besides its weights; nothing of a checkpoint, which is
 * silent. */
static rq_status read_description(rq_model *described, rq_weight_file *file,
                                  const rq_start_options *options, rq_error *err)
{
    if (!file || rq_weight_file_is_checkpoint(file))
        return RQ_OK;
    const rq_open_options asked = {.arch = options->arch};
    return rq_open_model_from(described, file, &asked, 1u << RQ_FORM_TRAIN, err);
}

static rq_status fill(rq_model *model, rq_weight_file *file, rq_error *err)
{
    rq_checkpoint *checkpoint;
    RQ_TRY(rq_checkpoint_of(&checkpoint, file, err));
    const rq_status status = rq_model_fill(model, checkpoint, true, err);
    rq_checkpoint_close(checkpoint);
    return status;
}

static rq_status build(rq_model *model, rq_model *described, rq_weight_file *file,
                       const rq_start_options *options, rq_error *err)
{
    RQ_TRY(read_description(described, file, options, err));
    const char *arch = options->arch ? options->arch : described->arch;
    int n_classes;
    if (!arch)
        return rq_fail(err, RQ_ERR_USAGE, "--arch is missing");
    RQ_TRY(count_classes(options, &n_classes, err));
    RQ_TRY(rq_arch_build(model, arch, n_classes, err));
    model->preprocess = described->preprocess;
    rq_model_init_weights(model, options->seed);
    return file ? fill(model, file, err) : RQ_OK;
}

rq_status rq_start_model(rq_model *out, const rq_start_options *options, rq_error *err)
{
    rq_model model = RQ_MODEL_INIT, described = RQ_MODEL_INIT;
    rq_weight_file *file = NULL;
    if (options->init)
        RQ_TRY(rq_weight_file_open(&file, options->init, err));
    const rq_status status = build(&model, &described, file, options, err);
    rq_model_deinit(&described);
    rq_weight_file_close(file);
    if (status)
        rq_model_deinit(&model);
    else
        *out = model;
    return status;
}
