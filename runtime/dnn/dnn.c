/* oneDNN 2.6 behind runtime/dnn/dnn.h. A primitive here is a `kernel`: the primitive, its memory
 * objects and the arguments in one place, so that running it is setting the data handles that
 * change and one execute call. */
#include "runtime/dnn/dnn.h"

#include <dnnl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct rq_dnn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    rq_arena weights; /* packed, of inference: side by side in large pages */
    void *scratch;
    size_t scratch_bytes;
};

static atomic_size_t primitive_count;

size_t rq_dnn_primitive_count(void)
{
    return atomic_load(&primitive_count);
}

static rq_status dnn_fail(rq_error *err, dnnl_status_t status, const char *what)
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

rq_status rq_dnn_create(rq_dnn **out, rq_error *err)
{
    rq_dnn *dnn = rq_alloc(sizeof *dnn);
    if (!dnn)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    dnnl_status_t status = dnnl_engine_create(&dnn->engine, dnnl_cpu, 0);
    if (status == dnnl_success)
        status = dnnl_stream_create(&dnn->stream, dnn->engine, dnnl_stream_default_flags);
    if (status != dnnl_success) {
        rq_dnn_destroy(dnn);
        return dnn_fail(err, status, "engine");
    }
    *out = dnn;
    return RQ_OK;
}

void rq_dnn_destroy(rq_dnn *dnn)
{
    if (!dnn)
        return;
    if (dnn->stream)
        (void)dnnl_stream_destroy(dnn->stream);
    if (dnn->engine)
        (void)dnnl_engine_destroy(dnn->engine);
    rq_arena_deinit(&dnn->weights);
    rq_free(dnn->scratch);
    rq_free(dnn);
}

void rq_dnn_expect_weights(rq_dnn *dnn, size_t size_bytes)
{
    dnn->weights.block_bytes = size_bytes;
}

bool rq_dnn_u8s8_may_saturate(void)
{
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    const unsigned vnni = (unsigned)dnnl_cpu_isa_avx512_core_vnni;
    return (isa & vnni) != vnni;
}

bool rq_dnn_has_bf16(void)
{
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    const unsigned bf16 = (unsigned)dnnl_cpu_isa_avx512_core_bf16;
    return (isa & bf16) == bf16;
}

const char *rq_dnn_isa_name(void)
{
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
        return "SSE41";
    case dnnl_cpu_isa_avx:
        return "AVX";
    case dnnl_cpu_isa_avx2:
        return "AVX2";
    case dnnl_cpu_isa_avx2_vnni:
        return "AVX2_VNNI";
    case dnnl_cpu_isa_avx512_core:
        return "AVX512_CORE";
    case dnnl_cpu_isa_avx512_core_vnni:
        return "AVX512_CORE_VNNI";
    case dnnl_cpu_isa_avx512_core_bf16:
        return "AVX512_CORE_BF16";
    case dnnl_cpu_isa_avx512_core_amx:
        return "AVX512_CORE_AMX";
    default:
        return "unknown";
    }
}

rq_dnn_isa rq_dnn_isa_level(void)
{
    static const unsigned bits[] = {
        [RQ_DNN_SSE41] = dnnl_cpu_isa_sse41,
        [RQ_DNN_AVX] = dnnl_cpu_isa_avx,
        [RQ_DNN_AVX2] = dnnl_cpu_isa_avx2,
        [RQ_DNN_AVX2_VNNI] = dnnl_cpu_isa_avx2_vnni,
        [RQ_DNN_AVX512] = dnnl_cpu_isa_avx512_core,
        [RQ_DNN_AVX512_VNNI] = dnnl_cpu_isa_avx512_core_vnni,
    };
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    int level = RQ_DNN_AVX512_VNNI;
    while (level > RQ_DNN_SSE41 && (isa & bits[level]) != bits[level])
        level--;
    return (rq_dnn_isa)level;
}

/* ---- kernels: a primitive with its arguments ---- */

enum { MAX_ARGS = 5 };

typedef struct kernel {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[MAX_ARGS];
    int n_args;
} kernel;

static void kernel_deinit(kernel *k)
{
    for (int i = 0; i < k->n_args; i++)
        (void)dnnl_memory_destroy(k->args[i].memory);
    if (k->primitive)
        (void)dnnl_primitive_destroy(k->primitive);
    memset(k, 0, sizeof *k);
}

