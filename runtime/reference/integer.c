/* The scalar integer kernels and the walk over a graph. The rule is in integer.h; nothing here
 * is written for speed. */
#include "runtime/reference/integer.h"

#include <string.h>

#include "runtime/model/gate.h"
#include "runtime/model/quant.h"
#include "runtime/reference/reference.h"

/* ---- convolution ---- */

/* acc of output channel oc at one pixel. src: one image. wei: all weights. */
static int32_t conv_acc(const rq_conv_shape *shape, const uint8_t *src, const int8_t *wei,
                        const uint8_t *zero_point, int64_t oy, int64_t ox, int64_t oc)
{
    const rq_conv_attr *conv = &shape->conv;
    const int64_t ic_group = shape->ic / conv->groups;
    const int64_t first_ic = oc / (shape->oc / conv->groups) * ic_group;
    const int n_kernel = conv->kernel[0] * conv->kernel[1];
    int32_t acc = 0;
    for (int k = 0; k < n_kernel; k++) {
        const int64_t pixel =
            ref_tap_pixel(shape, oy, ox, k / conv->kernel[1], k % conv->kernel[1]);
        for (int64_t ic = 0; ic < ic_group; ic++) {
            const int32_t outside = zero_point ? zero_point[first_ic + ic] : 0;
            const int32_t x = pixel < 0 ? outside : src[pixel * shape->ic + first_ic + ic];
            acc += x * wei[(oc * ic_group + ic) * n_kernel + k];
        }
    }
    return acc;
}

void rq_qconv_ref(const rq_conv_shape *shape, const uint8_t *src, const int8_t *wei,
                  const int32_t *bias, const float *multiplier, const uint8_t *zero_point,
                  uint8_t *dst)
{
    const int64_t n_pixels = shape->oh * shape->ow;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < shape->n * n_pixels; i++) {
        const uint8_t *image = src + i / n_pixels * shape->ih * shape->iw * shape->ic;
        const int64_t oy = i % n_pixels / shape->ow, ox = i % shape->ow;
        for (int64_t oc = 0; oc < shape->oc; oc++) {
            const int32_t acc = conv_acc(shape, image, wei, zero_point, oy, ox, oc);
            dst[i * shape->oc + oc] = rq_requantize_u8(acc, bias[oc], multiplier[oc]);
        }
    }
}

/* ---- the other integer operators ---- */

static rq_status ref_fake_quant(const ref_node *self)
{
    return rq_fail(self->run->err, RQ_ERR_MODEL, "%s: fake_quant does not belong into form int8",
                   self->node->name);
}

static rq_qparams qparams_at(const ref_node *self, int i)
{
    const float *scale = ref_slot(self, RQ_SLOT_SCALE);
    const uint8_t *zero_point = ref_slot(self, RQ_SLOT_ZERO_POINT);
    return (rq_qparams){scale[i], zero_point ? zero_point[i] : 0};
}

static rq_status ref_quantize(const ref_node *self)
{
    const rq_qparams y = qparams_at(self, 0);
    const float *src = self->src;
    uint8_t *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = rq_quantize_activation(src[i], 1.0f / y.scale, y.zero_point);
    return RQ_OK;
}

static rq_status ref_dequantize(const ref_node *self)
{
    const rq_qparams x = qparams_at(self, 0);
    const uint8_t *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = x.scale * (float)(src[i] - x.zero_point);
    return RQ_OK;
}

static rq_status ref_qconv(const ref_node *self)
{
    const rq_conv_shape shape = ref_conv_shape(self);
    const uint8_t *zero_point = ref_slot(self, RQ_SLOT_ZERO_POINT);
    const uint8_t *src = self->node->input[0] == 0 ? self->run->pixels : self->src;
    rq_qconv_ref(&shape, src, ref_slot(self, RQ_SLOT_WEIGHT), ref_slot(self, RQ_SLOT_BIAS),
                 ref_slot(self, RQ_SLOT_MULTIPLIER), zero_point, self->dst);
    return RQ_OK;
}

static rq_status named(const ref_node *self, rq_status status)
{
    if (status)
        rq_error_prefix(self->run->err, "%s", self->node->name);
    return status;
}

static rq_status ref_qmax_pool(const ref_node *self)
{
    const rq_conv_shape shape = ref_conv_shape(self);
    const uint8_t *src = self->src;
    uint8_t *dst = self->dst;
    for (int64_t i = 0; i < (int64_t)rq_shape_elems(self->out); i++) {
        const ref_window window = ref_window_at(&shape, i);
        dst[i] = 0;
        for (int k = 0; k < window.n_taps; k++) {
            const int64_t at = ref_window_tap(&shape, &window, k);
            dst[i] = at >= 0 && src[at] > dst[i] ? src[at] : dst[i];
        }
    }
    return RQ_OK;
}

static rq_status ref_qglobal_avg_pool(const ref_node *self)
{
    const int64_t n_pixels = self->in->h * self->in->w, c = self->in->c;
    rq_rule rule;
    const rq_status status =
        rq_pool_rule(&rule, qparams_at(self, 0), qparams_at(self, 1), n_pixels, self->run->err);
    if (status)
        return named(self, status);
    const uint8_t *src = self->src;
    uint8_t *dst = self->dst;
    for (int64_t i = 0; i < self->out->n * c; i++) {
        int32_t acc = 0;
        for (int64_t p = 0; p < n_pixels; p++)
            acc += src[(i / c * n_pixels + p) * c + i % c];
        dst[i] = rq_requantize_u8(acc, rule.bias, rule.multiplier);
    }
    return RQ_OK;
}

