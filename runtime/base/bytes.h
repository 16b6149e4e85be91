/* Little-endian numbers in files, byte by byte: no alignment is needed. */
#ifndef RQ_RUNTIME_BASE_BYTES_H
#define RQ_RUNTIME_BASE_BYTES_H

#include <stdint.h>

static inline uint16_t rq_read_u16(const unsigned char *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static inline uint32_t rq_read_u32(const unsigned char *bytes)
{
    return rq_read_u16(bytes) | (uint32_t)rq_read_u16(bytes + 2) << 16;
}

static inline uint64_t rq_read_u64(const unsigned char *bytes)
{
    return rq_read_u32(bytes) | (uint64_t)rq_read_u32(bytes + 4) << 32;
}

#endif
