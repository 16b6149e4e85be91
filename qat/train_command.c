/* train DIR -a ARCH -o model.bin: FP32 training of the three-branch form. */
#include "qat/train_command.h"

#include <string.h>

#include "qat/loop_flags.h"
#include "runtime/model/arch.h"

typedef struct train_flags {
    const char *arch;
    bool decay_identity;
} train_flags;

static const rq_option table[] = {
    RQ_OPTION_REQUIRED("arch", 'a', train_flags, arch, "ARCH",
                       "architecture: a name (RepVGG-A0) or repvgg:depth=…;width=…;stride=…"),
    RQ_OPTION_FLAG("decay-identity", 0, train_flags, decay_identity,
                   "weight decay on the identity branches' batch norm too"),
};

/* The preprocessing that goes with a training resolution: 224 and larger leave the usual margin
 * around the crop, small images are taken whole. */
static void set_resolution(rq_model *model, int resolution)
{
    enum { SMALL = 64 };
    if (!resolution)
        return;
    model->preprocess.crop = resolution;
    model->preprocess.resize = resolution <= SMALL ? resolution : (resolution * 256 + 112) / 224;
}

static rq_status build_model(rq_model *model, const train_flags *flags, const rq_loop_flags *loop,
                             rq_error *err)
{
    rq_dataset set;
    rq_status status = rq_dataset_open(&set, loop->dir, RQ_SPLIT_TRAIN, err);
    if (status != RQ_OK)
        return status;
    const bool says_classes = strstr(flags->arch, "classes=") != NULL;
    status = rq_arch_build(model, flags->arch, says_classes ? 0 : set.n_classes, err);
    rq_dataset_close(&set);
    if (status != RQ_OK)
        return status;
    set_resolution(model, (int)loop->resolution);
    model->seed = (uint64_t)loop->seed;
    rq_model_init_weights(model, model->seed);
    return RQ_OK;
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    train_flags flags = {NULL, false};
    rq_loop_flags loop = rq_loop_flags_init();
    loop.epochs = 120;
    loop.lr = 0.1;
    loop.weight_decay = 1e-4;
    loop.output = "model.bin";
    const rq_option_set sets[] = {
        {rq_loop_flags_table, rq_loop_flags_count, &loop},
        {table, sizeof table / sizeof table[0], &flags},
    };
    bool done;
    rq_status status = rq_command_option_sets(self, sets, 2, argc, argv, &done, err);
    if (status != RQ_OK || done)
        return status;
    rq_model model = RQ_MODEL_INIT;
    status = build_model(&model, &flags, &loop, err);
    if (status == RQ_OK)
        status = rq_model_set_origin(&model, NULL, argc, argv, err);
    if (status == RQ_OK) {
        rq_loop_result result;
        rq_loop_options options = rq_loop_flags_apply(&loop);
        options.optimizer.rules.decay_identity = flags.decay_identity;
        status = rq_train_loop(&model, &options, &result, err);
        if (status == RQ_OK)
            rq_loop_print_result(&loop, &result);
    }
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_train = {"train", "train a network in FP32, in its three-branch form",
                                     run};
