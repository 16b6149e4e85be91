/* A model: a graph, what form it is in, how its images are prepared, and where it came from. */
#ifndef RQ_RUNTIME_MODEL_MODEL_H
#define RQ_RUNTIME_MODEL_MODEL_H

#include "runtime/model/graph.h"

/* The steps of the pipeline: code, name in files. */
#define RQ_FORM_LIST(X)                                                                            \
    X(TRAIN, train)                                                                                \
    X(DEPLOY, deploy)                                                                              \
    X(WITHBN, withbn)                                                                              \
    X(QAT, qat)                                                                                    \
    X(INT8, int8)

typedef enum rq_form {
#define X(code, name) RQ_FORM_##code,
    RQ_FORM_LIST(X)
#undef X
        RQ_N_FORMS
} rq_form;

const char *rq_form_name(rq_form form);

/* Evaluation preprocessing: short side to resize (bilinear, antialiased, PIL), centre crop of crop
 * pixels, RGB, then (pixel / 255 - mean) / std. */
typedef struct rq_preprocess {
    int resize, crop; /* pixels */
    float mean[3], std[3];
} rq_preprocess;

#define RQ_PREPROCESS_IMAGENET                                                                     \
    {                                                                                              \
        256, 224, {0.485f, 0.456f, 0.406f},                                                        \
        {                                                                                          \
            0.229f, 0.224f, 0.225f                                                                 \
        }                                                                                          \
    }

/* Normalisation per channel: x = factor * pixel + offset, factor = 1 / (255 * std) and offset =
 * -mean / std, each computed in double and rounded once. */
void rq_preprocess_normalization(const rq_preprocess *preprocess, float factor[3], float offset[3]);

typedef struct rq_model {
    rq_graph graph;
    rq_form form;
    const char *arch; /* "RepVGG-A0" or "repvgg:depth=…" */
    int n_classes;
    const char **class_names; /* n_classes labels, or NULL when unknown */
    rq_preprocess preprocess;
    const char *command; /* command line that made it, or NULL */
    uint64_t seed;
    const char *parent; /* rq_file_id of the file it was made from, or NULL */
    bool isa_proof;     /* form int8: no pair of u8*s8 products can saturate 16 bits (see
                           runtime/reference/integer.h) */
} rq_model;

/* All strings and arrays live in the graph's arena; values as graph.h says. */
#define RQ_MODEL_INIT                                                                              \
    {                                                                                              \
        .graph = RQ_GRAPH_INIT, .preprocess = RQ_PREPROCESS_IMAGENET                               \
    }
void rq_model_deinit(rq_model *model);

/* Copy form, arch, classes, preprocessing, seed and parent (not the graph) into *out's arena: what
 * every pass starts with. */
RQ_NODISCARD rq_status rq_model_copy_info(rq_model *out, const rq_model *source, rq_error *err);

/* Write down where a model comes from: the command line, and the file that it was made from (NULL:
 * none). Errors: RQ_ERR_IO, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_model_set_origin(rq_model *model, const char *parent_path, int argc,
                                           char **argv, rq_error *err);

/* Refuse a model of another form: "PATH: form is train, this command takes deploy (make one with:
 * repqat convert …)". allowed: bit set of 1u << rq_form. */
RQ_NODISCARD rq_status rq_model_require_form(const rq_model *model, const char *path,
                                             unsigned allowed, rq_error *err);

/* Are all f32 parameters finite? Errors: RQ_ERR_MODEL with the first value that is not. */
RQ_NODISCARD rq_status rq_model_check_finite(const rq_model *model, rq_error *err);

#endif
