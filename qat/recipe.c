/* The table: one row per recipe. */
#include "qat/recipe.h"

#define NAMES(X)                                                                                   \
    X(none) X(repvgg_120) X(repvgg_plus_300) X(repopt_120) X(hyper_search) X(cifar)
