/* train DIR -a ARCH -o model.bin: FP32 training of the three-branch form. */
#include "cli/commands.h"

#include "cli/training.h"
#include "qat/run/recipe.h"
#include "qat/run/start_model.h"
#include "qat/update/repopt.h"
#include "runtime/model/arch.h"

typedef struct train_flags {
    rq_train_options train;
    const char *arch, *init, *scales;
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
    RQ_OPTION_STRING("scales", 0, train_flags, scales, "FILE",
                     "train a block=target network by RepOptimizer, with these scales: what "
                     "hyper_search wrote, or a published .pth"),
    RQ_OPTION_INT("classes", 0, train_flags, classes, "N", 1, RQ_MAX_CHANNELS,
                  "of the network, as many as the images have; weights of a head for others are "
                  "not taken from --init"),
};

static rq_status start(rq_model *model, rq_repopt **repopt, const train_flags *flags, int argc,
                       char **argv, rq_error *err)
{
    const rq_start_options options = {
        .arch = flags->arch,
        .init = flags->init,
        .n_classes = (int)flags->classes,
        .dir = flags->train.dir,
        .seed = (uint64_t)flags->train.seed,
    };
    RQ_TRY(rq_start_model(model, &options, err));
    if (flags->scales) {
        const rq_repopt_options scales = {
            .scales = flags->scales,
            .kind = flags->train.optimizer.kind,
            .keep_weights = flags->init != NULL,
        };
        RQ_TRY(rq_repopt_create(repopt, model, &scales, err));
    }
    rq_train_set_sizes(model, &flags->train, true);
    return rq_model_set_origin(model, flags->init ? flags->init : flags->scales, argc, argv, err);
}

static rq_status train(train_flags *flags, int argc, char **argv, rq_error *err)
{
    rq_model model = RQ_MODEL_INIT;
    rq_repopt *repopt = NULL;
    rq_status status = start(&model, &repopt, flags, argc, argv, err);
    if (repopt)
        flags->train.optimizer.multipliers = rq_repopt_multipliers(repopt);
    if (!status)
        status = rq_training_run(&model, &flags->train, err);
    rq_repopt_destroy(repopt);
    rq_model_deinit(&model);
    return status;
}

static rq_status parse_and_train(const rq_command *self, rq_arena *arena, int argc, char **argv,
                                 rq_error *err)
{
    train_flags flags = {.arch = NULL};
    const rq_option_set sets[] = {
        {rq_train_table, rq_train_table_size, &flags.train},
        {table, sizeof table / sizeof table[0], &flags},
    };
    bool done;
    RQ_TRY(rq_training_parse(self, sets, 2, "--epochs 120 --lr 0.1 -o model.bin", &flags.recipe,
                             arena, argc, argv, &done, err));
    flags.train.sets = sets;
    flags.train.n_sets = 2;
    return done ? RQ_OK : train(&flags, argc, argv, err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    rq_arena arena = RQ_ARENA_INIT;
    const rq_status status = parse_and_train(self, &arena, argc, argv, err);
    rq_arena_deinit(&arena);
    return status;
}

const rq_command rq_command_train = {"train", "train a network in FP32, in its three-branch form",
                                     run};
