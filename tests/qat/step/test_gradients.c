/* Every gradient that the trainer computes against finite differences of a forward pass in double
 * (reference.h): graphs that cover each operator, each way in which operators merge, every form,
 * batch norm with batch and with running statistics, and the straight-through rules of quantized
 * layers. */
#include <omp.h>
#include <string.h>

#include "fuse/fold.h"
#include "qat/prepare.h"
#include "runtime/model/arch.h"
#include "tests/qat/reference.h"
#include "tests/support/test.h"

/* Forward and backward in f32 leave less than 1e-5 of a tensor's largest gradient; another CPU sums
 * in another order. A term that is missing shows in the first digits. */
#define REL 5e-5
#define ABS 1e-6 /* gradients that are exactly 0 in theory: f32 sums that cancel */

enum { SAMPLES = 6, BATCH = 4, SIDE = 7, CLASSES = 3 };

typedef struct gradient_case {
    bool frozen, ignore;
    double smoothing;
    const bool *frozen_nodes;
} gradient_case;

/* What came out of the comparison. */
typedef struct outcome {
    int compared, wrong, kinks;
} outcome;

static double largest_gradient(const float *gradient, size_t n)
{
    double largest = 0.0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)gradient[i]));
    return largest;
}

/* A sample of one parameter's elements, the one with the largest gradient among them. */
static outcome compare_param(reference *r, const rq_trainer *trainer, int param, rq_random *random,
                             bool say)
{
    const rq_param *p = &r->model->graph.params[param];
    const float *gradient = rq_trainer_gradient(trainer, param);
    const size_t n = rq_tensor_elems(&p->tensor);
    const double largest = largest_gradient(gradient, n);
    outcome result = {0};
    for (int k = 0; k < SAMPLES; k++) {
        size_t i = (size_t)rq_random_below(random, n);
        for (size_t at = 0; k == 0 && at < n; at++)
            if (fabs((double)gradient[at]) == largest)
                i = at;
        double slope;
        if (!reference_slope(r, param, i, &slope)) {
            result.kinks++;
            continue;
        }
        result.compared++;
        if (fabs((double)gradient[i] - slope) <= ABS + REL * fmax(largest, fabs(slope)))
            continue;
        result.wrong++;
        if (say)
            print_message(
                "%s [%zu]: the trainer says %.9g, finite differences %.9g (largest %.3g)\n",
                p->name, i, (double)gradient[i], slope, largest);
    }
    return result;
}

static outcome compare_all(reference *r, const rq_trainer *trainer)
{
    outcome total = {0};
    rq_random random = {17};
    for (int i = 0; i < r->model->graph.n_params; i++) {
        if (!rq_trainer_gradient(trainer, i))
            continue;
        const outcome one = compare_param(r, trainer, i, &random, true);
        total.compared += one.compared;
        total.wrong += one.wrong;
        total.kinks += one.kinks;
    }
    return total;
}

/* One step of a trainer, and the reference next to it. */
typedef struct bench {
    net_batch batch;
    reference r;
    rq_trainer *trainer;
} bench;

static void bench_start(bench *b, rq_model *model, gradient_case c)
{
    rq_error err = RQ_ERROR_INIT;
    rq_step_result result;
    b->batch = net_random_batch(model, BATCH, c.ignore, 5);
    b->trainer = NULL;
    reference_init(&b->r, model, &b->batch, c.frozen, c.smoothing);
    b->r.frozen_nodes = c.frozen_nodes;
    const rq_trainer_options options = {
        .batch = BATCH, .label_smoothing = c.smoothing, .frozen_nodes = c.frozen_nodes};
    assert_ok(rq_trainer_create(&b->trainer, model, &options, &err), &err);
    rq_trainer_freeze_bn(b->trainer, c.frozen);
    assert_ok(rq_trainer_step(b->trainer, b->batch.pixels, b->batch.labels, &result, &err), &err);
    const double loss = reference_anchor(&b->r, b->trainer);
    assert_close(result.loss, loss, 1e-5, 1e-5);
    assert_int_equal(result.n_counted, c.ignore ? BATCH - 1 : BATCH);
    const double *logits = b->r.values[model->graph.n_nodes - 1];
    for (int i = 0; i < BATCH * model->n_classes; i++)
        assert_close(rq_trainer_logits(b->trainer)[i], logits[i], 1e-4, 1e-4);
}