/* Takes the primitive descriptor (destroys it) and an argument list ending in 0; each memory object
 * starts without data. query gives the descriptor's kind of each argument. */
typedef struct arg_spec {
    int arg;
    dnnl_query_t query;
    int index;
} arg_spec;

static dnnl_status_t kernel_init(kernel *k, dnnl_engine_t engine, dnnl_primitive_desc_t pd,
                                 const arg_spec *specs, int n_specs)
{
    dnnl_status_t status = dnnl_primitive_create(&k->primitive, pd);
    atomic_fetch_add(&primitive_count, 1);
    for (int i = 0; i < n_specs && status == dnnl_success; i++) {
        const dnnl_memory_desc_t *md =
            dnnl_primitive_desc_query_md(pd, specs[i].query, specs[i].index);
        k->args[i].arg = specs[i].arg;
        status = dnnl_memory_create(&k->args[i].memory, md, engine, DNNL_MEMORY_NONE);
        if (status == dnnl_success)
            k->n_args = i + 1;
    }
    return status;
}

/* oneDNN's handles are not const; sources are only read. */
static dnnl_status_t kernel_set(kernel *k, int i, const void *data)
{
    union {
        const void *in;
        void *out;
    } handle = {data};
    return dnnl_memory_set_data_handle(k->args[i].memory, handle.out);
}

static rq_status kernel_run(kernel *k, const rq_dnn *dnn, const char *what, rq_error *err)
{
    dnnl_status_t status = dnnl_primitive_execute(k->primitive, dnn->stream, k->n_args, k->args);
    if (status == dnnl_success)
        status = dnnl_stream_wait(dnn->stream);
    return status == dnnl_success ? RQ_OK : dnn_fail(err, status, what);
}

/* What oneDNN calls an implementation: "jit_uni_int8:avx2", "ref_int8:any". */
static const char *implementation_name(const_dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    (void)dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name);
    return name ? name : "";
}

static size_t query_bytes(const_dnnl_primitive_desc_t pd, dnnl_query_t query, int index)
{
    return dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(pd, query, index));
}

/* A reorder between a plain layout and the one that a kernel wants. */
static dnnl_status_t reorder_init(kernel *k, dnnl_engine_t engine, const dnnl_memory_desc_t *from,
                                  const dnnl_memory_desc_t *to)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(&pd, from, engine, to, engine, NULL);
    if (status != dnnl_success)
        return status;
    const arg_spec specs[] = {{DNNL_ARG_FROM, dnnl_query_src_md, 0},
                              {DNNL_ARG_TO, dnnl_query_dst_md, 0}};
    status = kernel_init(k, engine, pd, specs, 2);
    (void)dnnl_primitive_desc_destroy(pd);
    return status;
}

/* ---- convolution descriptors ---- */

typedef struct conv_mds {
    dnnl_memory_desc_t src, wei, wei_plain, bias, dst;
    dnnl_dims_t strides, dilates, pad_l, pad_r;
} conv_mds;

/* Padding on the right is what makes the output size come out; negative where rows are left over.
 */
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

static dnnl_status_t describe(conv_mds *m, const rq_conv_shape *shape, dnnl_data_type_t src_type,
                              dnnl_data_type_t wei_type, dnnl_data_type_t bias_type,
                              dnnl_data_type_t dst_type)
{
    const rq_conv_shape row = as_one_row(*shape), *s = &row;
    const rq_conv_attr *a = &s->conv;
    const dnnl_dim_t g = a->groups;
    const dnnl_dims_t src = {s->n, s->ic, s->ih, s->iw};
    const dnnl_dims_t dst = {s->n, s->oc, s->oh, s->ow};
    const dnnl_dims_t bias = {s->oc};
    const dnnl_dims_t dense = {s->oc, s->ic, a->kernel[0], a->kernel[1]};
    const dnnl_dims_t grouped = {g, s->oc / g, s->ic / g, a->kernel[0], a->kernel[1]};
    const int rank = g > 1 ? 5 : 4;
    for (int i = 0; i < 2; i++) {
        m->strides[i] = a->stride[i];
        m->dilates[i] = a->dilation[i] - 1; /* oneDNN: 0 means dense */
        m->pad_l[i] = a->pad[i];
        m->pad_r[i] = right_pad(i ? s->iw : s->ih, i ? s->ow : s->oh, a->kernel[i], a->stride[i],
                                a->pad[i], a->dilation[i]);
    }
    const struct {
        dnnl_memory_desc_t *md;
        int rank;
        const dnnl_dim_t *dims;
        dnnl_data_type_t type;
        dnnl_format_tag_t tag;
    } list[] = {
        {&m->src, 4, src, src_type, dnnl_nhwc},
        {&m->dst, 4, dst, dst_type, dnnl_nhwc},
        {&m->bias, 1, bias, bias_type, dnnl_a},
        {&m->wei, rank, g > 1 ? grouped : dense, wei_type, dnnl_format_tag_any},
        {&m->wei_plain, rank, g > 1 ? grouped : dense, wei_type, g > 1 ? dnnl_goihw : dnnl_oihw},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        const dnnl_status_t status = dnnl_memory_desc_init_by_tag(
            list[i].md, list[i].rank, list[i].dims, list[i].type, list[i].tag);
        if (status != dnnl_success)
            return status;
    }
    return dnnl_success;
}

