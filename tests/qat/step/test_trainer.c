/* The training step against PyTorch: convolution and batch norm, a whole network with three-branch
 * blocks over several optimizer steps, a quantized block; and that a step allocates nothing. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "qat/prepare.h"
#include "qat/step/convolution.h"
#include "qat/step/step.h"
#include "qat/update/optimizer.h"
#include "runtime/model/arch.h"
#include "runtime/model/model.h"
#include "tests/qat/golden.h"
#include "tests/support/test.h"

/* f32 against float64 rounded once */
#define F32_ABS 2e-5
#define F32_REL 2e-4

/* input -> adapter (a 1x1 convolution that is never run) -> the operators under test */
typedef struct operators {
    rq_model model;
    int adapter;
} operators;

static int add(rq_graph *graph, rq_op op, const char *name, int input)
{
    rq_error err = RQ_ERROR_INIT;
    int node = -1;
    assert_ok(rq_graph_add_node(graph, op, name, op == RQ_OP_INPUT ? 0 : 1, &input, &node, &err),
              &err);
    return node;
}

static void add_param(rq_graph *graph, int node, rq_slot slot, int rank, const int64_t *dims)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_graph_add_param(graph, node, slot, slot == RQ_SLOT_TRACKED ? RQ_S64 : RQ_F32, rank,
                                 dims, &err),
              &err);
}

static int add_conv(rq_graph *graph, const char *name, int input, const rq_tensor *weight,
                    int stride, int pad, int groups)
{
    const int node = add(graph, RQ_OP_CONV, name, input);
    const int k = (int)weight->dim[2];
    graph->nodes[node].conv = (rq_conv_attr){{k, k}, {stride, stride}, {pad, pad}, {1, 1}, groups};
    add_param(graph, node, RQ_SLOT_WEIGHT, 4, weight->dim);
    golden_set(graph, node, RQ_SLOT_WEIGHT, *weight);
    return node;
}

static int add_bn(rq_graph *graph, const char *name, int input, rq_tensorfile *file,
                  const char *prefix)
{
    static const struct {
        rq_slot slot;
        const char *name;
    } slots[] = {{RQ_SLOT_WEIGHT, "gamma"},
                 {RQ_SLOT_BIAS, "beta"},
                 {RQ_SLOT_MEAN, "mean"},
                 {RQ_SLOT_VAR, "var"}};
    const int node = add(graph, RQ_OP_BATCH_NORM, name, input);
    graph->nodes[node].eps = 1e-5f;
    for (size_t i = 0; i < 4; i++) {
        const rq_tensor source = golden(file, prefix, slots[i].name);
        add_param(graph, node, slots[i].slot, 1, source.dim);
        golden_set(graph, node, slots[i].slot, source);
    }
    add_param(graph, node, RQ_SLOT_TRACKED, 0, NULL);
    return node;
}

static void start(operators *b, int channels, rq_form form)
{
    memset(b, 0, sizeof *b);
    b->model = (rq_model)RQ_MODEL_INIT;
    b->model.form = form;
    rq_graph *graph = &b->model.graph;
    add(graph, RQ_OP_INPUT, "input", 0);
    float zeros[64 * 3] = {0};
    const rq_tensor weight = {RQ_F32, 4, {channels, 3, 1, 1}, zeros};
    b->adapter = add_conv(graph, "adapter", 0, &weight, 1, 0, 1);
}

static rq_trainer *create(operators *b, const rq_tensor *x)
{
    rq_error err = RQ_ERROR_INIT;
    rq_trainer *trainer = NULL;
    const rq_trainer_options options = {
        .batch = (int)x->dim[0], .height = (int)x->dim[1], .width = (int)x->dim[2]};
    assert_ok(rq_trainer_create(&trainer, &b->model, &options, &err), &err);
    return trainer;
}

static tr_value *output(const rq_trainer *trainer)
{
    return trainer->units[trainer->n_units - 1].dst;
}

static void check_gradient(const rq_trainer *trainer, const rq_model *model, int node, rq_slot slot,
                           const float *want)
{
    const int param = model->graph.nodes[node].slot[slot];
    const size_t n = rq_tensor_elems(&model->graph.params[param].tensor);
    assert_all_close(rq_trainer_gradient(trainer, param), want, n, F32_ABS * 5, F32_REL);
}

