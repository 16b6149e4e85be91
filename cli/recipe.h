/* Published training recipes by name, as values of the training command's options. */
#ifndef RQ_CLI_RECIPE_H
#define RQ_CLI_RECIPE_H

#include "cli/loop_flags.h"

/* NONE              no recipe
 * REPVGG_120        RepVGG's first training script, for its light and middle models (arXiv
 *                   2101.03697, section 4.1): no warm-up, biases at twice the rate
 * REPVGG_PLUS_300   RepVGGplus, by the later script: trained at 256 pixels, tested at 320
 * REPOPT_120        the target training of RepOptimizer (arXiv 2205.15242)
 * HYPER_SEARCH      its search for scales, on CIFAR-100
 * CIFAR             a RepVGG of small images on one CPU */
typedef enum rq_recipe {
    RQ_RECIPE_NONE,
    RQ_RECIPE_REPVGG_120,
    RQ_RECIPE_REPVGG_PLUS_300,
    RQ_RECIPE_REPOPT_120,
    RQ_RECIPE_HYPER_SEARCH,
    RQ_RECIPE_CIFAR,
} rq_recipe;
extern const char *const rq_recipe_names[]; /* in this order, NULL at the end */

/* Write a recipe's values over the flags and leave the others as they are. */
void rq_recipe_apply(rq_recipe recipe, rq_loop_flags *flags);

#endif
