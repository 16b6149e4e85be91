/* Steps that compute integers, as u8 (form int8) or as integer-valued f32 (form qat). */
#include <string.h>

#include "runtime/dnn/integer_passes.h"
#include "runtime/session/rows.h"

static rq_status run_pad_image(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    const size_t n = (size_t)s->n_images, h = (size_t)s->height, w = (size_t)s->width;
    rq_pad_image(s->pixels, rq_plan_at(s, step->dst), step->out.dtype == RQ_F32, n, h, w, step->pad,
                 step->zero_point);
    return RQ_OK;
}

/* The image with its border of zero points, as the first quantized convolution reads it; shape then
 * describes a convolution without padding. */
static rq_status add_pad_image(rq_session *s, rq_conv_shape *shape, rq_iconv_kind kind,
                               const uint8_t *zero_point, int *buffer, rq_error *err)
{
    rq_step *step;
    const int pad[2] = {shape->conv.pad[0], shape->conv.pad[1]};
    shape->ih += 2 * (int64_t)pad[0];
    shape->iw += 2 * (int64_t)pad[1];
    shape->conv.pad[0] = shape->conv.pad[1] = 0;
    const size_t elem_size = kind == RQ_ICONV_U8 ? 1 : sizeof(float);
    rq_status status =
        rq_plan_buffer(s, (size_t)(shape->n * shape->ih * shape->iw * 3) * elem_size, buffer, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, 0, "pad image", NULL, 0, &step, err);
    if (status != RQ_OK)
        return status;
    step->run = run_pad_image;
    step->node = -1;
    step->dst = *buffer;
    step->out.dtype = kind == RQ_ICONV_U8 ? RQ_U8 : RQ_F32;
    memcpy(step->zero_point, zero_point, 3);
    memcpy(step->pad, pad, sizeof pad);
    return RQ_OK;
}

static rq_status run_iconv(rq_session *s, rq_step *step, rq_error *err)
{
    return rq_iconv_run(step->iconv, rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst),
                        step->scratch >= 0 ? rq_plan_at(s, step->scratch) : NULL, err);
}

rq_status rq_plan_integer_conv(rq_session *s, int first, int last, rq_iconv_kind kind,
                               const rq_iconv_weights *weights, const uint8_t *zero_point,
                               bool real_output, int *buffer, rq_error *err)
{
    const rq_value *value = rq_plan_input(s, first, 0);
    rq_conv_shape shape = rq_plan_conv_shape(s, first);
    int src = value->buffer, scratch = -1;
    rq_iconv *iconv = NULL;
    rq_step *step;
    rq_status status = RQ_OK;
    if (value->repr == RQ_REPR_IMAGE)
        status = add_pad_image(s, &shape, kind, zero_point, &src, err);
    if (status == RQ_OK) {
        rq_iconv_weights shared = *weights;
        shared.packed = rq_plan_twin(s) ? rq_plan_twin(s)->iconv : NULL;
        status = rq_iconv_create(&iconv, s->dnn, &shape, kind, &shared, real_output, err);
    }
    const bool u8_output = kind == RQ_ICONV_U8 && !real_output;
    if (status == RQ_OK)
        status =
            rq_plan_buffer(s, rq_shape_elems(&s->shapes[last]) * (u8_output ? 1 : 4), buffer, err);
    /* f32 sums are turned into the result in place */
    const bool in_place = kind == RQ_ICONV_F32 && iconv && !rq_iconv_is_split(iconv);
    if (status == RQ_OK && !in_place && rq_iconv_scratch_bytes(iconv))
        status = rq_plan_buffer(s, rq_iconv_scratch_bytes(iconv), &scratch, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, last, kind == RQ_ICONV_U8 ? "conv u8s8" : "conv fake", &src, 1,
                              &step, err);
    if (status != RQ_OK) {
        rq_iconv_destroy(iconv);
        return status;
    }
    step->run = run_iconv;
    step->iconv = iconv;
    step->dst = *buffer;
    step->scratch = in_place ? *buffer : scratch;
    step->macs = rq_plan_macs(&shape);
    step->is_int8 = kind == RQ_ICONV_U8;
    s->info.weight_bytes += rq_iconv_weight_bytes(iconv);
    s->info.saturation_safe |= kind == RQ_ICONV_U8 && rq_iconv_is_split(iconv);
    return RQ_OK;
}