static rq_status ref_qsigmoid(const ref_node *self)
{
    const float *src = self->src;
    uint8_t *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = rq_gate_level(src[i]);
    return RQ_OK;
}

static rq_status ref_qmul(const ref_node *self)
{
    const rq_qparams x = qparams_at(self, 0);
    rq_rule rule;
    const rq_status status = rq_gate_rule(&rule, x, qparams_at(self, 1), self->run->err);
    if (status)
        return named(self, status);
    const uint8_t *src = self->src, *gate = self->run->values[self->node->input[1]];
    uint8_t *dst = self->dst;
    const size_t channels = (size_t)self->out->c;
    const size_t image = rq_shape_elems(self->out) / (size_t)self->out->n;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++) {
        const int32_t g = gate[i / image * channels + i % channels];
        dst[i] = rq_requantize_u8((src[i] - x.zero_point) * g, rule.bias, rule.multiplier);
    }
    return RQ_OK;
}

static rq_status ref_qlinear(const ref_node *self)
{
    const int8_t *wei = ref_slot(self, RQ_SLOT_WEIGHT);
    const int32_t *bias = ref_slot(self, RQ_SLOT_BIAS);
    const float *multiplier = ref_slot(self, RQ_SLOT_MULTIPLIER);
    const int64_t ic = self->in->c, oc = self->out->c;
    const uint8_t *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < self->out->n * oc; i++) {
        int32_t acc = 0;
        for (int64_t k = 0; k < ic; k++)
            acc += (int32_t)src[i / oc * ic + k] * wei[i % oc * ic + k];
        dst[i] = rq_requantize_f32(acc, bias[i % oc], multiplier[i % oc]);
    }
    return RQ_OK;
}

/* ---- the walk ---- */

static ref_kernel *const kernels[RQ_N_OPS] = {
#define X(code, name, kind) [RQ_OP_##code] = ref_##name,
    RQ_OP_LIST(X)
#undef X
};

static rq_status run_node(const ref_run *run, int i, rq_arena *arena)
{
    const rq_node *node = &run->model->graph.nodes[i];
    const int input = node->n_inputs > 0 ? node->input[0] : i;
    const rq_shape *out = &run->shapes[i];
    const size_t n_elems = rq_shape_elems(out);
    void *value = out->dtype == RQ_F32 ? (void *)rq_arena_array(arena, float, n_elems)
                                       : (void *)rq_arena_array(arena, uint8_t, n_elems);
    if (!value)
        return rq_no_memory(run->err);
    run->values[i] = value;
    const ref_node self = {
        .run = run,
        .index = i,
        .node = node,
        .in = &run->shapes[input],
        .out = out,
        .src = node->n_inputs > 0 ? run->values[input] : NULL,
        .dst = value,
    };
    return kernels[node->op](&self);
}

static rq_status check_output(const rq_model *model, const rq_shape *shape, rq_error *err)
{
    if (shape->dtype == RQ_F32 && shape->h * shape->w * shape->c == model->n_classes)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_MODEL,
                   "%s: the output is %s %lldx%lldx%lld (HxWxC), it must be F32 1x1x%d",
                   model->graph.nodes[model->graph.n_nodes - 1].name, rq_dtype_name(shape->dtype),
                   (long long)shape->h, (long long)shape->w, (long long)shape->c, model->n_classes);
}

static rq_status run_graph(const rq_model *model, const uint8_t *pixels, int64_t n, int64_t h,
                           int64_t w, float *logits, rq_value_observer *observer, void *context,
                           rq_arena *arena, rq_error *err)
{
    const rq_graph *graph = &model->graph;
    const int last = graph->n_nodes - 1;
    rq_shape *shapes = rq_arena_array(arena, rq_shape, graph->n_nodes);
    void **values = rq_arena_array(arena, void *, graph->n_nodes);
    if (!shapes || !values)
        return rq_no_memory(err);
    RQ_TRY(rq_graph_shapes(graph, n, h, w, shapes, err));
    RQ_TRY(check_output(model, &shapes[last], err));
    RQ_TRY(rq_integer_check(model, err));
    const ref_run run = {model, pixels, shapes, values, err};
    for (int i = 0; i <= last; i++) {
        RQ_TRY(run_node(&run, i, arena));
        if (observer)
            observer(context, i, values[i], &shapes[i]);
    }
    memcpy(logits, values[last], rq_shape_elems(&shapes[last]) * sizeof *logits);
    return RQ_OK;
}

rq_status rq_integer_run_ref(const rq_model *model, const uint8_t *pixels, int64_t n, int64_t h,
                             int64_t w, float *logits, rq_value_observer *observer, void *context,
                             rq_error *err)
{
    if (model->form != RQ_FORM_INT8)
        return rq_fail(err, RQ_ERR_MODEL, "the model's form is %s, not int8",
                       rq_form_name(model->form));
    rq_arena arena = RQ_ARENA_INIT;
    const rq_status status =
        run_graph(model, pixels, n, h, w, logits, observer, context, &arena, err);
    rq_arena_deinit(&arena);
    return status;
}