static rq_status conv_fail(rq_error *err, dnnl_status_t status, const rq_conv_shape *s,
                           const char *what)
{
    char problem[160];
    (void)snprintf(problem, sizeof problem, "%s mb%ldg%dic%ldih%ldiw%ldoc%ldkh%dkw%dsh%dph%ddh%d",
                   what, (long)s->n, s->conv.groups, (long)s->ic, (long)s->ih, (long)s->iw,
                   (long)s->oc, s->conv.kernel[0], s->conv.kernel[1], s->conv.stride[0],
                   s->conv.pad[0], s->conv.dilation[0] - 1);
    return dnn_fail(err, status, problem);
}

/* ---- inference ---- */

struct rq_dnn_conv {
    rq_dnn *dnn;
    kernel conv; /* src, wei, dst, [bias] */
    kernel pack; /* plain -> packed */
    void *wei,
        *bias; /* in the dnn's arena; NULL before they are set, and where they are another's */
    size_t wei_bytes, bias_bytes;
    bool is_reference;
};

enum { SRC, WEI, DST, BIAS };

static dnnl_status_t inference_attr(dnnl_primitive_attr_t *attr, const rq_conv_shape *shape,
                                    const rq_dnn_conv_options *options)
{
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (status == dnnl_success && options->scale)
        status = dnnl_primitive_attr_set_output_scales(*attr, shape->oc, 1 << 1, options->scale);
    if (status == dnnl_success && options->relu) {
        dnnl_post_ops_t ops = NULL;
        status = dnnl_post_ops_create(&ops);
        if (status == dnnl_success)
            status = dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
        if (status == dnnl_success)
            status = dnnl_primitive_attr_set_post_ops(*attr, ops);
        if (ops)
            (void)dnnl_post_ops_destroy(ops);
    }
    return status;
}

static dnnl_status_t inference_pd(dnnl_primitive_desc_t *pd, const conv_mds *m,
                                  const rq_conv_shape *shape, const rq_dnn_conv_options *options,
                                  dnnl_engine_t engine)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = inference_attr(&attr, shape, options);
    if (status == dnnl_success)
        status = dnnl_dilated_convolution_forward_desc_init(
            &desc, dnnl_forward_inference, dnnl_convolution_direct, &m->src, &m->wei,
            options->bias ? &m->bias : NULL, &m->dst, m->strides, m->dilates, m->pad_l, m->pad_r);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(pd, &desc, attr, engine, NULL);
    if (attr)
        (void)dnnl_primitive_attr_destroy(attr);
    return status;
}

