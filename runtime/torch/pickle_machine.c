/* The machine that executes a pickle: its memory, stack and input, and reading as a whole, which
 * ends with the proof that the result is a tree. */
#include "runtime/torch/pickle_machine.h"

#include <assert.h>
#include <string.h>

enum { PAGE_VALUES = 256 };

void rq_pickle_add_place_(const rq_pickle_machine *m)
{
    rq_error_prefix(m->err, "byte %zu: %s", m->op_at, m->row->name);
}

/* ---- memory ---- */

rq_status rq_pickle_new_value(rq_pickle_machine *m, rq_pickle_kind kind, rq_pickle_value **out)
{
    if (m->n_values == RQ_PICKLE_MAX_VALUES)
        return rq_pickle_fail(m, RQ_ERR_FILE, "over %d values", RQ_PICKLE_MAX_VALUES);
    if (m->page_left == 0) {
        m->page = rq_arena_array(&m->pickle->arena, rq_pickle_value, PAGE_VALUES);
        if (!m->page)
            return rq_no_memory(m->err);
        m->page_left = PAGE_VALUES;
    }
    m->n_values++;
    m->page_left--;
    *out = m->page++;
    (*out)->kind = (uint8_t)kind;
    (*out)->offset = (uint32_t)m->op_at;
    return RQ_OK;
}

rq_status rq_pickle_reserve(rq_pickle_machine *m, rq_pickle_items *items, size_t n)
{
    if (n <= items->capacity - items->n)
        return RQ_OK;
    size_t capacity = items->capacity ? 2 * items->capacity : 4;
    if (capacity < items->n + n)
        capacity = items->n + n;
    rq_pickle_value **values = rq_arena_array(&m->pickle->arena, rq_pickle_value *, capacity);
    if (!values)
        return rq_no_memory(m->err);
    if (items->n > 0)
        memcpy(values, items->values, items->n * sizeof(rq_pickle_value *));
    items->values = values;
    items->capacity = capacity;
    return RQ_OK;
}

rq_status rq_pickle_add_items(rq_pickle_machine *m, rq_pickle_items *items,
                              rq_pickle_value *const *values, size_t n)
{
    if (n > RQ_PICKLE_MAX_VALUES - m->n_places)
        return rq_pickle_fail(m, RQ_ERR_FILE, "over %d places in containers", RQ_PICKLE_MAX_VALUES);
    RQ_TRY(rq_pickle_reserve(m, items, n));
    if (n > 0)
        memcpy(items->values + items->n, values, n * sizeof(rq_pickle_value *));
    items->n += n;
    m->n_places += n;
    return RQ_OK;
}

/* ---- the stack ---- */

rq_status rq_pickle_push(rq_pickle_machine *m, rq_pickle_value *value)
{
    if (m->stack.n == RQ_PICKLE_MAX_VALUES)
        return rq_pickle_fail(m, RQ_ERR_FILE, "over %d values on the stack", RQ_PICKLE_MAX_VALUES);
    RQ_TRY(rq_pickle_reserve(m, &m->stack, 1));
    m->stack.values[m->stack.n++] = value;
    return RQ_OK;
}

rq_status rq_pickle_push_new(rq_pickle_machine *m, rq_pickle_kind kind, rq_pickle_value **out)
{
    RQ_TRY(rq_pickle_new_value(m, kind, out));
    return rq_pickle_push(m, *out);
}

rq_status rq_pickle_pop(rq_pickle_machine *m, size_t n, rq_pickle_value *const **out)
{
    const size_t bottom = m->n_marks ? m->marks[m->n_marks - 1] : 0;
    if (m->stack.n - bottom < n)
        return rq_pickle_fail(m, RQ_ERR_FILE, "the stack holds %zu of %zu values",
                              m->stack.n - bottom, n);
    m->stack.n -= n;
    *out = m->stack.values + m->stack.n;
    return RQ_OK;
}

rq_status rq_pickle_pop_mark(rq_pickle_machine *m, rq_pickle_value *const **out, size_t *n)
{
    if (m->n_marks == 0)
        return rq_pickle_fail(m, RQ_ERR_FILE, "the stack has no mark");
    *n = m->stack.n - m->marks[--m->n_marks];
    m->stack.n -= *n;
    *out = m->stack.values + m->stack.n;
    return RQ_OK;
}

rq_status rq_pickle_top(rq_pickle_machine *m, rq_pickle_value **out)
{
    rq_pickle_value *const *values = NULL;
    RQ_TRY(rq_pickle_pop(m, 1, &values));
    m->stack.n++;
    *out = values[0];
    return RQ_OK;
}

rq_status rq_pickle_add_mark(rq_pickle_machine *m)
{
    if (m->n_marks == RQ_PICKLE_MAX_VALUES)
        return rq_pickle_fail(m, RQ_ERR_FILE, "over %d marks", RQ_PICKLE_MAX_VALUES);
    if (m->n_marks == m->marks_capacity) {
        const size_t capacity = m->marks_capacity ? 2 * m->marks_capacity : 16;
        size_t *marks = rq_arena_array(&m->pickle->arena, size_t, capacity);
        if (!marks)
            return rq_no_memory(m->err);
        if (m->n_marks > 0)
            memcpy(marks, m->marks, m->n_marks * sizeof(size_t));
        m->marks = marks;
        m->marks_capacity = capacity;
    }
    m->marks[m->n_marks++] = m->stack.n;
    return RQ_OK;
}

