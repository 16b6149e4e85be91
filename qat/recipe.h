/* Published training recipes by name, as values of the training commands' options. */
#ifndef RQ_QAT_RECIPE_H
#define RQ_QAT_RECIPE_H

#include "qat/loop_flags.h"

/* none, then:
 *   repvgg-120       RepVGG's first training script, for the light and middle models (RepVGG, arXiv
 *                    2101.03697, 4.1): cosine without warm-up, biases at twice the rate
 *   repvgg-plus-300  RepVGGplus-L2pse, by RepVGG's later script: trained at 256, tested at 320
 *   repopt-120       the target training of RepOptimizer (arXiv 2205.15242, 4.1)
 *   hyper-search     its search on CIFAR-100
 *   cifar            small images, one CPU */
extern const char *const rq_recipe_names[]; /* NULL at the end */

/* How the model's own validation goes with a recipe; 0: as its training resolution has it. */
typedef struct rq_recipe_test {
    int64_t resolution, resize; /* crop, and short side before it, in pixels */
} rq_recipe_test;

/* Write a recipe's values over the flags; those that it does not speak of stay. recipe: index into
 * the names. Errors: RQ_ERR_UNSUPPORTED (it needs what this program cannot do). */
RQ_NODISCARD rq_status rq_recipe_apply(int recipe, rq_loop_flags *flags, rq_recipe_test *test,
                                       rq_error *err);

#endif
