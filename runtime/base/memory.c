/* Aligned allocation with a counter and failure injection, and block arenas. */
#include "runtime/base/memory.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/size.h"

static atomic_size_t alloc_count;
static atomic_long fail_after = -1;

enum { MIN_HUGE_BYTES = 1 << 22 };

/* A 2 MiB page costs one fault and one entry of the TLB where 512 small ones would. Only advice:
 * what the system makes of it does not matter. */
static void want_huge_pages(unsigned char *block, size_t size_bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)block + page - 1) / page * page;
    (void)madvise((void *)first, (uintptr_t)block + size_bytes - first, MADV_HUGEPAGE);
}

/* From calloc, which gets large blocks from the system as pages of zeros: a network of 500 MB costs
 * nothing until its weights are written. The address to free is stored in the 8 bytes before the
 * aligned one; calloc's blocks are aligned to 16, so there is always room. */
static void *alloc_zeroed(size_t size_bytes)
{
    size_t total_bytes;
    unsigned char *block =
        rq_add_size(size_bytes, RQ_ALIGNMENT, &total_bytes) ? calloc(1, total_bytes) : NULL;
    if (!block)
        return NULL;
    if (total_bytes >= MIN_HUGE_BYTES)
        want_huge_pages(block, total_bytes);
    unsigned char *memory = block + RQ_ALIGNMENT - (uintptr_t)block % RQ_ALIGNMENT;
    ((void **)(void *)memory)[-1] = block;
    return memory;
}

void *rq_alloc(size_t size_bytes)
{
    atomic_fetch_add(&alloc_count, 1);
    long left = atomic_load(&fail_after);
    if (left == 0)
        return NULL;
    if (left > 0)
        atomic_store(&fail_after, left - 1);
    size_t padded;
    if (!rq_add_size(size_bytes, RQ_ALIGNMENT - 1, &padded))
        return NULL;
    padded &= ~(size_t)(RQ_ALIGNMENT - 1);
    return alloc_zeroed(padded);
}

void rq_free(void *memory)
{
    if (memory)
        free(((void **)memory)[-1]);
}

void *rq_alloc_array_(size_t n, size_t elem_size)
{
    size_t size_bytes;
    return rq_mul_size(n, elem_size, &size_bytes) ? rq_alloc(size_bytes) : NULL;
}

bool rq_grow(uint8_t **memory, size_t *capacity_bytes, size_t size_bytes)
{
    if (size_bytes <= *capacity_bytes)
        return true;
    rq_free(*memory);
    *memory = rq_alloc(size_bytes);
    *capacity_bytes = *memory ? size_bytes : 0;
    return *memory != NULL;
}

size_t rq_alloc_count(void)
{
    return atomic_load(&alloc_count);
}

void rq_alloc_test_fail_after(long n)
{
    atomic_store(&fail_after, n);
}

struct rq_arena_block {
    rq_arena_block *next;
    size_t size_bytes; /* of data */
    size_t used_bytes;
    unsigned char *data;
};

#if defined(__SANITIZE_ADDRESS__)
enum { MIN_BLOCK_BYTES = 0 };
#else
enum { MIN_BLOCK_BYTES = 64 * 1024 };
#endif

static rq_arena_block *add_block(rq_arena *arena, size_t size_bytes)
{
    rq_arena_block *block = rq_alloc(sizeof *block);
    if (!block)
        return NULL;
    const size_t least =
        MIN_BLOCK_BYTES && arena->block_bytes ? arena->block_bytes : MIN_BLOCK_BYTES;
    block->size_bytes = size_bytes > least ? size_bytes : least;
    block->data = rq_alloc(block->size_bytes);
    if (!block->data) {
        rq_free(block);
        return NULL;
    }
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

void *rq_arena_alloc(rq_arena *arena, size_t size_bytes)
{
    size_t padded;
    if (!rq_add_size(size_bytes ? size_bytes : 1, RQ_ALIGNMENT - 1, &padded))
        return NULL;
    padded &= ~(size_t)(RQ_ALIGNMENT - 1);
    rq_arena_block *block = arena->blocks;
    if (!block || block->size_bytes - block->used_bytes < padded || MIN_BLOCK_BYTES == 0)
        block = add_block(arena, MIN_BLOCK_BYTES == 0 ? size_bytes : padded);
    if (!block)
        return NULL;
    void *memory = block->data + block->used_bytes;
    block->used_bytes = MIN_BLOCK_BYTES == 0 ? block->size_bytes : block->used_bytes + padded;
    arena->total_bytes += padded;
    return memory;
}

void *rq_arena_array_(rq_arena *arena, size_t n, size_t elem_size)
{
    size_t size_bytes;
    return rq_mul_size(n, elem_size, &size_bytes) ? rq_arena_alloc(arena, size_bytes) : NULL;
}

char *rq_arena_strdup(rq_arena *arena, const char *text)
{
    const size_t size_bytes = strlen(text) + 1;
    char *copy = rq_arena_alloc(arena, size_bytes);
    return copy ? memcpy(copy, text, size_bytes) : NULL;
}

char *rq_arena_printf(rq_arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        return NULL;
    char *text = rq_arena_alloc(arena, (size_t)n + 1);
    if (!text)
        return NULL;
    va_start(args, format);
    (void)vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    return text;
}

void rq_arena_deinit(rq_arena *arena)
{
    while (arena->blocks) {
        rq_arena_block *block = arena->blocks;
        arena->blocks = block->next;
        rq_free(block->data);
        rq_free(block);
    }
    arena->total_bytes = 0;
}
