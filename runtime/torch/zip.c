/* Zip archives: the directory once, contents when they are asked for. Inflating is zlib's. */
#include "runtime/torch/zip.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "runtime/base/bytes.h"
#include "runtime/base/memory.h"
#include "runtime/base/size.h"

/* Sizes of the fixed parts, and what they begin with ("PK" and two bytes more). */
enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_COMMENT = 0xffff,
};
#define SIGNATURE_END     0x06054b50u
#define SIGNATURE_END64   0x06064b50u
#define SIGNATURE_LOCATOR 0x07064b50u
#define SIGNATURE_CENTRAL 0x02014b50u
#define SIGNATURE_LOCAL   0x04034b50u

#define ALL_ONES_16 0xffffu
#define ALL_ONES_32 0xffffffffu

enum { FLAG_ENCRYPTED = 1 << 0, FLAG_DESCRIPTOR = 1 << 3, FLAGS_HIDDEN = 1 << 6 | 1 << 13 };
enum { METHOD_STORED = 0, METHOD_DEFLATED = 8, EXTRA_ZIP64 = 1 };

/* What the directory says, and where it was found. */
typedef struct entry {
    rq_zip_entry info;
    unsigned flags, method;
    size_t header;                 /* offset of the local header */
    size_t begin;                  /* offset of the stored bytes */
    const unsigned char *contents; /* checked; NULL before the first reading */
} entry;

struct rq_zip {
    rq_arena arena;
    const unsigned char *data;
    size_t size_bytes;
    size_t directory, directory_bytes; /* offset and size */
    entry *entries;
    int n_entries;
    entry **order; /* scratch while opening, then sorted by name */
    size_t inflated_bytes;
};

/* ---- the end of the archive ---- */

typedef struct summary {
    uint64_t n_entries, directory_bytes, directory;
    size_t end; /* the directory must end here */
} summary;

/* The last record whose comment reaches to the end of the file. */
static rq_status find_end(const rq_zip *zip, size_t *out, rq_error *err)
{
    const size_t size = zip->size_bytes;
    if (size < END_BYTES)
        return rq_fail(err, RQ_ERR_FILE, "%zu bytes, an empty zip archive has %d", size, END_BYTES);
    const size_t farthest = size < END_BYTES + MAX_COMMENT ? 0 : size - END_BYTES - MAX_COMMENT;
    for (size_t at = size - END_BYTES + 1; at-- > farthest;)
        if (rq_read_u32(zip->data + at) == SIGNATURE_END &&
            rq_read_u16(zip->data + at + 20) == size - at - END_BYTES) {
            *out = at;
            return RQ_OK;
        }
    return rq_fail(err, RQ_ERR_FILE, "cut off: the zip archive's end is missing");
}

/* Numbers of the zip64 record must be in the old one too, where they fit into it. */
static bool agrees(uint64_t value, uint64_t old, uint64_t all_ones)
{
    return old == all_ones || old == value;
}

static rq_status read_end64(const rq_zip *zip, size_t end, summary *out, rq_error *err)
{
    const unsigned char *locator = zip->data + end - LOCATOR_BYTES;
    const uint64_t at = rq_read_u64(locator + 8);
    if (rq_read_u32(locator + 4) != 0 || rq_read_u32(locator + 16) > 1)
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "a zip archive of several parts");
    if (end < LOCATOR_BYTES + END64_BYTES || at > end - LOCATOR_BYTES - END64_BYTES)
        return rq_fail(err, RQ_ERR_FILE, "byte %zu: the zip64 record cannot be at byte %llu",
                       end - LOCATOR_BYTES, (unsigned long long)at);
    const unsigned char *record = zip->data + at;
    if (rq_read_u32(record) != SIGNATURE_END64 ||
        rq_read_u64(record + 4) != end - LOCATOR_BYTES - at - 12)
        return rq_fail(err, RQ_ERR_FILE, "byte %llu: not a zip64 record of the size that it needs",
                       (unsigned long long)at);
    if (rq_read_u32(record + 16) != 0 || rq_read_u32(record + 20) != 0 ||
        rq_read_u64(record + 24) != rq_read_u64(record + 32))
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "a zip archive of several parts");
    const summary old = *out;
    *out = (summary){rq_read_u64(record + 32), rq_read_u64(record + 40), rq_read_u64(record + 48),
                     (size_t)at};
    if (!agrees(out->n_entries, old.n_entries, ALL_ONES_16) ||
        !agrees(out->directory_bytes, old.directory_bytes, ALL_ONES_32) ||
        !agrees(out->directory, old.directory, ALL_ONES_32))
        return rq_fail(err, RQ_ERR_FILE,
                       "byte %llu: the zip64 record and the one after it do not agree",
                       (unsigned long long)at);
    return RQ_OK;
}

