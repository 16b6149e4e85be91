/* The float operators of the reference. */
#include <math.h>

#include "runtime/reference/reference.h"

static float conv_f32(const rq_conv_shape *shape, const float *src, const float *wei, int64_t oy,
                      int64_t ox, int64_t oc, double bias)
{
    const rq_conv_attr *conv = &shape->conv;
    const int64_t ic_group = shape->ic / conv->groups;
    const int64_t first_ic = oc / (shape->oc / conv->groups) * ic_group;
    const int n_kernel = conv->kernel[0] * conv->kernel[1];
    double sum = bias;
    for (int k = 0; k < n_kernel; k++) {
        const int64_t pixel =
            ref_tap_pixel(shape, oy, ox, k / conv->kernel[1], k % conv->kernel[1]);
        for (int64_t ic = 0; ic < ic_group && pixel >= 0; ic++)
            sum += (double)src[pixel * shape->ic + first_ic + ic] *
                   (double)wei[(oc * ic_group + ic) * n_kernel + k];
    }
    return (float)sum;
}

rq_status ref_input(const ref_node *self)
{
    float factor[3], offset[3], *dst = self->dst;
    rq_preprocess_normalization(&self->run->model->preprocess, factor, offset);
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = factor[i % 3] * (float)self->run->pixels[i] + offset[i % 3];
    return RQ_OK;
}

rq_status ref_conv(const ref_node *self)
{
    const rq_conv_shape shape = ref_conv_shape(self);
    const float *wei = ref_slot(self, RQ_SLOT_WEIGHT), *bias = ref_slot(self, RQ_SLOT_BIAS);
    const float *src = self->src;
    float *dst = self->dst;
    const int64_t n_pixels = shape.oh * shape.ow;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < shape.n * n_pixels; i++) {
        const float *image = src + i / n_pixels * shape.ih * shape.iw * shape.ic;
        const int64_t oy = i % n_pixels / shape.ow, ox = i % shape.ow;
        for (int64_t oc = 0; oc < shape.oc; oc++)
            dst[i * shape.oc + oc] =
                conv_f32(&shape, image, wei, oy, ox, oc, bias ? (double)bias[oc] : 0.0);
    }
    return RQ_OK;
}

rq_status ref_batch_norm(const ref_node *self)
{
    const float *gamma = ref_slot(self, RQ_SLOT_WEIGHT), *beta = ref_slot(self, RQ_SLOT_BIAS);
    const float *mean = ref_slot(self, RQ_SLOT_MEAN), *var = ref_slot(self, RQ_SLOT_VAR);
    const float *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++) {
        const size_t c = i % (size_t)self->out->c;
        const double sigma = sqrt((double)var[c] + (double)self->node->eps);
        const double scaled = (double)gamma[c] * ((double)src[i] - (double)mean[c]) / sigma;
        dst[i] = (float)(scaled + (double)beta[c]);
    }
    return RQ_OK;
}

rq_status ref_add(const ref_node *self)
{
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++) {
        double sum = 0.0;
        for (int k = 0; k < self->node->n_inputs; k++)
            sum += (double)((const float *)self->run->values[self->node->input[k]])[i];
        dst[i] = (float)sum;
    }
    return RQ_OK;
}

rq_status ref_relu(const ref_node *self)
{
    const float *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = src[i] > 0.0f ? src[i] : 0.0f;
    return RQ_OK;
}

rq_status ref_scale(const ref_node *self)
{
    const float *weight = ref_slot(self, RQ_SLOT_WEIGHT), *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = src[i] * weight[i % (size_t)self->out->c];
    return RQ_OK;
}

rq_status ref_avg_pool(const ref_node *self)
{
    const rq_conv_shape shape = ref_conv_shape(self);
    const float *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < (int64_t)rq_shape_elems(self->out); i++) {
        const ref_window window = ref_window_at(&shape, i);
        double sum = 0.0;
        for (int k = 0; k < window.n_taps; k++) {
            const int64_t at = ref_window_tap(&shape, &window, k);
            sum += at >= 0 ? (double)src[at] : 0.0;
        }
        dst[i] = (float)(sum / window.n_taps);
    }
    return RQ_OK;
}

rq_status ref_max_pool(const ref_node *self)
{
    const rq_conv_shape shape = ref_conv_shape(self);
    const float *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < (int64_t)rq_shape_elems(self->out); i++) {
        const ref_window window = ref_window_at(&shape, i);
        dst[i] = -INFINITY;
        for (int k = 0; k < window.n_taps; k++) {
            const int64_t at = ref_window_tap(&shape, &window, k);
            dst[i] = at >= 0 && src[at] > dst[i] ? src[at] : dst[i];
        }
    }
    return RQ_OK;
}

rq_status ref_sigmoid(const ref_node *self)
{
    const float *src = self->src;
    float *dst = self->dst;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = (float)(1.0 / (1.0 + exp(-(double)src[i])));
    return RQ_OK;
}

rq_status ref_mul(const ref_node *self)
{
    const float *src = self->src, *gate = self->run->values[self->node->input[1]];
    float *dst = self->dst;
    const size_t image = rq_shape_elems(self->out) / (size_t)self->out->n;
    const size_t channels = (size_t)self->out->c;
    for (size_t i = 0; i < rq_shape_elems(self->out); i++)
        dst[i] = src[i] * gate[i / image * channels + i % channels];
    return RQ_OK;
}

rq_status ref_global_avg_pool(const ref_node *self)
{
    const int64_t n_pixels = self->in->h * self->in->w, c = self->in->c;
    const float *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < self->out->n * c; i++) {
        double sum = 0.0;
        for (int64_t p = 0; p < n_pixels; p++)
            sum += (double)src[(i / c * n_pixels + p) * c + i % c];
        dst[i] = (float)(sum / (double)n_pixels);
    }
    return RQ_OK;
}

rq_status ref_linear(const ref_node *self)
{
    const float *wei = ref_slot(self, RQ_SLOT_WEIGHT), *bias = ref_slot(self, RQ_SLOT_BIAS);
    const int64_t ic = self->in->c, oc = self->out->c;
    const float *src = self->src;
    float *dst = self->dst;
    for (int64_t i = 0; i < self->out->n * oc; i++) {
        double sum = (double)bias[i % oc];
        for (int64_t k = 0; k < ic; k++)
            sum += (double)src[i / oc * ic + k] * (double)wei[i % oc * ic + k];
        dst[i] = (float)sum;
    }
    return RQ_OK;
}