static void bench_end(bench *b)
{
    rq_trainer_destroy(b->trainer);
    reference_deinit(&b->r);
    rq_free(b->batch.pixels);
}

static void check_model(rq_model *model, gradient_case c)
{
    bench b;
    bench_start(&b, model, c);
    const outcome result = compare_all(&b.r, b.trainer);
    assert_int_equal(result.wrong, 0);
    assert_true(result.compared > 0);
    assert_true(result.kinks * 20 <= result.compared); /* at most 5 % fall on kinks */
    bench_end(&b);
}

/* Batch and running statistics, hard and smoothed labels, all and some labels. */
static void check_ways(rq_model *model)
{
    check_model(model, (gradient_case){.smoothing = 0.0});
    check_model(model, (gradient_case){.smoothing = 0.1, .ignore = true});
    check_model(model, (gradient_case){.smoothing = 0.1, .frozen = true});
}

static void check_net(net *n)
{
    check_ways(&n->model);
    rq_model_deinit(&n->model);
}

/* ---- float graphs ---- */

/* Conv with stride, padding, dilation and groups that differ by axis; bias without batch norm. */
static void test_conv__geometry_and_bias(void **state)
{
    (void)state;
    static const rq_conv_attr odd[] = {
        {{3, 2}, {2, 1}, {1, 0}, {1, 1}, 1},
        {{3, 3}, {1, 2}, {2, 1}, {2, 1}, 1},
        {{1, 1}, {1, 1}, {0, 0}, {1, 1}, 3},
        {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 3},
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        net n;
        net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 100 + i);
        const int a = net_relu(&n, "relu", net_conv(&n, "a", 0, 6, odd[i], true));
        const int b = net_conv(&n, "b", a, 9, NET_K1, true); /* a bias that nothing follows */
        (void)net_head(&n, b);
        check_net(&n);
    }
}

static void test_depthwise__conv(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 120);
    const int a = net_conv(&n, "a", 0, 5, NET_K3, false);
    const int b = net_conv(&n, "b", a, 5, (rq_conv_attr){{3, 3}, {2, 2}, {1, 1}, {1, 1}, 5}, false);
    (void)net_head(&n, net_relu(&n, "relu", net_bn(&n, "bn", b)));
    check_net(&n);
}

/* A bias in front of batch norm: its gradient is 0 with batch statistics, not with running ones. */
static void test_conv__bias_before_batch_norm(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 130);
    const int a = net_conv(&n, "a", 0, 5, NET_K3, true);
    (void)net_head(&n, net_relu(&n, "relu", net_bn(&n, "bn", a)));
    check_net(&n);
}

/* Batch norm and relu that merge with nothing: of the image, of a relu, twice in a row. */
static void test_batch_norm__alone(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 140);
    const int a = net_relu(&n, "relu", net_bn(&n, "bn", 0));
    const int b = net_bn(&n, "bn2", net_bn(&n, "bn1", a));
    (void)net_head(&n, b);
    check_net(&n);
}

static void test_relu__alone(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 150);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, false);
    const int b = net_conv(&n, "b", net_relu(&n, "relu", a), 4, NET_K1, false);
    (void)net_head(&n, net_relu(&n, "relu2", net_relu(&n, "relu1", b)));
    check_net(&n);
}

