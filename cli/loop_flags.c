/* The shared table. */
#include "cli/loop_flags.h"

#include <math.h>
#include <omp.h>

#include "qat/run/budget.h"
#include "qat/run/settings.h"
#include "runtime/base/json_writer.h"

const rq_option rq_loop_flags_table[] = {
    RQ_POSITIONAL("DIR", rq_loop_flags, dir, "images: DIR/train/<class>/… and DIR/val/<class>/…"),
    RQ_OPTION_STRING("output", 'o', rq_loop_flags, output, "FILE",
                     "model file to write (the best by Acc@1)"),
    RQ_OPTION_INT("epochs", 0, rq_loop_flags, epochs, "N", 1, 100000, "passes over the images"),
    RQ_OPTION_INT("start-epoch", 0, rq_loop_flags, start_epoch, "N", 0, 100000,
                  "count epochs from here (--resume does so by itself)"),
    RQ_OPTION_STRING("budget", 0, rq_loop_flags, budget, "TIME",
                     "wall time (2h, 90m, 1h30m, seconds): as many of the epochs as fit"),
    RQ_OPTION_INT("batch-size", 'b', rq_loop_flags, batch, "N", 1, 65536, "images per step"),
    RQ_OPTION_INT("val-batch-size", 0, rq_loop_flags, val_batch, "N", 1, 65536,
                  "images per step of validation"),
    RQ_OPTION_CHOICE("optimizer", 0, rq_loop_flags, optimizer, rq_optimizer_names, "update rule"),
    RQ_OPTION_FLOAT("lr", 0, rq_loop_flags, lr, "X", 0.0, 1e6, "learning rate"),
    RQ_OPTION_FLAG("scale-lr", 0, rq_loop_flags, scale_lr,
                   "multiply the learning rates by batch size / 256"),
    RQ_OPTION_CHOICE("schedule", 0, rq_loop_flags, schedule, rq_schedule_names,
                     "cosine from the warm-up's end, or timm's from the start of training"),
    RQ_OPTION_FLOAT("warmup-epochs", 0, rq_loop_flags, warmup_epochs, "X", 0.0, 100000.0,
                    "epochs of linear warm-up before the cosine"),
    RQ_OPTION_FLOAT("min-lr", 0, rq_loop_flags, min_lr, "X", 0.0, 1e6, "where the cosine ends"),
    RQ_OPTION_FLOAT("momentum", 0, rq_loop_flags, momentum, "X", 0.0, 1.0, "momentum (sgd)"),
    RQ_OPTION_FLAG("nesterov", 0, rq_loop_flags, nesterov, "Nesterov momentum (sgd)"),
    RQ_OPTION_FLOAT("beta1", 0, rq_loop_flags, beta1, "X", 0.0, 0.999999,
                    "mean of gradients (adamw)"),
    RQ_OPTION_FLOAT("beta2", 0, rq_loop_flags, beta2, "X", 0.0, 0.999999999,
                    "mean of their squares (adamw)"),
    RQ_OPTION_FLOAT("adam-eps", 0, rq_loop_flags, adam_eps, "X", 1e-20, 1.0,
                    "added to the root of the latter (adamw)"),
    RQ_OPTION_FLOAT("weight-decay", 0, rq_loop_flags, weight_decay, "X", 0.0, 1e6,
                    "weight decay (tensors of two or more dimensions)"),
    RQ_OPTION_FLOAT("wd", 0, rq_loop_flags, weight_decay, "X", 0.0, 1e6,
                    "the same as --weight-decay"),
    RQ_OPTION_FLAG("decay-identity", 0, rq_loop_flags, decay_identity,
                   "weight decay on the identity branches' batch norm too"),
    RQ_OPTION_FLAG("custom-l2", 0, rq_loop_flags, custom_l2,
                   "weight decay on the merged kernels of RepVGG's blocks instead of each "
                   "branch's"),
    RQ_OPTION_FLOAT("bias-lr", 0, rq_loop_flags, bias_lr, "X", 0.0, RQ_MAX_LR_SCALE,
                    "factor of the learning rate for biases"),
    RQ_OPTION_STRING("lr-scale", 0, rq_loop_flags, lr_scales, "PREFIX=X,…",
                     "factors of the learning rate for layers by name (stage0=0.1,linear=10)"),
    RQ_OPTION_STRING("freeze", 0, rq_loop_flags, freeze, "PREFIX,…",
                     "layers by name (stage0,stage1.0) that stay as they are, batch norm "
                     "statistics included"),
    RQ_OPTION_FLOAT("clip-grad", 0, rq_loop_flags, clip_grad, "X", 0.0, 1e12,
                    "largest norm of the whole gradient; 0: no limit"),
    RQ_OPTION_FLOAT("label-smoothing", 0, rq_loop_flags, label_smoothing, "X", 0.0, 1.0,
                    "label smoothing"),
    RQ_OPTION_FLOAT("mixup", 0, rq_loop_flags, mixup, "X", 0.0, RQ_LOADER_MAX_MIXUP,
                    "mix images and labels in proportions drawn from Beta(X, X); 0: not at all; "
                    "not where the first layer is quantized"),
    RQ_OPTION_FLOAT("ema", 0, rq_loop_flags, ema, "X", 0.0, 1.0,
                    "keep a moving average of the weights, with this share of the new ones, and "
                    "its best in OUTPUT's .best_ema; 0: none"),
    RQ_OPTION_CHOICE("ema-rule", 0, rq_loop_flags, ema_rule, rq_ema_rule_names,
                     "every 8 steps with a share scaled by batch size / epochs, or every step"),
    RQ_OPTION_INT("resolution", 'r', rq_loop_flags, resolution, "N", 0, 16384,
                  "side of the training images; 0: the model's crop"),
    RQ_OPTION_INT("val-resolution", 0, rq_loop_flags, val_resolution, "N", 0, 16384,
                  "side of the validation images, the model's crop from then on; 0: its crop, or "
                  "for a new model that of the training images"),
    RQ_OPTION_INT("val-resize", 0, rq_loop_flags, val_resize, "N", 0, 16384,
                  "their short side before the crop; 0: the usual margin"),
    RQ_AUGMENT_OPTIONS(rq_loop_flags, augment),
    RQ_OPTION_FLAG("alternate-flips", 0, rq_loop_flags, alternate_flips,
                   "mirror each image in every second epoch, not by chance"),
    RQ_OPTION_CHOICE("precision", 0, rq_loop_flags, precision, rq_precision_names,
                     "of the convolutions' operands (sums are f32); bf16 needs a CPU that has it, "
                     "where it is qat_train's default"),
    RQ_OPTION_CHOICE("bad-images", 0, rq_loop_flags, bad_images, rq_bad_images_names,
                     "on an image that cannot be read"),
    RQ_OPTION_INT("workers", 'j', rq_loop_flags, workers, "N", 1, 1024,
                  "threads that decode images"),
    RQ_OPTION_INT("threads", 0, rq_loop_flags, threads, "N", 0, 1024,
                  "threads that compute; 0: all"),
    RQ_OPTION_INT("print-freq", 'p', rq_loop_flags, print_every, "N", 0, 1000000,
                  "steps between progress lines; 0: none"),
    RQ_OPTION_STRING(
        "log-dir", 0, rq_loop_flags, log_dir, "DIR",
        "write scalars for TensorBoard to this folder, and one JSON object per progress line "
        "and epoch to its train.jsonl"),
    RQ_OPTION_INT("seed", 0, rq_loop_flags, seed, "N", 0, 9007199254740991.0,
                  "seed of initial weights, order and augmentation"),
    RQ_OPTION_STRING("resume", 0, rq_loop_flags, resume, "FILE",
                     "continue from a checkpoint; auto: from OUTPUT.ckpt when it exists"),
    RQ_OPTION_FLOAT("save-every", 0, rq_loop_flags, save_minutes, "MINUTES", 0.0, 1e6,
                    "time between checkpoints within an epoch; 0: at its end only"),
    RQ_OPTION_FLAG("evaluate", 'e', rq_loop_flags, evaluate,
                   "validate (with --resume: that state) and stop"),
    RQ_OPTION_FLAG("profile", 0, rq_loop_flags, profile,
                   "log where a step's time goes, by kind and by layer, with the bytes moved"),
    RQ_OPTION_FLAG("json", 0, rq_loop_flags, json, "print the result as one JSON object"),
};
const size_t rq_loop_flags_count = sizeof rq_loop_flags_table / sizeof rq_loop_flags_table[0];