/* ---- the bytes ---- */

rq_status rq_pickle_take(rq_pickle_machine *m, uint64_t n, const unsigned char **out)
{
    if (n > m->size_bytes - m->at)
        return rq_pickle_fail(m, RQ_ERR_FILE, "cut off: %llu bytes wanted, %zu are left",
                              (unsigned long long)n, m->size_bytes - m->at);
    *out = m->data + m->at;
    m->at += (size_t)n;
    return RQ_OK;
}

rq_status rq_pickle_take_number(rq_pickle_machine *m, int n, uint64_t *out)
{
    const unsigned char *bytes;
    assert(n == 1 || n == 2 || n == 4 || n == 8);
    RQ_TRY(rq_pickle_take(m, (uint64_t)n, &bytes));
    *out = 0;
    for (int i = n - 1; i >= 0; i--)
        *out = *out << 8 | bytes[i];
    return RQ_OK;
}

/* ---- cycles and depth ---- */

static rq_status measure(rq_pickle_value *value, int depth, rq_error *err);

static rq_status measure_child(rq_pickle_value *value, const rq_pickle_value *child, int depth,
                               rq_error *err)
{
    if (!child)
        return RQ_OK;
    rq_pickle_value *below = (rq_pickle_value *)(uintptr_t)child; /* the reader's own */
    RQ_TRY(measure(below, depth + 1, err));
    if (value->height <= below->height)
        value->height = (uint16_t)(below->height + 1);
    return RQ_OK;
}

static rq_status measure_items(rq_pickle_value *value, const rq_pickle_items *items, int depth,
                               rq_error *err)
{
    for (size_t i = 0; i < items->n; i++)
        RQ_TRY(measure_child(value, items->values[i], depth, err));
    return RQ_OK;
}

static rq_status measure_children(rq_pickle_value *value, int depth, rq_error *err)
{
    const rq_pickle_object *object = value->as.object;
    switch ((rq_pickle_kind)value->kind) {
    case RQ_PICKLE_TUPLE:
    case RQ_PICKLE_LIST:
    case RQ_PICKLE_SET:
    case RQ_PICKLE_DICT:
        return measure_items(value, &value->as.items, depth, err);
    case RQ_PICKLE_OBJECT:
        RQ_TRY(measure_child(value, object->callable, depth, err));
        RQ_TRY(measure_child(value, object->arguments, depth, err));
        RQ_TRY(measure_child(value, object->state, depth, err));
        RQ_TRY(measure_items(value, &object->list, depth, err));
        return measure_items(value, &object->dict, depth, err);
    case RQ_PICKLE_PERSISTENT:
        return measure_child(value, value->as.id, depth, err);
    default:
        return RQ_OK;
    }
}

/* Visit each value once, depth first: height becomes 1 for a leaf, more above. The recursion is at
 * most RQ_PICKLE_MAX_DEPTH deep; a value that is met while it is open contains itself. */
static rq_status measure(rq_pickle_value *value, int depth, rq_error *err)
{
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
    RQ_TRY(measure_children(value, depth, err));
    value->is_open = 0;
    return RQ_OK;
}

/* ---- reading ---- */

static rq_status run(rq_pickle_machine *m)
{
    while (!m->is_done) {
        if (m->at == m->size_bytes)
            return rq_fail(m->err, RQ_ERR_FILE, "byte %zu: cut off: the pickle has no STOP", m->at);
        m->op_at = m->at;
        m->row = &rq_pickle_opcodes[m->data[m->at++]];
        if (!m->row->run)
            return rq_fail(m->err, RQ_ERR_FILE, "byte %zu: 0x%02x is not an opcode", m->op_at,
                           m->data[m->op_at]);
        RQ_TRY(m->row->run(m));
    }
    return RQ_OK;
}

static rq_status read_tree(rq_pickle_machine *m)
{
    RQ_TRY(rq_pickle_reserve(m, &m->stack, 1)); /* its memory is pointed to even when empty */
    RQ_TRY(run(m));
    return measure((rq_pickle_value *)(uintptr_t)m->pickle->root, 0, m->err);
}

rq_status rq_pickle_read(rq_pickle **out, const unsigned char *data, size_t size_bytes,
                         size_t *used_bytes, rq_error *err)
{
    *out = NULL;
    rq_pickle *pickle = rq_alloc(sizeof *pickle);
    if (!pickle)
        return rq_no_memory(err);
    /* offsets are 32 bits wide; what is beyond cannot be reached */
    rq_pickle_machine m = {.pickle = pickle,
                           .data = data,
                           .size_bytes = size_bytes < UINT32_MAX ? size_bytes : UINT32_MAX,
                           .err = err};
    const rq_status status = read_tree(&m);
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
    assert(i < pickle->persistent.n);
    return pickle->persistent.values[i];
}
