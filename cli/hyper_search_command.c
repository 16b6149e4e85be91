/* hyper_search DIR -a ARCH -o scales.bin: RepOptimizer's search of scales, which is the training of
 * a network whose scales are trained. */
#include "cli/commands.h"

#include "cli/training.h"
#include "qat/run/recipe.h"
#include "qat/run/start_model.h"
#include "runtime/model/arch.h"

typedef struct search_flags {
    rq_train_options train;
    const char *arch;
    int recipe;
} search_flags;

static const rq_option table[] = {
    RQ_OPTION_STRING(
        "arch", 'a', search_flags, arch, "ARCH",
        "of the network to find scales for (RepOpt-VGG-B1-target), whatever its blocks"),
    RQ_OPTION_CHOICE("recipe", 0, search_flags, recipe, rq_recipe_names,
                     "values for the options of training that are not given"),
};

/* The same network with blocks of trained scales, for as many classes as the images have. */
static rq_status describe_searched(const char *name, char text[RQ_ARCH_TEXT_BYTES], rq_error *err)
{
    enum { UNSAID = 1000 }; /* the description then leaves the classes out */
    rq_arch arch;
    if (!name)
        return rq_fail(err, RQ_ERR_USAGE, "--arch is missing");
    RQ_TRY(rq_arch_parse(&arch, name, err));
    arch.block = RQ_BLOCK_HS;
    arch.classes = UNSAID;
    rq_arch_describe(&arch, text);
    return RQ_OK;
}

static rq_status search(search_flags *flags, int argc, char **argv, rq_error *err)
{
    char searched[RQ_ARCH_TEXT_BYTES];
    RQ_TRY(describe_searched(flags->arch, searched, err));
    const rq_start_options options = {
        .arch = searched, .dir = flags->train.dir, .seed = (uint64_t)flags->train.seed};
    rq_model model;
    RQ_TRY(rq_start_model(&model, &options, err));
    rq_train_set_sizes(&model, &flags->train, true);
    rq_status status = rq_model_set_origin(&model, NULL, argc, argv, err);
    if (!status)
        status = rq_training_run(&model, &flags->train, err);
    rq_model_deinit(&model);
    return status;
}

static rq_status parse_and_search(const rq_command *self, rq_arena *arena, int argc, char **argv,
                                  rq_error *err)
{
    search_flags flags = {.recipe = RQ_RECIPE_HYPER_SEARCH};
    const rq_option_set sets[] = {
        {rq_train_table, rq_train_table_size, &flags.train},
        {table, sizeof table / sizeof table[0], &flags},
    };
    bool done;
    RQ_TRY(rq_training_parse(self, sets, 2, "-o scales.bin", &flags.recipe, arena, argc, argv,
                             &done, err));
    flags.train.sets = sets;
    flags.train.n_sets = 2;
    return done ? RQ_OK : search(&flags, argc, argv, err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    rq_arena arena = RQ_ARENA_INIT;
    const rq_status status = parse_and_search(self, &arena, argc, argv, err);
    rq_arena_deinit(&arena);
    return status;
}

const rq_command rq_command_hyper_search = {
    "hyper_search", "search RepOptimizer's scales on a small data set", run};
