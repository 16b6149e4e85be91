/* Models of a few parameters for the tests of this room: one convolution, pooling, a linear layer;
 * as float, fake-quantized and integer graphs. Their weights are small integers or their
 * multiples. */
#ifndef RQ_TESTS_RUNTIME_TINY_MODELS_H
#define RQ_TESTS_RUNTIME_TINY_MODELS_H

#include <string.h>

#include "runtime/model/model.h"
#include "runtime/model/quant.h"
#include "runtime/reference/integer.h"
#include "tests/support/test.h"

enum { TINY_CHANNELS = 4, TINY_CLASSES = 3, TINY_SIDE = 16, TINY_TAPS = 27 };

#define TINY_SCALE 0.03125f

static int tiny_node(rq_model *model, rq_op op, const char *name)
{
    rq_error err = RQ_ERROR_INIT;
    const int last = model->graph.n_nodes - 1;
    int node;
    assert_ok(rq_graph_add_node(&model->graph, op, name, last >= 0, &last, &node, &err), &err);
    return node;
}

/* Values (i * 7 + salt) mod 11 - 5, times scale for floats. */
static void *tiny_param(rq_model *model, int node, rq_slot slot, rq_dtype dtype, int64_t d0,
                        int64_t d1, float scale)
{
    const bool is_kernel = d1 == TINY_TAPS;
    const int64_t dims[4] = {d0, is_kernel ? 3 : d1, 3, 3};
    const int rank = is_kernel ? 4 : d1 > 0 ? 2 : 1;
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_graph_add_param(&model->graph, node, slot, dtype, rank, dims, &err), &err);
    rq_tensor *tensor = rq_graph_tensor(&model->graph, node, slot);
    for (size_t i = 0; i < rq_tensor_elems(tensor); i++) {
        const int value = (int)(i * 7 + (size_t)slot) % 11 - 5;
        if (dtype == RQ_F32)
            rq_tensor_f32(tensor)[i] = (float)value * scale;
        else if (dtype == RQ_S8)
            ((int8_t *)tensor->data)[i] = (int8_t)value;
        else if (dtype == RQ_S32)
            ((int32_t *)tensor->data)[i] = value;
    }
    return tensor->data;
}

static void tiny_fill(float *values, int n, float value)
{
    for (int i = 0; i < n; i++)
        values[i] = value;
}

static void tiny_begin(rq_model *model, rq_form form)
{
    *model = (rq_model)RQ_MODEL_INIT;
    model->form = form;
    model->arch = "tiny";
    model->n_classes = TINY_CLASSES;
    model->preprocess.resize = model->preprocess.crop = TINY_SIDE;
    for (int c = 0; c < 3; c++)
        model->preprocess.mean[c] = rq_pixel_mean(128);
    (void)tiny_node(model, RQ_OP_INPUT, "input");
}

static int tiny_conv(rq_model *model, rq_op op)
{
    const int node = tiny_node(model, op, "conv");
    model->graph.nodes[node].conv = (rq_conv_attr){{3, 3}, {2, 2}, {1, 1}, {1, 1}, 1};
    return node;
}

/* conv + bias, relu, pooling, linear. */
static inline void tiny_deploy(rq_model *model)
{
    tiny_begin(model, RQ_FORM_DEPLOY);
    const int conv = tiny_conv(model, RQ_OP_CONV);
    (void)tiny_param(model, conv, RQ_SLOT_WEIGHT, RQ_F32, TINY_CHANNELS, TINY_TAPS, 0.1f);
    (void)tiny_param(model, conv, RQ_SLOT_BIAS, RQ_F32, TINY_CHANNELS, 0, 0.2f);
    (void)tiny_node(model, RQ_OP_RELU, "relu");
    (void)tiny_node(model, RQ_OP_GLOBAL_AVG_POOL, "gap");
    const int linear = tiny_node(model, RQ_OP_LINEAR, "linear");
    (void)tiny_param(model, linear, RQ_SLOT_WEIGHT, RQ_F32, TINY_CLASSES, TINY_CHANNELS, 0.5f);
    (void)tiny_param(model, linear, RQ_SLOT_BIAS, RQ_F32, TINY_CLASSES, 0, 0.1f);
}

