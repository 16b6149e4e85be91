/* A convolution of inference: its primitive, and the reorder that packs its weights. */
#include "runtime/dnn/dnn_conv.h"

#include <assert.h>
#include <string.h>

#include "runtime/dnn/primitive.h"

struct rq_dnn_conv {
    rq_dnn *dnn;
    rq_primitive conv; /* SRC, WEI, DST, with a bias BIAS */
    rq_primitive pack; /* plain -> packed */
    void *wei,
        *bias; /* in the dnn's arena; NULL before they are set, and where they are another's */
    size_t wei_bytes, bias_bytes;
    bool is_reference;
};

enum { SRC, WEI, DST, BIAS }; /* arguments of conv */

static dnnl_status_t append_relu(dnnl_primitive_attr_t attr)
{
    dnnl_post_ops_t ops = NULL;
    DNNL_TRY(dnnl_post_ops_create(&ops));
    dnnl_status_t status;
    if ((status = dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f)))
        goto out;
    status = dnnl_primitive_attr_set_post_ops(attr, ops);
out:
    (void)dnnl_post_ops_destroy(ops);
    return status;
}

static dnnl_status_t set_attr(dnnl_primitive_attr_t attr, const rq_conv_shape *shape,
                              const rq_dnn_conv_options *options)
{
    if (options->scale)
        DNNL_TRY(dnnl_primitive_attr_set_output_scales(attr, shape->oc, 1 << 1, options->scale));
    return options->relu ? append_relu(attr) : dnnl_success;
}

static dnnl_status_t create_desc(dnnl_primitive_desc_t *created, const rq_conv_layouts *layouts,
                                 const rq_conv_shape *shape, const rq_dnn_conv_options *options,
                                 dnnl_engine_t engine)
{
    const rq_conv_layouts *l = layouts;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_convolution_desc_t desc;
    DNNL_TRY(dnnl_dilated_convolution_forward_desc_init(
        &desc, dnnl_forward_inference, dnnl_convolution_direct, &l->src, &l->wei,
        options->bias ? &l->bias : NULL, &l->dst, l->strides, l->dilates, l->pad_l, l->pad_r));
    DNNL_TRY(dnnl_primitive_attr_create(&attr));
    dnnl_status_t status;
    if ((status = set_attr(attr, shape, options)))
        goto out;
    status = dnnl_primitive_desc_create(created, &desc, attr, engine, NULL);
out:
    (void)dnnl_primitive_attr_destroy(attr);
    return status;
}

/* What conv computes with, of the descriptor. */
static dnnl_status_t init_primitives(rq_dnn_conv *conv, const_dnnl_primitive_desc_t desc,
                                     const dnnl_memory_desc_t *wei_plain, bool bias)
{
    static const rq_primitive_arg args[] = {[SRC] = {DNNL_ARG_SRC, dnnl_query_src_md, 0},
                                            [WEI] = {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                                            [DST] = {DNNL_ARG_DST, dnnl_query_dst_md, 0},
                                            [BIAS] = {DNNL_ARG_BIAS, dnnl_query_weights_md, 1}};
    const dnnl_engine_t engine = conv->dnn->engine;
    conv->is_reference = strncmp(rq_primitive_desc_name(desc), "ref", 3) == 0;
    conv->wei_bytes = rq_primitive_desc_bytes(desc, dnnl_query_weights_md);
    DNNL_TRY(rq_primitive_init(&conv->conv, engine, desc, args, bias ? 4 : 3));
    return rq_primitive_init_reorder(&conv->pack, engine, wei_plain,
                                     dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0));
}

static dnnl_status_t init_conv(rq_dnn_conv *conv, const rq_conv_shape *shape,
                               const rq_dnn_conv_options *options)
{
    static const struct {
        dnnl_data_type_t src, wei, bias, dst;
    } types[] = {
        [RQ_DNN_F32] = {dnnl_f32, dnnl_f32, dnnl_f32, dnnl_f32},
        [RQ_DNN_U8_U8] = {dnnl_u8, dnnl_s8, dnnl_s32, dnnl_u8},
        [RQ_DNN_U8_F32] = {dnnl_u8, dnnl_s8, dnnl_s32, dnnl_f32},
        [RQ_DNN_U8_S32] = {dnnl_u8, dnnl_s8, dnnl_s32, dnnl_s32},
    };
    const rq_dnn_types t = options->types;
    rq_conv_layouts layouts;
    dnnl_primitive_desc_t desc = NULL;
    DNNL_TRY(rq_conv_layouts_init(&layouts, shape, types[t].src, types[t].wei, types[t].bias,
                                  types[t].dst));
    DNNL_TRY(create_desc(&desc, &layouts, shape, options, conv->dnn->engine));
    const dnnl_status_t status = init_primitives(conv, desc, &layouts.wei_plain, options->bias);
    (void)dnnl_primitive_desc_destroy(desc);
    return status;
}