/* Sums of plain values: of two, of three, of one value twice, of a sum. */
static void test_add__plain(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 160);
    const int a = net_relu(&n, "a.relu", net_conv(&n, "a", 0, 4, NET_K3, false));
    const int b = net_conv(&n, "b", a, 4, NET_K3, false);
    const int two = net_add2(&n, "two", a, b);
    const int same = net_add2(&n, "same", two, two);
    const int c = net_conv(&n, "c", same, 4, NET_K1, true);
    const int three = net_add3(&n, "three", c, b, a);
    (void)net_head(&n, net_relu(&n, "relu", three));
    check_net(&n);
}

/* Sums whose terms are batch norms and biases, in each position. */
static void test_add__of_batch_norms_and_biases(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 170);
    const int a = net_relu(&n, "a.relu", net_conv(&n, "a", 0, 4, NET_K3, true));
    const int bias = net_conv(&n, "b", a, 4, NET_K3, true);
    const int c = net_conv(&n, "c", a, 4, NET_K1, false);
    const int bn = net_bn(&n, "bn", c);
    const int sum = net_relu(&n, "relu", net_add3(&n, "sum", bias, a, bn));
    const int bn1 = net_bn(&n, "bn1", sum), bn2 = net_bn(&n, "bn2", c);
    (void)net_head(&n, net_add2(&n, "sum2", bn1, bn2)); /* no relu */
    check_net(&n);
}

/* Three convolutions, three batch norms, and operators of different kinds read one value. */
static void test_value__read_by_three(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 180);
    const int a = net_conv(&n, "a", 0, 4, NET_K3, false); /* a convolution's own output */
    const int b = net_conv(&n, "b", a, 4, NET_K3, false);
    const int c = net_conv(&n, "c", a, 4, NET_K1, false);
    const int sum =
        net_add3(&n, "sum", net_bn(&n, "b.bn", b), net_bn(&n, "c.bn", c), net_bn(&n, "a.bn", a));
    const int relu = net_relu(&n, "relu", sum); /* a mix's output */
    const int d = net_conv(&n, "d", relu, 4, NET_K3, true);
    const int sum2 = net_add3(&n, "sum2", relu, d, net_relu(&n, "relu2", relu));
    const int pool = net_unary(&n, RQ_OP_GLOBAL_AVG_POOL, "gap1", sum2); /* a pool's output */
    const int p1 = net_conv(&n, "p1", pool, 4, NET_K1, true);
    const int p2 = net_conv(&n, "p2", pool, 4, NET_K1, true);
    (void)net_head(&n, net_add3(&n, "sum3", pool, p1, p2));
    check_net(&n);
}

/* Scales as terms of sums, after a relu, of a batch norm; sums of four. */
static void test_scale__terms_and_alone(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 190);
    const int a = net_relu(&n, "a.relu", net_conv(&n, "a", 0, 4, NET_K3, true));
    const int b = net_scale(&n, "b.scale", net_conv(&n, "b", a, 4, NET_K3, false));
    const int c = net_scale(&n, "c.scale", net_conv(&n, "c", a, 4, NET_K1, true));
    const int d = net_bn(&n, "d.bn", net_conv(&n, "d", a, 4, NET_K1, false));
    const int four =
        net_node(&n, RQ_OP_ADD, "four", 4, (const int[]){b, c, net_scale(&n, "a.scale", a), d}, 4);
    const int e = net_relu(&n, "e.relu", net_scale(&n, "e.scale", four));
    const int f = net_bn(&n, "f.bn", net_conv(&n, "f", e, 4, NET_K3, false));
    (void)net_head(&n, net_add2(&n, "sum", net_scale(&n, "f.scale", f), e));
    check_net(&n);
}

