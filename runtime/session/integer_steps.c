/* Steps over rq_iconv and the passes of integer_passes.h. */
#include "runtime/session/integer_steps.h"

#include <string.h>

#include "runtime/dnn/integer_passes.h"

/* ---- layers ---- */

static rq_status run_pad_image(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_pad_image(executor->pixels, rq_dst(executor, step), step->out.dtype == RQ_F32,
                 (size_t)executor->n_images, (size_t)executor->options.height,
                 (size_t)executor->options.width, step->pad, step->zero_point);
    return RQ_OK;
}

/* The image with its border of zero points, as the first quantized convolution reads it; shape then
 * describes a convolution without padding. */
static rq_status add_pad_image(rq_plan *plan, rq_conv_shape *shape, rq_iconv_kind kind,
                               const uint8_t *zero_point, int *buffer, rq_error *err)
{
    rq_step *step;
    const int pad[2] = {shape->conv.pad[0], shape->conv.pad[1]};
    const bool as_u8 = kind == RQ_ICONV_U8;
    shape->ih += 2 * (int64_t)pad[0];
    shape->iw += 2 * (int64_t)pad[1];
    shape->conv.pad[0] = shape->conv.pad[1] = 0;
    const size_t n_elems = (size_t)(shape->n * shape->ih * shape->iw * 3);
    RQ_TRY(rq_plan_buffer(plan, n_elems * (as_u8 ? 1 : sizeof(float)), buffer, err));
    RQ_TRY(rq_plan_step(plan, 0, "pad image", NULL, 0, &step, err));
    step->run = run_pad_image;
    step->node = -1;
    step->dst = *buffer;
    step->out.dtype = as_u8 ? RQ_U8 : RQ_F32;
    memcpy(step->zero_point, zero_point, 3);
    memcpy(step->pad, pad, sizeof pad);
    return RQ_OK;
}

static rq_status run_iconv(const rq_executor *executor, rq_step *step, rq_error *err)
{
    return rq_iconv_run(step->iconv, rq_src(executor, step, 0), rq_dst(executor, step),
                        step->scratch >= 0 ? rq_buffer_at(executor, step->scratch) : NULL, err);
}

/* A step that does not own iconv yet. */
static rq_status add_iconv_step(rq_plan *plan, int last, rq_iconv_kind kind, const rq_iconv *iconv,
                                int src, bool real_output, rq_step **out, rq_error *err)
{
    const bool u8_output = kind == RQ_ICONV_U8 && !real_output;
    const size_t scratch_bytes = rq_iconv_scratch_bytes(iconv);
    int dst, scratch = -1;
    RQ_TRY(rq_plan_value_buffer(plan, last, u8_output ? 1 : 4, &dst, err));
    if (kind == RQ_ICONV_F32 && !rq_iconv_is_split(iconv))
        scratch = dst; /* f32 sums are turned into the result in place */
    else if (scratch_bytes)
        RQ_TRY(rq_plan_buffer(plan, scratch_bytes, &scratch, err));
    RQ_TRY(rq_plan_step(plan, last, kind == RQ_ICONV_U8 ? "conv u8s8" : "conv fake", &src, 1, out,
                        err));
    (*out)->run = run_iconv;
    (*out)->dst = dst;
    (*out)->scratch = scratch;
    (*out)->is_int8 = kind == RQ_ICONV_U8;
    return RQ_OK;
}

rq_status rq_add_integer_conv(rq_plan *plan, int first, int last, rq_iconv_kind kind,
                              const rq_iconv_weights *weights, const uint8_t *zero_point,
                              bool real_output, int *buffer, rq_error *err)
{
    const rq_value *value = rq_plan_input(plan, first, 0);
    rq_session_info *info = &plan->executor->info;
    rq_conv_shape shape = rq_plan_conv_shape(plan, first);
    int src = value->buffer;
    rq_iconv *iconv = NULL;
    rq_step *step;
    if (value->repr == RQ_REPR_IMAGE)
        RQ_TRY(add_pad_image(plan, &shape, kind, zero_point, &src, err));
    const rq_step *twin = rq_plan_twin(plan);
    rq_iconv_weights shared = *weights;
    shared.packed = twin ? twin->iconv : NULL;
    RQ_TRY(rq_iconv_create(&iconv, plan->executor->dnn, &shape, kind, &shared, real_output, err));
    const rq_status status = add_iconv_step(plan, last, kind, iconv, src, real_output, &step, err);
    if (status) {
        rq_iconv_destroy(iconv);
        return status;
    }
    step->iconv = iconv;
    step->macs = rq_plan_macs(&shape);
    info->weight_bytes += rq_iconv_weight_bytes(iconv);
    info->saturation_safe |= kind == RQ_ICONV_U8 && rq_iconv_is_split(iconv);
    *buffer = step->dst;
    return RQ_OK;
}

