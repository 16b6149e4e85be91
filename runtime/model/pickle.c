/* A pickle is a program for a stack machine; one row per opcode says how each step builds the tree.
 */
#include "runtime/model/pickle.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/base/size.h"
#include "runtime/model/bytes.h"

enum { PAGE_VALUES = 256, MAX_NAME = 1024, HIGHEST_PROTOCOL = 5 };

struct rq_pickle {
    rq_arena arena;
    const rq_pickle_value *root;
    rq_pickle_items persistent;
};

typedef struct opcode opcode;

typedef struct reader {
    rq_pickle *pickle;
    const unsigned char *data;
    size_t size_bytes;
    size_t at;         /* of the next byte */
    size_t op_at;      /* of the opcode that is being executed */
    const opcode *row; /* of this opcode */
    rq_pickle_value *page;
    size_t page_left, n_values, n_places; /* places in containers */
    rq_pickle_items stack, memo;
    size_t *marks; /* stack heights */
    size_t n_marks, marks_capacity;
    bool is_done;
    rq_error *err;
} reader;

/* A step of the machine. The two parameters tell opcodes of one handler apart. */
struct opcode {
    const char *name;
    rq_status (*run)(reader *r);
    rq_pickle_kind kind; /* of what is made */
    int n;               /* a number of bytes or values */
};

/* "byte 12: REDUCE: …" */
#define fail(r, code, ...)                                                                         \
    ((void)rq_error_write_((r)->err, (code), __VA_ARGS__), add_place(r), (code))

static void add_place(const reader *r)
{
    rq_error_prefix(r->err, "byte %zu: %s", r->op_at, r->row->name);
}

/* ---- memory ---- */

static rq_status new_value(reader *r, rq_pickle_kind kind, rq_pickle_value **out)
{
    if (r->n_values == RQ_PICKLE_MAX_VALUES)
        return fail(r, RQ_ERR_FILE, "over %d values", RQ_PICKLE_MAX_VALUES);
    if (r->page_left == 0) {
        void *page;
        const rq_status status =
            rq_arena_array(&r->pickle->arena, &page, PAGE_VALUES, sizeof(rq_pickle_value), r->err);
        if (status)
            return status;
        r->page = page;
        r->page_left = PAGE_VALUES;
    }
    r->n_values++;
    r->page_left--;
    *out = r->page++;
    (*out)->kind = (uint8_t)kind;
    (*out)->offset = (uint32_t)r->op_at;
    return RQ_OK;
}

/* Room for n more items; the arena keeps the smaller arrays, together as large as the last. */
static rq_status reserve(reader *r, rq_pickle_items *items, size_t n)
{
    if (n <= items->capacity - items->n)
        return RQ_OK;
    size_t capacity = items->capacity ? 2 * items->capacity : 4;
    if (capacity < items->n + n)
        capacity = items->n + n;
    void *values;
    const rq_status status =
        rq_arena_array(&r->pickle->arena, &values, capacity, sizeof(rq_pickle_value *), r->err);
    if (status)
        return status;
    if (items->n > 0)
        memcpy(values, items->values, items->n * sizeof(rq_pickle_value *));
    items->values = values;
    items->capacity = capacity;
    return RQ_OK;
}

/* Append n values to a container's items. */
static rq_status add_items(reader *r, rq_pickle_items *items, rq_pickle_value *const *values,
                           size_t n)
{
    if (n > RQ_PICKLE_MAX_VALUES - r->n_places)
        return fail(r, RQ_ERR_FILE, "over %d places in containers", RQ_PICKLE_MAX_VALUES);
    const rq_status status = reserve(r, items, n);
    if (status)
        return status;
    if (n > 0)
        memcpy(items->values + items->n, values, n * sizeof(rq_pickle_value *));
    items->n += n;
    r->n_places += n;
    return RQ_OK;
}

/* ---- the stack ---- */