/* A step from the inputs of first to a buffer of q in the shape of last. */
static rq_status add_step(rq_session *s, int first, int last, const char *kind, rq_run *run,
                          bool as_f32, rq_step **out, rq_error *err)
{
    const int n = rq_plan_node(s, first)->n_inputs;
    int src[RQ_MAX_INPUTS], dst;
    for (int k = 0; k < n; k++)
        src[k] = rq_plan_input(s, first, k)->buffer;
    rq_status status = rq_plan_buffer(
        s, rq_shape_elems(&s->shapes[last]) * (as_f32 ? sizeof(float) : 1), &dst, err);
    if (status == RQ_OK)
        status = rq_plan_step(s, last, kind, src, n, out, err);
    if (status != RQ_OK)
        return status;
    (*out)->in = *rq_plan_in_shape(s, first);
    (*out)->run = run;
    (*out)->as_f32 = as_f32;
    (*out)->dst = dst;
    return RQ_OK;
}

static rq_status run_pool(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_pool_integers(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), step->as_f32,
                     (size_t)step->in.n, (size_t)(step->in.h * step->in.w), (size_t)step->in.c,
                     &step->rule);
    return RQ_OK;
}

rq_status rq_plan_integer_pool(rq_session *s, int first, int last, bool as_f32, rq_qparams x,
                               rq_qparams y, int *buffer, rq_error *err)
{
    const rq_shape *in = rq_plan_in_shape(s, first);
    rq_rule rule;
    rq_step *step;
    rq_status status = rq_pool_rule(&rule, x, y, in->h * in->w, err);
    if (status == RQ_OK)
        status = add_step(s, first, last, as_f32 ? "pool fake" : "pool u8", run_pool, as_f32, &step,
                          err);
    if (status != RQ_OK)
        return status;
    step->rule = rule;
    *buffer = step->dst;
    return RQ_OK;
}

static rq_status run_mul(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_gate_integers(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->src[1]),
                     rq_plan_at(s, step->dst), step->as_f32, (size_t)step->in.n,
                     (size_t)(step->in.h * step->in.w), (size_t)step->in.c, step->q.zero_point,
                     &step->rule);
    return RQ_OK;
}

rq_status rq_plan_integer_mul(rq_session *s, int first, int last, bool as_f32, rq_qparams x,
                              rq_qparams y, int *buffer, rq_error *err)
{
    rq_rule rule;
    rq_step *step;
    rq_status status = rq_gate_rule(&rule, x, y, err);
    if (status == RQ_OK)
        status =
            add_step(s, first, last, as_f32 ? "mul fake" : "mul u8", run_mul, as_f32, &step, err);
    if (status != RQ_OK)
        return status;
    step->q = x;
    step->rule = rule;
    *buffer = step->dst;
    return RQ_OK;
}

static rq_status run_gate(rq_session *s, rq_step *step, rq_error *err)
{
    (void)err;
    rq_gate_levels(rq_plan_at(s, step->src[0]), rq_plan_at(s, step->dst), step->as_f32,
                   rq_shape_elems(&step->in));
    return RQ_OK;
}

rq_status rq_plan_gate(rq_session *s, int first, int last, bool as_f32, int *buffer, rq_error *err)
{
    rq_step *step;
    const rq_status status =
        add_step(s, first, last, as_f32 ? "gate fake" : "gate u8", run_gate, as_f32, &step, err);
    if (status == RQ_OK)
        *buffer = step->dst;
    return status;
}