/* Windows that overlap, leave pixels out, and reach over the border. */
static void test_avg_pool__geometry(void **state)
{
    (void)state;
    static const rq_conv_attr windows[] = {
        {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
        {{2, 3}, {2, 1}, {0, 2}, {1, 1}, 1},
        {{1, 2}, {3, 3}, {0, 1}, {1, 1}, 1},
    };
    for (size_t i = 0; i < 3; i++) {
        net n;
        net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 300 + i);
        const int a = net_conv(&n, "a", 0, 4, NET_K3, true);
        const int pool = net_unary(&n, RQ_OP_AVG_POOL, "pool", a);
        n.model.graph.nodes[pool].conv = windows[i];
        const int bn = net_bn(&n, "bn", pool);
        (void)net_head(&n, net_relu(&n, "relu", i ? bn : net_add2(&n, "sum", bn, pool)));
        check_net(&n);
    }
}

/* The same windows; what they choose among is negative too, or a relu's, or equal: pixels next to
 * each other of a pool with overlapping windows. */
static void test_max_pool__geometry(void **state)
{
    (void)state;
    static const rq_conv_attr windows[] = {
        {{2, 2}, {2, 2}, {0, 0}, {1, 1}, 1},
        {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
        {{2, 3}, {2, 1}, {0, 2}, {1, 1}, 1},
        {{1, 2}, {3, 3}, {0, 1}, {1, 1}, 1},
    };
    for (size_t i = 0; i < 4; i++) {
        net n;
        net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 330 + i);
        const int a = net_bn(&n, "a.bn", net_conv(&n, "a", 0, 4, NET_K3, false));
        const int pool =
            net_unary(&n, RQ_OP_MAX_POOL, "pool", i % 2 ? a : net_relu(&n, "a.relu", a));
        n.model.graph.nodes[pool].conv = windows[i];
        const int equal = net_unary(&n, RQ_OP_MAX_POOL, "equal", pool);
        n.model.graph.nodes[equal].conv = (rq_conv_attr){{2, 2}, {1, 1}, {0, 0}, {1, 1}, 1};
        const int b = net_bn(&n, "b.bn", net_conv(&n, "b", equal, 4, NET_K3, false));
        (void)net_head(&n, net_relu(&n, "relu", i ? b : net_add2(&n, "sum", b, equal)));
        check_net(&n);
    }
}

/* Gates before the relu, after it, and of a value that nothing is merged into. */
static void test_gate__float(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 310);
    const int a = net_gated_block(&n, "a", 0, 5, NET_K3, true, 2);
    const int b = net_gated_block(&n, "b", a, 5, NET_K3_S2, false, 3);
    const int sum = net_add2(&n, "sum", b, net_gate(&n, "c", b, 1));
    (void)net_head(&n, sum);
    check_net(&n);
}

/* Convolutions and batch norms of pooled values, sigmoids with two readers, of a gate's product. */
static void test_sigmoid__several_readers(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 320);
    const int a = net_relu(&n, "a.relu", net_conv(&n, "a", 0, 4, NET_K3, true));
    const int pool = net_unary(&n, RQ_OP_GLOBAL_AVG_POOL, "pool", a);
    const int bn = net_bn(&n, "bn", net_conv(&n, "p", pool, 4, NET_K1, false));
    const int sigmoid = net_unary(&n, RQ_OP_SIGMOID, "sigmoid", bn);
    const int x = net_node(&n, RQ_OP_MUL, "x", 2, (const int[]){a, sigmoid}, 4);
    const int y = net_node(&n, RQ_OP_MUL, "y", 2, (const int[]){x, sigmoid}, 4);
    (void)net_head(&n, net_unary(&n, RQ_OP_SIGMOID, "sigmoid2", y));
    check_net(&n);
}

