/* A convolution of training: three primitives, and the reorders of weights and their gradient. */
#include "runtime/dnn/dnn_train_conv.h"

#include <assert.h>
#include <string.h>

#include "runtime/dnn/primitive.h"

/* In bf16 the operands of the three convolutions are bf16 and their sums f32. */
struct rq_dnn_train_conv {
    rq_dnn *dnn;
    rq_primitive forward;          /* src, wei, dst */
    rq_primitive backward_data;    /* ddst, wei, dsrc */
    rq_primitive backward_weights; /* src, ddst, dwei */
    rq_primitive pack_forward, pack_backward, unpack_gradient;
    void *wei_forward, *wei_backward, *dwei; /* packed */
};

/* One description per convolution: they differ in what is bf16. */
typedef struct train_layouts {
    rq_conv_layouts forward, data, weights;
} train_layouts;

typedef struct train_descs {
    dnnl_primitive_desc_t forward, data, weights;
} train_descs;

static dnnl_status_t init_layouts(train_layouts *out, const rq_conv_shape *shape,
                                  const rq_dnn_train_options *options)
{
    const bool bf16 = options->precision == RQ_PRECISION_BF16;
    const dnnl_data_type_t operand = bf16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_data_type_t dsrc = options->bf16_dsrc ? dnnl_bf16 : dnnl_f32;
    DNNL_TRY(rq_conv_layouts_init(&out->forward, shape, operand, operand, dnnl_f32, dnnl_f32));
    DNNL_TRY(rq_conv_layouts_init(&out->data, shape, dsrc, operand, dnnl_f32, operand));
    return rq_conv_layouts_init(&out->weights, shape, operand, dnnl_f32, dnnl_f32, operand);
}

/* oneDNN 2.6.3's jit_1x1 backward-weights kernel, given an nhwc source, a stride and channels that
 * do not fill its blocks of 16, accesses memory outside its tensors (seen with 2 and 3 channels,
 * 64 x 64, stride 2). */
static bool is_unsafe(const_dnnl_primitive_desc_t desc, const rq_conv_shape *shape)
{
    const rq_conv_attr *a = &shape->conv;
    if (a->kernel[0] != 1 || a->kernel[1] != 1 || (a->stride[0] == 1 && a->stride[1] == 1) ||
        (shape->ic / a->groups) % 16 == 0)
        return false;
    return strstr(rq_primitive_desc_name(desc), "1x1") != NULL;
}

/* The first implementation that may be used. */
static dnnl_status_t create_weights_desc(dnnl_primitive_desc_t *out,
                                         const dnnl_convolution_desc_t *desc,
                                         const rq_conv_shape *shape, dnnl_engine_t engine,
                                         const_dnnl_primitive_desc_t forward)
{
    dnnl_primitive_desc_iterator_t iterator = NULL;
    dnnl_status_t status =
        dnnl_primitive_desc_iterator_create(&iterator, desc, NULL, engine, forward);
    while (!status) {
        *out = dnnl_primitive_desc_iterator_fetch(iterator);
        if (!*out || !is_unsafe(*out, shape))
            break;
        (void)dnnl_primitive_desc_destroy(*out);
        *out = NULL;
        status = dnnl_primitive_desc_iterator_next(iterator);
    }
    if (iterator)
        (void)dnnl_primitive_desc_iterator_destroy(iterator);
    if (status == dnnl_iterator_ends)
        return dnnl_unimplemented;
    return !status && !*out ? dnnl_out_of_memory : status;
}

