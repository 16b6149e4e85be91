/* The table of options, and what is derived from them. */
#include "qat/run/train_options.h"

#include "runtime/base/command.h"

static const char *const precision_names[] = {"f32", "bf16", NULL};

/* The parser fills enumerations as int. */
_Static_assert(sizeof(rq_schedule_kind) == sizeof(int) && sizeof(rq_ema_rule) == sizeof(int) &&
                   sizeof(rq_optimizer_kind) == sizeof(int) &&
                   sizeof(rq_bad_images) == sizeof(int) && sizeof(rq_precision) == sizeof(int),
               "an enumeration is as large as int");

const rq_option rq_train_table[] = {
    RQ_POSITIONAL("DIR", rq_train_options, dir,
                  "images: DIR/train/<class>/… and DIR/val/<class>/…"),
    RQ_OPTION_STRING("output", 'o', rq_train_options, output, "FILE",
                     "model file to write (the best by Acc@1)"),
    RQ_OPTION_INT("epochs", 0, rq_train_options, epochs, "N", 1, 100000, "passes over the images"),
    RQ_OPTION_INT("start-epoch", 0, rq_train_options, start_epoch, "N", 0, 100000,
                  "count epochs from here (--resume does so by itself)"),
    RQ_OPTION_STRING("budget", 0, rq_train_options, budget, "TIME",
                     "wall time (2h, 90m, 1h30m, seconds): as many of the epochs as fit"),
    RQ_OPTION_INT("batch-size", 'b', rq_train_options, batch, "N", 1, 65536, "images per step"),
    RQ_OPTION_INT("val-batch-size", 0, rq_train_options, val_batch, "N", 1, 65536,
                  "images per step of validation"),
    RQ_OPTION_CHOICE("optimizer", 0, rq_train_options, optimizer.kind, rq_optimizer_names,
                     "update rule"),
    RQ_OPTION_FLOAT("lr", 0, rq_train_options, lr, "X", 0.0, 1e6, "learning rate"),
    RQ_OPTION_FLAG("scale-lr", 0, rq_train_options, scale_lr,
                   "multiply the learning rates by batch size / 256"),
    RQ_OPTION_CHOICE("schedule", 0, rq_train_options, schedule, rq_schedule_names,
                     "cosine from the warm-up's end, or timm's from the start of training"),
    RQ_OPTION_FLOAT("warmup-epochs", 0, rq_train_options, warmup_epochs, "X", 0.0, 100000.0,
                    "epochs of linear warm-up before the cosine"),
    RQ_OPTION_FLOAT("min-lr", 0, rq_train_options, min_lr, "X", 0.0, 1e6, "where the cosine ends"),
    RQ_OPTION_FLOAT("momentum", 0, rq_train_options, optimizer.sgd.momentum, "X", 0.0, 1.0,
                    "momentum (sgd)"),
    RQ_OPTION_FLAG("nesterov", 0, rq_train_options, optimizer.sgd.nesterov,
                   "Nesterov momentum (sgd)"),
    RQ_OPTION_FLOAT("beta1", 0, rq_train_options, optimizer.adamw.beta1, "X", 0.0, 0.999999,
                    "mean of gradients (adamw)"),
    RQ_OPTION_FLOAT("beta2", 0, rq_train_options, optimizer.adamw.beta2, "X", 0.0, 0.999999999,
                    "mean of their squares (adamw)"),
    RQ_OPTION_FLOAT("adam-eps", 0, rq_train_options, optimizer.adamw.eps, "X", 1e-20, 1.0,
                    "added to the root of the latter (adamw)"),
    RQ_OPTION_FLOAT("weight-decay", 0, rq_train_options, optimizer.weight_decay, "X", 0.0, 1e6,
                    "weight decay (tensors of two or more dimensions)"),
    RQ_OPTION_FLOAT("wd", 0, rq_train_options, optimizer.weight_decay, "X", 0.0, 1e6,
                    "the same as --weight-decay"),
    RQ_OPTION_FLAG("decay-identity", 0, rq_train_options, optimizer.rules.decay_identity,
                   "weight decay on the identity branches' batch norm too"),
    RQ_OPTION_FLAG("custom-l2", 0, rq_train_options, custom_l2,
                   "weight decay on the merged kernels of RepVGG's blocks instead of each "
                   "branch's"),
    RQ_OPTION_FLOAT("bias-lr", 0, rq_train_options, optimizer.rules.bias_lr, "X", 0.0,
                    RQ_MAX_LR_SCALE, "factor of the learning rate for biases"),
    RQ_OPTION_STRING("lr-scale", 0, rq_train_options, optimizer.rules.lr_scales, "PREFIX=X,…",
                     "factors of the learning rate for layers by name (stage0=0.1,linear=10)"),
    RQ_OPTION_STRING("freeze", 0, rq_train_options, optimizer.rules.freeze, "PREFIX,…",
                     "layers by name (stage0,stage1.0) that stay as they are, batch norm "
                     "statistics included"),
    RQ_OPTION_FLOAT("clip-grad", 0, rq_train_options, optimizer.clip_grad, "X", 0.0, 1e12,
                    "largest norm of the whole gradient; 0: no limit"),
    RQ_OPTION_FLOAT("label-smoothing", 0, rq_train_options, label_smoothing, "X", 0.0, 1.0,
                    "label smoothing"),
    RQ_OPTION_FLOAT("mixup", 0, rq_train_options, mixup, "X", 0.0, RQ_LOADER_MAX_MIXUP,
                    "mix images and labels in proportions drawn from Beta(X, X); 0: not at all; "
                    "not where the first layer is quantized"),
    RQ_OPTION_FLOAT("ema", 0, rq_train_options, ema, "X", 0.0, 1.0,
                    "keep a moving average of the weights, with this share of the new ones, and "
                    "its best in OUTPUT's .best_ema; 0: none"),
    RQ_OPTION_CHOICE("ema-rule", 0, rq_train_options, ema_rule, rq_ema_rule_names,
                     "every 8 steps with a share scaled by batch size / epochs, or every step"),
    RQ_OPTION_INT("resolution", 'r', rq_train_options, resolution, "N", 0, 16384,
                  "side of the training images; 0: the model's crop"),
    RQ_OPTION_INT("val-resolution", 0, rq_train_options, val_resolution, "N", 0, 16384,
                  "side of the validation images, the model's crop from then on; 0: its crop, or "
                  "for a new model that of the training images"),
    RQ_OPTION_INT("val-resize", 0, rq_train_options, val_resize, "N", 0, 16384,
                  "their short side before the crop; 0: the usual margin"),
    RQ_AUGMENT_OPTIONS(rq_train_options, augment),
    RQ_OPTION_FLAG("alternate-flips", 0, rq_train_options, alternate_flips,
                   "mirror each image in every second epoch, not by chance"),
    RQ_OPTION_CHOICE("precision", 0, rq_train_options, precision, precision_names,
                     "of the convolutions' operands (sums are f32); bf16 needs a CPU that has it, "
                     "where it is qat_train's default"),
    RQ_OPTION_CHOICE("bad-images", 0, rq_train_options, bad_images, rq_bad_images_names,
                     "on an image that cannot be read"),
    RQ_OPTION_INT("workers", 'j', rq_train_options, workers, "N", 1, 1024,
                  "threads that decode images"),
    RQ_OPTION_INT("threads", 0, rq_train_options, threads, "N", 0, 1024,
                  "threads that compute; 0: all"),
    RQ_OPTION_INT("print-freq", 'p', rq_train_options, print_every, "N", 0, 1000000,
                  "steps between progress lines; 0: none"),
    RQ_OPTION_STRING(
        "log-dir", 0, rq_train_options, log_dir, "DIR",
        "write scalars for TensorBoard to this folder, and one JSON object per progress line "
        "and epoch to its train.jsonl"),
    RQ_OPTION_INT("seed", 0, rq_train_options, seed, "N", 0, 9007199254740991.0,
                  "seed of initial weights, order and augmentation"),
    RQ_OPTION_STRING("resume", 0, rq_train_options, resume, "FILE",
                     "continue from a run file; auto: from OUTPUT.ckpt when it exists"),
    RQ_OPTION_FLOAT("save-every", 0, rq_train_options, save_minutes, "MINUTES", 0.0, 1e6,
                    "time between run files within an epoch; 0: at its end only"),
    RQ_OPTION_FLAG("evaluate", 'e', rq_train_options, evaluate,
                   "validate (with --resume: that state) and stop"),
    RQ_OPTION_FLAG("profile", 0, rq_train_options, profile,
                   "log where a step's time goes, by kind and by layer, with the bytes moved"),
    RQ_OPTION_FLAG("json", 0, rq_train_options, json, "print the result as one JSON object"),
};
const size_t rq_train_table_size = sizeof rq_train_table / sizeof rq_train_table[0];

