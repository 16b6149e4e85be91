/* demo: the whole pipeline on a generated image set. Each step is one of the program's own
 * commands, printed before it runs, so that what is on the screen can be typed again. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/synthetic.h"

typedef struct demo_flags {
    const char *dir;
    int64_t train_images, val_images, epochs, qat_epochs, seed;
} demo_flags;

static const rq_option table[] = {
    RQ_OPTION_STRING("dir", 0, demo_flags, dir, "DIR", "folder for the images and models"),
    RQ_OPTION_INT("train-images", 0, demo_flags, train_images, "N", 16, 100000,
                  "training images per class"),
    RQ_OPTION_INT("val-images", 0, demo_flags, val_images, "N", 1, 100000,
                  "validation images per class"),
    RQ_OPTION_INT("epochs", 0, demo_flags, epochs, "N", 1, 1000, "epochs of FP32 training"),
    RQ_OPTION_INT("qat-epochs", 0, demo_flags, qat_epochs, "N", 1, 1000,
                  "epochs of quantization-aware fine-tuning"),
    RQ_OPTION_INT("seed", 0, demo_flags, seed, "N", 0, 1e15, "seed of images and training"),
};

enum { SIDE = 64 };

#define ARCH "repvgg:depth=1,2,3,2;width=24,48,96,192;stride=2,2,2,2"

/* One command line of the pipeline; %D is the folder, other %X the flags' numbers. */
static const char *const steps[] = {
    "train %D/images -a " ARCH " -r 64 -b 64 --epochs %E --lr 0.1 --warmup-epochs 1 --wd 5e-4 "
    "--nesterov --seed %S -p 50 -o %D/train.bin",
    "convert %D/train.bin %D/deploy.bin",
    "insert_bn %D/images %D/deploy.bin %D/withbn.bin",
    "qat_train %D/images --base-weights %D/withbn.bin --epochs %Q -b 64 --lr 5e-3 --wd 4e-5 "
    "--seed %S -p 50 -o %D/qat.bin",
    "export_int8 %D/qat.bin %D/int8.bin",
    "compare %D/images %D/deploy.bin %D/int8.bin --qat %D/qat.bin",
};

static char *expand(rq_arena *arena, const char *word, const demo_flags *flags)
{
    const char *mark = strchr(word, '%');
    if (!mark)
        return rq_arena_strdup(arena, word);
    switch (mark[1]) {
    case 'D':
        return rq_arena_printf(arena, "%s%s", flags->dir, mark + 2);
    case 'E':
        return rq_arena_printf(arena, "%lld", (long long)flags->epochs);
    case 'Q':
        return rq_arena_printf(arena, "%lld", (long long)flags->qat_epochs);
    default:
        return rq_arena_printf(arena, "%lld", (long long)flags->seed);
    }
}

static rq_status run_step(const char *step, const demo_flags *flags, rq_arena *arena, rq_error *err)
{
    int argc;
    char **argv = rq_command_words(arena, step, &argc);
    for (int i = 0; argv && i < argc; i++) {
        argv[i] = expand(arena, argv[i], flags);
        if (!argv[i])
            argv = NULL;
    }
    char *line = argv ? rq_command_line(argc, argv) : NULL;
    if (!line)
        return rq_no_memory(err);
    (void)printf("\n$ %s\n", line);
    (void)fflush(stdout);
    rq_free(line);
    const rq_command *command = rq_find_command(argv[0]);
    const rq_status status = command->run(command, argc, argv, err);
    if (status)
        rq_error_prefix(err, "%s", command->name);
    return status;
}

static rq_status make_images(const demo_flags *flags, rq_error *err)
{
    char images[4096];
    if (mkdir(flags->dir, 0777) != 0) {
        struct stat info;
        if (stat(flags->dir, &info) != 0 || !S_ISDIR(info.st_mode))
            return rq_fail_errno(err, flags->dir, "make this folder");
    }
    if ((size_t)snprintf(images, sizeof images, "%s/images", flags->dir) >= sizeof images)
        return rq_fail(err, RQ_ERR_USAGE, "--dir: the path is too long");
    (void)printf("10 classes of generated %dx%d JPEGs, %lld + %lld each, in %s\n", SIDE, SIDE,
                 (long long)flags->train_images, (long long)flags->val_images, images);
    (void)fflush(stdout);
    return rq_synthetic_write(images, RQ_SYNTHETIC_MAX_CLASSES, (int)flags->train_images,
                              (int)flags->val_images, SIDE, (uint64_t)flags->seed, err);
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    demo_flags flags = {
        .dir = "repqat-demo",
        .train_images = 600,
        .val_images = 200,
        .epochs = 18,
        .qat_epochs = 4,
        .seed = 1,
    };
    bool done;
    RQ_TRY(rq_command_options(self, table, sizeof table / sizeof table[0], argc, argv, &flags,
                              &done, err));
    if (done)
        return RQ_OK;
    RQ_TRY(make_images(&flags, err));
    rq_arena arena = RQ_ARENA_INIT;
    rq_status status = RQ_OK;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && !status; i++)
        status = run_step(steps[i], &flags, &arena, err);
    rq_arena_deinit(&arena);
    return status;
}

const rq_command rq_command_demo = {
    "demo", "the whole pipeline on a generated image set, the comparison table last", run};
