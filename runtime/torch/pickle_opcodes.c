/* One row per opcode says how each step of a pickle builds the tree. */
#include <string.h>

#include "runtime/torch/pickle_machine.h"

enum { MAX_NAME = 1024, HIGHEST_PROTOCOL = 5 };

/* ---- simple values ---- */

static rq_status op_protocol(rq_pickle_machine *m)
{
    uint64_t version;
    RQ_TRY(rq_pickle_take_number(m, 1, &version));
    return version <= HIGHEST_PROTOCOL
               ? RQ_OK
               : rq_pickle_fail(m, RQ_ERR_FILE, "protocol %d, at most %d is known", (int)version,
                                HIGHEST_PROTOCOL);
}

/* Frames are for buffering; only their size is checked. */
static rq_status op_frame(rq_pickle_machine *m)
{
    uint64_t n;
    const unsigned char *bytes;
    RQ_TRY(rq_pickle_take_number(m, 8, &n));
    const size_t begin = m->at;
    RQ_TRY(rq_pickle_take(m, n, &bytes));
    m->at = begin;
    return RQ_OK;
}

static rq_status op_constant(rq_pickle_machine *m)
{
    rq_pickle_value *value;
    RQ_TRY(rq_pickle_push_new(m, m->row->kind, &value));
    if (m->row->kind == RQ_PICKLE_BOOL)
        value->as.boolean = m->row->n != 0;
    return RQ_OK;
}

static rq_status op_integer(rq_pickle_machine *m)
{
    uint64_t bits;
    rq_pickle_value *value;
    RQ_TRY(rq_pickle_take_number(m, m->row->n, &bits));
    RQ_TRY(rq_pickle_push_new(m, RQ_PICKLE_INT, &value));
    value->as.integer = m->row->n == 4 ? (int32_t)(uint32_t)bits : (int64_t)bits;
    return RQ_OK;
}