static rq_status read_summary(rq_zip *zip, rq_error *err)
{
    size_t end;
    RQ_TRY(find_end(zip, &end, err));
    const unsigned char *record = zip->data + end;
    if (rq_read_u16(record + 4) != 0 || rq_read_u16(record + 6) != 0 ||
        rq_read_u16(record + 8) != rq_read_u16(record + 10))
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "a zip archive of several parts");
    summary found = {rq_read_u16(record + 10), rq_read_u32(record + 12), rq_read_u32(record + 16),
                     end};
    if (end >= LOCATOR_BYTES && rq_read_u32(record - LOCATOR_BYTES) == SIGNATURE_LOCATOR)
        RQ_TRY(read_end64(zip, end, &found, err));
    if (found.directory > found.end || found.directory_bytes != found.end - found.directory)
        return rq_fail(err, RQ_ERR_FILE,
                       "byte %zu: the directory is said to be %llu bytes from byte %llu, it must "
                       "end at byte %zu",
                       end, (unsigned long long)found.directory_bytes,
                       (unsigned long long)found.directory, found.end);
    if (found.n_entries > RQ_ZIP_MAX_ENTRIES ||
        found.n_entries > found.directory_bytes / CENTRAL_BYTES)
        return rq_fail(err, RQ_ERR_FILE,
                       "byte %zu: %llu entries; the limit is %d, and each takes %d bytes in a "
                       "directory that has %llu",
                       end, (unsigned long long)found.n_entries, RQ_ZIP_MAX_ENTRIES, CENTRAL_BYTES,
                       (unsigned long long)found.directory_bytes);
    zip->directory = (size_t)found.directory;
    zip->directory_bytes = (size_t)found.directory_bytes;
    zip->n_entries = (int)found.n_entries;
    return RQ_OK;
}

/* ---- the directory ---- */

/* Sizes and offset that are all ones are in the zip64 field instead, only those, in this order. */
static rq_status read_zip64_field(uint64_t *const values[3], const unsigned char *extra,
                                  size_t extra_bytes, rq_error *err)
{
    bool is_missing = false;
    for (int i = 0; i < 3; i++)
        is_missing = is_missing || *values[i] == ALL_ONES_32;
    while (is_missing && extra_bytes >= 4) {
        const size_t n = rq_read_u16(extra + 2);
        if (n > extra_bytes - 4)
            break;
        size_t used = 4;
        for (int i = 0; i < 3 && rq_read_u16(extra) == EXTRA_ZIP64; i++) {
            if (*values[i] != ALL_ONES_32)
                continue;
            if (used + 8 > n + 4)
                return rq_fail(err, RQ_ERR_FILE, "the zip64 field is too short");
            *values[i] = rq_read_u64(extra + used);
            used += 8;
        }
        is_missing = rq_read_u16(extra) != EXTRA_ZIP64;
        extra += n + 4;
        extra_bytes -= n + 4;
    }
    return is_missing ? rq_fail(err, RQ_ERR_FILE, "the zip64 field is missing") : RQ_OK;
}

static rq_status read_name(rq_zip *zip, entry *out, const unsigned char *name, size_t n,
                           rq_error *err)
{
    if (n == 0 || n > RQ_ZIP_MAX_NAME || memchr(name, '\0', n))
        return rq_fail(err, RQ_ERR_FILE, "the name is empty, has over %d bytes, or a NUL",
                       RQ_ZIP_MAX_NAME);
    char *copy = rq_arena_alloc(&zip->arena, n + 1);
    if (!copy)
        return rq_no_memory(err);
    memcpy(copy, name, n);
    out->info.name = copy;
    return RQ_OK;
}

