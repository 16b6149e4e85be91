/* bfloat16: the upper half of a float, kept as uint16_t. */
#ifndef RQ_RUNTIME_BASE_BF16_H
#define RQ_RUNTIME_BASE_BF16_H

#include <stdint.h>
#include <string.h>

/* To the nearest, ties to even; NaN stays NaN. Written so that a loop of it becomes vector code. */
static inline uint16_t rq_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (uint16_t)(x == x ? rounded : bits >> 16 | 0x40u);
}

static inline float rq_from_bf16(uint16_t x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
