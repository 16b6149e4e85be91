/* The project's one allocator, and arenas on top of it.
 *
 * All memory of the libraries comes from rq_alloc, so that a test can count requests or make the
 * n-th one fail (rq_alloc_test). An arena is a growing list of blocks freed as a whole: one per
 * model, per session, per trainer. Under AddressSanitizer each arena request is a block of its own,
 * so that overruns inside an arena are seen. */
#ifndef RQ_RUNTIME_BASE_MEMORY_H
#define RQ_RUNTIME_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { RQ_ALIGNMENT = 64 }; /* bytes; every allocation starts on a cache line */

/* size_bytes of zeroed memory, 64-byte aligned; NULL when there is none (size 0 gives a valid
 * pointer). Free with rq_free. Thread-safe. */
void *rq_alloc(size_t size_bytes);
void rq_free(void *memory); /* NULL is fine */

/* rq_alloc of n elements of a type, as a pointer to that type. n is of any integer type. NULL when
 * there is no memory, n is negative, or the size overflows. */
#define rq_alloc_array(type, n) ((type *)rq_alloc_array_((size_t)(n), sizeof(type)))

/* Make *memory, of *capacity_bytes (NULL and 0 at first), hold size_bytes; what was in it is lost
 * when it grows. False when there is no memory: it is then NULL and 0 again. */
bool rq_grow(uint8_t **memory, size_t *capacity_bytes, size_t size_bytes);

/* For tests: the number of rq_alloc calls so far, and a countdown: with fail_after = n >= 0 the
 * n-th next call (0 = the very next) and all later ones return NULL; a negative value ends that. */
size_t rq_alloc_count(void);
void rq_alloc_test_fail_after(long n);

typedef struct rq_arena_block rq_arena_block;

/* Zero-initialise (RQ_ARENA_INIT) before first use. Not thread-safe. */
typedef struct rq_arena {
    rq_arena_block *blocks; /* newest first */
    size_t block_bytes;     /* of new blocks; 0: 64 KiB. May be set at any time */
    size_t total_bytes;     /* requested so far, padding included */
} rq_arena;

#define RQ_ARENA_INIT                                                                              \
    {                                                                                              \
        NULL, 0, 0                                                                                 \
    }

/* Zeroed, 64-byte aligned memory that lives until rq_arena_deinit; NULL when there is none. */
void *rq_arena_alloc(rq_arena *arena, size_t size_bytes);

/* The same from an arena. */
#define rq_arena_array(arena, type, n) ((type *)rq_arena_array_((arena), (size_t)(n), sizeof(type)))

/* A copy of text; NULL when there is no memory. */
char *rq_arena_strdup(rq_arena *arena, const char *text);

/* printf into the arena; NULL when there is no memory. */
char *rq_arena_printf(rq_arena *arena, const char *format, ...) RQ_PRINTF(2, 3);

/* What rq_alloc_array and rq_arena_array are made of. */
void *rq_alloc_array_(size_t n, size_t elem_size);
void *rq_arena_array_(rq_arena *arena, size_t n, size_t elem_size);

/* Free everything; the arena is then empty and usable again. */
void rq_arena_deinit(rq_arena *arena);

#endif
