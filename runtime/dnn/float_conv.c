/* The choice between oneDNN and Winograd for inference. */
#include "runtime/dnn/float_conv.h"

#include <assert.h>
#include <omp.h>
#include <string.h>

#include "runtime/dnn/dnn_conv.h"
#include "runtime/dnn/winograd.h"

enum { MIN_TILES = 49 }; /* of an image, for Winograd's */

struct rq_float_conv {
    rq_dnn *dnn;
    rq_dnn_conv *direct; /* NULL: by Winograd */
    rq_winograd winograd;
    rq_float_conv_options options;
    size_t n_bias;
    float *own;                 /* packed weights, then bias; NULL before they are set */
    const float *packed, *bias; /* these, or another convolution's */
};

/* Where tiles stick out, or weights serve few of them, the direct kernels lose little at large
 * batches and win at small ones. */
static bool prefers_winograd(const rq_conv_shape *shape)
{
    return rq_winograd_suits(shape, RQ_PRECISION_F32) && shape->ih % RQ_WINOGRAD_TILE == 0 &&
           shape->iw % RQ_WINOGRAD_TILE == 0 &&
           shape->ih / RQ_WINOGRAD_TILE * (shape->iw / RQ_WINOGRAD_TILE) >= MIN_TILES;
}

static rq_status create(rq_float_conv *conv, const rq_conv_shape *shape, rq_error *err)
{
    if (prefers_winograd(shape)) {
        rq_winograd_init(&conv->winograd, shape, RQ_PRECISION_F32, omp_get_max_threads());
        return rq_dnn_reserve_scratch(conv->dnn, rq_winograd_scratch_bytes(&conv->winograd), err);
    }
    const rq_dnn_conv_options options = {
        .types = RQ_DNN_F32, .bias = conv->options.bias, .relu = conv->options.relu};
    return rq_dnn_conv_create(&conv->direct, conv->dnn, shape, &options, err);
}

rq_status rq_float_conv_create(rq_float_conv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                               const rq_float_conv_options *options, rq_error *err)
{
    rq_float_conv *conv = rq_alloc(sizeof *conv);
    if (!conv)
        return rq_no_memory(err);
    conv->dnn = dnn;
    conv->options = *options;
    conv->n_bias = options->bias ? (size_t)shape->oc : 0;
    const rq_status status = create(conv, shape, err);
    if (status)
        rq_float_conv_destroy(conv);
    else
        *out = conv;
    return status;
}

void rq_float_conv_destroy(rq_float_conv *conv)
{
    if (!conv)
        return;
    rq_dnn_conv_destroy(conv->direct);
    rq_free(conv->own);
    rq_free(conv);
}

rq_status rq_float_conv_set_weights(rq_float_conv *conv, const float *wei, const float *bias,
                                    rq_error *err)
{
    if (conv->direct)
        return rq_dnn_conv_set_weights(conv->direct, wei, bias, err);
    assert(!conv->n_bias == !bias);
    const size_t n = rq_winograd_packed_size(&conv->winograd);
    if (!conv->own)
        conv->own = rq_alloc_array(float, n + conv->n_bias);
    if (!conv->own)
        return rq_no_memory(err);
    rq_winograd_pack(&conv->winograd, wei, conv->own);
    conv->packed = conv->own;
    if (conv->n_bias)
        conv->bias = memcpy(conv->own + n, bias, conv->n_bias * sizeof *bias);
    return RQ_OK;
}

bool rq_float_conv_share_weights(rq_float_conv *conv, const rq_float_conv *other)
{
    if (conv->direct && other->direct)
        return rq_dnn_conv_share_weights(conv->direct, other->direct);
    if (conv->direct || other->direct || !other->packed || conv->n_bias != other->n_bias)
        return false;
    conv->packed = other->packed;
    conv->bias = other->bias;
    return true;
}

rq_status rq_float_conv_run(rq_float_conv *conv, const float *src, float *dst, rq_error *err)
{
    if (conv->direct)
        return rq_dnn_conv_run(conv->direct, src, dst, err);
    assert(conv->packed);
    rq_winograd_infer(&conv->winograd, src, conv->packed, conv->bias, conv->options.relu, dst,
                      rq_dnn_scratch(conv->dnn));
    return RQ_OK;
}

size_t rq_float_conv_bytes(const rq_float_conv *conv)
{
    return conv->direct ? rq_dnn_conv_bytes(conv->direct)
                        : (rq_winograd_packed_size(&conv->winograd) + conv->n_bias) * sizeof(float);
}