/* The forward one is a hint for the others, and always made. */
static dnnl_status_t create_descs(train_descs *out, const train_layouts *layouts,
                                  const rq_conv_shape *shape, bool with_dsrc, dnnl_engine_t engine)
{
    const rq_conv_layouts *f = &layouts->forward, *d = &layouts->data, *w = &layouts->weights;
    dnnl_convolution_desc_t desc;
    DNNL_TRY(dnnl_dilated_convolution_forward_desc_init(
        &desc, dnnl_forward_training, dnnl_convolution_direct, &f->src, &f->wei, NULL, &f->dst,
        f->strides, f->dilates, f->pad_l, f->pad_r));
    DNNL_TRY(dnnl_primitive_desc_create(&out->forward, &desc, NULL, engine, NULL));
    if (with_dsrc) {
        DNNL_TRY(dnnl_dilated_convolution_backward_data_desc_init(
            &desc, dnnl_convolution_direct, &d->src, &d->wei, &d->dst, d->strides, d->dilates,
            d->pad_l, d->pad_r));
        DNNL_TRY(dnnl_primitive_desc_create(&out->data, &desc, NULL, engine, out->forward));
    }
    DNNL_TRY(dnnl_dilated_convolution_backward_weights_desc_init(
        &desc, dnnl_convolution_direct, &w->src, &w->wei, NULL, &w->dst, w->strides, w->dilates,
        w->pad_l, w->pad_r));
    return create_weights_desc(&out->weights, &desc, shape, engine, out->forward);
}

static void destroy_descs(const train_descs *descs)
{
    const dnnl_primitive_desc_t all[] = {descs->forward, descs->data, descs->weights};
    for (int i = 0; i < 3; i++)
        if (all[i])
            (void)dnnl_primitive_desc_destroy(all[i]);
}

