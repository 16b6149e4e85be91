/* train DIR -a ARCH -o model.bin: FP32 training of the three-branch form. */
#include "qat/train_command.h"

#include <string.h>

#include "qat/loop_flags.h"
#include "qat/recipe.h"
#include "runtime/model/arch.h"

typedef struct train_flags {
    const char *arch;
    int recipe;
} train_flags;

static const rq_option table[] = {
    RQ_OPTION_REQUIRED("arch", 'a', train_flags, arch, "ARCH",
                       "architecture: a name (RepVGG-A0) or repvgg:depth=…;width=…;stride=…"),
    RQ_OPTION_CHOICE("recipe", 0, train_flags, recipe, rq_recipe_names,
                     "values for all options of training that are not given"),
};
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
    rq_loop_set_sizes(model, loop, true);
    model->seed = (uint64_t)loop->seed;
    rq_model_init_weights(model, model->seed);
    return RQ_OK;
}

/* The recipe is known once the command line has been read; then it is read again, so that what
 * stands there goes over the recipe's values. */
static rq_status parse(const rq_command *self, const rq_option_set *sets, size_t n_sets, int argc,
                       char **argv, bool *done, rq_error *err)
{
    rq_loop_flags *loop = sets[0].fields;
    const train_flags *flags = sets[1].fields;
    const rq_status status = rq_command_option_sets(self, sets, n_sets, argc, argv, done, err);
    if (status != RQ_OK || *done || !flags->recipe)
        return status;
    rq_recipe_apply(flags->recipe, loop);
    return rq_command_option_sets(self, sets, n_sets, argc, argv, done, err);
}

static rq_status train(rq_model *model, const rq_loop_flags *loop, const rq_option_set *sets,
                       size_t n_sets, rq_error *err)
{
    rq_loop_options options;
    rq_loop_result result;
    rq_status status = rq_loop_flags_apply(loop, sets, n_sets, &options, err);
    if (status == RQ_OK)
        status = rq_train_loop(model, &options, &result, err);
    if (status == RQ_OK)
        rq_loop_print_result(loop, &options, &result);
    return status;
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    train_flags flags = {.arch = NULL};
    rq_loop_flags loop = rq_loop_flags_init();
    loop.epochs = 120;
    loop.lr = 0.1;
    loop.weight_decay = 1e-4;
    loop.output = "model.bin";
    const rq_option_set sets[] = {
        {rq_loop_flags_table, rq_loop_flags_count, &loop},
        {table, sizeof table / sizeof table[0], &flags},
    };
    enum { N_SETS = sizeof sets / sizeof sets[0] };
    bool done;
    rq_status status = parse(self, sets, N_SETS, argc, argv, &done, err);
    if (status != RQ_OK || done)
        return status;
    rq_model model = RQ_MODEL_INIT;
    status = build_model(&model, &flags, &loop, err);
    if (status == RQ_OK)
        status = rq_model_set_origin(&model, NULL, argc, argv, err);
    if (status == RQ_OK)
        status = train(&model, &loop, sets, N_SETS, err);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_train = {"train", "train a network in FP32, in its three-branch form",
                                     run};
