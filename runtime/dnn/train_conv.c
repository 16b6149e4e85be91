#include "runtime/dnn/train_conv.h"

#include <omp.h>

#include "runtime/base/memory.h"
#include "runtime/dnn/winograd.h"

struct rq_train_conv {
    rq_dnn *dnn;
    rq_dnn_train_conv *direct; /* NULL: nothing is left to it */
    bool by_winograd;          /* backward, and forward without direct */
    rq_winograd winograd;
};

rq_status rq_train_conv_create(rq_train_conv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                               const rq_train_conv_options *options, rq_error *err)
{
    rq_train_conv *conv = rq_alloc(sizeof *conv);
    if (!conv)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    conv->dnn = dnn;
    conv->by_winograd = options->precision == RQ_PRECISION_F32 && rq_winograd_suits(shape);
    rq_status status = RQ_OK;
    if (conv->by_winograd) {
        rq_winograd_init(&conv->winograd, shape, omp_get_max_threads());
        status = rq_dnn_reserve_scratch(dnn, rq_winograd_scratch_bytes(&conv->winograd), err);
    }
    if (status == RQ_OK && (!conv->by_winograd || options->exact_forward))
        status = rq_dnn_train_conv_create(&conv->direct, dnn, shape, options->precision,
                                          options->with_dsrc && !conv->by_winograd, err);
    if (status == RQ_OK)
        *out = conv;
    else
        rq_train_conv_destroy(conv);
    return status;
}

void rq_train_conv_destroy(rq_train_conv *conv)
{
    if (conv)
        rq_dnn_train_conv_destroy(conv->direct);
    rq_free(conv);
}

rq_status rq_train_conv_forward(rq_train_conv *conv, const float *src, const float *wei, float *dst,
                                rq_error *err)
{
    if (!conv->direct) {
        rq_winograd_forward(&conv->winograd, src, wei, dst, rq_dnn_scratch(conv->dnn));
        return RQ_OK;
    }
    const rq_status status = rq_dnn_train_conv_set_weights(conv->direct, wei, err);
    return status == RQ_OK ? rq_dnn_train_conv_forward(conv->direct, src, dst, err) : status;
}

rq_status rq_train_conv_backward(rq_train_conv *conv, const float *src, const float *wei,
                                 const float *ddst, float *dwei, float *dsrc, rq_error *err)
{
    if (!conv->by_winograd)
        return rq_dnn_train_conv_backward(conv->direct, src, ddst, dwei, dsrc, err);
    rq_winograd_backward_weights(&conv->winograd, src, ddst, dwei, rq_dnn_scratch(conv->dnn));
    if (dsrc)
        rq_winograd_backward_data(&conv->winograd, ddst, wei, dsrc, rq_dnn_scratch(conv->dnn));
    return RQ_OK;
}
