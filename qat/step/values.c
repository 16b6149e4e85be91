/* Values, who writes them, and the passes over whole gradients. */
#include "qat/step/values.h"

#include <assert.h>

enum { CHUNK = 16384 }; /* elements that a thread takes at once */

rq_status tr_value_create(tr_value **out, rq_trainer *trainer, int node, rq_error *err)
{
    if (!(*out = rq_arena_array(&trainer->arena, tr_value, 1)))
        return rq_no_memory(err);
    **out = (tr_value){.shape = trainer->shapes[node], .scale = 1.0f, .needs_gradient = true};
    return RQ_OK;
}

const tr_unit *tr_producer(const rq_trainer *trainer, const tr_value *value)
{
    for (int i = 0; i < trainer->n_units; i++)
        if (trainer->units[i].dst == value)
            return &trainer->units[i];
    return NULL;
}

bool tr_writes_all_types(const tr_unit *unit)
{
    return unit->eltwise || unit->product;
}

float *tr_summed_gradient(const tr_value *value)
{
    assert(value->gradient[0]);
    const size_t n = rq_shape_elems(&value->shape);
    for (int k = 1; k < value->n_readers; k++) {
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < n; i += CHUNK)
            tr_pass_add(value->gradient[0] + i, value->gradient[k] + i,
                        n - i < CHUNK ? n - i : CHUNK);
    }
    return value->gradient[0];
}

tr_pass_gradients tr_gradients_from(const tr_value *value, size_t first)
{
    if (value->gradient_bf16)
        return (tr_pass_gradients){{value->gradient_bf16 + first}, 1, TR_BF16};
    tr_pass_gradients gradients = {{NULL}, value->n_readers, TR_F32};
    for (int k = 0; k < value->n_readers; k++)
        gradients.g[k] = value->gradient[k] + first;
    return gradients;
}

void tr_round(uint16_t *dst, const float *src, size_t n)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += CHUNK)
        tr_pass_round(dst + i, src + i, n - i < CHUNK ? n - i : CHUNK);
}
