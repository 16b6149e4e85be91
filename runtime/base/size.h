/* Checked size arithmetic: the only way in which sizes that come from a file, an image or an option
 * are combined. Each returns false on overflow and then leaves *out untouched. */
#ifndef RQ_RUNTIME_BASE_SIZE_H
#define RQ_RUNTIME_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool rq_add_size(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

static inline bool rq_mul_size(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

/* Product of rank dimensions (1 for rank 0). False for a negative dimension or on overflow of
 * size_t. */
static inline bool rq_dims_elems(const int64_t *dims, int rank, size_t *out)
{
    size_t elems = 1;
    for (int i = 0; i < rank; i++)
        if (dims[i] < 0 || !rq_mul_size(elems, (size_t)dims[i], &elems))
            return false;
    *out = elems;
    return true;
}

#endif
