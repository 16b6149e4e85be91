/* Architectures: functions that build graphs, in training form and in deploy form.
 *
 * A network has a name ("RepVGG-A0"; all of them: arch_names.c) or a description:
 *
 *     repvgg:depth=1,2,4,14,1;width=48,48,96,192,1280
 *
 * A name is short for a description. Fields come in any order, each at most once; those with one
 * value per stage begin with stage0, and there are 1 to 8 stages:
 *
 *   depth    blocks of each stage; depth[0] is 1
 *   width    channels of each stage
 *   stride   of the first block of each stage; 2 everywhere when not given
 *   pool     how a first block with a stride gets smaller: conv, its convolutions stride, or max,
 *            they do not, and a max_pool follows the block (module pool);
 *            conv
 *   groups   G: the layers 2, 4, 6, … (counted over the whole network from 0) use G groups, as the
 *            g2 and g4 models do; 1
 *   block    the kind of all blocks, a word of RQ_BLOCK_LIST; repvgg
 *   se       squeeze-and-excitation in every block: pre/R before its ReLU (module se), post/R
 *            after it (module post_se), with width / R hidden channels; none
 *   aux      numbers of the stages whose output feeds an auxiliary head too; none
 *   names    module path of each stage; stage0,stage1,… The first stage's block has the stage's
 *            path, the others' add a number: stage1.0, stage1.1, …
 *   classes  1000
 *
 * Sources: RepVGG (arXiv 2101.03697) tables 2 to 5, repvgg.py, repvggplus.py; QARepVGG (arXiv
 * 2212.01593); RepOptimizer (arXiv 2205.15242), repoptvgg_model.py. */
#ifndef RQ_RUNTIME_MODEL_ARCH_H
#define RQ_RUNTIME_MODEL_ARCH_H

#include "runtime/model/model.h"

enum {
    RQ_MAX_STAGES = 8,
    RQ_MAX_DEPTH = 256,        /* blocks of a network */
    RQ_STAGE_NAME_BYTES = 32,  /* with the NUL */
    RQ_ARCH_TEXT_BYTES = 1024, /* enough for any description */
};

/* Kinds of blocks: code, name of the function that builds it, word in descriptions, name of the
 * activation's module. All are one linear part, which merging turns into a 3x3 convolution, and a
 * ReLU; the identity branch exists where the channels stay the same and the stride is 1.
 *
 *   repvgg         bn(conv3x3(x)) + bn(conv1x1(x)) + bn(x)
 *   qarepvgg       bn(bn(conv3x3(x)) + conv1x1(x) + x)
 *   target         bn(conv3x3(x)): what RepOptimizer trains
 *   hs             bn(s * conv3x3(x) + t * conv1x1(x) + r * x), scales per channel: its
 *                  hyper-search
 *   csla           the same with constant s and t: what the target's training is equivalent to
 *   repopt-repvgg  repvgg under the module names of RepOptimizer's repository */
#define RQ_BLOCK_LIST(X)                                                                           \
    X(REPVGG, repvgg, "repvgg", "nonlinearity")                                                    \
    X(QAREPVGG, qarepvgg, "qarepvgg", "nonlinearity")                                              \
    X(TARGET, target, "target", "relu")                                                            \
    X(HS, hs, "hs", "relu")                                                                        \
    X(CSLA, csla, "csla", "relu")                                                                  \
    X(REPOPT_REPVGG, repopt_repvgg, "repopt-repvgg", "relu")

typedef enum rq_block {
#define X(code, function, word, activation) RQ_BLOCK_##code,
    RQ_BLOCK_LIST(X)
#undef X
        RQ_N_BLOCKS
} rq_block;

typedef enum rq_se_place { RQ_SE_NONE, RQ_SE_PRE, RQ_SE_POST, RQ_N_SE_PLACES } rq_se_place;

typedef struct rq_arch {
    int n_stages;
    int depth[RQ_MAX_STAGES], width[RQ_MAX_STAGES], stride[RQ_MAX_STAGES];
    char name[RQ_MAX_STAGES][RQ_STAGE_NAME_BYTES];
    bool aux[RQ_MAX_STAGES];
    bool max_pool;
    int groups;
    rq_block block;
    rq_se_place se;
    int se_reduction; /* 0 without SE */
    int classes;
} rq_arch;

/* Parse a name or description. Errors: RQ_ERR_USAGE naming the part that is wrong; an unknown name
 * lists those that begin alike. */
RQ_NODISCARD rq_status rq_arch_parse(rq_arch *out, const char *text, rq_error *err);

/* The same for the fields alone, what follows the prefix in a description. */
#define RQ_ARCH_PREFIX "repvgg:"
RQ_NODISCARD rq_status rq_arch_parse_fields(rq_arch *out, const char *fields, rq_error *err);

/* The description of arch, in the form above, without the fields that are at their default. */
void rq_arch_describe(const rq_arch *arch, char text[RQ_ARCH_TEXT_BYTES]);

/* Do both build the same graph, except for the number of classes? */
bool rq_arch_is_same(const rq_arch *a, const rq_arch *b);

/* Groups of a layer, counted over the whole network from 0. */
int rq_arch_layer_groups(const rq_arch *arch, int layer);

/* Module path of a stage's auxiliary head: "stage3_first.blocks" -> "stage3_first_aux". */
void rq_arch_aux_path(const rq_arch *arch, int stage, char path[RQ_STAGE_NAME_BYTES + 4]);

/* The known name number i, from 0; NULL after the last. */
const char *rq_arch_name(int i);

/* Build the training form. Parameters are zero, except BN weight and variance (1) and the scales of
 * hs and csla, which have the values where the hyper-search begins: 1, and sqrt(2 / i) for s and t
 * of block i > 0 of a stage; in csla the nodes of s and t are constant (rq_node).
 *
 * text becomes model->arch. n_classes_override: 0 = as text says. Errors: RQ_ERR_USAGE,
 * RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_arch_build(rq_model *out, const char *text, int n_classes_override,
                                     rq_error *err);

/* Build the deploy form: the linear part of each block is one 3x3 convolution with bias, module
 * rbr_reparam, zeroed, and there are no auxiliary heads. It is what rq_fuse makes of the training
 * form (fuse/fold.h), for weights that were merged elsewhere. Otherwise as rq_arch_build. */
RQ_NODISCARD rq_status rq_arch_build_deploy(rq_model *out, const char *text, int n_classes_override,
                                            rq_error *err);

/* PyTorch's default initialisation, from seed: weights and biases of convolutions and linear layers
 * uniform in ±1/sqrt(fan_in); BN 1 and 0, mean 0, var 1; scales stay as they were built. A
 * parameter's values depend on seed and its name only. Sets model->seed. */
void rq_model_init_weights(rq_model *model, uint64_t seed);

#endif
