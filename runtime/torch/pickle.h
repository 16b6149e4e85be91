/* Python pickles read as data: nothing is imported, called or executed. pickle_machine.c reads,
 * pickle.c looks at what was read.
 *
 * The result is a tree of values. What Python would call (REDUCE, NEWOBJ) stays a description, an
 * object: its callable, its arguments, the items added to it, its state; the reader of the tree
 * decides which callables it knows. Read are the opcodes of protocols 2 to 5, as pickle.py defines
 * them, apart from extension codes and out-of-band buffers; opcodes of protocols 0 and 1 that work
 * on text lines are refused by name.
 *
 * Bounded: RQ_PICKLE_MAX_VALUES values, places in containers, places on the stack and numbers in
 * the memo each; RQ_PICKLE_MAX_DEPTH levels of nesting; integers of RQ_PICKLE_MAX_LONG bytes. An
 * object that contains itself is refused, so the tree can be walked; the same value may be at
 * several places. Time and memory are proportional to the pickle's size.
 *
 * Source: Python's Lib/pickle.py and Lib/pickletools.py. */
#ifndef RQ_RUNTIME_TORCH_PICKLE_H
#define RQ_RUNTIME_TORCH_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum {
    RQ_PICKLE_MAX_VALUES = 1 << 20,
    RQ_PICKLE_MAX_DEPTH = 200,
    RQ_PICKLE_MAX_LONG = 1024, /* bytes */
};

/* code, what messages call it */
#define RQ_PICKLE_KIND_LIST(X)                                                                     \
    X(NONE, "None")                                                                                \
    X(BOOL, "a bool")                                                                              \
    X(INT, "an integer")                                                                           \
    X(LONG, "an integer over 64 bits")                                                             \
    X(FLOAT, "a float")                                                                            \
    X(TEXT, "a string")                                                                            \
    X(BYTES, "bytes")                                                                              \
    X(TUPLE, "a tuple")                                                                            \
    X(LIST, "a list")                                                                              \
    X(SET, "a set")                                                                                \
    X(DICT, "a dict")                                                                              \
    X(GLOBAL, "a name")                                                                            \
    X(OBJECT, "an object")                                                                         \
    X(PERSISTENT, "a persistent id")

typedef enum rq_pickle_kind {
#define X(code, text) RQ_PICKLE_##code,
    RQ_PICKLE_KIND_LIST(X)
#undef X
        RQ_PICKLE_N_KINDS
} rq_pickle_kind;

typedef struct rq_pickle_value rq_pickle_value;

typedef struct rq_pickle_bytes { /* in the pickle's own data, not NUL-terminated */
    const char *data;
    size_t n;
} rq_pickle_bytes;

typedef struct rq_pickle_items {
    rq_pickle_value **values;
    size_t n, capacity;
} rq_pickle_items;

typedef struct rq_pickle_object {
    const rq_pickle_value *callable;  /* what is called, or the class of a new object */
    const rq_pickle_value *arguments; /* as the pickle has them: a tuple, if it is well-formed */
    const rq_pickle_value *state;     /* of the last BUILD, NULL without */
    rq_pickle_items list;             /* appended */
    rq_pickle_items dict;             /* set: key, value, key, value, … */
} rq_pickle_object;

struct rq_pickle_value {
    uint8_t kind; /* rq_pickle_kind */
    uint8_t is_open;
    uint16_t height; /* levels of nesting below; these two are the reader's, to find cycles */
    uint32_t offset; /* of the opcode that made it */
    union {
        bool boolean;
        int64_t integer;
        double real;
        rq_pickle_bytes bytes; /* TEXT (UTF-8, not checked), BYTES, LONG (two's complement, little
                                  endian) */
        struct {
            rq_pickle_bytes module, name;
        } global;
        rq_pickle_items items; /* TUPLE, LIST, SET; DICT: key, value, key, value, … */
        rq_pickle_object *object;
        const rq_pickle_value *id; /* PERSISTENT */
    } as;
};

typedef struct rq_pickle rq_pickle;

/* Read one pickle from the beginning of data, which must stay as long as the result; *used_bytes
 * receives its size. Errors: RQ_ERR_FILE ("byte 12: REDUCE: the stack holds 1 of 2 values"),
 * RQ_ERR_UNSUPPORTED (an opcode that is not read), RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_pickle_read(rq_pickle **out, const unsigned char *data, size_t size_bytes,
                                      size_t *used_bytes, rq_error *err);
void rq_pickle_free(rq_pickle *pickle); /* NULL is fine */

const rq_pickle_value *rq_pickle_root(const rq_pickle *pickle);

/* All persistent ids, in the order of the pickle; values of kind PERSISTENT. */
size_t rq_pickle_n_persistent(const rq_pickle *pickle);
const rq_pickle_value *rq_pickle_get_persistent(const rq_pickle *pickle, size_t i);

/* ---- looking at values; NULL is a value of no kind ---- */

static inline bool rq_pickle_is(const rq_pickle_value *value, rq_pickle_kind kind)
{
    return value && value->kind == kind;
}

/* Their number for "%.*s" in messages, which show the beginning of a long text. */
static inline int rq_pickle_shown(rq_pickle_bytes bytes)
{
    return bytes.n < 120 ? (int)bytes.n : 120;
}

/* Are bytes this text? Is value this string? This name, "collections" "OrderedDict"? */
bool rq_pickle_equals(rq_pickle_bytes bytes, const char *text);
bool rq_pickle_is_text(const rq_pickle_value *value, const char *text);
bool rq_pickle_is_global(const rq_pickle_value *value, const char *module, const char *name);

/* Item i of a tuple or list, NULL when there is none. */
const rq_pickle_value *rq_pickle_item(const rq_pickle_value *value, size_t i);

/* An INT; false otherwise and *out untouched. */
bool rq_pickle_get_int(const rq_pickle_value *value, int64_t *out);

/* What a dict or an OrderedDict holds: key, value, key, value, … NULL for others. */
const rq_pickle_items *rq_pickle_dict(const rq_pickle_value *value);

/* The value of a string key of such a dict, the last one when there are two; NULL when there is
 * none. */
const rq_pickle_value *rq_pickle_lookup(const rq_pickle_value *value, const char *key);

/* What value is, for messages: "a list", "an object made by argparse.Namespace". */
const char *rq_pickle_kind_text(rq_pickle_kind kind);
void rq_pickle_describe(const rq_pickle_value *value, char *text, size_t size_bytes);

#endif
