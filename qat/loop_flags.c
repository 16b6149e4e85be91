/* The shared table. */
#include "qat/loop_flags.h"

#include <omp.h>

#include "runtime/base/json_writer.h"

static const char *const bad_images_names[] = {"fail", "skip", NULL};

const rq_option rq_loop_flags_table[] = {
    RQ_POSITIONAL("DIR", rq_loop_flags, dir, "images: DIR/train/<class>/… and DIR/val/<class>/…"),
    RQ_OPTION_STRING("output", 'o', rq_loop_flags, output, "FILE",
                     "model file to write (the best by Acc@1)"),
    RQ_OPTION_INT("epochs", 0, rq_loop_flags, epochs, "N", 1, 100000, "passes over the images"),
    RQ_OPTION_INT("start-epoch", 0, rq_loop_flags, start_epoch, "N", 0, 100000,
                  "count epochs from here (--resume does so by itself)"),
    RQ_OPTION_INT("batch-size", 'b', rq_loop_flags, batch, "N", 1, 65536, "images per step"),
    RQ_OPTION_INT("val-batch-size", 0, rq_loop_flags, val_batch, "N", 1, 65536,
                  "images per step of validation"),
    RQ_OPTION_FLOAT("lr", 0, rq_loop_flags, lr, "X", 0.0, 1e6, "learning rate"),
    RQ_OPTION_FLOAT("momentum", 0, rq_loop_flags, momentum, "X", 0.0, 1.0, "momentum"),
    RQ_OPTION_FLOAT("weight-decay", 0, rq_loop_flags, weight_decay, "X", 0.0, 1e6,
                    "weight decay (tensors of two or more dimensions)"),
    RQ_OPTION_FLOAT("wd", 0, rq_loop_flags, weight_decay, "X", 0.0, 1e6,
                    "the same as --weight-decay"),
    RQ_OPTION_FLAG("nesterov", 0, rq_loop_flags, nesterov, "Nesterov momentum"),
    RQ_OPTION_FLOAT("warmup-epochs", 0, rq_loop_flags, warmup_epochs, "X", 0.0, 100000.0,
                    "epochs of linear warm-up before the cosine"),
    RQ_OPTION_FLOAT("label-smoothing", 0, rq_loop_flags, label_smoothing, "X", 0.0, 1.0,
                    "label smoothing"),
    RQ_OPTION_INT("resolution", 'r', rq_loop_flags, resolution, "N", 0, 16384,
                  "side of the training images; 0: the model's crop"),
    RQ_OPTION_CHOICE(
        "augment", 0, rq_loop_flags, augment, rq_augment_names,
        "auto: pad-crop up to 64 pixels, else crop (random resized crop), also called weak; "
        "raug15: "
        "crop and RandAugment; cutout: pad-crop and a square of half the side; all but none flip"),
    RQ_OPTION_CHOICE("precision", 0, rq_loop_flags, precision, rq_precision_names,
                     "of the convolutions' operands (sums are f32); bf16 is about twice as fast on "
                     "CPUs that have it"),
    RQ_OPTION_CHOICE("bad-images", 0, rq_loop_flags, bad_images, bad_images_names,
                     "on an image that cannot be read"),
    RQ_OPTION_INT("workers", 'j', rq_loop_flags, workers, "N", 1, 1024,
                  "threads that decode images"),
    RQ_OPTION_INT("threads", 0, rq_loop_flags, threads, "N", 0, 1024,
                  "threads that compute; 0: all"),
    RQ_OPTION_INT("print-freq", 'p', rq_loop_flags, print_every, "N", 0, 1000000,
                  "steps between progress lines; 0: none"),
    RQ_OPTION_INT("seed", 0, rq_loop_flags, seed, "N", 0, 9007199254740991.0,
                  "seed of initial weights, order and augmentation"),
    RQ_OPTION_STRING("resume", 0, rq_loop_flags, resume, "FILE",
                     "continue from a checkpoint; auto: from OUTPUT.ckpt when it exists"),
    RQ_OPTION_FLAG("evaluate", 'e', rq_loop_flags, evaluate,
                   "validate (with --resume: that state) and stop"),
    RQ_OPTION_FLAG("profile", 0, rq_loop_flags, profile, "log where a step's time goes"),
    RQ_OPTION_FLAG("json", 0, rq_loop_flags, json, "print the result as one JSON object"),
};
const size_t rq_loop_flags_count = sizeof rq_loop_flags_table / sizeof rq_loop_flags_table[0];

rq_loop_flags rq_loop_flags_init(void)
{
    return (rq_loop_flags){
        .val_batch = 100,
        .workers = 2,
        .print_every = 10,
        .momentum = 0.9,
        .batch = 256,
    };
}

rq_loop_options rq_loop_flags_apply(const rq_loop_flags *flags)
{
    if (flags->threads)
        omp_set_num_threads((int)flags->threads);
    return (rq_loop_options){
        .dir = flags->dir,
        .output = flags->output,
        .resume = flags->resume,
        .batch = (int)flags->batch,
        .val_batch = (int)flags->val_batch,
        .workers = (int)flags->workers,
        .epochs = (int)flags->epochs,
        .print_every = (int)flags->print_every,
        .start_epoch = (int)flags->start_epoch,
        .evaluate_only = flags->evaluate,
        .resolution = (int)flags->resolution,
        .lr = flags->lr,
        .warmup_epochs = flags->warmup_epochs,
        .label_smoothing = flags->label_smoothing,
        .optimizer =
            {
                .sgd = {.momentum = flags->momentum, .nesterov = flags->nesterov},
                .weight_decay = flags->weight_decay,
                .rules = {.bias_lr = 1.0},
            },
        .augment = (rq_augment)flags->augment,
        .bad_images = (rq_bad_images)flags->bad_images,
        .precision = (rq_precision)flags->precision,
        .seed = (uint64_t)flags->seed,
        .bn_freeze_epoch = (int)flags->epochs,
        .observer_freeze_epoch = (int)flags->epochs,
        .profile = flags->profile,
    };
}

void rq_loop_print_result(const rq_loop_flags *flags, const rq_loop_result *result)
{
    if (flags->json) {
        rq_json_writer json = rq_json_begin(stdout);
        rq_json_add_int(&json, "epochs", result->epochs);
        rq_json_add_number(&json, "best_top1", result->best_top1);
        rq_json_add_number(&json, "last_top1", result->last_top1);
        rq_json_add_number(&json, "img_per_s", result->images_per_second);
        rq_json_add_number(&json, "seconds", result->seconds);
        rq_json_add_string(&json, "output", flags->output);
        rq_json_end(&json);
        return;
    }
    if (flags->evaluate) {
        (void)printf(" * Acc@1 %.3f Acc@5 %.3f\n", result->last_top1, result->last_top5);
        return;
    }
    (void)printf("%s: best Acc@1 %.3f, last %.3f, %d epochs in %.0f s (%.1f images/s)\n",
                 flags->output, result->best_top1, result->last_top1, result->epochs,
                 result->seconds, result->images_per_second);
}
