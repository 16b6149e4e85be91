/* The machine that executes a pickle: what its opcodes (pickle_opcodes.c) are made of. Failures are
 * RQ_ERR_FILE with the opcode's name and byte, or RQ_ERR_NOMEM. */
#ifndef RQ_RUNTIME_TORCH_PICKLE_MACHINE_H
#define RQ_RUNTIME_TORCH_PICKLE_MACHINE_H

#include "runtime/base/memory.h"
#include "runtime/torch/pickle.h"

struct rq_pickle {
    rq_arena arena;
    const rq_pickle_value *root;
    rq_pickle_items persistent;
};

typedef struct rq_pickle_machine rq_pickle_machine;

/* A step of the machine. The last two members tell opcodes of one function apart. */
typedef struct rq_pickle_opcode {
    const char *name;
    rq_status (*run)(rq_pickle_machine *m); /* NULL: not an opcode */
    rq_pickle_kind kind;                    /* of what is made */
    int n;                                  /* a number of bytes or values */
} rq_pickle_opcode;

extern const rq_pickle_opcode rq_pickle_opcodes[256]; /* by their byte */

struct rq_pickle_machine {
    rq_pickle *pickle; /* what is made */
    const unsigned char *data;
    size_t size_bytes;
    size_t at;                   /* of the next byte */
    size_t op_at;                /* of the opcode that is being executed */
    const rq_pickle_opcode *row; /* of this opcode */
    rq_pickle_value *page;
    size_t page_left, n_values, n_places; /* places in containers */
    rq_pickle_items stack, memo;
    size_t *marks; /* stack heights */
    size_t n_marks, marks_capacity;
    bool is_done;
    rq_error *err;
};

/* `return rq_pickle_fail(m, RQ_ERR_FILE, "…")`: "byte 12: REDUCE: …" */
#define rq_pickle_fail(m, code, ...)                                                               \
    ((void)rq_error_write_((m)->err, (code), __VA_ARGS__), rq_pickle_add_place_(m), (code))
void rq_pickle_add_place_(const rq_pickle_machine *m);

/* ---- memory ---- */

RQ_NODISCARD rq_status rq_pickle_new_value(rq_pickle_machine *m, rq_pickle_kind kind,
                                           rq_pickle_value **out);

/* Room for n more items; the arena keeps the smaller arrays, together as large as the last. */
RQ_NODISCARD rq_status rq_pickle_reserve(rq_pickle_machine *m, rq_pickle_items *items, size_t n);

/* Append n values to a container's items. */
RQ_NODISCARD rq_status rq_pickle_add_items(rq_pickle_machine *m, rq_pickle_items *items,
                                           rq_pickle_value *const *values, size_t n);

/* ---- the stack ---- */

RQ_NODISCARD rq_status rq_pickle_push(rq_pickle_machine *m, rq_pickle_value *value);
RQ_NODISCARD rq_status rq_pickle_push_new(rq_pickle_machine *m, rq_pickle_kind kind,
                                          rq_pickle_value **out);

/* The highest n values, which are above the last mark: *out points to the lowest of them. They
 * leave the stack but stay in its memory until the next push. */
RQ_NODISCARD rq_status rq_pickle_pop(rq_pickle_machine *m, size_t n, rq_pickle_value *const **out);

/* The same with all values above the last mark, which is removed. */
RQ_NODISCARD rq_status rq_pickle_pop_mark(rq_pickle_machine *m, rq_pickle_value *const **out,
                                          size_t *n);

/* The highest value, which stays. */
RQ_NODISCARD rq_status rq_pickle_top(rq_pickle_machine *m, rq_pickle_value **out);

RQ_NODISCARD rq_status rq_pickle_add_mark(rq_pickle_machine *m);

/* ---- the bytes ---- */

RQ_NODISCARD rq_status rq_pickle_take(rq_pickle_machine *m, uint64_t n, const unsigned char **out);

/* An unsigned number of n = 1, 2, 4 or 8 bytes. */
RQ_NODISCARD rq_status rq_pickle_take_number(rq_pickle_machine *m, int n, uint64_t *out);

#endif
