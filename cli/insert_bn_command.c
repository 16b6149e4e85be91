/* repqat insert_bn DIR base.bin withbn.bin: batch norms with statistics of training images. */
#include "calib/bn_recorder.h"
#include "calib/insert_bn_run.h"
#include "cli/commands.h"
#include "runtime/base/json_line.h"

static const char *const stat_words[] = {[RQ_STAT_EXACT] = "exact", [RQ_STAT_EMA] = "ema", NULL};

typedef struct options {
    rq_insert_bn_options run;
    bool json;
} options;

static const rq_option table[] = {
    RQ_DATA_OPTIONS(options, run.data),
    RQ_POSITIONAL("BASE", options, run.base, "model or checkpoint in form deploy"),
    RQ_POSITIONAL("OUT", options, run.out, "model file to write, form withbn"),
    RQ_OPTION_INT("batches", 'n', options, run.batches, "N", 1, INT64_MAX,
                  "batches of training images; all images once when not given"),
    RQ_OPTION_CHOICE("stat", 0, options, run.stat, stat_words,
                     "statistics over all images alike, or the original's moving average, in "
                     "which later batches weigh more"),
    RQ_AUGMENT_OPTIONS(options, run.augment),
    RQ_OPTION_FLAG("shuffle", 0, options, run.shuffle, "images in random order"),
    RQ_OPTION_INT("seed", 0, options, run.seed, "N", 0, INT64_MAX, "of order and augmentation"),
    RQ_OPTION_FLAG("json", 0, options, json, "print one JSON object"),
};

static void print_text(const char *path, const rq_insert_bn_result *found)
{
    (void)printf("%s: statistics of %zu images\n", path, found->n_images);
    (void)printf("max |difference| of logits %.3g (largest |logit| %.4g, %zu images)\n",
                 found->difference.max_abs_diff, found->difference.max_abs_logit,
                 found->difference.n_images);
    if (found->has_accuracy)
        (void)printf(" * Acc@1 %.3f before, %.3f with batch norms\n", found->accuracy[0].top1,
                     found->accuracy[1].top1);
}

static rq_status print_json(const rq_insert_bn_result *found, rq_error *err)
{
    json_t *json = json_object();
    rq_json_set(&json, "images", json_integer(found->n_images));
    rq_json_set(&json, "max_abs_diff", rq_json_number(found->difference.max_abs_diff));
    rq_json_set(&json, "max_abs_logit", rq_json_number(found->difference.max_abs_logit));
    if (found->has_accuracy) {
        rq_json_set(&json, "base_top1", rq_json_number(found->accuracy[0].top1));
        rq_json_set(&json, "top1", rq_json_number(found->accuracy[1].top1));
    }
    return rq_json_print(json, stdout, err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    options given = {.run = RQ_INSERT_BN_OPTIONS_INIT};
    rq_insert_bn_result found;
    bool done;
    const rq_option_set sets[] = {
        {table, sizeof table / sizeof table[0], &given},
        rq_open_option_set(&given.run.open),
    };
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    if (done)
        return RQ_OK;
    rq_set_threads(given.run.data.threads);
    RQ_TRY(rq_insert_bn_run(&found, &given.run, argc, argv, err));
    if (given.json)
        return print_json(&found, err);
    print_text(given.run.out, &found);
    return RQ_OK;
}

const rq_command rq_command_insert_bn = {
    "insert_bn", "batch norms for fine-tuning, with statistics of training images", run};
