/* oneDNN 2.6's v2 API: descriptors, memory objects, execute calls. */
#include "runtime/dnn/primitive.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

atomic_size_t rq_primitive_count;

rq_status rq_dnnl_fail(rq_error *err, dnnl_status_t status, const char *what)
{
    switch (status) {
    case dnnl_out_of_memory:
        return rq_fail(err, RQ_ERR_NOMEM, "oneDNN: %s: out of memory", what);
    case dnnl_unimplemented:
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "oneDNN: %s: no kernel for this problem", what);
    default:
        return rq_fail(err, RQ_ERR_ARG, "oneDNN: %s: status %d", what, (int)status);
    }
}

rq_status rq_dnnl_fail_conv(rq_error *err, dnnl_status_t status, const rq_conv_shape *s,
                            const char *what)
{
    char problem[160];
    (void)snprintf(problem, sizeof problem, "%s mb%ldg%dic%ldih%ldiw%ldoc%ldkh%dkw%dsh%dph%ddh%d",
                   what, (long)s->n, s->conv.groups, (long)s->ic, (long)s->ih, (long)s->iw,
                   (long)s->oc, s->conv.kernel[0], s->conv.kernel[1], s->conv.stride[0],
                   s->conv.pad[0], s->conv.dilation[0] - 1);
    return rq_dnnl_fail(err, status, problem);
}

/* ---- primitives ---- */

dnnl_status_t rq_primitive_init(rq_primitive *out, dnnl_engine_t engine,
                                const_dnnl_primitive_desc_t desc, const rq_primitive_arg *args,
                                int n_args)
{
    assert(n_args <= RQ_PRIMITIVE_MAX_ARGS);
    atomic_fetch_add(&rq_primitive_count, 1);
    DNNL_TRY(dnnl_primitive_create(&out->primitive, desc));
    for (int i = 0; i < n_args; i++) {
        const dnnl_memory_desc_t *layout =
            dnnl_primitive_desc_query_md(desc, args[i].query, args[i].index);
        out->args[i].arg = args[i].arg;
        DNNL_TRY(dnnl_memory_create(&out->args[i].memory, layout, engine, DNNL_MEMORY_NONE));
        out->n_args = i + 1;
    }
    return dnnl_success;
}

dnnl_status_t rq_primitive_init_reorder(rq_primitive *out, dnnl_engine_t engine,
                                        const dnnl_memory_desc_t *from,
                                        const dnnl_memory_desc_t *to)
{
    static const rq_primitive_arg args[] = {{DNNL_ARG_FROM, dnnl_query_src_md, 0},
                                            {DNNL_ARG_TO, dnnl_query_dst_md, 0}};
    dnnl_primitive_desc_t desc = NULL;
    DNNL_TRY(dnnl_reorder_primitive_desc_create(&desc, from, engine, to, engine, NULL));
    const dnnl_status_t status = rq_primitive_init(out, engine, desc, args, 2);
    (void)dnnl_primitive_desc_destroy(desc);
    return status;
}

void rq_primitive_deinit(rq_primitive *primitive)
{
    for (int i = 0; i < primitive->n_args; i++)
        (void)dnnl_memory_destroy(primitive->args[i].memory);
    if (primitive->primitive)
        (void)dnnl_primitive_destroy(primitive->primitive);
    *primitive = (rq_primitive){0};
}

/* oneDNN's handles are not const. */
void rq_primitive_set(rq_primitive *primitive, int i, const void *data)
{
    const union {
        const void *in;
        void *out;
    } handle = {data};
    assert(i < primitive->n_args);
    (void)dnnl_memory_set_data_handle(primitive->args[i].memory, handle.out);
}

rq_status rq_primitive_run(rq_primitive *primitive, const struct rq_dnn *dnn, const char *what,
                           rq_error *err)
{
    dnnl_status_t status;
    if ((status = dnnl_primitive_execute(primitive->primitive, dnn->stream, primitive->n_args,
                                         primitive->args)) ||
        (status = dnnl_stream_wait(dnn->stream)))
        return rq_dnnl_fail(err, status, what);
    return RQ_OK;
}

const char *rq_primitive_desc_name(const_dnnl_primitive_desc_t desc)
{
    const char *name = NULL;
    (void)dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, (void *)&name);
    return name ? name : "";
}

size_t rq_primitive_desc_bytes(const_dnnl_primitive_desc_t desc, dnnl_query_t query)
{
    return dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(desc, query, 0));
}

/* ---- convolutions ---- */

/* Padding on the right is what makes the output size come out; negative where rows are left over. */
static dnnl_dim_t right_pad(int64_t in, int64_t out, int taps, int stride, int pad, int dilation)
{
    return (out - 1) * stride + (int64_t)(taps - 1) * dilation + 1 - in - pad;
}

/* A layer on images of one pixel (a classifier, a gate) as one on a single row of pixels, the
 * batch: the memory is the same, and oneDNN's 1x1 kernels, which work within an image, take a fifth
 * of the time forward and a twelfth for the gradient of the weights. */
static rq_conv_shape as_one_row(rq_conv_shape s)
{
    const rq_conv_attr *a = &s.conv;
    if (s.ih == 1 && s.iw == 1 && a->kernel[0] == 1 && a->kernel[1] == 1 && a->pad[0] == 0 &&
        a->pad[1] == 0 && a->stride[1] == 1) {
        s.iw = s.ow = s.n;
        s.n = 1;
    }
    return s;
}

dnnl_status_t rq_conv_layouts_init(rq_conv_layouts *out, const rq_conv_shape *shape,
                                   dnnl_data_type_t src_type, dnnl_data_type_t wei_type,
                                   dnnl_data_type_t bias_type, dnnl_data_type_t dst_type)
{
    const rq_conv_shape s = as_one_row(*shape);
    const rq_conv_attr *a = &s.conv;
    const dnnl_dim_t g = a->groups;
    const dnnl_dims_t src = {s.n, s.ic, s.ih, s.iw};
    const dnnl_dims_t dst = {s.n, s.oc, s.oh, s.ow};
    const dnnl_dims_t bias = {s.oc};
    const dnnl_dims_t dense = {s.oc, s.ic, a->kernel[0], a->kernel[1]};
    const dnnl_dims_t grouped = {g, s.oc / g, s.ic / g, a->kernel[0], a->kernel[1]};
    const dnnl_dim_t *wei = g > 1 ? grouped : dense;
    const int rank = g > 1 ? 5 : 4;
    for (int i = 0; i < 2; i++) {
        out->strides[i] = a->stride[i];
        out->dilates[i] = a->dilation[i] - 1; /* oneDNN: 0 means dense */
        out->pad_l[i] = a->pad[i];
        out->pad_r[i] = right_pad(i ? s.iw : s.ih, i ? s.ow : s.oh, a->kernel[i], a->stride[i],
                                  a->pad[i], a->dilation[i]);
    }
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&out->src, 4, src, src_type, dnnl_nhwc));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&out->dst, 4, dst, dst_type, dnnl_nhwc));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&out->bias, 1, bias, bias_type, dnnl_a));
    DNNL_TRY(dnnl_memory_desc_init_by_tag(&out->wei, rank, wei, wei_type, dnnl_format_tag_any));
    return dnnl_memory_desc_init_by_tag(&out->wei_plain, rank, wei, wei_type,
                                        g > 1 ? dnnl_goihw : dnnl_oihw);
}
