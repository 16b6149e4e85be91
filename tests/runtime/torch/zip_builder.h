/* Zip archives for tests, sound ones and others: every field can be set. */
#ifndef RQ_TESTS_RUNTIME_TORCH_ZIP_BUILDER_H
#define RQ_TESTS_RUNTIME_TORCH_ZIP_BUILDER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <zlib.h>

enum { ZIP_MAX_BYTES = 1 << 22, ZIP_MAX_ENTRIES = 64 };

typedef struct zip_item {
    const char *name;
    const void *data; /* as stored */
    uint32_t stored, size, crc, header;
    uint16_t flags, method;
} zip_item;

/* A static one: it is large. Zero-initialise, or set n_bytes and n_items to 0. */
typedef struct zip_builder {
    uint8_t bytes[ZIP_MAX_BYTES];
    size_t n_bytes;
    zip_item items[ZIP_MAX_ENTRIES];
    int n_items;
    size_t directory; /* set by zip_finish: offsets of the directory and of the record at the end */
    size_t end;
} zip_builder;

static inline void zip_put(zip_builder *zip, uint64_t value, int n)
{
    for (int i = 0; i < n && zip->n_bytes < ZIP_MAX_BYTES; i++)
        zip->bytes[zip->n_bytes++] = (uint8_t)(value >> 8 * i);
}

static inline void zip_put_bytes(zip_builder *zip, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        zip_put(zip, ((const uint8_t *)data)[i], 1);
}

/* What a sound archive says about n stored bytes. */
static inline zip_item zip_stored(const char *name, const void *data, size_t n)
{
    return (zip_item){.name = name,
                      .data = data,
                      .stored = (uint32_t)n,
                      .size = (uint32_t)n,
                      .crc = (uint32_t)crc32_z(0, data, n)};
}

/* Flags 8 (a data descriptor) as PyTorch writes it: zeros in the local header, padding before. */
static inline zip_item *zip_add(zip_builder *zip, zip_item item)
{
    const int is_behind = (item.flags & 8) != 0;
    item.header = (uint32_t)zip->n_bytes;
    zip_put(zip, 0x04034b50, 4);
    zip_put(zip, 20, 2);
    zip_put(zip, item.flags, 2);
    zip_put(zip, item.method, 2);
    zip_put(zip, 0, 4);
    zip_put(zip, is_behind ? 0 : item.crc, 4);
    zip_put(zip, is_behind ? 0 : item.stored, 4);
    zip_put(zip, is_behind ? 0 : item.size, 4);
    zip_put(zip, strlen(item.name), 2);
    zip_put(zip, 0, 2);
    zip_put_bytes(zip, item.name, strlen(item.name));
    zip_put_bytes(zip, item.data, item.stored);
    if (is_behind) {
        zip_put(zip, 0x08074b50, 4);
        zip_put(zip, item.crc, 4);
        zip_put(zip, item.stored, 4);
        zip_put(zip, item.size, 4);
    }
    zip->items[zip->n_items] = item;
    return &zip->items[zip->n_items++];
}

/* The directory and the record after it. with_zip64: sizes and offsets in zip64 fields and the
 * zip64 record, as if the archive were large. */
static inline void zip_finish(zip_builder *zip, int with_zip64)
{
    zip->directory = zip->n_bytes;
    for (int i = 0; i < zip->n_items; i++) {
        const zip_item *item = &zip->items[i];
        zip_put(zip, 0x02014b50, 4);
        zip_put(zip, 20 | 20 << 16, 4);
        zip_put(zip, item->flags, 2);
        zip_put(zip, item->method, 2);
        zip_put(zip, 0, 4);
        zip_put(zip, item->crc, 4);
        zip_put(zip, with_zip64 ? UINT32_MAX : item->stored, 4);
        zip_put(zip, with_zip64 ? UINT32_MAX : item->size, 4);
        zip_put(zip, strlen(item->name), 2);
        zip_put(zip, with_zip64 ? 28 + 6 : 0, 2);
        zip_put(zip, 0, 6); /* comment, disk, attributes */
        zip_put(zip, 0, 4);
        zip_put(zip, with_zip64 ? UINT32_MAX : item->header, 4);
        zip_put_bytes(zip, item->name, strlen(item->name));
        if (with_zip64) { /* after a field that is of no interest */
            zip_put(zip, 0x4246 | 2 << 16, 4);
            zip_put(zip, 0, 2);
            zip_put(zip, 1 | 24 << 16, 4);
            zip_put(zip, item->size, 8);
            zip_put(zip, item->stored, 8);
            zip_put(zip, item->header, 8);
        }
    }
    const size_t size = zip->n_bytes - zip->directory, end64 = zip->n_bytes;
    const uint64_t n = (uint64_t)zip->n_items;
    if (with_zip64) {
        zip_put(zip, 0x06064b50, 4);
        zip_put(zip, 44, 8);
        zip_put(zip, 45 | 45 << 16, 4);
        zip_put(zip, 0, 8);
        zip_put(zip, n, 8);
        zip_put(zip, n, 8);
        zip_put(zip, size, 8);
        zip_put(zip, zip->directory, 8);
        zip_put(zip, 0x07064b50, 4);
        zip_put(zip, 0, 4);
        zip_put(zip, end64, 8);
        zip_put(zip, 1, 4);
    }
    zip->end = zip->n_bytes;
    zip_put(zip, 0x06054b50, 4);
    zip_put(zip, 0, 4);
    zip_put(zip, n, 2);
    zip_put(zip, n, 2);
    zip_put(zip, with_zip64 ? UINT32_MAX : size, 4);
    zip_put(zip, with_zip64 ? UINT32_MAX : zip->directory, 4);
    zip_put(zip, 0, 2);
}

/* Change a field of n bytes in place. */
static inline void zip_poke(zip_builder *zip, size_t at, uint64_t value, int n)
{
    const size_t n_bytes = zip->n_bytes;
    zip->n_bytes = at;
    zip_put(zip, value, n);
    zip->n_bytes = n_bytes;
}

#endif