/* Four operators read a block's output; the auxiliary loss counts a tenth. */
static void test_value__read_by_four_and_auxiliary_outputs(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_TRAIN, SIDE, CLASSES, 330);
    const int a =
        net_relu(&n, "a.relu", net_bn(&n, "a.bn", net_conv(&n, "a", 0, 4, NET_K3, false)));
    const int b = net_bn(&n, "b.bn", net_conv(&n, "b", a, 4, NET_K3, false));
    const int c = net_bn(&n, "c.bn", net_conv(&n, "c", a, 4, NET_K1, false));
    const int sum = net_add3(&n, "sum", b, c, net_bn(&n, "identity", a));
    const int aux = net_relu(&n, "aux.relu", net_conv(&n, "aux", a, 4, NET_K3_S2, true));
    const int pool = net_unary(&n, RQ_OP_GLOBAL_AVG_POOL, "aux.pool", aux);
    (void)net_conv(&n, "aux.logits", pool, CLASSES, NET_K1, true);
    (void)net_head(&n, net_relu(&n, "relu", sum));
    check_net(&n);
}

/* ---- the forms of a RepVGG ---- */

static const char NET[] = "repvgg:depth=1,2,1;width=4,4,6;stride=1,1,2;groups=2;classes=3";

static void build_arch(rq_model *model, const char *text)
{
    rq_error err = RQ_ERROR_INIT;
    assert_ok(rq_arch_build(model, text, 0, &err), &err);
    model->preprocess.crop = model->preprocess.resize = SIDE;
    rq_model_init_weights(model, 3);
    rq_random random = {4};
    for (int i = 0; i < model->graph.n_params; i++) { /* no batch norm as it starts: 1, 0, 0, 1 */
        rq_tensor *tensor = &model->graph.params[i].tensor;
        for (size_t k = 0;
             tensor->dtype == RQ_F32 && tensor->rank == 1 && k < rq_tensor_elems(tensor); k++)
            rq_tensor_f32(tensor)[k] += (float)(0.4 * rq_random_unit(&random));
    }
}

static void build_net(rq_model *model)
{
    build_arch(model, NET);
}

static void test_repvgg__three_branches(void **state)
{
    (void)state;
    rq_model model = RQ_MODEL_INIT;
    build_net(&model);
    check_ways(&model);
    omp_set_num_threads(3); /* sums of several threads */
    check_ways(&model);
    omp_set_num_threads(1);
    rq_model_deinit(&model);
}

/* Every kind of block, with squeeze-and-excitation in either place and auxiliary heads. */
static void test_repvgg__family(void **state)
{
    (void)state;
    static const char *const archs[] = {
        "repvgg:depth=1,2;width=4,4;stride=1,1;se=pre/2;classes=3",
        "repvgg:depth=1,2,1;width=4,4,4;stride=1,2,1;se=post/4;aux=1;classes=3",
        "repvgg:depth=1,2;width=4,6;stride=1,1;block=qarepvgg;classes=3",
        "repvgg:depth=1,2;width=4,6;stride=2,1;block=target;se=post/2;classes=3",
        "repvgg:depth=1,2;width=4,6;stride=1,2;block=hs;classes=3",
        "repvgg:depth=1,2;width=4,6;stride=1,2;block=csla;se=post/2;classes=3",
        "repvgg:depth=1,2;width=4,6;stride=1,2;block=repopt-repvgg;classes=3",
    };
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        rq_model model = RQ_MODEL_INIT;
        build_arch(&model, archs[i]);
        check_ways(&model);
        rq_model_deinit(&model);
    }
}

/* csla trains the identity's scale; those of the convolutions are constants. */
static void test_repvgg__constant_scales(void **state)
{
    (void)state;
    static const char *const archs[] = {
        "repvgg:depth=1,2;width=4,4;stride=1,1;block=csla;classes=3",
        "repvgg:depth=1,2;width=4,4;stride=1,1;block=hs;classes=3"};
    for (int hs = 0; hs < 2; hs++) {
        rq_error err = RQ_ERROR_INIT;
        rq_model model = RQ_MODEL_INIT;
        rq_trainer *trainer = NULL;
        const rq_trainer_options options = {.batch = BATCH};
        build_arch(&model, archs[hs]);
        assert_ok(rq_trainer_create(&trainer, &model, &options, &err), &err);
        int n_scales = 0, n_trained = 0;
        for (int i = 0; i < model.graph.n_nodes; i++) {
            if (model.graph.nodes[i].op != RQ_OP_SCALE)
                continue;
            const int param = model.graph.nodes[i].slot[RQ_SLOT_WEIGHT];
            const bool identity = strstr(model.graph.nodes[i].name, "scale_identity") != NULL;
            assert_int_equal(rq_trainer_gradient(trainer, param) != NULL, hs || identity);
            n_scales++;
            n_trained += identity;
        }
        assert_int_equal(n_scales, 3 * 2 + 2);
        assert_int_equal(n_trained, 2);
        rq_trainer_destroy(trainer);
        rq_model_deinit(&model);
    }
}

