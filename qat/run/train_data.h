/* The images of a training run, and the loaders over them. */
#ifndef RQ_QAT_RUN_TRAIN_DATA_H
#define RQ_QAT_RUN_TRAIN_DATA_H

#include "qat/run/train_options.h"

/* Zero-initialise. */
typedef struct rq_train_data {
    rq_dataset train_set, val_set;
    rq_loader *train;
    rq_loader *val; /* NULL: there are no validation images */
} rq_train_data;

/* The model gets the folder's class names if it has none. Errors: RQ_ERR_MODEL (other classes than
 * the model's), RQ_ERR_USAGE (fewer images than a batch, a batch that the processes cannot share),
 * and those of datasets, transforms and loaders. To be closed in any case. */
RQ_NODISCARD rq_status rq_train_data_open(rq_train_data *data, rq_model *model,
                                          const rq_train_options *options, rq_error *err);
void rq_train_data_close(rq_train_data *data);

#endif
