/* The model that a training run starts from: new, or with the weights of a file. */
#ifndef RQ_QAT_RUN_START_MODEL_H
#define RQ_QAT_RUN_START_MODEL_H

#include "runtime/model/model.h"

typedef struct rq_start_options {
    const char *arch; /* name or description; NULL: that of the model file init */
    const char
        *init;     /* model file in form train, checkpoint of PyTorch or safetensors; NULL: none */
    int n_classes; /* 0: as arch says, else as the folder of images has */
    const char *dir; /* of images */
    uint64_t seed;
} rq_start_options;

/* In training form, initialised from seed. With init, all parameters are the file's, by name and
 * strictly (torch/load.h), but for a head of other classes; a model file gives its preprocessing
 * too, and its class names are forgotten. *out is owned by the caller. Errors: RQ_ERR_USAGE (no
 * architecture, an unknown one), and those of datasets, rq_open_model and rq_model_fill. */
RQ_NODISCARD rq_status rq_start_model(rq_model *out, const rq_start_options *options,
                                      rq_error *err);

#endif
