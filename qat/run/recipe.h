/* Training recipes by name: options of train_options.h, as they would be typed. */
#ifndef RQ_QAT_RUN_RECIPE_H
#define RQ_QAT_RUN_RECIPE_H

/* none             no recipe
 * repvgg-120       RepVGG's first training script, for its light and middle models (arXiv
 *                  2101.03697, section 4.1): no warm-up, biases at twice the rate
 * repvgg-plus-300  RepVGGplus, by the later script: trained at 256 pixels, tested at 320
 * repopt-120       the target training of RepOptimizer (arXiv 2205.15242)
 * hyper-search     its search for scales, on CIFAR-100
 * cifar            a RepVGG of small images on one CPU */
typedef enum rq_recipe {
    RQ_RECIPE_NONE,
    RQ_RECIPE_REPVGG_120,
    RQ_RECIPE_REPVGG_PLUS_300,
    RQ_RECIPE_REPOPT_120,
    RQ_RECIPE_HYPER_SEARCH,
    RQ_RECIPE_CIFAR,
} rq_recipe;

extern const char *const rq_recipe_names[]; /* in this order, NULL at the end */
extern const char *const rq_recipe_texts[]; /* for rq_train_options_read over the usual defaults */

#endif