static rq_status push(reader *r, rq_pickle_value *value)
{
    if (r->stack.n == RQ_PICKLE_MAX_VALUES)
        return fail(r, RQ_ERR_FILE, "over %d values on the stack", RQ_PICKLE_MAX_VALUES);
    const rq_status status = reserve(r, &r->stack, 1);
    if (!status)
        r->stack.values[r->stack.n++] = value;
    return status;
}

static rq_status push_new(reader *r, rq_pickle_kind kind, rq_pickle_value **out)
{
    const rq_status status = new_value(r, kind, out);
    return status ? status : push(r, *out);
}

/* The highest n values, which lie above the last mark: *out points to the lowest of them. They
 * leave the stack but stay in its memory until the next push. */
static rq_status pop(reader *r, size_t n, rq_pickle_value *const **out)
{
    const size_t bottom = r->n_marks ? r->marks[r->n_marks - 1] : 0;
    if (r->stack.n - bottom < n)
        return fail(r, RQ_ERR_FILE, "the stack holds %zu of %zu values", r->stack.n - bottom, n);
    r->stack.n -= n;
    *out = r->stack.values + r->stack.n;
    return RQ_OK;
}

/* The same with all values above the last mark, which is removed. */
static rq_status pop_mark(reader *r, rq_pickle_value *const **out, size_t *n)
{
    if (r->n_marks == 0)
        return fail(r, RQ_ERR_FILE, "the stack has no mark");
    *n = r->stack.n - r->marks[--r->n_marks];
    r->stack.n -= *n;
    *out = r->stack.values + r->stack.n;
    return RQ_OK;
}

/* The highest value, which stays. */
static rq_status top(reader *r, rq_pickle_value **out)
{
    rq_pickle_value *const *values = NULL;
    const rq_status status = pop(r, 1, &values);
    if (status)
        return status;
    r->stack.n++;
    *out = values[0];
    return RQ_OK;
}

/* ---- the bytes ---- */

static rq_status take(reader *r, uint64_t n, const unsigned char **out)
{
    if (n > r->size_bytes - r->at)
        return fail(r, RQ_ERR_FILE, "cut off: %llu bytes wanted, %zu are left",
                    (unsigned long long)n, r->size_bytes - r->at);
    *out = r->data + r->at;
    r->at += (size_t)n;
    return RQ_OK;
}

/* An unsigned number of n = 1, 2, 4 or 8 bytes. */
static rq_status take_number(reader *r, int n, uint64_t *out)
{
    const unsigned char *bytes = NULL;
    const rq_status status = take(r, (uint64_t)n, &bytes);
    *out = 0;
    for (int i = n - 1; i >= 0 && !status; i--)
        *out = *out << 8 | bytes[i];
    return status;
}

/* ---- opcodes: simple values ---- */

static rq_status op_protocol(reader *r)
{
    uint64_t version;
    const rq_status status = take_number(r, 1, &version);
    if (status || version <= HIGHEST_PROTOCOL)
        return status;
    return fail(r, RQ_ERR_FILE, "protocol %d, at most %d is known", (int)version, HIGHEST_PROTOCOL);
}

/* Frames are for buffering; only their size is checked. */
static rq_status op_frame(reader *r)
{
    uint64_t n;
    const unsigned char *bytes;
    const rq_status status = take_number(r, 8, &n);
    const size_t begin = r->at;
    if (status)
        return status;
    const rq_status taken = take(r, n, &bytes);
    r->at = begin;
    return taken;
}

static rq_status op_constant(reader *r)
{
    rq_pickle_value *value;
    const rq_status status = push_new(r, r->row->kind, &value);
    if (!status && r->row->kind == RQ_PICKLE_BOOL)
        value->as.boolean = r->row->n != 0;
    return status;
}

static rq_status op_integer(reader *r)
{
    uint64_t bits;
    rq_pickle_value *value;
    rq_status status = take_number(r, r->row->n, &bits);
    if (!status)
        status = push_new(r, RQ_PICKLE_INT, &value);
    if (!status)
        value->as.integer = r->row->n == 4 ? (int32_t)(uint32_t)bits : (int64_t)bits;
    return status;
}

