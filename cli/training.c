/* Two readings of a command line, and one result. */
#include "cli/training.h"

#include <assert.h>
#include <math.h>

#include "qat/run/loop.h"
#include "qat/run/recipe.h"
#include "qat/run/settings.h"
#include "runtime/base/log.h"

static rq_status set_defaults(rq_train_options *options, const char *defaults, int recipe,
                              rq_arena *arena, rq_error *err)
{
    *options = rq_train_options_init();
    RQ_TRY(rq_train_options_read(options, defaults, arena, err));
    return rq_train_options_read(options, rq_recipe_texts[recipe], arena, err);
}

/* The recipe is known once the command line has been read, which is then read again over it. */
rq_status rq_training_parse(const rq_command *self, const rq_option_set *sets, size_t n_sets,
                            const char *defaults, const int *recipe, rq_arena *arena, int argc,
                            char **argv, bool *done, rq_error *err)
{
    assert(sets[0].table == rq_train_table);
    RQ_TRY(set_defaults(sets[0].fields, defaults, *recipe, arena, err));
    RQ_TRY(rq_command_option_sets(self, sets, n_sets, argc, argv, done, err));
    if (*done || *recipe == RQ_RECIPE_NONE)
        return RQ_OK;
    rq_log(RQ_LOG_INFO, "recipe %s", rq_recipe_names[*recipe]);
    RQ_TRY(set_defaults(sets[0].fields, defaults, *recipe, arena, err));
    return rq_command_option_sets(self, sets, n_sets, argc, argv, done, err);
}

static rq_status print_json(const rq_train_options *options, const rq_loop_result *result,
                            rq_error *err)
{
    json_t *json = json_object();
    rq_json_set(&json, "epochs", json_integer(result->epochs));
    rq_json_set(&json, "best_top1", rq_json_number(result->best_top1));
    rq_json_set(&json, "last_top1", rq_json_number(result->last_top1));
    if (options->ema > 0.0)
        rq_json_set(&json, "best_ema_top1", rq_json_number(result->best_ema_top1));
    rq_json_set(&json, "img_per_s", rq_json_number(result->images_per_second));
    rq_json_set(&json, "seconds", rq_json_number(result->seconds));
    rq_json_set(&json, "output", rq_json_string(options->output));
    rq_json_set(&json, "effective_lr", rq_json_number(options->lr * rq_train_lr_factor(options)));
    rq_json_set(&json, "options", rq_settings_json(options->sets, options->n_sets));
    return rq_json_print(json, stdout, err);
}

static void print_text(const rq_train_options *options, const rq_loop_result *result)
{
    if (options->evaluate) {
        (void)printf(" * Acc@1 %.3f Acc@5 %.3f\n", result->last_top1, result->last_top5);
        return;
    }
    (void)printf("%s: ", options->output);
    if (isnan(result->best_top1)) {
        (void)printf("not validated, ");
    } else {
        (void)printf("best Acc@1 %.3f, ", result->best_top1);
        if (options->ema > 0.0)
            (void)printf("of the average %.3f, ", result->best_ema_top1);
        (void)printf("last %.3f, ", result->last_top1);
    }
    (void)printf("%d epochs in %.0f s (%.1f images/s)\n", result->epochs, result->seconds,
                 result->images_per_second);
}

rq_status rq_training_run(rq_model *model, const rq_train_options *options, rq_error *err)
{
    rq_loop_result result;
    RQ_TRY(rq_train_loop(model, options, &result, err));
    if (options->json)
        return print_json(options, &result, err);
    print_text(options, &result);
    return RQ_OK;
}
