/* Memory, stack and input of the machine that executes a pickle. */
#include "runtime/torch/pickle_machine.h"

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
        void *page;
        const rq_status status = rq_arena_array_old(&m->pickle->arena, &page, PAGE_VALUES,
                                                    sizeof(rq_pickle_value), m->err);
        if (status)
            return status;
        m->page = page;
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
    void *values;
    const rq_status status =
        rq_arena_array_old(&m->pickle->arena, &values, capacity, sizeof(rq_pickle_value *), m->err);
    if (status)
        return status;
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
    const rq_status status = rq_pickle_reserve(m, items, n);
    if (status)
        return status;
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
    const rq_status status = rq_pickle_reserve(m, &m->stack, 1);
    if (!status)
        m->stack.values[m->stack.n++] = value;
    return status;
}

rq_status rq_pickle_push_new(rq_pickle_machine *m, rq_pickle_kind kind, rq_pickle_value **out)
{
    const rq_status status = rq_pickle_new_value(m, kind, out);
    return status ? status : rq_pickle_push(m, *out);
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
    const rq_status status = rq_pickle_pop(m, 1, &values);
    if (status)
        return status;
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
        void *marks;
        const rq_status status =
            rq_arena_array_old(&m->pickle->arena, &marks, capacity, sizeof(size_t), m->err);
        if (status)
            return status;
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
    const unsigned char *bytes = NULL;
    const rq_status status = rq_pickle_take(m, (uint64_t)n, &bytes);
    *out = 0;
    for (int i = n - 1; i >= 0 && !status; i--)
        *out = *out << 8 | bytes[i];
    return status;
}