static rq_status check_kind(const entry *e, rq_error *err)
{
    if (e->flags & (FLAG_ENCRYPTED | FLAGS_HIDDEN))
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "%s: encrypted", e->info.name);
    if (e->method != METHOD_STORED && e->method != METHOD_DEFLATED)
        return rq_fail(err, RQ_ERR_UNSUPPORTED,
                       "%s: compression method %u, known are 0 (stored) and 8 (deflated)",
                       e->info.name, e->method);
    if (!e->info.is_deflated && e->info.size_bytes != e->info.stored_bytes)
        return rq_fail(err, RQ_ERR_FILE, "%s: stored, but of %zu bytes and %zu", e->info.name,
                       e->info.size_bytes, e->info.stored_bytes);
    if (e->info.is_deflated && e->info.size_bytes / RQ_ZIP_MAX_RATIO > e->info.stored_bytes)
        return rq_fail(err, RQ_ERR_FILE,
                       "%s: %zu bytes cannot be deflated to %zu, the limit is %d to 1",
                       e->info.name, e->info.size_bytes, e->info.stored_bytes, RQ_ZIP_MAX_RATIO);
    return RQ_OK;
}

/* One row of the directory at *at, which moves past it. */
static rq_status read_row(rq_zip *zip, entry *out, size_t *at, rq_error *err)
{
    const size_t end = zip->directory + zip->directory_bytes;
    const unsigned char *row = zip->data + *at;
    if (end - *at < CENTRAL_BYTES || rq_read_u32(row) != SIGNATURE_CENTRAL)
        return rq_fail(err, RQ_ERR_FILE, "not a row of the directory");
    const size_t name_bytes = rq_read_u16(row + 28), extra_bytes = rq_read_u16(row + 30);
    const size_t row_bytes = CENTRAL_BYTES + name_bytes + extra_bytes + rq_read_u16(row + 32);
    if (end - *at < row_bytes)
        return rq_fail(err, RQ_ERR_FILE, "a row of %zu bytes, %zu are left", row_bytes, end - *at);
    RQ_TRY(read_name(zip, out, row + CENTRAL_BYTES, name_bytes, err));
    uint64_t size = rq_read_u32(row + 24), stored = rq_read_u32(row + 20);
    uint64_t header = rq_read_u32(row + 42);
    uint64_t *const values[3] = {&size, &stored, &header};
    RQ_TRY(read_zip64_field(values, row + CENTRAL_BYTES + name_bytes, extra_bytes, err));
    if (rq_read_u16(row + 34) != 0)
        return rq_fail(err, RQ_ERR_UNSUPPORTED, "a zip archive of several parts");
    if (header >= zip->directory || stored > zip->directory - header)
        return rq_fail(err, RQ_ERR_FILE,
                       "%s: %llu bytes from byte %llu do not lie before the directory at byte %zu",
                       out->info.name, (unsigned long long)stored, (unsigned long long)header,
                       zip->directory);
    out->flags = rq_read_u16(row + 8);
    out->method = rq_read_u16(row + 10);
    out->header = (size_t)header;
    out->info.size_bytes = (size_t)size;
    out->info.stored_bytes = (size_t)stored;
    out->info.is_deflated = out->method == METHOD_DEFLATED;
    out->info.crc = rq_read_u32(row + 16);
    *at += row_bytes;
    return check_kind(out, err);
}

