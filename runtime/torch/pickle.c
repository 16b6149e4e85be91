/* Reading a pickle: run the machine, then see that the result is a tree. */
#include "runtime/torch/pickle.h"

#include "runtime/torch/pickle_machine.h"

/* ---- cycles and depth ---- */

static rq_status measure(rq_pickle_value *value, int depth, rq_error *err);

static rq_status measure_child(rq_pickle_value *value, const rq_pickle_value *child, int depth,
                               rq_error *err)
{
    if (!child)
        return RQ_OK;
    rq_pickle_value *below = (rq_pickle_value *)(uintptr_t)child; /* the reader's own */
    const rq_status status = measure(below, depth + 1, err);
    if (!status && value->height <= below->height)
        value->height = (uint16_t)(below->height + 1);
    return status;
}

static rq_status measure_items(rq_pickle_value *value, const rq_pickle_items *items, int depth,
                               rq_error *err)
{
    rq_status status = RQ_OK;
    for (size_t i = 0; i < items->n && !status; i++)
        status = measure_child(value, items->values[i], depth, err);
    return status;
}

static rq_status measure_object(rq_pickle_value *value, int depth, rq_error *err)
{
    const rq_pickle_object *object = value->as.object;
    rq_status status = measure_child(value, object->callable, depth, err);
    if (!status)
        status = measure_child(value, object->arguments, depth, err);
    if (!status)
        status = measure_child(value, object->state, depth, err);
    if (!status)
        status = measure_items(value, &object->list, depth, err);
    return status ? status : measure_items(value, &object->dict, depth, err);
}

/* Visit each value once, depth first: height becomes 1 for a leaf, more above. The recursion is at
 * most RQ_PICKLE_MAX_DEPTH deep; a value that is met while it is open contains itself. */
static rq_status measure(rq_pickle_value *value, int depth, rq_error *err)
{
    rq_status status = RQ_OK;
    if (value->is_open)
        return rq_fail(err, RQ_ERR_FILE, "byte %u: %s contains itself", value->offset,
                       rq_pickle_kind_text((rq_pickle_kind)value->kind));
    if (depth + (value->height ? value->height : 1) > RQ_PICKLE_MAX_DEPTH)
        return rq_fail(err, RQ_ERR_FILE, "byte %u: %s is nested over %d levels deep", value->offset,
                       rq_pickle_kind_text((rq_pickle_kind)value->kind), RQ_PICKLE_MAX_DEPTH);
    if (value->height)
        return RQ_OK;
    value->height = 1;
    value->is_open = 1;
    switch ((rq_pickle_kind)value->kind) {
    case RQ_PICKLE_TUPLE:
    case RQ_PICKLE_LIST:
    case RQ_PICKLE_SET:
    case RQ_PICKLE_DICT:
        status = measure_items(value, &value->as.items, depth, err);
        break;
    case RQ_PICKLE_OBJECT:
        status = measure_object(value, depth, err);
        break;
    case RQ_PICKLE_PERSISTENT:
        status = measure_child(value, value->as.id, depth, err);
        break;
    default:
        break;
    }
    value->is_open = 0;
    return status;
}

/* ---- the interface ---- */

static rq_status run(rq_pickle_machine *m)
{
    rq_status status = RQ_OK;
    while (!status && !m->is_done) {
        if (m->at == m->size_bytes)
            return rq_fail(m->err, RQ_ERR_FILE, "byte %zu: cut off: the pickle has no STOP", m->at);
        m->op_at = m->at;
        m->row = &rq_pickle_opcodes[m->data[m->at++]];
        if (!m->row->run)
            return rq_fail(m->err, RQ_ERR_FILE, "byte %zu: 0x%02x is not an opcode", m->op_at,
                           m->data[m->op_at]);
        status = m->row->run(m);
    }
    return status;
}

rq_status rq_pickle_read(rq_pickle **out, const unsigned char *data, size_t size_bytes,
                         size_t *used_bytes, rq_error *err)
{
    *out = NULL;
    rq_pickle *pickle = rq_alloc(sizeof *pickle);
    if (!pickle)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory");
    /* offsets are 32 bits wide; what is beyond cannot be reached */
    rq_pickle_machine m = {.pickle = pickle,
                           .data = data,
                           .size_bytes = size_bytes < UINT32_MAX ? size_bytes : UINT32_MAX,
                           .err = err};
    rq_status status =
        rq_pickle_reserve(&m, &m.stack, 1); /* its memory is pointed to even when empty */
    if (!status)
        status = run(&m);
    if (!status)
        status = measure((rq_pickle_value *)(uintptr_t)pickle->root, 0, err);
    if (status) {
        rq_pickle_free(pickle);
        return status;
    }
    *used_bytes = m.at;
    *out = pickle;
    return RQ_OK;
}

void rq_pickle_free(rq_pickle *pickle)
{
    if (!pickle)
        return;
    rq_arena_deinit(&pickle->arena);
    rq_free(pickle);
}

const rq_pickle_value *rq_pickle_root(const rq_pickle *pickle)
{
    return pickle->root;
}

size_t rq_pickle_n_persistent(const rq_pickle *pickle)
{
    return pickle->persistent.n;
}

const rq_pickle_value *rq_pickle_get_persistent(const rq_pickle *pickle, size_t i)
{
    return pickle->persistent.values[i];
}
