/* train DIR -a ARCH -o model.bin: FP32 training of the three-branch form. */
#include "qat/train_command.h"

#include "qat/loop_flags.h"
#include "qat/recipe.h"
#include "qat/start_model.h"
#include "runtime/base/log.h"

typedef struct train_flags {
    const char *arch, *init;
    int64_t classes;
    int recipe;
} train_flags;

static const rq_option table[] = {
    RQ_OPTION_STRING("arch", 'a', train_flags, arch, "ARCH",
                     "architecture: a name (RepVGG-A0) or repvgg:depth=…;width=…;stride=…; a model "
                     "file in --init says its own"),
    RQ_OPTION_CHOICE("recipe", 0, train_flags, recipe, rq_recipe_names,
                     "values for the options of training that are not given"),
    RQ_OPTION_STRING("init", 0, train_flags, init, "FILE",
                     "start from these weights (.bin in form train, .pth, .safetensors)"),
    RQ_OPTION_INT("classes", 0, train_flags, classes, "N", 1, RQ_MAX_CHANNELS,
                  "of the network, as many as the images have; weights of a head for others are "
                  "not taken from --init"),
};

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
    rq_log(RQ_LOG_INFO, "recipe %s", rq_recipe_names[flags->recipe]);
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
    train_flags flags = {.arch = NULL, .init = NULL};
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
    const rq_start_options start = {
        .arch = flags.arch,
        .init = flags.init,
        .n_classes = (int)flags.classes,
        .dir = loop.dir,
        .seed = (uint64_t)loop.seed,
    };
    status = rq_start_model(&model, &start, err);
    if (status == RQ_OK)
        status = rq_model_set_origin(&model, flags.init, argc, argv, err);
    rq_loop_set_sizes(&model, &loop, true);
    if (status == RQ_OK)
        status = train(&model, &loop, sets, N_SETS, err);
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_train = {"train", "train a network in FP32, in its three-branch form",
                                     run};
