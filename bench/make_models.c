/* make_models DIR [ARCH]
 *
 * Writes a network (default RepVGG-A0) with random weights, for measuring speed: DIR/deploy.bin in
 * FP32 and DIR/int8.bin. Activations' ranges are made up; the INT8 model is lowered from a
 * fake-quantized graph like any other. */
#include "bench/support.h"
#include "export/lower.h"
#include "fuse/fold.h"
#include "qat/prepare.h"
#include "runtime/model/arch.h"
#include "runtime/model/quant.h"
#include "runtime/modelfile/modelfile.h"

/* Scales as training would leave them, for ranges of 6. */
static void settle(rq_model *qat)
{
    const rq_graph *graph = &qat->graph;
    const float s_x = rq_activation_scale(6.0f);
    for (int i = 0; i < graph->n_nodes; i++) {
        if (graph->nodes[i].op == RQ_OP_FAKE_QUANT)
            *rq_tensor_f32(rq_graph_tensor(graph, i, RQ_SLOT_SCALE)) = s_x;
        const rq_tensor *scale = rq_graph_tensor(graph, i, RQ_SLOT_WEIGHT_SCALE);
        if (!scale)
            continue;
        rq_layer_view layer;
        bench_check(rq_layer_view_init(&layer, qat, i, &bench_err));
        rq_layer_weight_scales(&layer, layer.std ? 1.0f : s_x, rq_tensor_f32(scale));
    }
}

static void save(const rq_model *model, const char *dir, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    bench_check(rq_model_save(model, path, &bench_err));
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3) {
        (void)fprintf(stderr, "usage: make_models DIR [ARCH]\n");
        return 2;
    }
    rq_model train, deploy, withbn, qat, int8;
    bench_check(rq_arch_build(&train, argc == 3 ? argv[2] : "RepVGG-A0", 0, &bench_err));
    rq_model_init_weights(&train, 1);
    bench_check(rq_fuse(&deploy, &train, &bench_err));
    save(&deploy, argv[1], "deploy.bin");
    bench_unit_bn(&withbn, &deploy);
    bench_check(rq_prepare_qat(&qat, &withbn, RQ_QUANT_ALL, &bench_err));
    settle(&qat);
    const rq_lower_options options = RQ_LOWER_OPTIONS_INIT;
    bench_check(rq_lower(&int8, &qat, &options, &bench_err));
    save(&int8, argv[1], "int8.bin");
    rq_model *models[] = {&train, &deploy, &withbn, &qat, &int8};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        rq_model_deinit(models[i]);
    return 0;
}