rq_status rq_dnn_conv_create(rq_dnn_conv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                             const rq_dnn_conv_options *options, rq_error *err)
{
    static const struct {
        dnnl_data_type_t src, wei, bias, dst;
    } types[] = {
        [RQ_DNN_F32] = {dnnl_f32, dnnl_f32, dnnl_f32, dnnl_f32},
        [RQ_DNN_U8_U8] = {dnnl_u8, dnnl_s8, dnnl_s32, dnnl_u8},
        [RQ_DNN_U8_F32] = {dnnl_u8, dnnl_s8, dnnl_s32, dnnl_f32},
        [RQ_DNN_U8_S32] = {dnnl_u8, dnnl_s8, dnnl_s32, dnnl_s32},
    };
    rq_status result = RQ_ERR_NOMEM;
    dnnl_primitive_desc_t pd = NULL;
    conv_mds m;
    rq_dnn_conv *conv = rq_alloc(sizeof *conv);
    if (!conv)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    conv->dnn = dnn;
    const int t = (int)options->types;
    dnnl_status_t status =
        describe(&m, shape, types[t].src, types[t].wei, types[t].bias, types[t].dst);
    if (status == dnnl_success)
        status = inference_pd(&pd, &m, shape, options, dnn->engine);
    const arg_spec specs[] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
                              {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                              {DNNL_ARG_DST, dnnl_query_dst_md, 0},
                              {DNNL_ARG_BIAS, dnnl_query_weights_md, 1}};
    if (status == dnnl_success)
        status = kernel_init(&conv->conv, dnn->engine, pd, specs, options->bias ? 4 : 3);
    if (status == dnnl_success)
        status = reorder_init(&conv->pack, dnn->engine, &m.wei_plain,
                              dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
    if (status != dnnl_success) {
        result = conv_fail(err, status, shape, "convolution");
        goto out;
    }
    conv->is_reference = strncmp(implementation_name(pd), "ref", 3) == 0;
    conv->wei_bytes = query_bytes(pd, dnnl_query_weights_md, 0);
    conv->bias_bytes = options->bias ? (size_t)shape->oc * 4 : 0;
    *out = conv;
    conv = NULL;
    result = RQ_OK;
out:
    if (pd)
        (void)dnnl_primitive_desc_destroy(pd);
    rq_dnn_conv_destroy(conv);
    return result;
}

void rq_dnn_conv_destroy(rq_dnn_conv *conv)
{
    if (!conv)
        return;
    kernel_deinit(&conv->conv);
    kernel_deinit(&conv->pack);
    rq_free(conv);
}

static rq_status allocate_weights(rq_dnn_conv *conv, rq_error *err)
{
    conv->wei = rq_arena_alloc(&conv->dnn->weights, conv->wei_bytes);
    conv->bias = rq_arena_alloc(&conv->dnn->weights, conv->bias_bytes);
    return conv->wei && conv->bias ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
}

rq_status rq_dnn_conv_set_weights(rq_dnn_conv *conv, const void *wei, const void *bias,
                                  rq_error *err)
{
    if (!conv->wei) {
        const rq_status allocated = allocate_weights(conv, err);
        if (allocated != RQ_OK)
            return allocated;
    }
    (void)kernel_set(&conv->pack, 0, wei);
    (void)kernel_set(&conv->pack, 1, conv->wei);
    const rq_status status = kernel_run(&conv->pack, conv->dnn, "packing weights", err);
    if (status != RQ_OK)
        return status;
    (void)kernel_set(&conv->conv, WEI, conv->wei);
    if (conv->bias_bytes) {
        memcpy(conv->bias, bias, conv->bias_bytes);
        (void)kernel_set(&conv->conv, BIAS, conv->bias);
    }
    return RQ_OK;
}

static dnnl_status_t copy_handle(kernel *to, const kernel *from, int i)
{
    void *data = NULL;
    const dnnl_status_t status = dnnl_memory_get_data_handle(from->args[i].memory, &data);
    return status == dnnl_success ? kernel_set(to, i, data) : status;
}

bool rq_dnn_conv_share_weights(rq_dnn_conv *conv, const rq_dnn_conv *other)
{
    const dnnl_memory_desc_t *mine, *theirs;
    if (!other->wei || conv->bias_bytes != other->bias_bytes ||
        dnnl_memory_get_memory_desc(conv->conv.args[WEI].memory, &mine) != dnnl_success ||
        dnnl_memory_get_memory_desc(other->conv.args[WEI].memory, &theirs) != dnnl_success ||
        !dnnl_memory_desc_equal(mine, theirs))
        return false;
    return copy_handle(&conv->conv, &other->conv, WEI) == dnnl_success &&
           (!conv->bias_bytes || copy_handle(&conv->conv, &other->conv, BIAS) == dnnl_success);
}

rq_status rq_dnn_conv_run(rq_dnn_conv *conv, const void *src, void *dst, rq_error *err)
{
    (void)kernel_set(&conv->conv, SRC, src);
    (void)kernel_set(&conv->conv, DST, dst);
    return kernel_run(&conv->conv, conv->dnn, "convolution", err);
}

size_t rq_dnn_conv_bytes(const rq_dnn_conv *conv)
{
    return conv->wei_bytes + conv->bias_bytes;
}

bool rq_dnn_conv_is_reference(const rq_dnn_conv *conv)
{
    return conv->is_reference;
}

/* ---- training ---- */

/* In bf16 the operands of the three convolutions are bf16 and their sums f32. */
struct rq_dnn_train_conv {
    rq_dnn *dnn;
    kernel forward;          /* src, wei, dst */
    kernel backward_data;    /* ddst, wei, dsrc */
    kernel backward_weights; /* src, ddst, dwei */
    kernel pack_forward, pack_backward, unpack_gradient;
    void *wei_forward, *wei_backward, *dwei; /* packed */
};

typedef struct train_pds {
    dnnl_primitive_desc_t forward, data, weights;
} train_pds;

/* One description per convolution: they differ in what is bf16. */
typedef struct train_mds {
    conv_mds forward, data, weights;
} train_mds;

static dnnl_status_t describe_training(train_mds *m, const rq_conv_shape *shape,
                                       const rq_dnn_train_options *options)
{
    const bool bf16 = options->precision == RQ_PRECISION_BF16;
    const dnnl_data_type_t operand = bf16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_data_type_t dsrc = options->bf16_dsrc ? dnnl_bf16 : dnnl_f32;
    dnnl_status_t status = describe(&m->forward, shape, operand, operand, dnnl_f32, dnnl_f32);
    if (status == dnnl_success)
        status = describe(&m->data, shape, dsrc, operand, dnnl_f32, operand);
    if (status == dnnl_success)
        status = describe(&m->weights, shape, operand, dnnl_f32, dnnl_f32, operand);
    return status;
}

/* oneDNN 2.6.3's jit_1x1 backward-weights kernel, given an nhwc source, a stride and channels that
 * do not fill its blocks of 16, accesses memory outside its tensors (seen with 2 and 3 channels, 64
 * x 64, stride 2). */
static bool is_unsafe(const_dnnl_primitive_desc_t pd, const rq_conv_shape *shape)
{
    const rq_conv_attr *a = &shape->conv;
    if (a->kernel[0] != 1 || a->kernel[1] != 1 || (a->stride[0] == 1 && a->stride[1] == 1) ||
        (shape->ic / a->groups) % 16 == 0)
        return false;
    return strstr(implementation_name(pd), "1x1") != NULL;
}

/* The first implementation that may be used. */
static dnnl_status_t weights_pd(dnnl_primitive_desc_t *pd, const dnnl_convolution_desc_t *desc,
                                const rq_conv_shape *shape, dnnl_engine_t engine,
                                const_dnnl_primitive_desc_t forward)
{
    dnnl_primitive_desc_iterator_t iterator = NULL;
    dnnl_status_t status =
        dnnl_primitive_desc_iterator_create(&iterator, desc, NULL, engine, forward);
    while (status == dnnl_success) {
        *pd = dnnl_primitive_desc_iterator_fetch(iterator);
        if (!*pd || !is_unsafe(*pd, shape))
            break;
        (void)dnnl_primitive_desc_destroy(*pd);
        *pd = NULL;
        status = dnnl_primitive_desc_iterator_next(iterator);
    }
    if (iterator)
        (void)dnnl_primitive_desc_iterator_destroy(iterator);
    if (status == dnnl_iterator_ends)
        return dnnl_unimplemented;
    return status == dnnl_success && !*pd ? dnnl_out_of_memory : status;
}

static dnnl_status_t train_descs(train_pds *pds, const train_mds *m, const rq_conv_shape *shape,
                                 bool with_dsrc, dnnl_engine_t engine)
{
    const conv_mds *f = &m->forward, *d = &m->data, *w = &m->weights;
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_dilated_convolution_forward_desc_init(
        &desc, dnnl_forward_training, dnnl_convolution_direct, &f->src, &f->wei, NULL, &f->dst,
        f->strides, f->dilates, f->pad_l, f->pad_r);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&pds->forward, &desc, NULL, engine, NULL);
    if (status == dnnl_success && with_dsrc) {
        status = dnnl_dilated_convolution_backward_data_desc_init(
            &desc, dnnl_convolution_direct, &d->src, &d->wei, &d->dst, d->strides, d->dilates,
            d->pad_l, d->pad_r);
        if (status == dnnl_success)
            status = dnnl_primitive_desc_create(&pds->data, &desc, NULL, engine, pds->forward);
    }
    if (status == dnnl_success)
        status = dnnl_dilated_convolution_backward_weights_desc_init(
            &desc, dnnl_convolution_direct, &w->src, &w->wei, NULL, &w->dst, w->strides, w->dilates,
            w->pad_l, w->pad_r);
    if (status == dnnl_success)
        status = weights_pd(&pds->weights, &desc, shape, engine, pds->forward);
    return status;
}

