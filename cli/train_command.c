/* train DIR -a ARCH -o model.bin: FP32 training of the three-branch form; and RepOptimizer's search
 * of scales, which is the training of another form. */
#include "cli/commands.h"

#include "cli/loop_flags.h"
#include "cli/recipe.h"
#include "cli/start_model.h"
#include "qat/update/repopt.h"
#include "runtime/base/log.h"
#include "runtime/model/arch.h"

typedef struct train_flags {
    const char *arch, *init, *scales;
    int64_t classes;
    int recipe;
    bool searches;                     /* hyper_search: train the form whose scales are trained */
    char searched[RQ_ARCH_TEXT_BYTES]; /* its description */
} train_flags;

static const rq_option train_table[] = {
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

static const rq_option search_table[] = {
    RQ_OPTION_STRING(
        "arch", 'a', train_flags, arch, "ARCH",
        "of the network to find scales for (RepOpt-VGG-B1-target), whatever its blocks"),
    RQ_OPTION_CHOICE("recipe", 0, train_flags, recipe, rq_recipe_names,
                     "values for the options of training that are not given"),
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
    rq_recipe_apply((rq_recipe)flags->recipe, loop);
    return rq_command_option_sets(self, sets, n_sets, argc, argv, done, err);
}

/* The same network with blocks of trained scales, for as many classes as the images have. */
static rq_status search_form(train_flags *flags, rq_error *err)
{
    enum { UNSAID = 1000 }; /* the description then leaves the classes out */
    rq_arch arch;
    if (!flags->arch)
        return rq_fail(err, RQ_ERR_USAGE, "--arch is missing");
    const rq_status status = rq_arch_parse(&arch, flags->arch, err);
    if (status != RQ_OK)
        return status;
    arch.block = RQ_BLOCK_HS;
    arch.classes = UNSAID;
    rq_arch_describe(&arch, flags->searched);
    flags->arch = flags->searched;
    return RQ_OK;
}

static rq_status train(rq_model *model, const rq_loop_flags *loop, const rq_repopt *repopt,
                       const rq_option_set *sets, size_t n_sets, rq_error *err)
{
    rq_loop_options options;
    rq_loop_result result;
    rq_status status = rq_loop_flags_apply(loop, sets, n_sets, &options, err);
    if (status != RQ_OK)
        return status;
    options.optimizer.multipliers = repopt ? rq_repopt_multipliers(repopt) : NULL;
    status = rq_train_loop(model, &options, &result, err);
    if (status == RQ_OK)
        rq_loop_print_result(loop, &options, &result);
    return status;
}

static rq_status start(rq_model *model, const rq_loop_flags *loop, const train_flags *flags,
                       rq_repopt **repopt, rq_error *err)
{
    const rq_start_options options = {
        .arch = flags->arch,
        .init = flags->init,
        .n_classes = (int)flags->classes,
        .dir = loop->dir,
        .seed = (uint64_t)loop->seed,
    };
    const rq_status status = rq_start_model(model, &options, err);
    if (status != RQ_OK || !flags->scales)
        return status;
    const rq_repopt_options scales = {
        .scales = flags->scales,
        .kind = (rq_optimizer_kind)loop->optimizer,
        .keep_weights = flags->init != NULL,
    };
    return rq_repopt_create(repopt, model, &scales, err);
}

/* flags and loop hold the command's defaults. */
static rq_status parse_and_train(const rq_command *self, const rq_option *table, size_t n_options,
                                 train_flags *flags, rq_loop_flags *loop, int argc, char **argv,
                                 rq_error *err)
{
    const rq_option_set sets[] = {
        {rq_loop_flags_table, rq_loop_flags_count, loop},
        {table, n_options, flags},
    };
    enum { N_SETS = sizeof sets / sizeof sets[0] };
    bool done;
    rq_status status = parse(self, sets, N_SETS, argc, argv, &done, err);
    if (status == RQ_OK && !done && flags->searches)
        status = search_form(flags, err);
    if (status != RQ_OK || done)
        return status;
    rq_model model = RQ_MODEL_INIT;
    rq_repopt *repopt = NULL;
    status = start(&model, loop, flags, &repopt, err);
    if (status == RQ_OK)
        status =
            rq_model_set_origin(&model, flags->init ? flags->init : flags->scales, argc, argv, err);
    rq_loop_set_sizes(&model, loop, true);
    if (status == RQ_OK)
        status = train(&model, loop, repopt, sets, N_SETS, err);
    rq_repopt_destroy(repopt);
    rq_model_deinit(&model);
    return status;
}

/* ---- train ---- */

static rq_status run_train(const rq_command *self, int argc, char **argv, rq_error *err)
{
    train_flags flags = {.arch = NULL};
    rq_loop_flags loop = rq_loop_flags_init();
    loop.epochs = 120;
    loop.lr = 0.1;
    loop.weight_decay = 1e-4;
    loop.output = "model.bin";
    return parse_and_train(self, train_table, sizeof train_table / sizeof train_table[0], &flags,
                           &loop, argc, argv, err);
}

const rq_command rq_command_train = {"train", "train a network in FP32, in its three-branch form",
                                     run_train};

/* ---- hyper_search ---- */

static rq_status run_search(const rq_command *self, int argc, char **argv, rq_error *err)
{
    train_flags flags = {.recipe = RQ_RECIPE_HYPER_SEARCH, .searches = true};
    rq_loop_flags loop = rq_loop_flags_init();
    loop.output = "scales.bin";
    rq_recipe_apply(RQ_RECIPE_HYPER_SEARCH, &loop);
    return parse_and_train(self, search_table, sizeof search_table / sizeof search_table[0], &flags,
                           &loop, argc, argv, err);
}

const rq_command rq_command_hyper_search = {
    "hyper_search", "search RepOptimizer's scales on a small data set", run_search};
