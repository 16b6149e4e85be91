/* Published training recipes by name, as values of the training command's options. */
#ifndef RQ_QAT_RECIPE_H
#define RQ_QAT_RECIPE_H

#include "qat/loop_flags.h"

/* none            no recipe
 * repvgg-120      RepVGG's first training script, for its light and middle models (arXiv
 * 2101.03697, section 4.1): no warm-up, biases at twice the rate repvgg-plus-300 RepVGGplus, by the
 * later script: trained at 256 pixels, tested at 320 repopt-120      the target training of
 * RepOptimizer (arXiv 2205.15242) hyper-search    its search for scales, on CIFAR-100 cifar a
 * RepVGG of small images on one CPU */
extern const char *const rq_recipe_names[]; /* in this order, NULL at the end */

/* Write a recipe's values over the flags and leave the others as they are. recipe: index into the
 * names. */
void rq_recipe_apply(int recipe, rq_loop_flags *flags);

#endif