static dnnl_status_t train_kernels(rq_dnn_train_conv *conv, const train_pds *pds,
                                   const train_mds *m, const rq_dnn_train_options *options)
{
    const arg_spec forward[] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
                                {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                                {DNNL_ARG_DST, dnnl_query_dst_md, 0}};
    const arg_spec data[] = {{DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0},
                             {DNNL_ARG_WEIGHTS, dnnl_query_weights_md, 0},
                             {DNNL_ARG_DIFF_SRC, dnnl_query_diff_src_md, 0}};
    const arg_spec weights[] = {{DNNL_ARG_SRC, dnnl_query_src_md, 0},
                                {DNNL_ARG_DIFF_DST, dnnl_query_diff_dst_md, 0},
                                {DNNL_ARG_DIFF_WEIGHTS, dnnl_query_diff_weights_md, 0}};
    const dnnl_engine_t engine = conv->dnn->engine;
    const dnnl_memory_desc_t *plain = &m->weights.wei_plain; /* f32 */
    dnnl_status_t status = dnnl_success;
    if (options->with_forward) {
        status = kernel_init(&conv->forward, engine, pds->forward, forward, 3);
        if (status == dnnl_success)
            status =
                reorder_init(&conv->pack_forward, engine, plain,
                             dnnl_primitive_desc_query_md(pds->forward, dnnl_query_weights_md, 0));
    }
    if (status == dnnl_success && options->with_dsrc) {
        status = kernel_init(&conv->backward_data, engine, pds->data, data, 3);
        if (status == dnnl_success)
            status =
                reorder_init(&conv->pack_backward, engine, plain,
                             dnnl_primitive_desc_query_md(pds->data, dnnl_query_weights_md, 0));
    }
    if (status == dnnl_success)
        status = kernel_init(&conv->backward_weights, engine, pds->weights, weights, 3);
    if (status == dnnl_success)
        status = reorder_init(
            &conv->unpack_gradient, engine,
            dnnl_primitive_desc_query_md(pds->weights, dnnl_query_diff_weights_md, 0), plain);
    return status;
}