rq_status rq_dnn_conv_create(rq_dnn_conv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                             const rq_dnn_conv_options *options, rq_error *err)
{
    assert(!options->relu || options->types == RQ_DNN_F32);
    rq_dnn_conv *conv = rq_alloc(sizeof *conv);
    if (!conv)
        return rq_no_memory(err);
    conv->dnn = dnn;
    conv->bias_bytes = options->bias ? (size_t)shape->oc * 4 : 0; /* f32 or s32 */
    const dnnl_status_t status = init_conv(conv, shape, options);
    if (status) {
        rq_dnn_conv_destroy(conv);
        return rq_dnnl_fail_conv(err, status, shape, "convolution");
    }
    *out = conv;
    return RQ_OK;
}

void rq_dnn_conv_destroy(rq_dnn_conv *conv)
{
    if (!conv)
        return;
    rq_primitive_deinit(&conv->conv);
    rq_primitive_deinit(&conv->pack);
    rq_free(conv);
}

static rq_status allocate_weights(rq_dnn_conv *conv, rq_error *err)
{
    conv->wei = rq_arena_alloc(&conv->dnn->weights, conv->wei_bytes);
    conv->bias = rq_arena_alloc(&conv->dnn->weights, conv->bias_bytes);
    return conv->wei && conv->bias ? RQ_OK : rq_no_memory(err);
}

rq_status rq_dnn_conv_set_weights(rq_dnn_conv *conv, const void *wei, const void *bias,
                                  rq_error *err)
{
    assert(!conv->bias_bytes == !bias);
    if (!conv->wei)
        RQ_TRY(allocate_weights(conv, err));
    rq_primitive_set(&conv->pack, 0, wei);
    rq_primitive_set(&conv->pack, 1, conv->wei);
    RQ_TRY(rq_primitive_run(&conv->pack, conv->dnn, "packing weights", err));
    rq_primitive_set(&conv->conv, WEI, conv->wei);
    if (conv->bias_bytes) {
        memcpy(conv->bias, bias, conv->bias_bytes);
        rq_primitive_set(&conv->conv, BIAS, conv->bias);
    }
    return RQ_OK;
}

static bool copy_data(rq_primitive *to, const rq_primitive *from, int i)
{
    void *data = NULL;
    if (dnnl_memory_get_data_handle(from->args[i].memory, &data))
        return false;
    rq_primitive_set(to, i, data);
    return true;
}

bool rq_dnn_conv_share_weights(rq_dnn_conv *conv, const rq_dnn_conv *other)
{
    const dnnl_memory_desc_t *mine, *theirs;
    if (!other->wei || conv->bias_bytes != other->bias_bytes ||
        dnnl_memory_get_memory_desc(conv->conv.args[WEI].memory, &mine) ||
        dnnl_memory_get_memory_desc(other->conv.args[WEI].memory, &theirs) ||
        !dnnl_memory_desc_equal(mine, theirs))
        return false;
    return copy_data(&conv->conv, &other->conv, WEI) &&
           (!conv->bias_bytes || copy_data(&conv->conv, &other->conv, BIAS));
}

rq_status rq_dnn_conv_run(rq_dnn_conv *conv, const void *src, void *dst, rq_error *err)
{
    rq_primitive_set(&conv->conv, SRC, src);
    rq_primitive_set(&conv->conv, DST, dst);
    return rq_primitive_run(&conv->conv, conv->dnn, "convolution", err);
}

size_t rq_dnn_conv_bytes(const rq_dnn_conv *conv)
{
    return conv->wei_bytes + conv->bias_bytes;
}

bool rq_dnn_conv_is_reference(const rq_dnn_conv *conv)
{
    return conv->is_reference;
}
