/* A copy of all the model's tensors. */
#include "qat/update/ema.h"

#include <string.h>

#include "runtime/base/simd.h"

const char *const rq_ema_rule_names[] = {"repvgg", "plain", NULL};

struct rq_ema {
    rq_arena arena;
    rq_model *model;
    void **values; /* [n_params] */
};

enum { PERIOD = 8, CHUNK = 16384, SWAP_BYTES = 4096 };

double rq_ema_share(const rq_ema_options *options, int64_t epoch, int64_t i)
{
    if (options->rule == RQ_EMA_PLAIN)
        return options->alpha;
    if (!(options->alpha > 0.0) || i % PERIOD != 0)
        return 0.0;
    const double a = options->alpha * (options->batch / options->epochs) * PERIOD;
    return (double)epoch < options->warmup_epochs || a > 1.0 ? 1.0 : a;
}

static size_t size_bytes(const rq_tensor *tensor)
{
    return rq_tensor_elems(tensor) * rq_dtype_size(tensor->dtype);
}

static rq_status copy_values(rq_ema *ema, rq_error *err)
{
    const rq_graph *graph = &ema->model->graph;
    ema->values = rq_arena_array(&ema->arena, void *, graph->n_params);
    if (!ema->values)
        return rq_no_memory(err);
    for (int i = 0; i < graph->n_params; i++) {
        const rq_tensor *tensor = &graph->params[i].tensor;
        ema->values[i] = rq_arena_alloc(&ema->arena, size_bytes(tensor));
        if (!ema->values[i])
            return rq_no_memory(err);
        memcpy(ema->values[i], tensor->data, size_bytes(tensor));
    }
    return RQ_OK;
}

rq_status rq_ema_create(rq_ema **out, rq_model *model, rq_error *err)
{
    rq_ema *ema = rq_alloc(sizeof *ema);
    if (!ema)
        return rq_no_memory(err);
    ema->model = model;
    const rq_status status = copy_values(ema, err);
    if (status)
        rq_ema_destroy(ema);
    else
        *out = ema;
    return status;
}

void rq_ema_destroy(rq_ema *ema)
{
    if (!ema)
        return;
    rq_arena_deinit(&ema->arena);
    rq_free(ema);
}

RQ_SIMD static void average(float *restrict x, const float *restrict new, size_t n, float keep,
                            float a)
{
    for (size_t i = 0; i < n; i++)
        x[i] = keep * x[i] + a * new[i];
}

void rq_ema_update(rq_ema *ema, double a)
{
    for (int k = 0; k < ema->model->graph.n_params; k++) {
        const rq_tensor *tensor = &ema->model->graph.params[k].tensor;
        if (tensor->dtype != RQ_F32 || a >= 1.0) {
            memcpy(ema->values[k], tensor->data, size_bytes(tensor));
            continue;
        }
        const size_t n = rq_tensor_elems(tensor);
        const float *new = rq_tensor_f32(tensor);
        float *x = ema->values[k];
#pragma omp parallel for schedule(static) if (n > CHUNK)
        for (size_t i = 0; i < n; i += CHUNK)
            average(x + i, new + i, n - i < CHUNK ? n - i : CHUNK, (float)(1.0 - a), (float)a);
    }
}

static void swap(void *a, void *b, size_t n_bytes)
{
    unsigned char buffer[SWAP_BYTES], *x = a, *y = b;
    for (size_t i = 0; i < n_bytes; i += SWAP_BYTES) {
        const size_t n = n_bytes - i < SWAP_BYTES ? n_bytes - i : SWAP_BYTES;
        memcpy(buffer, x + i, n);
        memcpy(x + i, y + i, n);
        memcpy(y + i, buffer, n);
    }
}

void rq_ema_swap(rq_ema *ema)
{
    for (int i = 0; i < ema->model->graph.n_params; i++) {
        const rq_tensor *tensor = &ema->model->graph.params[i].tensor;
        swap(tensor->data, ema->values[i], size_bytes(tensor));
    }
}

void *rq_ema_values(const rq_ema *ema, int param)
{
    return ema->values[param];
}
