/* The checksums of guarded tensor files (format: tensorfile.h), for its reader and its writer. */
#ifndef RQ_RUNTIME_MODELFILE_CHECKSUM_H
#define RQ_RUNTIME_MODELFILE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <zlib.h>

/* What a guarded header begins with; the digits follow. */
#define RQ_GUARD_PREFIX "{\"__metadata__\":{\"header_crc32\":\""

enum { RQ_CRC_DIGITS = 8, RQ_CRC_TEXT = RQ_CRC_DIGITS + 1 };

static inline uint32_t rq_crc(const void *data, size_t size_bytes)
{
    return (uint32_t)crc32_z(0, data, size_bytes);
}

static inline void rq_crc_text(uint32_t crc, char text[RQ_CRC_TEXT])
{
    (void)snprintf(text, RQ_CRC_TEXT, "%08x", (unsigned)crc);
}

/* Of a guarded header with its 8 length bytes in front; its own digits count as '0'. */
static inline uint32_t rq_crc_header(const unsigned char *bytes, size_t size_bytes)
{
    const size_t before = 8 + strlen(RQ_GUARD_PREFIX);
    const size_t after = before + RQ_CRC_DIGITS;
    uLong crc = crc32_z(0, bytes, before);
    crc = crc32_z(crc, (const unsigned char *)"00000000", RQ_CRC_DIGITS);
    return (uint32_t)crc32_z(crc, bytes + after, size_bytes - after);
}

#endif