const char *const rq_loop_free_names[] = {
    "output", "start-epoch", "budget", "val-batch-size", "workers", "threads", "print-freq",
    "log-dir", "resume", "save-every", "evaluate", "profile", "json",
    /* of the commands' own tables; their values are in others, or in the model */
    "arch", "recipe", "tag", "base-weights", "init", "classes", NULL};

rq_loop_flags rq_loop_flags_init(void)
{
    return (rq_loop_flags){
        .val_batch = 100,
        .workers = 2,
        .print_every = 10,
        .momentum = 0.9,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .adam_eps = 1e-8,
        .bias_lr = 1.0,
        .batch = 256,
        .save_minutes = 10.0,
        .augment = RQ_AUGMENT_OPTIONS_INIT,
    };
}

void rq_loop_set_sizes(rq_model *model, const rq_loop_flags *flags, bool follows)
{
    enum { SMALL = 64 };
    const int64_t crop = flags->val_resolution ? flags->val_resolution
                         : follows             ? flags->resolution
                                               : 0;
    if (crop) {
        model->preprocess.crop = (int)crop;
        model->preprocess.resize = (int)(crop <= SMALL ? crop : (crop * 256 + 112) / 224);
    }
    if (flags->val_resize)
        model->preprocess.resize = (int)flags->val_resize;
}

