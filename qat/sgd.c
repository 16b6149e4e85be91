/* One flat loop per parameter tensor. */
#include "qat/sgd.h"

#include <string.h>

#include "runtime/base/simd.h"

typedef struct sgd_tensor {
    float *p;
    const float *gradient;
    float *velocity;
    size_t n;
    float decay, lr_factor;
} sgd_tensor;

struct rq_sgd {
    rq_arena arena;
    rq_sgd_options options;
    sgd_tensor *tensors; /* [n_params]; p NULL without gradient */
    int n_params;
};

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

rq_status rq_sgd_create(rq_sgd **out, const rq_trainer *trainer, rq_model *model,
                        const rq_sgd_options *options, rq_error *err)
{
    rq_sgd *sgd = rq_alloc(sizeof *sgd);
    if (!sgd)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    sgd->options = *options;
    sgd->n_params = model->graph.n_params;
    void *memory = NULL;
    rq_status status =
        rq_arena_array(&sgd->arena, &memory, (size_t)sgd->n_params, sizeof *sgd->tensors, err);
    sgd->tensors = memory;
    for (int i = 0; i < sgd->n_params && status == RQ_OK; i++) {
        const rq_param *param = &model->graph.params[i];
        sgd_tensor *t = &sgd->tensors[i];
        t->gradient = rq_trainer_gradient(trainer, i);
        if (!t->gradient)
            continue;
        t->p = rq_tensor_f32(&param->tensor);
        t->n = rq_tensor_elems(&param->tensor);
        const bool decays = param->tensor.rank >= 2 ||
                            (options->decay_identity && ends_with(param->name, "identity.weight"));
        t->decay = decays ? (float)options->weight_decay : 0.0f;
        t->lr_factor = ends_with(param->name, "bias") ? (float)options->bias_lr : 1.0f;
        status = rq_arena_array(&sgd->arena, &memory, t->n, sizeof(float), err);
        t->velocity = memory;
    }
    if (status != RQ_OK) {
        rq_sgd_destroy(sgd);
        return status;
    }
    *out = sgd;
    return RQ_OK;
}

void rq_sgd_destroy(rq_sgd *sgd)
{
    if (!sgd)
        return;
    rq_arena_deinit(&sgd->arena);
    rq_free(sgd);
}

RQ_SIMD static void update(float *restrict p, const float *restrict gradient,
                           float *restrict velocity, size_t n, float lr, float momentum,
                           float decay, bool nesterov)
{
    for (size_t i = 0; i < n; i++) {
        const float d = gradient[i] + decay * p[i];
        const float v = momentum * velocity[i] + d;
        velocity[i] = v;
        p[i] -= lr * (nesterov ? d + momentum * v : v);
    }
}

enum { CHUNK = 16384 };

void rq_sgd_step(rq_sgd *sgd, double lr)
{
    const float momentum = (float)sgd->options.momentum;
    for (int k = 0; k < sgd->n_params; k++) {
        const sgd_tensor *t = &sgd->tensors[k];
        if (!t->p)
            continue;
        const float step = (float)(lr * (double)t->lr_factor);
#pragma omp parallel for schedule(static) if (t->n > CHUNK)
        for (size_t i = 0; i < t->n; i += CHUNK)
            update(t->p + i, t->gradient + i, t->velocity + i, t->n - i < CHUNK ? t->n - i : CHUNK,
                   step, momentum, t->decay, sgd->options.nesterov);
    }
}

float *rq_sgd_velocity(const rq_sgd *sgd, int param)
{
    return sgd->tensors[param].velocity;
}