/* Two's complement of any size; up to 64 bits it becomes an INT. */
static rq_status op_long(reader *r)
{
    uint64_t n;
    const unsigned char *bytes = NULL;
    rq_pickle_value *value;
    rq_status status = take_number(r, r->row->n, &n);
    if (!status && n > RQ_PICKLE_MAX_LONG)
        return fail(r, RQ_ERR_FILE, "an integer of %llu bytes, the limit is %d",
                    (unsigned long long)n, RQ_PICKLE_MAX_LONG);
    if (!status)
        status = take(r, n, &bytes);
    if (!status)
        status = push_new(r, n > 8 ? RQ_PICKLE_LONG : RQ_PICKLE_INT, &value);
    if (status)
        return status;
    if (n > 8) {
        value->as.bytes = (rq_pickle_bytes){(const char *)bytes, (size_t)n};
        return RQ_OK;
    }
    uint64_t bits = n > 0 && bytes[n - 1] >= 0x80 ? UINT64_MAX : 0;
    for (size_t i = (size_t)n; i-- > 0;)
        bits = bits << 8 | bytes[i];
    value->as.integer = (int64_t)bits;
    return RQ_OK;
}

static rq_status op_float(reader *r) /* big-endian, unlike all else */
{
    const unsigned char *bytes;
    rq_pickle_value *value;
    rq_status status = take(r, 8, &bytes);
    if (!status)
        status = push_new(r, RQ_PICKLE_FLOAT, &value);
    if (status)
        return status;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | bytes[i];
    memcpy(&value->as.real, &bits, sizeof bits);
    return RQ_OK;
}

static rq_status op_bytes(reader *r)
{
    uint64_t n;
    const unsigned char *bytes = NULL;
    rq_pickle_value *value;
    rq_status status = take_number(r, r->row->n, &n);
    if (!status)
        status = take(r, n, &bytes);
    if (!status)
        status = push_new(r, r->row->kind, &value);
    if (!status)
        value->as.bytes = (rq_pickle_bytes){(const char *)bytes, (size_t)n};
    return status;
}

/* ---- opcodes: the stack and the memo ---- */

static rq_status op_mark(reader *r)
{
    if (r->n_marks == RQ_PICKLE_MAX_VALUES)
        return fail(r, RQ_ERR_FILE, "over %d marks", RQ_PICKLE_MAX_VALUES);
    if (r->n_marks == r->marks_capacity) {
        const size_t capacity = r->marks_capacity ? 2 * r->marks_capacity : 16;
        void *marks;
        const rq_status status =
            rq_arena_array(&r->pickle->arena, &marks, capacity, sizeof(size_t), r->err);
        if (status)
            return status;
        if (r->n_marks > 0)
            memcpy(marks, r->marks, r->n_marks * sizeof(size_t));
        r->marks = marks;
        r->marks_capacity = capacity;
    }
    r->marks[r->n_marks++] = r->stack.n;
    return RQ_OK;
}

/* Directly behind a mark, POP takes the mark. */
static rq_status op_pop(reader *r)
{
    rq_pickle_value *const *values;
    if (r->n_marks > 0 && r->marks[r->n_marks - 1] == r->stack.n) {
        r->n_marks--;
        return RQ_OK;
    }
    return pop(r, 1, &values);
}

static rq_status op_pop_mark(reader *r)
{
    rq_pickle_value *const *values;
    size_t n;
    return pop_mark(r, &values, &n);
}

static rq_status op_duplicate(reader *r)
{
    rq_pickle_value *value;
    const rq_status status = top(r, &value);
    return status ? status : push(r, value);
}

