/* The choice between oneDNN, Winograd and u8 x s8 for training, and the conversions between them. */
#include "runtime/dnn/train_conv.h"

#include <omp.h>

#include "runtime/base/bf16.h"
#include "runtime/base/memory.h"
#include "runtime/base/simd.h"
#include "runtime/dnn/dnn_conv.h"
#include "runtime/dnn/dnn_train_conv.h"
#include "runtime/dnn/winograd.h"

struct rq_train_conv {
    rq_dnn *dnn;
    rq_dnn_conv *integer;      /* forward in u8 x s8, or NULL */
    int8_t *wei;               /* its weights */
    rq_dnn_train_conv *direct; /* NULL: nothing is left to it */
    rq_precision precision;
    bool bf16_dsrc;
    bool by_winograd; /* backward, and forward without the two above */
    rq_winograd winograd;
    size_t winograd_bytes; /* at the scratch's beginning; the widened source follows */
    size_t n_src, n_wei;
};

rq_precision rq_train_conv_precision(const rq_conv_shape *shape, rq_precision wanted)
{
    enum { NARROW = 4 };
    const bool is_narrow = shape->conv.kernel[1] > 1 && shape->ow < NARROW;
    return is_narrow ? RQ_PRECISION_F32 : wanted;
}

/* Leave conv->integer NULL where oneDNN has no such kernel, or a slow one. */
static rq_status create_integer(rq_train_conv *conv, const rq_conv_shape *shape, rq_error *err)
{
    const rq_dnn_conv_options options = {.types = RQ_DNN_U8_F32};
    rq_error reason = RQ_ERROR_INIT;
    if (rq_dnn_u8s8_may_saturate())
        return RQ_OK;
    const rq_status status =
        rq_dnn_conv_create(&conv->integer, conv->dnn, shape, &options, &reason);
    if (status == RQ_ERR_NOMEM)
        return rq_fail(err, status, "%s", reason.text);
    if (status || rq_dnn_conv_is_reference(conv->integer)) {
        rq_dnn_conv_destroy(conv->integer);
        conv->integer = NULL;
        return RQ_OK;
    }
    conv->n_wei = (size_t)(shape->oc * (shape->ic / shape->conv.groups) * shape->conv.kernel[0] *
                           shape->conv.kernel[1]);
    conv->wei = rq_alloc_array(int8_t, conv->n_wei);
    return conv->wei ? RQ_OK : rq_no_memory(err);
}

/* Backward reads bytes, and oneDNN bf16? */
static bool widens(const rq_train_conv *conv)
{
    return conv->integer && conv->precision == RQ_PRECISION_BF16;
}

static rq_status create(rq_train_conv *conv, const rq_conv_shape *shape,
                        const rq_train_conv_options *options, rq_error *err)
{
    if (options->exact_forward && options->u8_source)
        RQ_TRY(create_integer(conv, shape, err));
    conv->bf16_dsrc = options->bf16_dsrc;
    conv->by_winograd = rq_winograd_suits(shape, options->precision);
    if (conv->by_winograd) {
        rq_winograd_init(&conv->winograd, shape, options->precision, omp_get_max_threads());
        conv->winograd_bytes = rq_winograd_scratch_bytes(&conv->winograd);
    }
    conv->n_src = (size_t)(shape->n * shape->ih * shape->iw * shape->ic);
    RQ_TRY(rq_dnn_reserve_scratch(
        conv->dnn, conv->winograd_bytes + (widens(conv) ? conv->n_src * sizeof(uint16_t) : 0),
        err));
    const bool forward = !conv->integer && (options->exact_forward || !conv->by_winograd);
    if (conv->by_winograd && !forward)
        return RQ_OK;
    const rq_dnn_train_options direct = {.precision = options->precision,
                                         .with_forward = forward,
                                         .with_dsrc = options->with_dsrc && !conv->by_winograd,
                                         .bf16_dsrc = options->bf16_dsrc};
    return rq_dnn_train_conv_create(&conv->direct, conv->dnn, shape, &direct, err);
}

rq_status rq_train_conv_create(rq_train_conv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                               const rq_train_conv_options *options, rq_error *err)
{
    rq_train_conv *conv = rq_alloc(sizeof *conv);
    if (!conv)
        return rq_no_memory(err);
    conv->dnn = dnn;
    conv->precision = options->precision;
    const rq_status status = create(conv, shape, options, err);
    if (status)
        rq_train_conv_destroy(conv);
    else
        *out = conv;
    return status;
}