static void test_repvgg__deploy(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_model model = RQ_MODEL_INIT, deploy = RQ_MODEL_INIT;
    build_net(&model);
    assert_ok(rq_fuse(&deploy, &model, &err), &err);
    check_ways(&deploy);
    rq_model_deinit(&deploy);
    rq_model_deinit(&model);
}

static void build_withbn(net *n)
{
    net_begin(n, RQ_FORM_WITHBN, SIDE, CLASSES, 200);
    const int a = net_block(n, "stage0", 0, 5, NET_K3);
    const int b = net_block(n, "stage1.0", a, 6, NET_K3_S2);
    const int c = net_block(n, "stage1.1", b, 6, (rq_conv_attr){{3, 3}, {1, 1}, {1, 1}, {1, 1}, 2});
    (void)net_head(n, c);
}

static void test_repvgg__with_batch_norm(void **state)
{
    (void)state;
    net n;
    build_withbn(&n);
    check_net(&n);
}

/* ---- quantized ---- */

static void build_qat(rq_model *model, rq_quant_layers layers)
{
    rq_error err = RQ_ERROR_INIT;
    net n;
    build_withbn(&n);
    assert_ok(rq_prepare_qat(model, &n.model, layers, &err), &err);
    rq_model_deinit(&n.model);
}

/* Pixels with 1 / (255 std), gamma through the folding factor, the pooled quantizer, linear with
 * its bias; and the float layers around quantized ones. */
static void test_quantized__every_choice_of_layers(void **state)
{
    (void)state;
    for (int layers = 0; rq_quant_layers_names[layers]; layers++) {
        rq_model model;
        build_qat(&model, (rq_quant_layers)layers);
        check_ways(&model);
        rq_model_deinit(&model);
    }
}

/* Every other batch norm frozen, whichever branch of a block it stands in: gradients are right, and
 * running statistics move in the others alone. */
static void check_frozen_nodes(rq_model *model)
{
    const rq_graph *graph = &model->graph;
    bool frozen[NET_NODES] = {false};
    float mean[NET_NODES] = {0.0f};
    int n = 0;
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i].op == RQ_OP_BATCH_NORM) {
            frozen[i] = n++ % 2 == 0;
            mean[i] = *rq_tensor_f32(rq_graph_tensor(graph, i, RQ_SLOT_MEAN));
        }
    assert_true(n > 2 && graph->n_nodes <= NET_NODES);
    check_model(model, (gradient_case){.smoothing = 0.1, .frozen_nodes = frozen});
    for (int i = 0; i < graph->n_nodes; i++)
        if (graph->nodes[i].op == RQ_OP_BATCH_NORM)
            assert_int_equal(mean[i] == *rq_tensor_f32(rq_graph_tensor(graph, i, RQ_SLOT_MEAN)),
                             frozen[i]);
}

static void test_frozen_nodes__some_batch_norms(void **state)
{
    (void)state;
    rq_model model = RQ_MODEL_INIT, qat;
    build_net(&model);
    check_frozen_nodes(&model);
    rq_model_deinit(&model);
    build_qat(&qat, RQ_QUANT_ALL);
    check_frozen_nodes(&qat);
    rq_model_deinit(&qat);
}