const char *const rq_train_free_names[] = {
    "output", "start-epoch", "budget", "val-batch-size", "workers", "threads", "print-freq",
    "log-dir", "resume", "save-every", "evaluate", "profile", "json",
    /* of the commands' own tables; their values are in others, or in the model */
    "arch", "recipe", "tag", "base-weights", "init", "classes", NULL};

rq_train_options rq_train_options_init(void)
{
    return (rq_train_options){
        .batch = 256,
        .val_batch = 100,
        .workers = 2,
        .print_every = 10,
        .optimizer = RQ_OPTIMIZER_OPTIONS_INIT,
        .augment = RQ_AUGMENT_OPTIONS_INIT,
        .save_minutes = 10.0,
    };
}

rq_status rq_train_options_read(rq_train_options *options, const char *text, rq_arena *arena,
                                rq_error *err)
{
    int argc;
    char **argv = rq_command_words(arena, rq_arena_printf(arena, "train %s", text), &argc);
    if (!argv)
        return rq_no_memory(err);
    return rq_options_parse(rq_train_table + 1, rq_train_table_size - 1, argc, argv, options, err);
}

double rq_train_lr_factor(const rq_train_options *options)
{
    return options->scale_lr ? (double)options->batch / 256.0 : 1.0;
}

void rq_train_set_sizes(rq_model *model, const rq_train_options *options, bool follows)
{
    enum { SMALL = 64 };
    const int64_t crop = options->val_resolution ? options->val_resolution
                         : follows               ? options->resolution
                                                 : 0;
    if (crop) {
        model->preprocess.crop = (int)crop;
        model->preprocess.resize = (int)(crop <= SMALL ? crop : (crop * 256 + 112) / 224);
    }
    if (options->val_resize)
        model->preprocess.resize = (int)options->val_resize;
}