/* Does the local header say the same, and where do the stored bytes begin? */
static rq_status read_local(const rq_zip *zip, entry *e, rq_error *err)
{
    const unsigned char *local = zip->data + e->header;
    const size_t room = zip->directory - e->header, name_bytes = strlen(e->info.name);
    if (room < LOCAL_BYTES || rq_read_u32(local) != SIGNATURE_LOCAL)
        return rq_fail(err, RQ_ERR_FILE, "not a local header");
    const size_t header_bytes = LOCAL_BYTES + name_bytes + rq_read_u16(local + 28);
    if (rq_read_u16(local + 26) != name_bytes || room < header_bytes ||
        memcmp(local + LOCAL_BYTES, e->info.name, name_bytes) != 0)
        return rq_fail(err, RQ_ERR_FILE, "the local header has another name");
    const unsigned decisive = FLAG_ENCRYPTED | FLAG_DESCRIPTOR | FLAGS_HIDDEN;
    if (((rq_read_u16(local + 6) ^ e->flags) & decisive) || rq_read_u16(local + 8) != e->method)
        return rq_fail(err, RQ_ERR_FILE, "the local header has other flags or another method");
    if (room - header_bytes < e->info.stored_bytes)
        return rq_fail(err, RQ_ERR_FILE, "%zu bytes do not lie before the directory",
                       e->info.stored_bytes);
    const bool follows = (e->flags & FLAG_DESCRIPTOR) != 0; /* CRC and sizes follow the data */
    if (!follows && (rq_read_u32(local + 14) != e->info.crc ||
                     !agrees(e->info.stored_bytes, rq_read_u32(local + 18), ALL_ONES_32) ||
                     !agrees(e->info.size_bytes, rq_read_u32(local + 22), ALL_ONES_32)))
        return rq_fail(err, RQ_ERR_FILE, "the local header has another checksum or size");
    e->begin = e->header + header_bytes;
    return RQ_OK;
}

static rq_status read_directory(rq_zip *zip, rq_error *err)
{
    size_t at = zip->directory;
    for (int i = 0; i < zip->n_entries; i++) {
        const size_t row = at;
        entry *e = &zip->entries[i];
        rq_status status = read_row(zip, e, &at, err);
        if (status) {
            rq_error_prefix(err, "byte %zu", row);
            return status;
        }
        status = read_local(zip, e, err);
        if (status) {
            rq_error_prefix(err, "byte %zu: %s", e->header, e->info.name);
            return status;
        }
    }
    return at == zip->directory + zip->directory_bytes
               ? RQ_OK
               : rq_fail(err, RQ_ERR_FILE, "byte %zu: the directory has bytes after its last row",
                         at);
}

/* ---- order ---- */

static int compare_positions(const void *a, const void *b)
{
    const entry *x = *(entry *const *)a, *y = *(entry *const *)b;
    return (x->header > y->header) - (x->header < y->header);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(entry *const *)a)->info.name, (*(entry *const *)b)->info.name);
}

/* Sort by position, to see overlaps, then by name, to see doubles and for searching. */
static rq_status index_entries(rq_zip *zip, rq_error *err)
{
    const size_t n = (size_t)zip->n_entries;
    for (size_t i = 0; i < n; i++)
        zip->order[i] = &zip->entries[i];
    qsort(zip->order, n, sizeof(entry *), compare_positions);
    if (n > 0 && zip->order[0]->header != 0)
        return rq_fail(err, RQ_ERR_FILE, "byte 0: no entry begins here, the first is at byte %zu",
                       zip->order[0]->header);
    for (size_t i = 1; i < n; i++) {
        const entry *last = zip->order[i - 1], *next = zip->order[i];
        if (next->header < last->begin + last->info.stored_bytes)
            return rq_fail(err, RQ_ERR_FILE, "byte %zu: %.200s overlaps %.200s", next->header,
                           next->info.name, last->info.name);
    }
    qsort(zip->order, n, sizeof(entry *), compare_names);
    for (size_t i = 1; i < n; i++)
        if (strcmp(zip->order[i - 1]->info.name, zip->order[i]->info.name) == 0)
            return rq_fail(err, RQ_ERR_FILE, "byte %zu: the name %s is given twice",
                           zip->order[i]->header, zip->order[i]->info.name);
    return RQ_OK;
}

/* ---- contents ---- */

/* The whole deflate stream must be used and give just as many bytes as the directory says. */
static rq_status inflate_raw(const entry *e, const unsigned char *src, unsigned char *dst,
                             rq_error *err)
{
    size_t src_left = e->info.stored_bytes, dst_left = e->info.size_bytes;
    unsigned char spare; /* inflate wants room even for nothing */
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)src,
                       .next_out = dst_left ? dst : &spare};
    int result = inflateInit2(&stream, -MAX_WBITS);
    if (result != Z_OK)
        return rq_no_memory(err);
    do { /* zlib counts in unsigned int */
        if (stream.avail_in == 0) {
            stream.avail_in = src_left < UINT_MAX ? (uInt)src_left : UINT_MAX;
            src_left -= stream.avail_in;
        }
        if (stream.avail_out == 0) {
            stream.avail_out = dst_left < UINT_MAX ? (uInt)dst_left : UINT_MAX;
            dst_left -= stream.avail_out;
        }
        result = inflate(&stream, Z_NO_FLUSH);
    } while (result == Z_OK);
    const bool is_whole = result == Z_STREAM_END && stream.avail_out == 0 && dst_left == 0;
    const bool is_used_up = stream.avail_in == 0 && src_left == 0;
    (void)inflateEnd(&stream);
    if (result == Z_MEM_ERROR)
        return rq_no_memory(err);
    if (is_whole && is_used_up)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_FILE, "its deflate data are damaged, or not of %zu bytes",
                   e->info.size_bytes);
}