/* Two's complement of any size; up to 64 bits it becomes an INT. */
static rq_status op_long(rq_pickle_machine *m)
{
    uint64_t n;
    const unsigned char *bytes;
    rq_pickle_value *value;
    RQ_TRY(rq_pickle_take_number(m, m->row->n, &n));
    if (n > RQ_PICKLE_MAX_LONG)
        return rq_pickle_fail(m, RQ_ERR_FILE, "an integer of %llu bytes, the limit is %d",
                              (unsigned long long)n, RQ_PICKLE_MAX_LONG);
    RQ_TRY(rq_pickle_take(m, n, &bytes));
    RQ_TRY(rq_pickle_push_new(m, n > 8 ? RQ_PICKLE_LONG : RQ_PICKLE_INT, &value));
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

static rq_status op_float(rq_pickle_machine *m) /* big-endian, unlike all else */
{
    const unsigned char *bytes;
    rq_pickle_value *value;
    RQ_TRY(rq_pickle_take(m, 8, &bytes));
    RQ_TRY(rq_pickle_push_new(m, RQ_PICKLE_FLOAT, &value));
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | bytes[i];
    memcpy(&value->as.real, &bits, sizeof bits);
    return RQ_OK;
}

static rq_status op_bytes(rq_pickle_machine *m)
{
    uint64_t n;
    const unsigned char *bytes;
    rq_pickle_value *value;
    RQ_TRY(rq_pickle_take_number(m, m->row->n, &n));
    RQ_TRY(rq_pickle_take(m, n, &bytes));
    RQ_TRY(rq_pickle_push_new(m, m->row->kind, &value));
    value->as.bytes = (rq_pickle_bytes){(const char *)bytes, (size_t)n};
    return RQ_OK;
}

/* ---- the stack and the memo ---- */

static rq_status op_mark(rq_pickle_machine *m)
{
    return rq_pickle_add_mark(m);
}

/* Right after a mark, POP takes the mark. */
static rq_status op_pop(rq_pickle_machine *m)
{
    rq_pickle_value *const *values;
    if (m->n_marks > 0 && m->marks[m->n_marks - 1] == m->stack.n) {
        m->n_marks--;
        return RQ_OK;
    }
    return rq_pickle_pop(m, 1, &values);
}

static rq_status op_pop_mark(rq_pickle_machine *m)
{
    rq_pickle_value *const *values;
    size_t n;
    return rq_pickle_pop_mark(m, &values, &n);
}

static rq_status op_duplicate(rq_pickle_machine *m)
{
    rq_pickle_value *value;
    RQ_TRY(rq_pickle_top(m, &value));
    return rq_pickle_push(m, value);
}

static rq_status put(rq_pickle_machine *m, uint64_t i)
{
    rq_pickle_value *value;
    RQ_TRY(rq_pickle_top(m, &value));
    if (i >= RQ_PICKLE_MAX_VALUES)
        return rq_pickle_fail(m, RQ_ERR_FILE, "memo number %llu, the limit is %d",
                              (unsigned long long)i, RQ_PICKLE_MAX_VALUES);
    if (i >= m->memo.n) { /* numbers in between stay NULL */
        RQ_TRY(rq_pickle_reserve(m, &m->memo, (size_t)i + 1 - m->memo.n));
        m->memo.n = (size_t)i + 1;
    }
    m->memo.values[i] = value;
    return RQ_OK;
}

static rq_status op_put(rq_pickle_machine *m)
{
    uint64_t i;
    RQ_TRY(rq_pickle_take_number(m, m->row->n, &i));
    return put(m, i);
}

static rq_status op_memoize(rq_pickle_machine *m)
{
    return put(m, m->memo.n);
}

static rq_status op_get(rq_pickle_machine *m)
{
    uint64_t i;
    RQ_TRY(rq_pickle_take_number(m, m->row->n, &i));
    if (i >= m->memo.n || !m->memo.values[i])
        return rq_pickle_fail(m, RQ_ERR_FILE, "the memo has no number %llu", (unsigned long long)i);
    return rq_pickle_push(m, m->memo.values[i]);
}

/* ---- containers ---- */

static rq_status require_pairs(rq_pickle_machine *m, size_t n)
{
    return n % 2 == 0
               ? RQ_OK
               : rq_pickle_fail(m, RQ_ERR_FILE, "%zu values are not pairs of key and value", n);
}

/* A container of the row's kind from n values that were popped. */
static rq_status push_container(rq_pickle_machine *m, rq_pickle_value *const *values, size_t n)
{
    rq_pickle_value *container;
    RQ_TRY(rq_pickle_new_value(m, m->row->kind, &container));
    if (m->row->kind == RQ_PICKLE_DICT)
        RQ_TRY(require_pairs(m, n));
    RQ_TRY(rq_pickle_add_items(m, &container->as.items, values, n));
    return rq_pickle_push(m, container);
}

static rq_status op_container(rq_pickle_machine *m) /* of n values: ), ], }, TUPLE1, … */
{
    rq_pickle_value *const *values;
    RQ_TRY(rq_pickle_pop(m, (size_t)m->row->n, &values));
    return push_container(m, values, (size_t)m->row->n);
}

static rq_status op_container_from_mark(rq_pickle_machine *m)
{
    rq_pickle_value *const *values;
    size_t n;
    RQ_TRY(rq_pickle_pop_mark(m, &values, &n));
    return push_container(m, values, n);
}

/* The items that the row's kind (LIST, DICT, SET) is added to, in the value on top. Objects take
 * them too: a class may be a list or a dict. */
static rq_status find_items(rq_pickle_machine *m, rq_pickle_items **out)
{
    rq_pickle_value *container;
    const rq_pickle_kind kind = m->row->kind;
    RQ_TRY(rq_pickle_top(m, &container));
    if (container->kind == kind) {
        *out = &container->as.items;
    } else if (container->kind == RQ_PICKLE_OBJECT) {
        *out = kind == RQ_PICKLE_DICT ? &container->as.object->dict : &container->as.object->list;
    } else {
        char text[160];
        rq_pickle_describe(container, text, sizeof text);
        return rq_pickle_fail(m, RQ_ERR_FILE, "items are added to %s", text);
    }
    return RQ_OK;
}

static rq_status add_to_container(rq_pickle_machine *m, rq_pickle_value *const *values, size_t n)
{
    rq_pickle_items *items;
    RQ_TRY(find_items(m, &items));
    if (m->row->kind == RQ_PICKLE_DICT)
        RQ_TRY(require_pairs(m, n));
    return rq_pickle_add_items(m, items, values, n);
}

static rq_status op_add(rq_pickle_machine *m) /* n values: APPEND, SETITEM */
{
    rq_pickle_value *const *values;
    RQ_TRY(rq_pickle_pop(m, (size_t)m->row->n, &values));
    return add_to_container(m, values, (size_t)m->row->n);
}

static rq_status op_add_from_mark(rq_pickle_machine *m)
{
    rq_pickle_value *const *values;
    size_t n;
    RQ_TRY(rq_pickle_pop_mark(m, &values, &n));
    return add_to_container(m, values, n);
}

/* ---- names and objects ---- */

static rq_status push_global(rq_pickle_machine *m, rq_pickle_bytes module, rq_pickle_bytes name)
{
    rq_pickle_value *value;
    if (module.n == 0 || name.n == 0 || module.n > MAX_NAME || name.n > MAX_NAME)
        return rq_pickle_fail(m, RQ_ERR_FILE, "a name of %zu.%zu bytes, 1 to %d each are allowed",
                              module.n, name.n, MAX_NAME);
    RQ_TRY(rq_pickle_push_new(m, RQ_PICKLE_GLOBAL, &value));
    value->as.global.module = module;
    value->as.global.name = name;
    return RQ_OK;
}

static rq_status take_line(rq_pickle_machine *m, rq_pickle_bytes *out)
{
    const unsigned char *begin = m->data + m->at;
    const unsigned char *end = memchr(begin, '\n', m->size_bytes - m->at);
    if (!end)
        return rq_pickle_fail(m, RQ_ERR_FILE, "cut off: a line does not end");
    *out = (rq_pickle_bytes){(const char *)begin, (size_t)(end - begin)};
    m->at += out->n + 1;
    return RQ_OK;
}

static rq_status op_global(rq_pickle_machine *m)
{
    rq_pickle_bytes module, name;
    RQ_TRY(take_line(m, &module));
    RQ_TRY(take_line(m, &name));
    return push_global(m, module, name);
}

static rq_status op_stack_global(rq_pickle_machine *m)
{
    rq_pickle_value *const *names;
    RQ_TRY(rq_pickle_pop(m, 2, &names));
    if (names[0]->kind != RQ_PICKLE_TEXT || names[1]->kind != RQ_PICKLE_TEXT)
        return rq_pickle_fail(m, RQ_ERR_FILE, "the module and the name are not strings");
    return push_global(m, names[0]->as.bytes, names[1]->as.bytes);
}

/* Python 2 pickles an OrderedDict as OrderedDict([[key, value], …]). */
static rq_status set_ordered_pairs(rq_pickle_machine *m, rq_pickle_object *object)
{
    const rq_pickle_value *pairs = rq_pickle_item(object->arguments, 0);
    if (!rq_pickle_is_global(object->callable, "collections", "OrderedDict") ||
        !rq_pickle_is(pairs, RQ_PICKLE_LIST))
        return RQ_OK;
    for (size_t i = 0; i < pairs->as.items.n; i++) {
        const rq_pickle_value *pair = pairs->as.items.values[i];
        if (!rq_pickle_item(pair, 1) || rq_pickle_item(pair, 2))
            return rq_pickle_fail(m, RQ_ERR_FILE, "item %zu of an OrderedDict is not a pair", i);
        RQ_TRY(rq_pickle_add_items(m, &object->dict, pair->as.items.values, 2));
    }
    return RQ_OK;
}

/* REDUCE (callable, arguments), NEWOBJ (class, arguments), NEWOBJ_EX (class, arguments, keyword
 * arguments; the last are left out). */
static rq_status op_object(rq_pickle_machine *m)
{
    rq_pickle_value *const *parts, *value;
    RQ_TRY(rq_pickle_pop(m, (size_t)m->row->n, &parts));
    rq_pickle_object *object = rq_arena_alloc(&m->pickle->arena, sizeof *object);
    if (!object)
        return rq_no_memory(m->err);
    object->callable = parts[0];
    object->arguments = parts[1];
    RQ_TRY(rq_pickle_push_new(m, RQ_PICKLE_OBJECT, &value));
    value->as.object = object;
    return set_ordered_pairs(m, object);
}

static rq_status op_build(rq_pickle_machine *m)
{
    rq_pickle_value *const *state, *value;
    RQ_TRY(rq_pickle_pop(m, 1, &state));
    RQ_TRY(rq_pickle_top(m, &value));
    if (value->kind != RQ_PICKLE_OBJECT)
        return rq_pickle_fail(m, RQ_ERR_FILE, "a state for what is not an object");
    value->as.object->state = state[0];
    return RQ_OK;
}

static rq_status op_persistent(rq_pickle_machine *m)
{
    rq_pickle_value *const *id, *value;
    RQ_TRY(rq_pickle_pop(m, 1, &id));
    const rq_pickle_value *of = id[0];
    RQ_TRY(rq_pickle_push_new(m, RQ_PICKLE_PERSISTENT, &value));
    value->as.id = of;
    return rq_pickle_add_items(m, &m->pickle->persistent, &value, 1);
}

static rq_status op_stop(rq_pickle_machine *m)
{
    rq_pickle_value *const *root;
    RQ_TRY(rq_pickle_pop(m, 1, &root));
    if (m->stack.n > 0 || m->n_marks > 0)
        return rq_pickle_fail(m, RQ_ERR_FILE, "%zu values and %zu marks are left on the stack",
                              m->stack.n, m->n_marks);
    m->pickle->root = root[0];
    m->is_done = true;
    return RQ_OK;
}

static rq_status op_refused(rq_pickle_machine *m)
{
    return rq_pickle_fail(m, RQ_ERR_UNSUPPORTED,
                          "this opcode is not read (a text opcode of protocol 0, an "
                          "extension code or an out-of-band buffer)");
}

/* clang-format off */
const rq_pickle_opcode rq_pickle_opcodes[256] = {
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