static rq_status put(reader *r, uint64_t i)
{
    rq_pickle_value *value;
    rq_status status = top(r, &value);
    if (!status && i >= RQ_PICKLE_MAX_VALUES)
        return fail(r, RQ_ERR_FILE, "memo number %llu, the limit is %d", (unsigned long long)i,
                    RQ_PICKLE_MAX_VALUES);
    if (!status && i >= r->memo.n) { /* numbers in between stay NULL */
        status = reserve(r, &r->memo, (size_t)i + 1 - r->memo.n);
        if (!status)
            r->memo.n = (size_t)i + 1;
    }
    if (!status)
        r->memo.values[i] = value;
    return status;
}

static rq_status op_put(reader *r)
{
    uint64_t i;
    const rq_status status = take_number(r, r->row->n, &i);
    return status ? status : put(r, i);
}

static rq_status op_memoize(reader *r)
{
    return put(r, r->memo.n);
}

static rq_status op_get(reader *r)
{
    uint64_t i;
    const rq_status status = take_number(r, r->row->n, &i);
    if (status)
        return status;
    if (i >= r->memo.n || !r->memo.values[i])
        return fail(r, RQ_ERR_FILE, "the memo has no number %llu", (unsigned long long)i);
    return push(r, r->memo.values[i]);
}

/* ---- opcodes: containers ---- */

static rq_status require_pairs(reader *r, size_t n)
{
    return n % 2 == 0 ? RQ_OK
                      : fail(r, RQ_ERR_FILE, "%zu values are not pairs of key and value", n);
}

/* A container of the row's kind from n values that were popped. */
static rq_status push_container(reader *r, rq_pickle_value *const *values, size_t n)
{
    rq_pickle_value *container;
    rq_status status = new_value(r, r->row->kind, &container);
    if (!status && r->row->kind == RQ_PICKLE_DICT)
        status = require_pairs(r, n);
    if (!status)
        status = add_items(r, &container->as.items, values, n);
    return status ? status : push(r, container);
}

static rq_status op_container(reader *r) /* of n values: ), ], }, TUPLE1, … */
{
    rq_pickle_value *const *values = NULL;
    const rq_status status = pop(r, (size_t)r->row->n, &values);
    return status ? status : push_container(r, values, (size_t)r->row->n);
}

static rq_status op_container_from_mark(reader *r)
{
    rq_pickle_value *const *values = NULL;
    size_t n = 0;
    const rq_status status = pop_mark(r, &values, &n);
    return status ? status : push_container(r, values, n);
}

/* The items that the row's kind (LIST, DICT, SET) is added to, in the value on top. Objects take
 * them too: a class may be a list or a dict. */
static rq_status find_items(reader *r, rq_pickle_items **out)
{
    rq_pickle_value *container;
    const rq_pickle_kind kind = r->row->kind;
    const rq_status status = top(r, &container);
    if (status)
        return status;
    if (container->kind == kind)
        *out = &container->as.items;
    else if (container->kind == RQ_PICKLE_OBJECT)
        *out = kind == RQ_PICKLE_DICT ? &container->as.object->dict : &container->as.object->list;
    else {
        char text[160];
        rq_pickle_describe(container, text, sizeof text);
        return fail(r, RQ_ERR_FILE, "items are added to %s", text);
    }
    return RQ_OK;
}

static rq_status add_to_container(reader *r, rq_pickle_value *const *values, size_t n)
{
    rq_pickle_items *items = NULL;
    rq_status status = find_items(r, &items);
    if (!status && r->row->kind == RQ_PICKLE_DICT)
        status = require_pairs(r, n);
    return status ? status : add_items(r, items, values, n);
}

static rq_status op_add(reader *r) /* n values: APPEND, SETITEM */
{
    rq_pickle_value *const *values = NULL;
    const rq_status status = pop(r, (size_t)r->row->n, &values);
    return status ? status : add_to_container(r, values, (size_t)r->row->n);
}

static rq_status op_add_from_mark(reader *r)
{
    rq_pickle_value *const *values = NULL;
    size_t n = 0;
    const rq_status status = pop_mark(r, &values, &n);
    return status ? status : add_to_container(r, values, n);
}

/* ---- opcodes: names and objects ---- */