/* plain: of weights and their gradient, f32. */
static dnnl_status_t init_primitives(rq_dnn_train_conv *conv, const train_descs *descs,
                                     const dnnl_memory_desc_t *plain,
                                     const rq_dnn_train_options *options)
{
    static const rq_primitive_arg forward[] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
                                               {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                                               {DNNL_ARG_DST, dnnl_query_dst_md, 0}};
    static const rq_primitive_arg data[] = {{DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0},
                                            {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                                            {DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, 0}};
    static const rq_primitive_arg weights[] = {
        {DNNL_ARG_SRC, dnnl_query_src_md, 0},
        {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0},
        {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, 0}};
    const dnnl_engine_t engine = conv->dnn->engine;
    if (options->with_forward) {
        DNNL_TRY(rq_primitive_init(&conv->forward, engine, descs->forward, forward, 3));
        DNNL_TRY(rq_primitive_init_reorder(
            &conv->pack_forward, engine, plain,
            dnnl_primitive_desc_query_md(descs->forward, dnnl_query_weights_md, 0)));
    }
    if (options->with_dsrc) {
        DNNL_TRY(rq_primitive_init(&conv->backward_data, engine, descs->data, data, 3));
        DNNL_TRY(rq_primitive_init_reorder(
            &conv->pack_backward, engine, plain,
            dnnl_primitive_desc_query_md(descs->data, dnnl_query_weights_md, 0)));
    }
    DNNL_TRY(rq_primitive_init(&conv->backward_weights, engine, descs->weights, weights, 3));
    return rq_primitive_init_reorder(
        &conv->unpack_gradient, engine,
        dnnl_primitive_desc_query_md(descs->weights, dnnl_query_diff_weights_md, 0), plain);
}

static rq_status allocate(rq_dnn_train_conv *conv, const train_descs *descs,
                          const rq_dnn_train_options *options, rq_error *err)
{
    if (options->with_forward) {
        conv->wei_forward =
            rq_alloc(rq_primitive_desc_bytes(descs->forward, dnnl_query_weights_md));
        if (!conv->wei_forward)
            return rq_no_memory(err);
        rq_primitive_set(&conv->pack_forward, 1, conv->wei_forward);
        rq_primitive_set(&conv->forward, 1, conv->wei_forward);
    }
    if (options->with_dsrc) {
        conv->wei_backward = rq_alloc(rq_primitive_desc_bytes(descs->data, dnnl_query_weights_md));
        if (!conv->wei_backward)
            return rq_no_memory(err);
        rq_primitive_set(&conv->pack_backward, 1, conv->wei_backward);
        rq_primitive_set(&conv->backward_data, 1, conv->wei_backward);
    }
    conv->dwei = rq_alloc(rq_primitive_desc_bytes(descs->weights, dnnl_query_diff_weights_md));
    if (!conv->dwei)
        return rq_no_memory(err);
    rq_primitive_set(&conv->backward_weights, 2, conv->dwei);
    rq_primitive_set(&conv->unpack_gradient, 0, conv->dwei);
    return RQ_OK;
}

static rq_status init_conv(rq_dnn_train_conv *conv, train_descs *descs, const rq_conv_shape *shape,
                           const rq_dnn_train_options *options, rq_error *err)
{
    const bool bf16 = options->precision == RQ_PRECISION_BF16;
    train_layouts layouts;
    dnnl_status_t status;
    if ((status = init_layouts(&layouts, shape, options)) ||
        (status = create_descs(descs, &layouts, shape, options->with_dsrc, conv->dnn->engine)) ||
        (status = init_primitives(conv, descs, &layouts.weights.wei_plain, options)))
        return rq_dnnl_fail_conv(err, status, shape,
                                 bf16 ? "bf16 training convolution" : "training convolution");
    return allocate(conv, descs, options, err);
}

rq_status rq_dnn_train_conv_create(rq_dnn_train_conv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                                   const rq_dnn_train_options *options, rq_error *err)
{
    assert(!options->bf16_dsrc || options->precision == RQ_PRECISION_BF16);
    train_descs descs = {NULL, NULL, NULL};
    rq_dnn_train_conv *conv = rq_alloc(sizeof *conv);
    if (!conv)
        return rq_no_memory(err);
    conv->dnn = dnn;
    const rq_status status = init_conv(conv, &descs, shape, options, err);
    destroy_descs(&descs);
    if (status)
        rq_dnn_train_conv_destroy(conv);
    else
        *out = conv;
    return status;
}

void rq_dnn_train_conv_destroy(rq_dnn_train_conv *conv)
{
    if (!conv)
        return;
    rq_primitive *const all[] = {&conv->forward,      &conv->backward_data, &conv->backward_weights,
                                 &conv->pack_forward, &conv->pack_backward, &conv->unpack_gradient};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        rq_primitive_deinit(all[i]);
    rq_free(conv->wei_forward);
    rq_free(conv->wei_backward);
    rq_free(conv->dwei);
    rq_free(conv);
}

rq_status rq_dnn_train_conv_set_weights(rq_dnn_train_conv *conv, const float *wei, rq_error *err)
{
    if (conv->wei_forward) {
        rq_primitive_set(&conv->pack_forward, 0, wei);
        RQ_TRY(rq_primitive_run(&conv->pack_forward, conv->dnn, "packing weights", err));
    }
    if (conv->wei_backward) {
        rq_primitive_set(&conv->pack_backward, 0, wei);
        RQ_TRY(rq_primitive_run(&conv->pack_backward, conv->dnn, "packing weights", err));
    }
    return RQ_OK;
}

rq_status rq_dnn_train_conv_forward(rq_dnn_train_conv *conv, const void *src, float *dst,
                                    rq_error *err)
{
    assert(conv->wei_forward);
    rq_primitive_set(&conv->forward, 0, src);
    rq_primitive_set(&conv->forward, 2, dst);
    return rq_primitive_run(&conv->forward, conv->dnn, "convolution", err);
}

rq_status rq_dnn_train_conv_backward(rq_dnn_train_conv *conv, const void *src, const void *ddst,
                                     float *dwei, void *dsrc, rq_error *err)
{
    assert(!dsrc || conv->wei_backward);
    rq_primitive_set(&conv->backward_weights, 0, src);
    rq_primitive_set(&conv->backward_weights, 1, ddst);
    RQ_TRY(rq_primitive_run(&conv->backward_weights, conv->dnn, "gradient of weights", err));
    rq_primitive_set(&conv->unpack_gradient, 1, dwei);
    RQ_TRY(rq_primitive_run(&conv->unpack_gradient, conv->dnn, "unpacking the gradient", err));
    if (!dsrc)
        return RQ_OK;
    rq_primitive_set(&conv->backward_data, 0, ddst);
    rq_primitive_set(&conv->backward_data, 2, dsrc);
    return rq_primitive_run(&conv->backward_data, conv->dnn, "gradient of the source", err);
}
