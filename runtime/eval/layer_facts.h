/* What can be said about one node of a model, for reports. */
#ifndef RQ_RUNTIME_EVAL_LAYER_FACTS_H
#define RQ_RUNTIME_EVAL_LAYER_FACTS_H

#include "runtime/model/model.h"

typedef struct rq_layer_facts {
    int64_t n_params;  /* elements of its weights and biases */
    int64_t n_buffers; /* of its other parameters: statistics, scales, bounds */
    double macs;       /* multiply-adds per image */

    bool has_scale; /* activation scale: fake_quant, quantize, dequantize, qglobal_avg_pool (of the
                       output) */
    float scale;

    bool has_range; /* fake_quant: what has been observed */
    float min, max;

    bool has_weight_scale; /* quantized convolutions and linear layers: of form qat the scale of the
                              weights, of form int8 the multiplier s_x * s_w / s_y */
    float weight_scale_min, weight_scale_max;

    bool has_acc;    /* the same layers */
    int64_t acc_max; /* the largest |acc| that the weights of any channel allow */
} rq_layer_facts;

/* shapes: of the whole graph, by rq_graph_shapes. Errors: RQ_ERR_MODEL, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_layer_facts_get(rq_layer_facts *out, const rq_model *model, int node,
                                          const rq_shape *shapes, rq_error *err);

#endif
