/* insert_bn from files to a file: statistics of training images (bn_recorder.h), batch norms
 * (insert_bn.h), proof that the function stayed the same (same_function.h). */
#ifndef RQ_CALIB_INSERT_BN_RUN_H
#define RQ_CALIB_INSERT_BN_RUN_H

#include "runtime/eval/augment.h"
#include "runtime/eval/data_options.h"
#include "runtime/eval/difference.h"
#include "runtime/eval/evaluate.h"
#include "runtime/eval/open_model.h"

typedef struct rq_insert_bn_options {
    rq_data_options data;
    rq_open_options open;
    const char *base, *out; /* files: a model or checkpoint in form deploy, and the result */
    int64_t batches;        /* of training images; 0: all */
    int64_t seed;           /* of order and augmentation */
    rq_augment_options augment;
    int stat; /* rq_stat_kind */
    bool shuffle;
} rq_insert_bn_options;

#define RQ_INSERT_BN_OPTIONS_INIT                                                                  \
    {                                                                                              \
        .data = RQ_DATA_OPTIONS_INIT, .augment = RQ_AUGMENT_OPTIONS_INIT, .shuffle = true          \
    }

typedef struct rq_insert_bn_result {
    size_t n_images; /* recorded */
    rq_difference difference;
    bool has_accuracy;         /* the folder has labelled validation images of these classes */
    rq_evaluation accuracy[2]; /* base, withbn */
} rq_insert_bn_result;

/* Nothing is written unless all succeeds. argc, argv: the command line that the file will hold.
 * Errors: RQ_ERR_USAGE (RQ_STAT_EMA with several ranks, a batch that ranks do not divide),
 * RQ_ERR_RANGE (the function would change), RQ_ERR_IMAGE (no image could be read), those of models,
 * data and sessions. */
RQ_NODISCARD rq_status rq_insert_bn_run(rq_insert_bn_result *out,
                                        const rq_insert_bn_options *options, int argc, char **argv,
                                        rq_error *err);

#endif