static inline void tiny_fake_quant(rq_model *model, const char *name)
{
    const int node = tiny_node(model, RQ_OP_FAKE_QUANT, name);
    *(float *)tiny_param(model, node, RQ_SLOT_SCALE, RQ_F32, 1, 0, 0.0f) = TINY_SCALE;
    (void)tiny_param(model, node, RQ_SLOT_MIN, RQ_F32, 1, 0, 0.0f);
    *(float *)tiny_param(model, node, RQ_SLOT_MAX, RQ_F32, 1, 0, 0.0f) = 255 * TINY_SCALE;
}

static inline void tiny_qat(rq_model *model)
{
    tiny_begin(model, RQ_FORM_QAT);
    const int conv = tiny_conv(model, RQ_OP_CONV);
    (void)tiny_param(model, conv, RQ_SLOT_WEIGHT, RQ_F32, TINY_CHANNELS, TINY_TAPS, 0.1f);
    (void)tiny_param(model, conv, RQ_SLOT_BIAS, RQ_F32, TINY_CHANNELS, 0, 0.2f);
    tiny_fill(tiny_param(model, conv, RQ_SLOT_WEIGHT_SCALE, RQ_F32, TINY_CHANNELS, 0, 0.0f),
              TINY_CHANNELS, 0x1p-12f);
    (void)tiny_node(model, RQ_OP_RELU, "relu");
    tiny_fake_quant(model, "conv.quant");
    (void)tiny_node(model, RQ_OP_GLOBAL_AVG_POOL, "gap");
    tiny_fake_quant(model, "gap.quant");
    const int linear = tiny_node(model, RQ_OP_LINEAR, "linear");
    (void)tiny_param(model, linear, RQ_SLOT_WEIGHT, RQ_F32, TINY_CLASSES, TINY_CHANNELS, 0.5f);
    (void)tiny_param(model, linear, RQ_SLOT_BIAS, RQ_F32, TINY_CLASSES, 0, 0.1f);
    tiny_fill(tiny_param(model, linear, RQ_SLOT_WEIGHT_SCALE, RQ_F32, TINY_CLASSES, 0, 0.0f),
              TINY_CLASSES, 0.02f);
}

static void tiny_integer_layer(rq_model *model, int node, int64_t channels, int64_t taps,
                               float multiplier)
{
    const int8_t *w = tiny_param(model, node, RQ_SLOT_WEIGHT, RQ_S8, channels, taps, 0.0f);
    const int32_t *b = tiny_param(model, node, RQ_SLOT_BIAS, RQ_S32, channels, 0, 0.0f);
    tiny_fill(tiny_param(model, node, RQ_SLOT_MULTIPLIER, RQ_F32, channels, 0, 0.0f), (int)channels,
              multiplier);
    int64_t *acc_max = tiny_param(model, node, RQ_SLOT_ACC_MAX, RQ_S64, channels, 2, 0.0f);
    for (int64_t c = 0; c < channels; c++) {
        acc_max[2 * c] = rq_acc_bound(w + c * taps, (size_t)taps);
        acc_max[2 * c + 1] = rq_acc_bias_bound(w + c * taps, (size_t)taps, b[c]);
    }
}

static inline void tiny_int8(rq_model *model)
{
    tiny_begin(model, RQ_FORM_INT8);
    const int conv = tiny_conv(model, RQ_OP_QCONV);
    tiny_integer_layer(model, conv, TINY_CHANNELS, TINY_TAPS, 0.05f);
    memset(tiny_param(model, conv, RQ_SLOT_ZERO_POINT, RQ_U8, 3, 0, 0.0f), 128, 3);
    const int pool = tiny_node(model, RQ_OP_QGLOBAL_AVG_POOL, "gap");
    tiny_fill(tiny_param(model, pool, RQ_SLOT_SCALE, RQ_F32, 2, 0, 0.0f), 2, TINY_SCALE);
    tiny_integer_layer(model, tiny_node(model, RQ_OP_QLINEAR, "linear"), TINY_CLASSES,
                       TINY_CHANNELS, 0.01f);
}

#endif