static void check_conv_bn(rq_tensorfile *file, const char *name, int stride, int pad, int groups)
{
    rq_error err = RQ_ERROR_INIT;
    operators b;
    const rq_tensor x = golden(file, name, "x"), weight = golden(file, name, "weight");
    start(&b, (int)x.dim[3], RQ_FORM_TRAIN);
    rq_graph *graph = &b.model.graph;
    const int conv = add_conv(graph, "conv", b.adapter, &weight, stride, pad, groups);
    const int bn = add_bn(graph, "bn", conv, file, name);
    add(graph, RQ_OP_RELU, "relu", bn);
    rq_trainer *trainer = create(&b, &x);
    memcpy(trainer->values[b.adapter]->data, x.data, rq_tensor_elems(&x) * sizeof(float));
    assert_ok(tr_run_forward(trainer, 1, &err), &err);
    const tr_value *y = output(trainer);
    const size_t n_y = rq_shape_elems(&y->shape);
    assert_all_close(y->data, golden_f32(file, name, "y"), n_y, F32_ABS, F32_REL);
    memcpy(y->gradient[0], golden_f32(file, name, "r"), n_y * sizeof(float));
    assert_ok(tr_run_backward(trainer, 1, &err), &err);
    assert_all_close(trainer->values[b.adapter]->gradient[0], golden_f32(file, name, "d.x"),
                     rq_tensor_elems(&x), F32_ABS, F32_REL);
    check_gradient(trainer, &b.model, conv, RQ_SLOT_WEIGHT, golden_f32(file, name, "d.weight"));
    check_gradient(trainer, &b.model, bn, RQ_SLOT_WEIGHT, golden_f32(file, name, "d.gamma"));
    check_gradient(trainer, &b.model, bn, RQ_SLOT_BIAS, golden_f32(file, name, "d.beta"));
    const size_t channels = (size_t)y->shape.c;
    assert_all_close(rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_MEAN)),
                     golden_f32(file, name, "new_mean"), channels, 1e-6, 1e-5);
    assert_all_close(rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_VAR)),
                     golden_f32(file, name, "new_var"), channels, 1e-6, 1e-5);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&b.model);
}

static void test_conv_bn__equals_pytorch(void **state)
{
    (void)state;
    rq_tensorfile *file = golden_open("conv_bn");
    check_conv_bn(file, "k3s1", 1, 1, 1);
    check_conv_bn(file, "k3s2", 2, 1, 1);
    check_conv_bn(file, "k3g2", 1, 1, 2);
    check_conv_bn(file, "k1s1", 1, 0, 1);
    rq_tensorfile_close(file);
}

/* ---- a whole network ---- */

static const char NET[] = "repvgg:depth=1,1,1;width=8,8,16;stride=1,1,2;classes=5";

static void load_net(rq_model *model, rq_tensorfile *file)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_arch_build(model, NET, 0, &err), &err);
    for (int i = 0; i < model->graph.n_params; i++) {
        rq_param *param = &model->graph.params[i];
        const rq_tensor source = golden(file, "net.init", param->name);
        assert_int_equal(rq_tensor_elems(&param->tensor), rq_tensor_elems(&source));
        memcpy(param->tensor.data, source.data,
               rq_tensor_elems(&source) * rq_dtype_size(source.dtype));
    }
}

static void compare_params(const rq_model *model, rq_tensorfile *file, const char *loss_name,
                           const char *when, double abs, double rel)
{
    char prefix[32];
    (void)snprintf(prefix, sizeof prefix, "net.%s.%s", loss_name, when);
    for (int i = 0; i < model->graph.n_params; i++) {
        const rq_param *param = &model->graph.params[i];
        if (param->tensor.dtype == RQ_F32)
            assert_all_close(rq_tensor_f32(&param->tensor), golden_f32(file, prefix, param->name),
                             rq_tensor_elems(&param->tensor), abs, rel);
    }
}

static void check_net(rq_tensorfile *file, const char *loss_name, double smoothing)
{
    rq_error err = RQ_ERROR_INIT;
    rq_model model = RQ_MODEL_INIT;
    load_net(&model, file);
    rq_trainer *trainer = NULL;
    rq_optimizer *optimizer = NULL;
    const rq_trainer_options options = {
        .batch = 4, .height = 12, .width = 12, .label_smoothing = smoothing};
    assert_ok(rq_trainer_create(&trainer, &model, &options, &err), &err);
    const rq_optimizer_options optimizer_options = RQ_OPTIMIZER_OPTIONS_INIT;
    assert_ok(rq_optimizer_create(&optimizer, trainer, &model, &optimizer_options, &err), &err);
    const rq_tensor pixels = golden(file, "net", "pixels"), labels = golden(file, "net", "labels");
    int32_t labels32[4];
    for (int i = 0; i < 4; i++)
        labels32[i] = (int32_t)((const int64_t *)labels.data)[i];
    for (int step = 1; step <= 3; step++) {
        rq_step_result result;
        assert_ok(rq_trainer_step(trainer, pixels.data, labels32, &result, &err), &err);
        if (step == 1) {
            char prefix[32];
            (void)snprintf(prefix, sizeof prefix, "net.%s", loss_name);
            assert_all_close(rq_trainer_logits(trainer), golden_f32(file, prefix, "logits"), 20,
                             F32_ABS, F32_REL);
            assert_close(result.loss, *golden_f32(file, prefix, "loss"), 1e-6, 1e-5);
            for (int i = 0; i < model.graph.n_params; i++)
                if (rq_trainer_gradient(trainer, i))
                    assert_all_close(
                        rq_trainer_gradient(trainer, i),
                        golden_f32(file, prefix, rq_test_path("d.%s", model.graph.params[i].name)),
                        rq_tensor_elems(&model.graph.params[i].tensor), F32_ABS, 1e-3);
        }
        assert_ok(rq_optimizer_step(optimizer, 0.1, &err), &err);
        if (step == 1)
            compare_params(&model, file, loss_name, "after1", 1e-5, 1e-4);
    }
    compare_params(&model, file, loss_name, "after3", 1e-4, 1e-3);
    rq_optimizer_destroy(optimizer);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&model);
}