static rq_optimizer_options optimizer_options(const rq_loop_flags *flags)
{
    return (rq_optimizer_options){
        .kind = (rq_optimizer_kind)flags->optimizer,
        .sgd = {.momentum = flags->momentum, .nesterov = flags->nesterov},
        .adamw = {.beta1 = flags->beta1, .beta2 = flags->beta2, .eps = flags->adam_eps},
        .weight_decay = flags->weight_decay,
        .clip_grad = flags->clip_grad,
        .rules = {.decay_identity = flags->decay_identity,
                  .bias_lr = flags->bias_lr,
                  .freeze = flags->freeze,
                  .lr_scales = flags->lr_scales},
    };
}

rq_status rq_loop_flags_apply(const rq_loop_flags *flags, const rq_option_set *sets, size_t n_sets,
                              rq_loop_options *out, rq_error *err)
{
    double budget_seconds = 0.0;
    if (flags->budget && !rq_parse_duration(flags->budget, &budget_seconds))
        return rq_fail(err, RQ_ERR_USAGE, "--budget: '%s' is no time like 2h, 90m, 1h30m or 45s",
                       flags->budget);
    if (flags->threads)
        omp_set_num_threads((int)flags->threads);
    const double lr_factor = flags->scale_lr ? (double)flags->batch / 256.0 : 1.0;
    *out = (rq_loop_options){
        .data = {.dir = flags->dir,
                 .batch = (int)flags->batch,
                 .val_batch = (int)flags->val_batch,
                 .workers = (int)flags->workers,
                 .resolution = (int)flags->resolution,
                 .augment = flags->augment,
                 .alternate_flips = flags->alternate_flips,
                 .mixup = flags->mixup,
                 .bad_images = (rq_bad_images)flags->bad_images,
                 .seed = (uint64_t)flags->seed},
        .output = flags->output,
        .resume = flags->resume,
        .log_dir = flags->log_dir,
        .epochs = (int)flags->epochs,
        .print_every = (int)flags->print_every,
        .start_epoch = (int)flags->start_epoch,
        .evaluate_only = flags->evaluate,
        .schedule = (rq_schedule_kind)flags->schedule,
        .lr = flags->lr * lr_factor,
        .min_lr = flags->min_lr * lr_factor,
        .warmup_epochs = flags->warmup_epochs,
        .label_smoothing = flags->label_smoothing,
        .optimizer = optimizer_options(flags),
        .custom_l2 = flags->custom_l2,
        .ema = flags->ema,
        .ema_rule = (rq_ema_rule)flags->ema_rule,
        .precision = (rq_precision)flags->precision,
        .save_minutes = flags->save_minutes,
        .budget_seconds = budget_seconds,
        .profile = flags->profile,
        .sets = sets,
        .n_sets = n_sets,
        .free_names = rq_loop_free_names,
    };
    return RQ_OK;
}

static void print_json(const rq_loop_flags *flags, const rq_loop_options *options,
                       const rq_loop_result *result)
{
    rq_json_writer json = rq_json_begin(stdout);
    rq_json_add_int(&json, "epochs", result->epochs);
    rq_json_add_number(&json, "best_top1", result->best_top1);
    rq_json_add_number(&json, "last_top1", result->last_top1);
    if (options->ema > 0.0)
        rq_json_add_number(&json, "best_ema_top1", result->best_ema_top1);
    rq_json_add_number(&json, "img_per_s", result->images_per_second);
    rq_json_add_number(&json, "seconds", result->seconds);
    rq_json_add_string(&json, "output", flags->output);
    rq_json_add_number(&json, "effective_lr", options->lr);
    rq_settings_write(&json, options->sets, options->n_sets);
    rq_json_end(&json);
}

void rq_loop_print_result(const rq_loop_flags *flags, const rq_loop_options *options,
                          const rq_loop_result *result)
{
    if (flags->json) {
        print_json(flags, options, result);
        return;
    }
    if (flags->evaluate) {
        (void)printf(" * Acc@1 %.3f Acc@5 %.3f\n", result->last_top1, result->last_top5);
        return;
    }
    (void)printf("%s: ", flags->output);
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
