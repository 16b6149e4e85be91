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

/* What a model file says of itself besides its weights; nothing of a checkpoint, which is silent.
 */
static rq_status read_description(rq_model *described, const rq_start_options *options,
                                  rq_error *err)
{
    bool is_checkpoint = false;
    const rq_status status = rq_is_checkpoint(options->init, &is_checkpoint, err);
    if (status != RQ_OK || is_checkpoint)
        return status;
    const rq_open_options asked = {.arch = options->arch};
    return rq_open_model(described, options->init, &asked, 1u << RQ_FORM_TRAIN, err);
}

static rq_status fill(rq_model *model, const char *path, rq_error *err)
{
    rq_checkpoint *checkpoint;
    rq_status status = rq_checkpoint_open(&checkpoint, path, err);
    if (status != RQ_OK)
        return status;
    status = rq_model_fill(model, checkpoint, true, err);
    rq_checkpoint_close(checkpoint);
    return status;
}

static rq_status build(rq_model *model, const rq_start_options *options, const rq_model *described,
                       rq_error *err)
{
    const char *arch = options->arch ? options->arch : described->arch;
    int n_classes;
    if (!arch)
        return rq_fail(err, RQ_ERR_USAGE, "--arch is missing");
    rq_status status = count_classes(options, &n_classes, err);
    if (status == RQ_OK)
        status = rq_arch_build(model, arch, n_classes, err);
    if (status != RQ_OK)
        return status;
    model->preprocess = described->preprocess;
    rq_model_init_weights(model, options->seed);
    return options->init ? fill(model, options->init, err) : RQ_OK;
}

rq_status rq_start_model(rq_model *out, const rq_start_options *options, rq_error *err)
{
    rq_model model = RQ_MODEL_INIT, described = RQ_MODEL_INIT;
    rq_status status = options->init ? read_description(&described, options, err) : RQ_OK;
    if (status == RQ_OK)
        status = build(&model, options, &described, err);
    rq_model_deinit(&described);
    if (status == RQ_OK)
        *out = model;
    else
        rq_model_deinit(&model);
    return status;
}