static void test_network__three_steps_equal_pytorch(void **state)
{
    (void)state;
    rq_tensorfile *file = golden_open("block");
    check_net(file, "plain", 0.0);
    check_net(file, "smooth", 0.1);
    rq_tensorfile_close(file);
}

/* ---- a quantized block ---- */

static void check_qat_block(rq_tensorfile *file, bool frozen)
{
    rq_error err = RQ_ERROR_INIT;
    operators b;
    const char *name = frozen ? "frozen" : "train";
    const rq_tensor q_x = golden(file, "", "q_x"), weight = golden(file, "", "weight");
    const int64_t one = 1, oc = weight.dim[0];
    start(&b, (int)q_x.dim[3], RQ_FORM_QAT);
    rq_graph *graph = &b.model.graph;
    const int in = add(graph, RQ_OP_FAKE_QUANT, "in.quant", b.adapter);
    const int conv = add_conv(graph, "conv", in, &weight, 1, 1, 1);
    add_param(graph, conv, RQ_SLOT_WEIGHT_SCALE, 1, &oc);
    const int bn = add_bn(graph, "bn", conv, file, "");
    const int quant = add(graph, RQ_OP_FAKE_QUANT, "quant", add(graph, RQ_OP_RELU, "relu", bn));
    for (int k = 0; k < 2; k++) {
        const int node = k ? quant : in;
        add_param(graph, node, RQ_SLOT_SCALE, 1, &one);
        add_param(graph, node, RQ_SLOT_MIN, 1, &one);
        add_param(graph, node, RQ_SLOT_MAX, 1, &one);
    }
    rq_trainer *trainer = create(&b, &q_x);
    rq_trainer_freeze_bn(trainer, frozen);
    tr_value *x = trainer->values[in];
    const float s_x = *golden_f32(file, "", "s_x");
    x->scale = s_x;
    for (size_t i = 0; i < rq_tensor_elems(&q_x); i++) {
        const uint8_t q = ((const uint8_t *)q_x.data)[i];
        x->data[i] = (float)q;
        if (x->u8)
            x->u8[i] = q;
    }
    assert_ok(tr_run_forward(trainer, 2, &err), &err);
    const tr_value *y = output(trainer);
    const size_t n_y = rq_shape_elems(&y->shape);
    assert_all_close(trainer->values[conv]->quantized_conv->s_w, golden_f32(file, name, "s_w"),
                     (size_t)oc, 0.0, 1e-6);
    assert_close(y->scale, *golden_f32(file, name, "s_y"), 0.0, 1e-5);
    const float *want = golden_f32(file, name, "y"), s_y = *golden_f32(file, name, "s_y");
    for (size_t i = 0; i < n_y; i++) /* the same integers */
        assert_close(y->data[i], rint((double)want[i] / (double)s_y), 0.0, 0.0);
    for (size_t i = 0; i < n_y; i++) /* gradients are with respect to the numbers: real = s q */
        y->gradient[0][i] = golden_f32(file, "", "r")[i] * y->scale;
    assert_ok(tr_run_backward(trainer, 2, &err), &err);
    for (size_t i = 0; i < rq_tensor_elems(&q_x); i++)
        x->gradient[0][i] /= s_x;
    assert_all_close(x->gradient[0], golden_f32(file, name, "d.x"), rq_tensor_elems(&q_x), 1e-4,
                     1e-3);
    check_gradient(trainer, &b.model, conv, RQ_SLOT_WEIGHT, golden_f32(file, name, "d.weight"));
    check_gradient(trainer, &b.model, bn, RQ_SLOT_WEIGHT, golden_f32(file, name, "d.gamma"));
    check_gradient(trainer, &b.model, bn, RQ_SLOT_BIAS, golden_f32(file, name, "d.beta"));
    assert_all_close(rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_MEAN)),
                     golden_f32(file, name, "new_mean"), (size_t)oc, 1e-5, 1e-4);
    assert_all_close(rq_tensor_f32(rq_graph_tensor(graph, bn, RQ_SLOT_VAR)),
                     golden_f32(file, name, "new_var"), (size_t)oc, 1e-5, 1e-4);
    rq_trainer_destroy(trainer);
    rq_model_deinit(&b.model);
}

static void test_qat_block__equals_pytorch(void **state)
{
    (void)state;
    rq_tensorfile *file = golden_open("qat_block");
    check_qat_block(file, false);
    check_qat_block(file, true);
    rq_tensorfile_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_bn__equals_pytorch),
        cmocka_unit_test(test_network__three_steps_equal_pytorch),
        cmocka_unit_test(test_qat_block__equals_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