/* Ranges far too small: most values and their gradients are clamped. */
static void test_quantized__clamped_values(void **state)
{
    (void)state;
    for (int frozen = 0; frozen < 2; frozen++) {
        rq_model model;
        bench b;
        build_qat(&model, RQ_QUANT_ALL);
        static const char *const names[] = {"stage0.quant", "stage1.0.quant", "stage1.1.quant",
                                            "gap.quant"};
        for (size_t i = 0; i < 4; i++) /* observing moves them by 1 % only */
            *net_values(&model, names[i], RQ_SLOT_MAX) = 0.3f;
        bench_start(&b, &model, (gradient_case){.frozen = frozen});
        float scale;
        const float *q = rq_trainer_value(b.trainer, net_find(&model, "stage0.quant"), &scale);
        int clamped = 0;
        for (int i = 0; i < BATCH * SIDE * SIDE * 5; i++)
            clamped += q[i] == 255.0f;
        assert_in_range(clamped, 50, BATCH * SIDE * SIDE * 5);
        assert_int_equal(compare_all(&b.r, b.trainer).wrong, 0);
        bench_end(&b);
        rq_model_deinit(&model);
    }
}

/* A quantized convolution without batch norm, and quantizers that merge with other things: after a
 * sum, after nothing, after a batch norm without relu. */
static void test_quantized__other_chains(void **state)
{
    (void)state;
    net n;
    net_begin(&n, RQ_FORM_QAT, SIDE, CLASSES, 210);
    rq_graph *graph = &n.model.graph;
    static const rq_slot slots[] = {RQ_SLOT_SCALE, RQ_SLOT_MIN, RQ_SLOT_MAX};
    const int64_t one = 1;
    const int a = net_bn(&n, "a.bn", net_conv(&n, "a", 0, 4, NET_K3, false));
    const int q[4] = {net_unary(&n, RQ_OP_FAKE_QUANT, "q0", a)};
    const int b = net_conv(&n, "b", q[0], 4, NET_K3, true); /* quantized, bias, no batch norm */
    const int q1 = net_unary(&n, RQ_OP_FAKE_QUANT, "q1", net_relu(&n, "relu", b));
    const int c = net_conv(&n, "c", q1, 4, NET_K3, false); /* float over quantized values */
    const int sum = net_add2(&n, "sum", net_bn(&n, "c.bn", c), q1);
    const int q2 = net_unary(&n, RQ_OP_FAKE_QUANT, "q2", sum);
    (void)net_head(&n, q2);
    const int quants[] = {q[0], q1, q2};
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 3; k++)
            (void)net_param(&n, quants[i], slots[k], 1, &one);
    const int64_t oc = 4;
    (void)net_param(&n, b, RQ_SLOT_WEIGHT_SCALE, 1, &oc);
    assert_int_equal(graph->nodes[b].input[0], q[0]);
    check_net(&n);
}

/* Gates in integers: before the relu, where values have zero points, and after it; all layers, and
 * the first and last block with their gates in float. */
static void test_quantized__gates(void **state)
{
    (void)state;
    for (int before = 0; before < 2; before++)
        for (int layers = 0; rq_quant_layers_names[layers]; layers++) {
            rq_error err = RQ_ERROR_INIT;
            net n;
            rq_model model;
            net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 400 + (uint64_t)before);
            const int a = net_gated_block(&n, "a", 0, 4, NET_K3, before, 2);
            const int b = net_gated_block(&n, "b", a, 5, NET_K3_S2, before, 3);
            (void)net_head(&n, net_gated_block(&n, "c", b, 4, NET_K3, before, 2));
            assert_ok(rq_prepare_qat(&model, &n.model, (rq_quant_layers)layers, &err), &err);
            check_ways(&model);
            rq_model_deinit(&model);
            rq_model_deinit(&n.model);
        }
}

