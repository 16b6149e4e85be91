/* make_models DIR [ARCH]: a network (RepVGG-A0) with random weights as DIR/deploy.bin and
 * DIR/int8.bin, for measuring speed. Ranges are made up; the int8 model is a real one, lowered from
 * a fake-quantized graph. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/unit_bn.h"
#include "export/lower.h"
#include "fuse/fold.h"
#include "qat/prepare.h"
#include "runtime/model/arch.h"
#include "runtime/model/quant.h"
#include "runtime/modelfile/modelfile.h"

static rq_error err;

static void check(rq_status status)
{
    if (status != RQ_OK) {
        (void)fprintf(stderr, "make_models: %s\n", err.text);
        exit(1);
    }
}

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
        check(rq_layer_view_init(&layer, qat, i, &err));
        rq_layer_weight_scales(&layer, layer.std ? 1.0f : s_x, rq_tensor_f32(scale));
    }
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3) {
        (void)fprintf(stderr, "usage: make_models DIR [ARCH]\n");
        return 2;
    }
    char path[4096];
    rq_model train, deploy, withbn, qat, int8;
    check(rq_arch_build(&train, argc == 3 ? argv[2] : "RepVGG-A0", 0, &err));
    rq_model_init_weights(&train, 1);
    check(rq_fuse(&deploy, &train, &err));
    (void)snprintf(path, sizeof path, "%s/deploy.bin", argv[1]);
    check(rq_model_save(&deploy, path, &err));
    check(bench_unit_bn(&withbn, &deploy, &err));
    check(rq_prepare_qat(&qat, &withbn, RQ_QUANT_ALL, &err));
    settle(&qat);
    const rq_lower_options options = RQ_LOWER_OPTIONS_INIT;
    check(rq_lower(&int8, &qat, &options, &err));
    (void)snprintf(path, sizeof path, "%s/int8.bin", argv[1]);
    check(rq_model_save(&int8, path, &err));
    rq_model *models[] = {&train, &deploy, &withbn, &qat, &int8};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        rq_model_deinit(models[i]);
    return 0;
}