bool rq_train_conv_reads_u8(const rq_train_conv *conv)
{
    return conv->integer != NULL;
}

bool rq_train_conv_reads_bf16(const rq_train_conv *conv)
{
    return conv->precision == RQ_PRECISION_BF16 && !conv->integer;
}

bool rq_train_conv_reads_f32(const rq_train_conv *conv)
{
    return conv->precision == RQ_PRECISION_F32;
}

void rq_train_conv_destroy(rq_train_conv *conv)
{
    if (!conv)
        return;
    rq_dnn_conv_destroy(conv->integer);
    rq_dnn_train_conv_destroy(conv->direct);
    rq_free(conv->wei);
    rq_free(conv);
}

/* ---- integers ---- */

RQ_SIMD static void to_s8(int8_t *restrict out, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (int8_t)(int32_t)x[i];
}

/* Exact: integers up to 256. */
RQ_SIMD static void to_bf16(uint16_t *restrict out, const uint8_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = rq_to_bf16((float)x[i]);
}

enum { CHUNK = 16384 }; /* numbers that a thread converts at a time */

static rq_status forward_integer(rq_train_conv *conv, const uint8_t *src, const float *wei,
                                 float *dst, rq_error *err)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < conv->n_wei; i += CHUNK)
        to_s8(conv->wei + i, wei + i, conv->n_wei - i < CHUNK ? conv->n_wei - i : CHUNK);
    RQ_TRY(rq_dnn_conv_set_weights(conv->integer, conv->wei, NULL, err));
    return rq_dnn_conv_run(conv->integer, src, dst, err);
}

/* oneDNN's reorder takes four times as long. */
static const void *widened(const rq_train_conv *conv, const uint8_t *src)
{
    uint16_t *wide = (void *)((char *)rq_dnn_scratch(conv->dnn) + conv->winograd_bytes);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < conv->n_src; i += CHUNK)
        to_bf16(wide + i, src + i, conv->n_src - i < CHUNK ? conv->n_src - i : CHUNK);
    return wide;
}

/* As oneDNN's kernels, or Winograd's, read it. */
static const void *operand(const rq_train_conv *conv, rq_train_source src)
{
    if (widens(conv))
        return widened(conv, src.u8);
    return conv->precision == RQ_PRECISION_BF16 ? (const void *)src.bf16 : (const void *)src.f32;
}

/* ---- a step ---- */

rq_status rq_train_conv_forward(rq_train_conv *conv, rq_train_source src, const float *wei,
                                float *dst, rq_error *err)
{
    if (conv->integer)
        return forward_integer(conv, src.u8, wei, dst, err);
    if (!conv->direct) {
        rq_winograd_forward(&conv->winograd, operand(conv, src), wei, dst,
                            rq_dnn_scratch(conv->dnn));
        return RQ_OK;
    }
    RQ_TRY(rq_dnn_train_conv_set_weights(conv->direct, wei, err));
    return rq_dnn_train_conv_forward(conv->direct, operand(conv, src), dst, err);
}

static rq_status backward_direct(rq_train_conv *conv, rq_train_source src, const float *wei,
                                 const void *ddst, float *dwei, void *dsrc, rq_error *err)
{
    if (conv->integer) /* else forward has set them */
        RQ_TRY(rq_dnn_train_conv_set_weights(conv->direct, wei, err));
    return rq_dnn_train_conv_backward(conv->direct, operand(conv, src), ddst, dwei, dsrc, err);
}

rq_status rq_train_conv_backward(rq_train_conv *conv, rq_train_source src, const float *wei,
                                 const void *ddst, float *dwei, void *dsrc, rq_error *err)
{
    if (!conv->by_winograd)
        return backward_direct(conv, src, wei, ddst, dwei, dsrc, err);
    void *scratch = rq_dnn_scratch(conv->dnn);
    rq_winograd_backward_weights(&conv->winograd, operand(conv, src), ddst, dwei, scratch);
    if (dsrc)
        rq_winograd_backward_data(&conv->winograd, ddst, wei, dsrc, conv->bf16_dsrc, scratch);
    return RQ_OK;
}