/* Signed values to the end: a batch norm without relu, pooled, and a product without relu. */
static void test_quantized__signed_values(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    net n;
    rq_model model;
    net_begin(&n, RQ_FORM_WITHBN, SIDE, CLASSES, 410);
    const int a = net_block(&n, "a", 0, 4, NET_K3);
    const int b = net_bn(&n, "b.bn", net_conv(&n, "b", a, 4, NET_K3, false));
    (void)net_head(&n, net_gate(&n, "c", b, 2));
    assert_ok(rq_prepare_qat(&model, &n.model, RQ_QUANT_ALL, &err), &err);
    check_ways(&model);
    const rq_slot z = RQ_SLOT_ZERO_POINT;
    static const char *const names[] = {"b.bn.quant", "c.gap.quant", "c.quant", "gap.quant"};
    for (size_t i = 0; i < 4; i++)
        assert_in_range(*(uint8_t *)(void *)net_values(&model, names[i], z), 1, 254);
    rq_model_deinit(&model);
    rq_model_deinit(&n.model);
}

/* ---- can these tests fail? ---- */

static void test_checker__sees_wrong_gradients(void **state)
{
    (void)state;
    rq_model model;
    bench b;
    build_qat(&model, RQ_QUANT_ALL);
    bench_start(&b, &model, (gradient_case){.frozen = false});
    assert_int_equal(compare_all(&b.r, b.trainer).wrong, 0);
    for (int i = 0; i < model.graph.n_params; i++) { /* one element of each parameter, by 1 % */
        float *gradient = rq_trainer_gradient(b.trainer, i);
        const size_t n = rq_tensor_elems(&model.graph.params[i].tensor);
        for (size_t k = 0; gradient && k < n; k++)
            if (fabs((double)gradient[k]) == largest_gradient(gradient, n)) {
                gradient[k] *= 1.01f;
                rq_random random = {1};
                assert_true(compare_param(&b.r, b.trainer, i, &random, false).wrong > 0);
                gradient[k] /= 1.01f;
                break;
            }
    }
    b.r.hold_factor = true; /* as if gamma did not act through the folding factor */
    rq_random random = {1};
    const int gamma = model.graph.nodes[net_find(&model, "stage0.bn")].slot[RQ_SLOT_WEIGHT];
    assert_true(compare_param(&b.r, b.trainer, gamma, &random, false).wrong > 0);
    bench_end(&b);
    rq_model_deinit(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv__geometry_and_bias),
        cmocka_unit_test(test_depthwise__conv),
        cmocka_unit_test(test_conv__bias_before_batch_norm),
        cmocka_unit_test(test_batch_norm__alone),
        cmocka_unit_test(test_relu__alone),
        cmocka_unit_test(test_add__plain),
        cmocka_unit_test(test_add__of_batch_norms_and_biases),
        cmocka_unit_test(test_value__read_by_three),
        cmocka_unit_test(test_scale__terms_and_alone),
        cmocka_unit_test(test_avg_pool__geometry),
        cmocka_unit_test(test_max_pool__geometry),
        cmocka_unit_test(test_gate__float),
        cmocka_unit_test(test_sigmoid__several_readers),
        cmocka_unit_test(test_value__read_by_four_and_auxiliary_outputs),
        cmocka_unit_test(test_repvgg__three_branches),
        cmocka_unit_test(test_repvgg__family),
        cmocka_unit_test(test_repvgg__constant_scales),
        cmocka_unit_test(test_repvgg__deploy),
        cmocka_unit_test(test_repvgg__with_batch_norm),
        cmocka_unit_test(test_quantized__every_choice_of_layers),
        cmocka_unit_test(test_frozen_nodes__some_batch_norms),
        cmocka_unit_test(test_quantized__clamped_values),
        cmocka_unit_test(test_quantized__other_chains),
        cmocka_unit_test(test_quantized__gates),
        cmocka_unit_test(test_quantized__signed_values),
        cmocka_unit_test(test_checker__sees_wrong_gradients),
    };
    omp_set_num_threads(1); /* the graphs are tiny */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
