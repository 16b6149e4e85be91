/* Inside the reference (integer.h): one node as its kernel sees it. Float kernels are in float_ref.c,
 * integer kernels and the walk in integer.c. Only for this folder. */
#ifndef RQ_RUNTIME_REFERENCE_REFERENCE_H
#define RQ_RUNTIME_REFERENCE_REFERENCE_H

#include "runtime/model/model.h"

typedef struct ref_run {
    const rq_model *model;
    const uint8_t *pixels;
    const rq_shape *shapes; /* of every value */
    void **values;
    rq_error *err;
} ref_run;

typedef struct ref_node {
    const ref_run *run;
    int index;
    const rq_node *node;
    const rq_shape *in, *out; /* of input 0 (the node's own for the input) and of the value */
    const void *src;          /* value of input 0, NULL for the input */
    void *dst;
} ref_node;

typedef rq_status ref_kernel(const ref_node *self);

static inline const void *ref_slot(const ref_node *self, rq_slot slot)
{
    const rq_tensor *tensor = rq_graph_tensor(&self->run->model->graph, self->index, slot);
    return tensor ? tensor->data : NULL;
}

static inline rq_conv_shape ref_conv_shape(const ref_node *self)
{
    return rq_graph_conv_shape(&self->run->model->graph, self->run->shapes, self->index);
}

/* Where a convolution reads for one output pixel and one kernel position: the index of the input's
 * pixel within its image, or -1 outside. */
static inline int64_t ref_tap_pixel(const rq_conv_shape *shape, int64_t oy, int64_t ox, int ky,
                                    int kx)
{
    const rq_conv_attr *conv = &shape->conv;
    const int64_t iy = oy * conv->stride[0] - conv->pad[0] + (int64_t)ky * conv->dilation[0];
    const int64_t ix = ox * conv->stride[1] - conv->pad[1] + (int64_t)kx * conv->dilation[1];
    const bool inside = iy >= 0 && iy < shape->ih && ix >= 0 && ix < shape->iw;
    return inside ? iy * shape->iw + ix : -1;
}

/* Of element i of a pool's result: what it is made from. */
typedef struct ref_window {
    int n_taps;
    int64_t image, c, oy, ox;
} ref_window;

static inline ref_window ref_window_at(const rq_conv_shape *shape, int64_t i)
{
    const int64_t pixel = i / shape->oc;
    return (ref_window){shape->conv.kernel[0] * shape->conv.kernel[1],
                        pixel / shape->ow / shape->oh, i % shape->oc, pixel / shape->ow % shape->oh,
                        pixel % shape->ow};
}

/* The index of tap k in the input; -1 outside the image. */
static inline int64_t ref_window_tap(const rq_conv_shape *shape, const ref_window *window, int k)
{
    const int64_t pixel = ref_tap_pixel(shape, window->oy, window->ox, k / shape->conv.kernel[1],
                                        k % shape->conv.kernel[1]);
    return pixel < 0 ? -1 : (window->image * shape->ih * shape->iw + pixel) * shape->ic + window->c;
}

/* Kernels of the float operators: sums in double, rounded to f32 once per value. */
ref_kernel ref_input, ref_conv, ref_batch_norm, ref_add, ref_relu, ref_scale, ref_avg_pool,
    ref_max_pool, ref_global_avg_pool, ref_sigmoid, ref_mul, ref_linear;

#endif