/* ---- the other operators ---- */

/* A step from the inputs of first to a buffer of q in the shape of last. */
static rq_status add_step(rq_plan *plan, int first, int last, const char *kind, rq_run *run,
                          bool as_f32, rq_step **out, rq_error *err)
{
    const int n = rq_plan_node(plan, first)->n_inputs;
    int src[RQ_MAX_INPUTS], dst;
    for (int k = 0; k < n; k++)
        src[k] = rq_plan_input(plan, first, k)->buffer;
    RQ_TRY(rq_plan_value_buffer(plan, last, as_f32 ? sizeof(float) : 1, &dst, err));
    RQ_TRY(rq_plan_step(plan, last, kind, src, n, out, err));
    (*out)->in = *rq_plan_in_shape(plan, first);
    (*out)->run = run;
    (*out)->as_f32 = as_f32;
    (*out)->dst = dst;
    return RQ_OK;
}

static rq_status run_pool(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_pool_integers(rq_src(executor, step, 0), rq_dst(executor, step), step->as_f32,
                     (size_t)step->in.n, (size_t)(step->in.h * step->in.w), (size_t)step->in.c,
                     &step->rule);
    return RQ_OK;
}

rq_status rq_add_integer_pool(rq_plan *plan, int first, int last, bool as_f32, rq_qparams x,
                              rq_qparams y, int *buffer, rq_error *err)
{
    const rq_shape *in = rq_plan_in_shape(plan, first);
    const char *kind = as_f32 ? "pool fake" : "pool u8";
    rq_rule rule;
    rq_step *step;
    RQ_TRY(rq_pool_rule(&rule, x, y, in->h * in->w, err));
    RQ_TRY(add_step(plan, first, last, kind, run_pool, as_f32, &step, err));
    step->rule = rule;
    *buffer = step->dst;
    return RQ_OK;
}

static rq_status run_mul(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_gate_integers(rq_src(executor, step, 0), rq_src(executor, step, 1), rq_dst(executor, step),
                     step->as_f32, (size_t)step->in.n, (size_t)(step->in.h * step->in.w),
                     (size_t)step->in.c, step->q.zero_point, &step->rule);
    return RQ_OK;
}

rq_status rq_add_integer_mul(rq_plan *plan, int first, int last, bool as_f32, rq_qparams x,
                             rq_qparams y, int *buffer, rq_error *err)
{
    const char *kind = as_f32 ? "mul fake" : "mul u8";
    rq_rule rule;
    rq_step *step;
    RQ_TRY(rq_gate_rule(&rule, x, y, err));
    RQ_TRY(add_step(plan, first, last, kind, run_mul, as_f32, &step, err));
    step->q = x;
    step->rule = rule;
    *buffer = step->dst;
    return RQ_OK;
}

static rq_status run_gate(const rq_executor *executor, rq_step *step, rq_error *err)
{
    (void)err;
    rq_gate_levels(rq_src(executor, step, 0), rq_dst(executor, step), step->as_f32,
                   rq_shape_elems(&step->in));
    return RQ_OK;
}

rq_status rq_add_gate(rq_plan *plan, int first, int last, bool as_f32, int *buffer, rq_error *err)
{
    const char *kind = as_f32 ? "gate fake" : "gate u8";
    rq_step *step;
    RQ_TRY(add_step(plan, first, last, kind, run_gate, as_f32, &step, err));
    *buffer = step->dst;
    return RQ_OK;
}
