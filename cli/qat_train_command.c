/* qat_train DIR --base-weights withbn.bin: fake-quant fine-tuning. Options and defaults follow the
 * original script (quant_qat_train.py); where ours differ, the help says so. */
#include "cli/commands.h"

#include <stdio.h>

#include "cli/loop_flags.h"
#include "qat/prepare.h"
#include "runtime/dnn/dnn.h"
#include "runtime/eval/open_model.h"

typedef struct qat_flags {
    const char *arch, *base_weights, *tag;
    int quant_layers;
    bool fp_finetune, fix_observer, fix_bn;
} qat_flags;

static const rq_option table[] = {
    RQ_OPTION_REQUIRED("base-weights", 0, qat_flags, base_weights, "FILE",
                       "model with batch norm, made by insert_bn"),
    RQ_OPTION_STRING("arch", 'a', qat_flags, arch, "ARCH",
                     "architecture, checked against the file's"),
    RQ_OPTION_STRING("tag", 0, qat_flags, tag, "TAG", "without -o, the output is qat_TAG.bin"),
    RQ_OPTION_CHOICE("quantlayers", 0, qat_flags, quant_layers, rq_quant_layers_names,
                     "what is quantized; excluded layers really stay in float"),
    RQ_OPTION_FLAG("fpfinetune", 0, qat_flags, fp_finetune, "fine-tune the float model instead"),
    RQ_OPTION_FLAG("fixobserver", 0, qat_flags, fix_observer,
                   "stop the ranges after epoch 3/8 of all (on unless --no-fixobserver)"),
    RQ_OPTION_FLAG("fixbn", 0, qat_flags, fix_bn,
                   "freeze batch norm after epoch 2/8 of all (on unless --no-fixbn)"),
};

static rq_status load_base(rq_model *out, const qat_flags *flags, rq_error *err)
{
    rq_model base = RQ_MODEL_INIT;
    const rq_open_options asked = {.arch = flags->arch};
    rq_status status = rq_open_model(&base, flags->base_weights, &asked, 1u << RQ_FORM_WITHBN, err);
    if (status != RQ_OK)
        return status;
    if (flags->fp_finetune) { /* a copy, to be trained */
        status = rq_graph_clone(&out->graph, &base.graph, err);
        if (status == RQ_OK)
            status = rq_model_copy_info(out, &base, err);
    } else {
        status = rq_prepare_qat(out, &base, (rq_quant_layers)flags->quant_layers, err);
        if (status != RQ_OK)
            rq_error_prefix(err, "%s", flags->base_weights);
    }
    rq_model_deinit(&base);
    return status;
}

static rq_status train(rq_model *model, const qat_flags *flags, const rq_loop_flags *loop,
                       const rq_option_set *sets, size_t n_sets, rq_error *err)
{
    rq_loop_options options;
    rq_loop_result result;
    rq_status status = rq_loop_flags_apply(loop, sets, n_sets, &options, err);
    if (status != RQ_OK)
        return status;
    options.observer_freeze_eighths = flags->fix_observer ? 3 : 0;
    options.bn_freeze_eighths = flags->fix_bn ? 2 : 0;
    status = rq_train_loop(model, &options, &result, err);
    if (status == RQ_OK)
        rq_loop_print_result(loop, &options, &result);
    return status;
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    qat_flags flags = {.tag = "testtest", .fix_observer = true, .fix_bn = true};
    rq_loop_flags loop = rq_loop_flags_init();
    loop.epochs = 8;
    loop.lr = 1e-4;
    loop.weight_decay = 1e-4;
    loop.warmup_epochs = 1.0;
    loop.bias_lr = 2.0;
    loop.precision = rq_dnn_has_bf16() ? RQ_PRECISION_BF16 : RQ_PRECISION_F32;
    const rq_option_set sets[] = {
        {rq_loop_flags_table, rq_loop_flags_count, &loop},
        {table, sizeof table / sizeof table[0], &flags},
    };
    enum { N_SETS = sizeof sets / sizeof sets[0] };
    bool done;
    rq_status status = rq_command_option_sets(self, sets, N_SETS, argc, argv, &done, err);
    if (status != RQ_OK || done)
        return status;
    char output[256];
    if (!loop.output) {
        if (snprintf(output, sizeof output, "qat_%s.bin", flags.tag) >= (int)sizeof output)
            return rq_fail(err, RQ_ERR_USAGE, "tag %s is too long", flags.tag);
        loop.output = output;
    }
    rq_model model = RQ_MODEL_INIT;
    status = load_base(&model, &flags, err);
    if (status == RQ_OK)
        status = rq_model_set_origin(&model, flags.base_weights, argc, argv, err);
    if (status == RQ_OK) {
        model.seed = (uint64_t)loop.seed;
        rq_loop_set_sizes(&model, &loop, false);
        status = train(&model, &flags, &loop, sets, N_SETS, err);
    }
    rq_model_deinit(&model);
    return status;
}

const rq_command rq_command_qat_train = {"qat_train",
                                         "fine-tune with fake quantization (after insert_bn)", run};