static rq_status inflate_entry(rq_zip *zip, const entry *e, const unsigned char **out,
                               rq_error *err)
{
    if (e->info.size_bytes > RQ_ZIP_MAX_INFLATED - zip->inflated_bytes)
        return rq_fail(err, RQ_ERR_FILE,
                       "%zu bytes inflated so far and %zu more, the limit of an archive is %zu",
                       zip->inflated_bytes, e->info.size_bytes, RQ_ZIP_MAX_INFLATED);
    unsigned char *memory = rq_arena_alloc(&zip->arena, e->info.size_bytes);
    if (!memory)
        return rq_fail(err, RQ_ERR_NOMEM, "out of memory (%zu bytes)", e->info.size_bytes);
    zip->inflated_bytes += e->info.size_bytes;
    *out = memory;
    return inflate_raw(e, zip->data + e->begin, memory, err);
}

static rq_status read_entry(rq_zip *zip, entry *e, rq_error *err)
{
    const unsigned char *contents = zip->data + e->begin;
    if (e->info.is_deflated)
        RQ_TRY(inflate_entry(zip, e, &contents, err));
    const uint32_t crc = (uint32_t)crc32_z(0, contents, e->info.size_bytes);
    if (crc != e->info.crc)
        return rq_fail(err, RQ_ERR_FILE, "damaged: the checksum is %08x, the directory says %08x",
                       (unsigned)crc, (unsigned)e->info.crc);
    e->contents = contents;
    return RQ_OK;
}

rq_status rq_zip_read(rq_zip *zip, int i, const unsigned char **out, rq_error *err)
{
    assert(i >= 0 && i < zip->n_entries);
    entry *e = &zip->entries[i];
    const rq_status status = e->contents ? RQ_OK : read_entry(zip, e, err);
    if (status)
        rq_error_prefix(err, "%s", e->info.name);
    else
        *out = e->contents;
    return status;
}

/* ---- the interface ---- */

static rq_status read_archive(rq_zip *zip, rq_error *err)
{
    RQ_TRY(read_summary(zip, err));
    zip->entries = rq_arena_array(&zip->arena, entry, zip->n_entries);
    zip->order = rq_arena_array(&zip->arena, entry *, zip->n_entries);
    if (!zip->entries || !zip->order)
        return rq_no_memory(err);
    RQ_TRY(read_directory(zip, err));
    return index_entries(zip, err);
}

rq_status rq_zip_open(rq_zip **out, const unsigned char *data, size_t size_bytes, rq_error *err)
{
    *out = NULL;
    rq_zip *zip = rq_alloc(sizeof *zip);
    if (!zip)
        return rq_no_memory(err);
    zip->data = data;
    zip->size_bytes = size_bytes;
    const rq_status status = read_archive(zip, err);
    if (status)
        rq_zip_close(zip);
    else
        *out = zip;
    return status;
}

void rq_zip_close(rq_zip *zip)
{
    if (!zip)
        return;
    rq_arena_deinit(&zip->arena);
    rq_free(zip);
}

int rq_zip_count(const rq_zip *zip)
{
    return zip->n_entries;
}

const rq_zip_entry *rq_zip_get_entry(const rq_zip *zip, int i)
{
    assert(i >= 0 && i < zip->n_entries);
    return &zip->entries[i].info;
}

int rq_zip_find(const rq_zip *zip, const char *name)
{
    const entry key = {.info = {.name = name}}, *key_at = &key;
    entry *const *found =
        bsearch(&key_at, zip->order, (size_t)zip->n_entries, sizeof(entry *), compare_names);
    return found ? (int)(*found - zip->entries) : -1;
}
