/* The texts. */
#include "qat/run/recipe.h"

#include <stddef.h>

const char *const rq_recipe_names[] = {
    "none", "repvgg-120", "repvgg-plus-300", "repopt-120", "hyper-search", "cifar", NULL};

const char *const rq_recipe_texts[] = {
    [RQ_RECIPE_NONE] = "",
    [RQ_RECIPE_REPVGG_120] = "--epochs 120 -b 256 --lr 0.1 --scale-lr --weight-decay 1e-4 "
                             "--decay-identity --bias-lr 2 --augment weak",
    [RQ_RECIPE_REPVGG_PLUS_300] =
        "--epochs 300 -b 256 -r 256 --val-resolution 320 --val-resize 320 --lr 0.1 --scale-lr "
        "--schedule timm --warmup-epochs 5 --nesterov --weight-decay 4e-5 --decay-identity "
        "--label-smoothing 0.1 --mixup 0.2 --augment raug15",
    [RQ_RECIPE_REPOPT_120] =
        "--epochs 120 -b 256 --lr 0.1 --scale-lr --schedule timm --warmup-epochs 5 --nesterov "
        "--weight-decay 4e-5 --decay-identity --label-smoothing 0.1 --augment raug15",
    [RQ_RECIPE_HYPER_SEARCH] =
        "--epochs 240 -b 256 -r 32 --lr 0.1 --scale-lr --schedule timm --warmup-epochs 10 "
        "--nesterov --weight-decay 4e-5 --decay-identity --clip-grad 5 --label-smoothing 0.1 "
        "--augment pad-crop",
    [RQ_RECIPE_CIFAR] =
        "--epochs 60 -b 64 -r 32 --lr 0.1 --warmup-epochs 1 --nesterov --weight-decay 5e-4 "
        "--label-smoothing 0.1 --augment pad-crop",
};