static rq_status push_global(reader *r, rq_pickle_bytes module, rq_pickle_bytes name)
{
    rq_pickle_value *value;
    if (module.n == 0 || name.n == 0 || module.n > MAX_NAME || name.n > MAX_NAME)
        return fail(r, RQ_ERR_FILE, "a name of %zu.%zu bytes, 1 to %d each are allowed", module.n,
                    name.n, MAX_NAME);
    const rq_status status = push_new(r, RQ_PICKLE_GLOBAL, &value);
    if (!status) {
        value->as.global.module = module;
        value->as.global.name = name;
    }
    return status;
}

static rq_status take_line(reader *r, rq_pickle_bytes *out)
{
    const unsigned char *begin = r->data + r->at;
    const unsigned char *end = memchr(begin, '\n', r->size_bytes - r->at);
    if (!end)
        return fail(r, RQ_ERR_FILE, "cut off: a line does not end");
    *out = (rq_pickle_bytes){(const char *)begin, (size_t)(end - begin)};
    r->at += out->n + 1;
    return RQ_OK;
}

static rq_status op_global(reader *r)
{
    rq_pickle_bytes module, name;
    rq_status status = take_line(r, &module);
    if (!status)
        status = take_line(r, &name);
    return status ? status : push_global(r, module, name);
}

static rq_status op_stack_global(reader *r)
{
    rq_pickle_value *const *names = NULL;
    const rq_status status = pop(r, 2, &names);
    if (status)
        return status;
    if (names[0]->kind != RQ_PICKLE_TEXT || names[1]->kind != RQ_PICKLE_TEXT)
        return fail(r, RQ_ERR_FILE, "the module and the name are not strings");
    return push_global(r, names[0]->as.bytes, names[1]->as.bytes);
}

/* Python 2 pickles an OrderedDict as OrderedDict([[key, value], …]). */
static rq_status set_ordered_pairs(reader *r, rq_pickle_object *object)
{
    const rq_pickle_value *pairs = rq_pickle_item(object->arguments, 0);
    if (!rq_pickle_is_global(object->callable, "collections", "OrderedDict") ||
        !rq_pickle_is(pairs, RQ_PICKLE_LIST))
        return RQ_OK;
    rq_status status = RQ_OK;
    for (size_t i = 0; i < pairs->as.items.n && !status; i++) {
        const rq_pickle_value *pair = pairs->as.items.values[i];
        if (!rq_pickle_item(pair, 1) || rq_pickle_item(pair, 2))
            return fail(r, RQ_ERR_FILE, "item %zu of an OrderedDict is not a pair", i);
        status = add_items(r, &object->dict, pair->as.items.values, 2);
    }
    return status;
}

/* REDUCE (callable, arguments), NEWOBJ (class, arguments), NEWOBJ_EX (class, arguments, keyword
 * arguments; the last are left out). */
static rq_status op_object(reader *r)
{
    rq_pickle_value *const *parts = NULL, *value;
    rq_status status = pop(r, (size_t)r->row->n, &parts);
    if (status)
        return status;
    rq_pickle_object *object = rq_arena_alloc(&r->pickle->arena, sizeof *object);
    if (!object)
        return rq_fail(r->err, RQ_ERR_NOMEM, "out of memory");
    object->callable = parts[0];
    object->arguments = parts[1];
    status = push_new(r, RQ_PICKLE_OBJECT, &value);
    if (status)
        return status;
    value->as.object = object;
    return set_ordered_pairs(r, object);
}

static rq_status op_build(reader *r)
{
    rq_pickle_value *const *state = NULL, *value = NULL;
    rq_status status = pop(r, 1, &state);
    if (!status)
        status = top(r, &value);
    if (status)
        return status;
    if (value->kind != RQ_PICKLE_OBJECT)
        return fail(r, RQ_ERR_FILE, "a state for what is not an object");
    value->as.object->state = state[0];
    return RQ_OK;
}

