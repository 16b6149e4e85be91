/* Numbers are never given back; gradients are, in the order of the backward walk. */
#include "qat/step/memory_plan.h"

#include <assert.h>

#include "qat/step/convolution.h"
#include "qat/step/values.h"

/* ---- numbers ---- */

/* Memory for a value's numbers, in each type that its readers take. */
static rq_status plan_value(rq_trainer *trainer, tr_value *value, rq_error *err)
{
    rq_arena *arena = &trainer->arena;
    const size_t n = rq_shape_elems(&value->shape);
    const tr_unit *producer = tr_producer(trainer, value);
    bool f32 = value->n_readers == 0, bf16 = false, u8 = false;
    for (int i = 0; i < trainer->n_units; i++)
        for (int k = 0; k < trainer->units[i].n_src; k++) {
            const tr_conv *conv = trainer->units[i].conv;
            if (trainer->units[i].src[k] != value)
                continue;
            f32 |= !conv || rq_train_conv_reads_f32(conv->conv);
            bf16 |= conv && rq_train_conv_reads_bf16(conv->conv);
            u8 |= conv && rq_train_conv_reads_u8(conv->conv);
        }
    f32 |= !producer || !tr_writes_all_types(producer);
    if ((f32 && !(value->data = rq_arena_array(arena, float, n))) ||
        (bf16 && !(value->bf16 = rq_arena_array(arena, uint16_t, n))) ||
        (u8 && !(value->u8 = rq_arena_array(arena, uint8_t, n))))
        return rq_no_memory(err);
    return RQ_OK;
}

rq_status tr_plan_numbers(rq_trainer *trainer, rq_error *err)
{
    RQ_TRY(plan_value(trainer, trainer->values[0], err));
    for (int i = 0; i < trainer->n_units; i++)
        RQ_TRY(plan_value(trainer, trainer->units[i].dst, err));
    return RQ_OK;
}

/* ---- gradients ---- */

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
        float *data = rq_arena_array(&trainer->arena, float, elems);
        if (!data)
            return rq_no_memory(err);
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
    for (int i = 0; i < trainer->n_outputs; i++) {
        tr_value *output = trainer->outputs[i];
        output->n_readers = 1;
        RQ_TRY(take(trainer, pool, rq_shape_elems(&output->shape), &output->gradient[0], err));
    }
    return RQ_OK;
}

/* Does the unit read the gradient of its value as bf16, whoever leaves it? */
static bool reads_bf16(const tr_unit *unit)
{
    return unit->conv && unit->conv->precision == RQ_PRECISION_BF16;
}

/* Is the gradient of src[k] left as bf16: by a convolution that was made to, or by an eltwise that
 * is alone in reading what a convolution in bf16 made? */
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
    RQ_TRY(take(trainer, pool, (rq_shape_elems(&value->shape) + 1) / 2, &data, err));
    value->gradient_bf16 = (uint16_t *)(void *)data;
    return RQ_OK;
}

/* A buffer for the gradient of src[k]. The first source of a unit that works in place inherits the
 * one of dst's gradient, if that is of the same type. */
static rq_status plan_source(rq_trainer *trainer, buffer_pool *pool, tr_unit *unit, int k,
                             bool *inherited, rq_error *err)
{
    tr_value *src = unit->src[k], *dst = unit->dst;
    const bool bf16 = leaves_bf16(trainer, unit, k);
    *inherited = k == 0 && unit->in_place && bf16 == (dst->gradient_bf16 != NULL);
    if (bf16) {
        src->gradient_bf16 = dst->gradient_bf16;
        return *inherited ? RQ_OK : take_bf16(trainer, pool, src, err);
    }
    unit->dsrc[k] = dst->gradient[0];
    if (!*inherited)
        RQ_TRY(take(trainer, pool, rq_shape_elems(&src->shape), &unit->dsrc[k], err));
    assert(src->n_readers < TR_MAX_READERS);
    src->gradient[src->n_readers++] = unit->dsrc[k];
    return RQ_OK;
}

/* Each reader's gradient gets a buffer when the reader runs, and loses it after the producer. */
static rq_status plan_unit(rq_trainer *trainer, buffer_pool *pool, tr_unit *unit, rq_error *err)
{
    tr_value *dst = unit->dst;
    bool inherited = false;
    if (reads_bf16(unit) && !dst->gradient_bf16)
        RQ_TRY(take_bf16(trainer, pool, dst, err));
    for (int k = unit->n_src - 1; k >= 0; k--)
        if (unit->src[k]->needs_gradient)
            RQ_TRY(plan_source(trainer, pool, unit, k, &inherited, err));
    for (int k = inherited; k < dst->n_readers; k++)
        give_back(pool, dst->gradient[k]);
    if (dst->gradient_bf16 && !inherited)
        give_back(pool, (const float *)(const void *)dst->gradient_bf16);
    return RQ_OK;
}

static rq_status plan_units(rq_trainer *trainer, buffer_pool *pool, rq_error *err)
{
    for (int i = 0; i < trainer->n_units; i++)
        trainer->units[i].dst->n_readers = 0; /* counted again, in backward order */
    RQ_TRY(take_outputs(trainer, pool, err));
    for (int i = trainer->n_units - 1; i >= 0; i--)
        RQ_TRY(plan_unit(trainer, pool, &trainer->units[i], err));
    return RQ_OK;
}

rq_status tr_plan_gradients(rq_trainer *trainer, rq_error *err)
{
    const size_t most = (size_t)trainer->n_units * RQ_MAX_INPUTS + (size_t)trainer->n_outputs;
    buffer_pool pool = {rq_alloc_array(pool_buffer, most), 0};
    if (!pool.buffers)
        return rq_no_memory(err);
    const rq_status status = plan_units(trainer, &pool, err);
    rq_free(pool.buffers);
    return status;
}