rq_status rq_dnn_reserve_scratch(rq_dnn *dnn, size_t size_bytes, rq_error *err)
{
    if (size_bytes <= dnn->scratch_bytes)
        return RQ_OK;
    rq_free(dnn->scratch);
    dnn->scratch = rq_alloc(size_bytes);
    dnn->scratch_bytes = dnn->scratch ? size_bytes : 0;
    return dnn->scratch ? RQ_OK : rq_fail(err, RQ_ERR_NOMEM, "out of memory");
}

void *rq_dnn_scratch(const rq_dnn *dnn)
{
    return dnn->scratch;
}

static rq_status train_buffers(rq_dnn_train_conv *conv, const train_pds *pds,
                               const rq_dnn_train_options *options, rq_error *err)
{
    const bool forward = options->with_forward;
    conv->wei_forward = rq_alloc(forward ? query_bytes(pds->forward, dnnl_query_weights_md, 0) : 0);
    conv->wei_backward =
        rq_alloc(options->with_dsrc ? query_bytes(pds->data, dnnl_query_weights_md, 0) : 0);
    conv->dwei = rq_alloc(query_bytes(pds->weights, dnnl_query_diff_weights_md, 0));
    if (!conv->wei_forward || !conv->wei_backward || !conv->dwei)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    if (forward) {
        (void)kernel_set(&conv->pack_forward, 1, conv->wei_forward);
        (void)kernel_set(&conv->forward, WEI, conv->wei_forward);
    }
    if (options->with_dsrc) {
        (void)kernel_set(&conv->pack_backward, 1, conv->wei_backward);
        (void)kernel_set(&conv->backward_data, 1, conv->wei_backward);
    }
    (void)kernel_set(&conv->backward_weights, 2, conv->dwei);
    (void)kernel_set(&conv->unpack_gradient, 0, conv->dwei);
    return RQ_OK;
}

