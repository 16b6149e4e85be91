/* The table: a row per recipe, a column per value. */
#include "cli/recipe.h"

const char *const rq_recipe_names[] = {
    "none", "repvgg-120", "repvgg-plus-300", "repopt-120", "hyper-search", "cifar", NULL};

typedef struct recipe {
    int64_t epochs, batch;
    int64_t resolution, val_resolution, val_resize; /* 0: the usual */
    double lr;                                      /* for batches of 256 where scale_lr */
    double warmup_epochs, weight_decay, bias_lr;
    double label_smoothing, mixup, clip_grad;
    rq_schedule_kind schedule;
    rq_augment augment;
    bool scale_lr, nesterov, decay_identity;
} recipe;

#define COSINE   RQ_SCHEDULE_COSINE
#define TIMM     RQ_SCHEDULE_TIMM
#define WEAK     RQ_AUGMENT_WEAK
#define RAUG15   RQ_AUGMENT_RAUG15
#define PAD_CROP RQ_AUGMENT_PAD_CROP

/* clang-format off */
static const recipe recipes[] = {
/*   epochs batch  side  val short   lr  warm  decay bias  smooth mixup clip  schedule augment   scaled nesterov identity */
    {0},
    {   120,  256,    0,    0,    0, 0.1,   0,  1e-4,   2,  0.0,  0.0,  0.0,  COSINE,  WEAK,     true,  false,   true},
    {   300,  256,  256,  320,  320, 0.1,   5,  4e-5,   1,  0.1,  0.2,  0.0,  TIMM,    RAUG15,   true,  true,    true},
    {   120,  256,    0,    0,    0, 0.1,   5,  4e-5,   1,  0.1,  0.0,  0.0,  TIMM,    RAUG15,   true,  true,    true},
    {   240,  256,   32,    0,    0, 0.1,  10,  4e-5,   1,  0.1,  0.0,  5.0,  TIMM,    PAD_CROP, true,  true,    true},
    {    60,   64,   32,    0,    0, 0.1,   1,  5e-4,   1,  0.1,  0.0,  0.0,  COSINE,  PAD_CROP, false, true,    false},
};
/* clang-format on */

_Static_assert(sizeof recipes / sizeof recipes[0] + 1 ==
                   sizeof rq_recipe_names / sizeof rq_recipe_names[0],
               "a row for every name");

void rq_recipe_apply(rq_recipe index, rq_loop_flags *flags)
{
    const recipe *r = &recipes[index];
    if (index == RQ_RECIPE_NONE)
        return;
    flags->epochs = r->epochs;
    flags->batch = r->batch;
    flags->resolution = r->resolution;
    flags->val_resolution = r->val_resolution;
    flags->val_resize = r->val_resize;
    flags->lr = r->lr;
    flags->scale_lr = r->scale_lr;
    flags->schedule = r->schedule;
    flags->warmup_epochs = r->warmup_epochs;
    flags->weight_decay = r->weight_decay;
    flags->bias_lr = r->bias_lr;
    flags->momentum = 0.9;
    flags->nesterov = r->nesterov;
    flags->decay_identity = r->decay_identity;
    flags->label_smoothing = r->label_smoothing;
    flags->mixup = r->mixup;
    flags->clip_grad = r->clip_grad;
    flags->augment.kind = r->augment;
    flags->optimizer = RQ_OPTIMIZER_SGD;
}
