/* qat_train DIR --base-weights withbn.bin: fake-quant fine-tuning. Options and defaults follow the
 * original script (quant_qat_train.py); where ours differ, the help says so. */
#include "cli/commands.h"

#include <stdio.h>

#include "cli/training.h"
#include "qat/prepare.h"
#include "runtime/dnn/dnn.h"
#include "runtime/eval/open_model.h"

typedef struct qat_flags {
    rq_train_options train;
    const char *arch, *base_weights, *tag;
    int quant_layers;
    bool fp_finetune;
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
    RQ_OPTION_FLAG(
        "fixobserver", 0, qat_flags, train.fix_observer,
        "keep the ranges from epoch 3/8 of all, plus 2, on (on unless --no-fixobserver)"),
    RQ_OPTION_FLAG("fixbn", 0, qat_flags, train.fix_bn,
                   "freeze batch norm from epoch 2/8 of all, plus 2, on (on unless --no-fixbn)"),
};

static rq_status load_base(rq_model *out, const rq_model *base, const qat_flags *flags,
                           rq_error *err)
{
    if (flags->fp_finetune) { /* a copy, to be trained */
        RQ_TRY(rq_graph_clone(&out->graph, &base->graph, err));
        return rq_model_copy_info(out, base, err);
    }
    const rq_status status = rq_prepare_qat(out, base, (rq_quant_layers)flags->quant_layers, err);
    if (status)
        rq_error_prefix(err, "%s", flags->base_weights);
    return status;
}

static rq_status open_base(rq_model *out, const qat_flags *flags, rq_error *err)
{
    rq_model base = RQ_MODEL_INIT;
    const rq_open_options asked = {.arch = flags->arch};
    RQ_TRY(rq_open_model(&base, flags->base_weights, &asked, 1u << RQ_FORM_WITHBN, err));
    const rq_status status = load_base(out, &base, flags, err);
    rq_model_deinit(&base);
    return status;
}

static rq_status train(const qat_flags *flags, int argc, char **argv, rq_error *err)
{
    rq_model model = RQ_MODEL_INIT;
    rq_status status = open_base(&model, flags, err);
    if (!status)
        status = rq_model_set_origin(&model, flags->base_weights, argc, argv, err);
    if (!status) {
        model.seed = (uint64_t)flags->train.seed;
        rq_train_set_sizes(&model, &flags->train, false);
        status = rq_training_run(&model, &flags->train, err);
    }
    rq_model_deinit(&model);
    return status;
}

static rq_status run(const rq_command *self, int argc, char **argv, rq_error *err)
{
    qat_flags flags = {.train = rq_train_options_init(), .tag = "testtest"};
    flags.train.epochs = 8;
    flags.train.lr = 1e-4;
    flags.train.warmup_epochs = 1.0;
    flags.train.optimizer.rules.bias_lr = 2.0;
    flags.train.precision = rq_dnn_has_bf16() ? RQ_PRECISION_BF16 : RQ_PRECISION_F32;
    flags.train.fix_observer = flags.train.fix_bn = true;
    const rq_option_set sets[] = {
        {rq_train_table, rq_train_table_size, &flags.train},
        {table, sizeof table / sizeof table[0], &flags},
    };
    bool done;
    RQ_TRY(rq_command_option_sets(self, sets, 2, argc, argv, &done, err));
    flags.train.sets = sets;
    flags.train.n_sets = 2;
    char output[256];
    if (!flags.train.output) {
        if (snprintf(output, sizeof output, "qat_%s.bin", flags.tag) >= (int)sizeof output)
            return rq_fail(err, RQ_ERR_USAGE, "tag %s is too long", flags.tag);
        flags.train.output = output;
    }
    return done ? RQ_OK : train(&flags, argc, argv, err);
}

const rq_command rq_command_qat_train = {"qat_train",
                                         "fine-tune with fake quantization (after insert_bn)", run};