rq_status rq_dnn_train_conv_create(rq_dnn_train_conv **out, rq_dnn *dnn, const rq_conv_shape *shape,
                                   const rq_dnn_train_options *options, rq_error *err)
{
    const bool bf16 = options->precision == RQ_PRECISION_BF16;
    rq_status result = RQ_ERR_NOMEM;
    train_pds pds = {NULL, NULL, NULL};
    train_mds m;
    rq_dnn_train_conv *conv = rq_alloc(sizeof *conv);
    if (!conv)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    conv->dnn = dnn;
    dnnl_status_t status = describe_training(&m, shape, options);
    if (status == dnnl_success)
        status = train_descs(&pds, &m, shape, options->with_dsrc, dnn->engine);
    if (status == dnnl_success)
        status = train_kernels(conv, &pds, &m, options);
    if (status != dnnl_success) {
        result = conv_fail(err, status, shape,
                           bf16 ? "bf16 training convolution" : "training convolution");
        goto out;
    }
    result = train_buffers(conv, &pds, options, err);
    if (result != RQ_OK)
        goto out;
    *out = conv;
    conv = NULL;
out:
    for (int i = 0; i < 3; i++) {
        const dnnl_primitive_desc_t pd = i == 0 ? pds.forward : i == 1 ? pds.data : pds.weights;
        if (pd)
            (void)dnnl_primitive_desc_destroy(pd);
    }
    rq_dnn_train_conv_destroy(conv);
    return result;
}

void rq_dnn_train_conv_destroy(rq_dnn_train_conv *conv)
{
    if (!conv)
        return;
    kernel *kernels[] = {&conv->forward,      &conv->backward_data, &conv->backward_weights,
                         &conv->pack_forward, &conv->pack_backward, &conv->unpack_gradient};
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
        kernel_deinit(kernels[i]);
    rq_free(conv->wei_forward);
    rq_free(conv->wei_backward);
    rq_free(conv->dwei);
    rq_free(conv);
}

rq_status rq_dnn_train_conv_set_weights(rq_dnn_train_conv *conv, const float *wei, rq_error *err)
{
    rq_status status = RQ_OK;
    if (conv->forward.primitive) {
        (void)kernel_set(&conv->pack_forward, 0, wei);
        status = kernel_run(&conv->pack_forward, conv->dnn, "packing weights", err);
    }
    if (status == RQ_OK && conv->backward_data.primitive) {
        (void)kernel_set(&conv->pack_backward, 0, wei);
        status = kernel_run(&conv->pack_backward, conv->dnn, "packing weights", err);
    }
    return status;
}

rq_status rq_dnn_train_conv_forward(rq_dnn_train_conv *conv, const void *src, float *dst,
                                    rq_error *err)
{
    (void)kernel_set(&conv->forward, SRC, src);
    (void)kernel_set(&conv->forward, DST, dst);
    return kernel_run(&conv->forward, conv->dnn, "convolution", err);
}

rq_status rq_dnn_train_conv_backward(rq_dnn_train_conv *conv, const void *src, const void *ddst,
                                     float *dwei, void *dsrc, rq_error *err)
{
    (void)kernel_set(&conv->backward_weights, 0, src);
    (void)kernel_set(&conv->backward_weights, 1, ddst);
    rq_status status = kernel_run(&conv->backward_weights, conv->dnn, "gradient of weights", err);
    (void)kernel_set(&conv->unpack_gradient, 1, dwei);
    if (status == RQ_OK)
        status = kernel_run(&conv->unpack_gradient, conv->dnn, "unpacking the gradient", err);
    if (status != RQ_OK || !dsrc)
        return status;
    (void)kernel_set(&conv->backward_data, 0, ddst);
    (void)kernel_set(&conv->backward_data, 2, dsrc);
    return kernel_run(&conv->backward_data, conv->dnn, "gradient of the source", err);
}
