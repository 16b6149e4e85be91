/* Where gradients live: buffers taken and given back in the order of the backward walk. */
#include "qat/step/units.h"

typedef struct pool_buffer {
    float *data;
    size_t elems;
    bool taken;
} pool_buffer;

typedef struct buffer_pool {
    pool_buffer *buffers;
    int n_buffers;
} buffer_pool;

static rq_status take(rq_trainer *trainer, buffer_pool *pool, size_t elems, float **out,
                      rq_error *err)
{
    pool_buffer *best = NULL;
    for (int i = 0; i < pool->n_buffers; i++) {
        pool_buffer *b = &pool->buffers[i];
        if (!b->taken && b->elems >= elems && (!best || b->elems < best->elems))
            best = b;
    }
    if (!best) {
        void *data = NULL;
        const rq_status status =
            rq_arena_array_old(&trainer->arena, &data, elems, sizeof(float), err);
        if (status != RQ_OK)
            return status;
        best = &pool->buffers[pool->n_buffers++];
        *best = (pool_buffer){data, elems, false};
    }
    best->taken = true;
    *out = best->data;
    return RQ_OK;
}

static void give_back(buffer_pool *pool, const float *data)
{
    for (int i = 0; i < pool->n_buffers; i++)
        if (pool->buffers[i].data == data)
            pool->buffers[i].taken = false;
}

/* The loss is the only reader of outputs. */
static rq_status take_outputs(rq_trainer *trainer, buffer_pool *pool, rq_error *err)
{
    rq_status status = RQ_OK;
    for (int i = 0; i < trainer->n_outputs && status == RQ_OK; i++) {
        tr_value *output = trainer->outputs[i];
        output->n_readers = 1;
        status = take(trainer, pool, rq_shape_elems(&output->shape), &output->gradient[0], err);
    }
    return status;
}

/* Does the unit read the gradient of its value as bf16, whoever leaves it? */
static bool reads_bf16(const tr_unit *unit)
{
    return unit->conv && unit->conv->precision == RQ_PRECISION_BF16;
}

/* Is the gradient of src[k] left as bf16: by a convolution that was made to, or by a mix that is
 * alone in reading what a convolution in bf16 made? */
static bool leaves_bf16(const rq_trainer *trainer, const tr_unit *unit, int k)
{
    if (unit->conv)
        return unit->conv->leaves_bf16;
    const tr_unit *producer = tr_producer(trainer, unit->src[k]);
    int n_reads = 0;
    for (int i = 0; i < trainer->n_units; i++)
        for (int m = 0; m < trainer->units[i].n_src; m++)
            n_reads += trainer->units[i].src[m] == unit->src[k];
    return unit->eltwise && n_reads == 1 && producer && reads_bf16(producer);
}

static rq_status take_bf16(rq_trainer *trainer, buffer_pool *pool, tr_value *value, rq_error *err)
{
    float *data = NULL;
    const rq_status status =
        take(trainer, pool, (rq_shape_elems(&value->shape) + 1) / 2, &data, err);
    value->gradient_bf16 = (uint16_t *)(void *)data;
    return status;
}

/* A buffer for the gradient of src[k]. The first source of a unit that works in place inherits the
 * one of dst's gradient, if that is of the same type. */
static rq_status plan_source(rq_trainer *trainer, buffer_pool *pool, tr_unit *unit, int k,
                             bool *inherited, rq_error *err)
{
    tr_value *src = unit->src[k], *dst = unit->dst;
    const bool bf16 = leaves_bf16(trainer, unit, k);
    rq_status status = RQ_OK;
    *inherited = k == 0 && unit->in_place && bf16 == (dst->gradient_bf16 != NULL);
    if (bf16) {
        src->gradient_bf16 = dst->gradient_bf16;
        return *inherited ? RQ_OK : take_bf16(trainer, pool, src, err);
    }
    unit->dsrc[k] = dst->gradient[0];
    if (!*inherited)
        status = take(trainer, pool, rq_shape_elems(&src->shape), &unit->dsrc[k], err);
    src->gradient[src->n_readers++] = unit->dsrc[k];
    return status;
}

static rq_status plan_unit(rq_trainer *trainer, buffer_pool *pool, tr_unit *unit, rq_error *err)
{
    tr_value *dst = unit->dst;
    bool inherited = false;
    rq_status status = RQ_OK;
    if (reads_bf16(unit) && !dst->gradient_bf16)
        status = take_bf16(trainer, pool, dst, err);
    for (int k = unit->n_src - 1; k >= 0 && status == RQ_OK; k--)
        if (unit->src[k]->needs_gradient)
            status = plan_source(trainer, pool, unit, k, &inherited, err);
    for (int k = inherited; k < dst->n_readers; k++)
        give_back(pool, dst->gradient[k]);
    if (dst->gradient_bf16 && !inherited)
        give_back(pool, (const float *)(const void *)dst->gradient_bf16);
    return status;
}

/* Each reader's gradient gets a buffer when the reader runs (backward), and loses it when the
 * producer has run. The first source of a unit that works in place inherits the buffer that dz
 * stands in. */
rq_status tr_plan_gradients(rq_trainer *trainer, rq_error *err)
{
    buffer_pool pool = {NULL, 0};
    void *buffers = NULL;
    const size_t most = (size_t)trainer->n_units * RQ_MAX_INPUTS + (size_t)trainer->n_outputs;
    rq_status status = rq_alloc_array_old(&buffers, most, sizeof(pool_buffer), err);
    if (status != RQ_OK)
        return status;
    pool.buffers = buffers;
    for (int i = 0; i < trainer->n_units; i++)
        trainer->units[i].dst->n_readers = 0; /* counted again, in backward order */
    status = take_outputs(trainer, &pool, err);
    for (int i = trainer->n_units - 1; i >= 0 && status == RQ_OK; i--)
        status = plan_unit(trainer, &pool, &trainer->units[i], err);
    rq_free(buffers);
    return status;
}