static rq_status op_persistent(reader *r)
{
    rq_pickle_value *const *id = NULL, *value;
    rq_status status = pop(r, 1, &id);
    if (status)
        return status;
    const rq_pickle_value *of = id[0];
    status = push_new(r, RQ_PICKLE_PERSISTENT, &value);
    if (status)
        return status;
    value->as.id = of;
    return add_items(r, &r->pickle->persistent, &value, 1);
}

static rq_status op_stop(reader *r)
{
    rq_pickle_value *const *root = NULL;
    const rq_status status = pop(r, 1, &root);
    if (status)
        return status;
    if (r->stack.n > 0 || r->n_marks > 0)
        return fail(r, RQ_ERR_FILE, "%zu values and %zu marks are left on the stack", r->stack.n,
                    r->n_marks);
    r->pickle->root = root[0];
    r->is_done = true;
    return RQ_OK;
}

static rq_status op_refused(reader *r)
{
    return fail(r, RQ_ERR_UNSUPPORTED,
                "this opcode is not read (a text opcode of protocol 0, an "
                "extension code or an out-of-band buffer)");
}

/* clang-format off */
static const opcode opcodes[256] = {
    [0x80] = {"PROTO", op_protocol, 0, 0},
    [0x95] = {"FRAME", op_frame, 0, 0},
    ['.'] = {"STOP", op_stop, 0, 0},

    ['N'] = {"NONE", op_constant, RQ_PICKLE_NONE, 0},
    [0x88] = {"NEWTRUE", op_constant, RQ_PICKLE_BOOL, 1},
    [0x89] = {"NEWFALSE", op_constant, RQ_PICKLE_BOOL, 0},
    ['K'] = {"BININT1", op_integer, 0, 1},
    ['M'] = {"BININT2", op_integer, 0, 2},
    ['J'] = {"BININT", op_integer, 0, 4},
    [0x8a] = {"LONG1", op_long, 0, 1},
    [0x8b] = {"LONG4", op_long, 0, 4},
    ['G'] = {"BINFLOAT", op_float, 0, 0},
    [0x8c] = {"SHORT_BINUNICODE", op_bytes, RQ_PICKLE_TEXT, 1},
    ['X'] = {"BINUNICODE", op_bytes, RQ_PICKLE_TEXT, 4},
    [0x8d] = {"BINUNICODE8", op_bytes, RQ_PICKLE_TEXT, 8},
    ['U'] = {"SHORT_BINSTRING", op_bytes, RQ_PICKLE_TEXT, 1}, /* str of Python 2 */
    ['T'] = {"BINSTRING", op_bytes, RQ_PICKLE_TEXT, 4},
    ['C'] = {"SHORT_BINBYTES", op_bytes, RQ_PICKLE_BYTES, 1},
    ['B'] = {"BINBYTES", op_bytes, RQ_PICKLE_BYTES, 4},
    [0x8e] = {"BINBYTES8", op_bytes, RQ_PICKLE_BYTES, 8},
    [0x96] = {"BYTEARRAY8", op_bytes, RQ_PICKLE_BYTES, 8},

    ['('] = {"MARK", op_mark, 0, 0},
    ['0'] = {"POP", op_pop, 0, 0},
    ['1'] = {"POP_MARK", op_pop_mark, 0, 0},
    ['2'] = {"DUP", op_duplicate, 0, 0},
    ['q'] = {"BINPUT", op_put, 0, 1},
    ['r'] = {"LONG_BINPUT", op_put, 0, 4},
    [0x94] = {"MEMOIZE", op_memoize, 0, 0},
    ['h'] = {"BINGET", op_get, 0, 1},
    ['j'] = {"LONG_BINGET", op_get, 0, 4},

    [')'] = {"EMPTY_TUPLE", op_container, RQ_PICKLE_TUPLE, 0},
    [']'] = {"EMPTY_LIST", op_container, RQ_PICKLE_LIST, 0},
    ['}'] = {"EMPTY_DICT", op_container, RQ_PICKLE_DICT, 0},
    [0x8f] = {"EMPTY_SET", op_container, RQ_PICKLE_SET, 0},
    [0x85] = {"TUPLE1", op_container, RQ_PICKLE_TUPLE, 1},
    [0x86] = {"TUPLE2", op_container, RQ_PICKLE_TUPLE, 2},
    [0x87] = {"TUPLE3", op_container, RQ_PICKLE_TUPLE, 3},
    ['t'] = {"TUPLE", op_container_from_mark, RQ_PICKLE_TUPLE, 0},
    ['l'] = {"LIST", op_container_from_mark, RQ_PICKLE_LIST, 0},
    ['d'] = {"DICT", op_container_from_mark, RQ_PICKLE_DICT, 0},
    [0x91] = {"FROZENSET", op_container_from_mark, RQ_PICKLE_SET, 0},
    ['a'] = {"APPEND", op_add, RQ_PICKLE_LIST, 1},
    ['s'] = {"SETITEM", op_add, RQ_PICKLE_DICT, 2},
    ['e'] = {"APPENDS", op_add_from_mark, RQ_PICKLE_LIST, 0},
    ['u'] = {"SETITEMS", op_add_from_mark, RQ_PICKLE_DICT, 0},
    [0x90] = {"ADDITEMS", op_add_from_mark, RQ_PICKLE_SET, 0},

    ['c'] = {"GLOBAL", op_global, 0, 0},
    [0x93] = {"STACK_GLOBAL", op_stack_global, 0, 0},
    ['R'] = {"REDUCE", op_object, 0, 2},
    [0x81] = {"NEWOBJ", op_object, 0, 2},
    [0x92] = {"NEWOBJ_EX", op_object, 0, 3},
    ['b'] = {"BUILD", op_build, 0, 0},
    ['Q'] = {"BINPERSID", op_persistent, 0, 0},

    ['I'] = {"INT", op_refused, 0, 0},
    ['L'] = {"LONG", op_refused, 0, 0},
    ['F'] = {"FLOAT", op_refused, 0, 0},
    ['S'] = {"STRING", op_refused, 0, 0},
    ['V'] = {"UNICODE", op_refused, 0, 0},
    ['P'] = {"PERSID", op_refused, 0, 0},
    ['g'] = {"GET", op_refused, 0, 0},
    ['p'] = {"PUT", op_refused, 0, 0},
    ['i'] = {"INST", op_refused, 0, 0},
    ['o'] = {"OBJ", op_refused, 0, 0},
    [0x82] = {"EXT1", op_refused, 0, 0},
    [0x83] = {"EXT2", op_refused, 0, 0},
    [0x84] = {"EXT4", op_refused, 0, 0},
    [0x97] = {"NEXT_BUFFER", op_refused, 0, 0},
    [0x98] = {"READONLY_BUFFER", op_refused, 0, 0},
};
/* clang-format on */

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

static rq_status run(reader *r)
{
    rq_status status = RQ_OK;
    while (!status && !r->is_done) {
        if (r->at == r->size_bytes)
            return rq_fail(r->err, RQ_ERR_FILE, "byte %zu: cut off: the pickle has no STOP", r->at);
        r->op_at = r->at;
        r->row = &opcodes[r->data[r->at++]];
        if (!r->row->run)
            return rq_fail(r->err, RQ_ERR_FILE, "byte %zu: 0x%02x is not an opcode", r->op_at,
                           r->data[r->op_at]);
        status = r->row->run(r);
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
    reader r = {.pickle = pickle,
                .data = data,
                .size_bytes = size_bytes < UINT32_MAX ? size_bytes : UINT32_MAX,
                .err = err};
    rq_status status = reserve(&r, &r.stack, 1); /* its memory is pointed to even when empty */
    if (!status)
        status = run(&r);
    if (!status)
        status = measure((rq_pickle_value *)(uintptr_t)pickle->root, 0, err);
    if (status) {
        rq_pickle_free(pickle);
        return status;
    }
    *used_bytes = r.at;
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
