/* Reading safetensors files. The writer is in tensorfile_write.c. */
#include "runtime/modelfile/tensorfile.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/size.h"
#include "runtime/modelfile/checksum.h"

struct rq_tensorfile {
    rq_arena arena;
    rq_mapping mapping;
    const unsigned char *data;
    size_t data_bytes;
    json_t *header;   /* owns the strings that entries point to */
    json_t *metadata; /* borrowed from header; NULL when absent */
    bool is_guarded;
    json_t *crcs; /* guarded: the metadata's "crc32", parsed */
    rq_tensorfile_entry *entries;
    rq_tensorfile_entry **by_name; /* sorted, for searching */
    int n_entries;
};

/* ---- element types ---- */

static bool find_dtype(const char *name, rq_dtype *out)
{
    for (int dtype = 0; dtype < RQ_N_DTYPES; dtype++)
        if (strcmp(name, rq_dtype_name((rq_dtype)dtype)) == 0) {
            *out = (rq_dtype)dtype;
            return true;
        }
    return false;
}

/* Bytes per element, also of types that other programs write; 0 = not known. */
static size_t dtype_size_by_name(const char *name)
{
    static const struct {
        const char *name;
        size_t size_bytes;
    } foreign[] = {{"BOOL", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
                   {"BF16", 2}, {"U32", 4}, {"U64", 8}, {"F64", 8}};
    rq_dtype dtype;
    if (find_dtype(name, &dtype))
        return rq_dtype_size(dtype);
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (strcmp(name, foreign[i].name) == 0)
            return foreign[i].size_bytes;
    return 0;
}

/* ---- the header ---- */

/* Safetensors have no magic number, but a header's size and a brace. */
bool rq_tensorfile_looks_so(const rq_mapping *mapping)
{
    return mapping->size_bytes > 8 && mapping->data[8] == '{' &&
           rq_read_u64(mapping->data) <= mapping->size_bytes - 8;
}

static rq_status split_file(rq_tensorfile *file, size_t *header_bytes, rq_error *err)
{
    const rq_mapping *mapping = &file->mapping;
    if (mapping->size_bytes < 8)
        return rq_fail(err, RQ_ERR_FILE, "%zu bytes, a header's size takes 8", mapping->size_bytes);
    const uint64_t n = rq_read_u64(mapping->data);
    if (n > mapping->size_bytes - 8 || n > RQ_TENSORFILE_MAX_HEADER)
        return rq_fail(err, RQ_ERR_FILE,
                       "byte 0: the header has %llu bytes, the file %zu, the limit is %d",
                       (unsigned long long)n, mapping->size_bytes, RQ_TENSORFILE_MAX_HEADER);
    if (n == 0 || mapping->data[8] != '{')
        return rq_fail(err, RQ_ERR_FILE, "byte 8: the header does not begin with '{'");
    *header_bytes = (size_t)n;
    file->data = mapping->data + 8 + n;
    file->data_bytes = mapping->size_bytes - 8 - (size_t)n;
    return RQ_OK;
}

static rq_status check_metadata(rq_tensorfile *file, rq_error *err)
{
    file->metadata = json_object_get(file->header, "__metadata__");
    if (!file->metadata)
        return RQ_OK;
    if (!json_is_object(file->metadata))
        return rq_fail(err, RQ_ERR_FILE, "__metadata__ is not an object");
    const char *key;
    json_t *value;
    json_object_foreach(file->metadata, key, value)
    {
        if (!json_is_string(value))
            return rq_fail(err, RQ_ERR_FILE, "__metadata__: '%.200s' is not a string", key);
    }
    return RQ_OK;
}

/* Sizes of one entry against each other and against the data. */
static rq_status check_extent(const rq_tensorfile *file, const rq_tensorfile_entry *entry,
                              rq_error *err)
{
    const size_t elem_size = dtype_size_by_name(entry->dtype_name);
    size_t elems = 0, size_bytes = 0;
    if (entry->begin > entry->end || entry->end > file->data_bytes)
        return rq_fail(err, RQ_ERR_FILE, "data_offsets %zu..%zu are not within the %zu data bytes",
                       entry->begin, entry->end, file->data_bytes);
    if (!rq_dims_elems(entry->dim, entry->rank, &elems) ||
        !rq_mul_size(elems, elem_size, &size_bytes))
        return rq_fail(err, RQ_ERR_FILE, "the shape is too large");
    if (elem_size > 0 && size_bytes != entry->end - entry->begin)
        return rq_fail(err, RQ_ERR_FILE, "the shape takes %zu bytes, data_offsets give %zu",
                       size_bytes, entry->end - entry->begin);
    return RQ_OK;
}

static rq_status read_entry(const rq_tensorfile *file, const char *name, const json_t *value,
                            rq_tensorfile_entry *out, rq_error *err)
{
    json_t *shape = NULL;
    int64_t offsets[2] = {0, 0};
    if (!json_is_object(value) || json_object_size(value) != 3)
        return rq_fail(err, RQ_ERR_FILE, "not an object of dtype, shape and data_offsets");
    out->name = name;
    RQ_TRY(rq_json_get_string(value, "dtype", &out->dtype_name, err));
    RQ_TRY(rq_json_get_array(value, "shape", 0, RQ_MAX_RANK, &shape, err));
    out->rank = (int)json_array_size(shape);
    RQ_TRY(rq_json_get_ints(value, "shape", (size_t)out->rank, 0, INT64_MAX, out->dim, err));
    RQ_TRY(rq_json_get_ints(value, "data_offsets", 2, 0, INT64_MAX, offsets, err));
    out->begin = (size_t)offsets[0];
    out->end = (size_t)offsets[1];
    return check_extent(file, out, err);
}

static rq_status read_entries(rq_tensorfile *file, rq_error *err)
{
    const size_t n = json_object_size(file->header) - (file->metadata ? 1 : 0);
    if (n > RQ_TENSORFILE_MAX_TENSORS)
        return rq_fail(err, RQ_ERR_FILE, "%zu tensors, the limit is %d", n,
                       RQ_TENSORFILE_MAX_TENSORS);
    file->entries = rq_arena_array(&file->arena, rq_tensorfile_entry, n);
    if (!file->entries)
        return rq_no_memory(err);
    const char *name;
    json_t *value;
    json_object_foreach(file->header, name, value)
    {
        if (value == file->metadata)
            continue;
        const rq_status status =
            read_entry(file, name, value, &file->entries[file->n_entries], err);
        if (status) {
            rq_error_prefix(err, "tensor '%.200s'", name);
            return status;
        }
        file->n_entries++;
    }
    return RQ_OK;
}

/* ---- order ---- */

static int compare_extents(const void *a, const void *b)
{
    const rq_tensorfile_entry *x = *(rq_tensorfile_entry *const *)a;
    const rq_tensorfile_entry *y = *(rq_tensorfile_entry *const *)b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(rq_tensorfile_entry *const *)a)->name,
                  (*(rq_tensorfile_entry *const *)b)->name);
}

/* Sort once by position, to see holes and overlaps, then by name. */
static rq_status index_entries(rq_tensorfile *file, rq_error *err)
{
    const size_t n = (size_t)file->n_entries;
    file->by_name = rq_arena_array(&file->arena, rq_tensorfile_entry *, n);
    if (!file->by_name)
        return rq_no_memory(err);
    for (size_t i = 0; i < n; i++)
        file->by_name[i] = &file->entries[i];
    qsort(file->by_name, n, sizeof(void *), compare_extents);
    size_t end = 0;
    for (size_t i = 0; i < n; i++) {
        const rq_tensorfile_entry *entry = file->by_name[i];
        if (entry->begin != end)
            return rq_fail(err, RQ_ERR_FILE,
                           "tensor '%.200s': its data begin at %zu, what is before ends at %zu",
                           entry->name, entry->begin, end);
        end = entry->end;
    }
    if (end != file->data_bytes)
        return rq_fail(err, RQ_ERR_FILE, "the tensors end at data byte %zu, the file has %zu", end,
                       file->data_bytes);
    qsort(file->by_name, n, sizeof(void *), compare_names);
    return RQ_OK;
}

/* ---- checksums ---- */

static rq_status check_header_crc(rq_tensorfile *file, size_t header_bytes, rq_error *err)
{
    const size_t prefix_bytes = strlen(RQ_GUARD_PREFIX);
    if (header_bytes < prefix_bytes + RQ_CRC_DIGITS ||
        memcmp(file->mapping.data + 8, RQ_GUARD_PREFIX, prefix_bytes) != 0)
        return RQ_OK; /* another program's file */
    const char *stored = (const char *)file->mapping.data + 8 + prefix_bytes;
    char computed[RQ_CRC_TEXT];
    rq_crc_text(rq_crc_header(file->mapping.data, 8 + header_bytes), computed);
    file->is_guarded = memcmp(stored, computed, RQ_CRC_DIGITS) == 0;
    if (file->is_guarded)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_FILE, "damaged: the header's checksum is %s, it says %.8s", computed,
                   stored);
}

/* One sum for each tensor: none missing, none without a tensor. */
static rq_status parse_tensor_crcs(rq_tensorfile *file, rq_error *err)
{
    const char *text = NULL, *digits;
    RQ_TRY(rq_json_get_string(file->metadata, "crc32", &text, err));
    RQ_TRY(rq_json_parse(&file->crcs, text, strlen(text), err));
    for (int i = 0; i < file->n_entries; i++)
        RQ_TRY(rq_json_get_string(file->crcs, file->entries[i].name, &digits, err));
    return json_object_size(file->crcs) == (size_t)file->n_entries
               ? RQ_OK
               : rq_fail(err, RQ_ERR_FILE, "%zu checksums for %d tensors",
                         json_object_size(file->crcs), file->n_entries);
}

static rq_status read_tensor_crcs(rq_tensorfile *file, rq_error *err)
{
    if (!file->is_guarded)
        return RQ_OK;
    const rq_status status = parse_tensor_crcs(file, err);
    if (status)
        rq_error_prefix(err, "metadata");
    return status;
}

static rq_status check_tensor_crc(const rq_tensorfile *file, const rq_tensorfile_entry *entry,
                                  rq_error *err)
{
    if (!file->is_guarded)
        return RQ_OK;
    char computed[RQ_CRC_TEXT];
    rq_crc_text(rq_crc(file->data + entry->begin, entry->end - entry->begin), computed);
    const char *stored = json_string_value(json_object_get(file->crcs, entry->name));
    if (strcmp(stored, computed) == 0)
        return RQ_OK;
    return rq_fail(
        err, RQ_ERR_FILE, "%.200s: the checksum of the bytes from %zu is %s, the header says %.16s",
        entry->name, (size_t)(file->data - file->mapping.data) + entry->begin, computed, stored);
}

/* ---- the interface ---- */

static rq_status read_header(rq_tensorfile *file, rq_error *err)
{
    size_t header_bytes = 0;
    RQ_TRY(split_file(file, &header_bytes, err));
    RQ_TRY(check_header_crc(file, header_bytes, err));
    RQ_TRY(rq_json_parse(&file->header, file->mapping.data + 8, header_bytes, err));
    RQ_TRY(check_metadata(file, err));
    RQ_TRY(read_entries(file, err));
    RQ_TRY(index_entries(file, err));
    return read_tensor_crcs(file, err);
}

rq_status rq_tensorfile_take(rq_tensorfile **out, rq_mapping *mapping, const char *path,
                             rq_error *err)
{
    *out = NULL;
    rq_tensorfile *file = rq_alloc(sizeof *file);
    if (!file) {
        rq_mapping_close(mapping);
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", path);
    }
    file->mapping = *mapping;
    *mapping = (rq_mapping){NULL, 0};
    const rq_status status = read_header(file, err);
    if (status) {
        rq_error_prefix(err, "%s", path);
        rq_tensorfile_close(file);
    } else {
        *out = file;
    }
    return status;
}

rq_status rq_tensorfile_open(rq_tensorfile **out, const char *path, rq_error *err)
{
    rq_mapping mapping;
    *out = NULL;
    RQ_TRY(rq_mapping_open(&mapping, path, err));
    return rq_tensorfile_take(out, &mapping, path, err);
}

void rq_tensorfile_close(rq_tensorfile *file)
{
    if (!file)
        return;
    json_decref(file->crcs);
    json_decref(file->header);
    rq_arena_deinit(&file->arena);
    rq_mapping_close(&file->mapping);
    rq_free(file);
}

const rq_mapping *rq_tensorfile_mapping(const rq_tensorfile *file)
{
    return &file->mapping;
}

bool rq_tensorfile_is_guarded(const rq_tensorfile *file)
{
    return file->is_guarded;
}

const char *rq_tensorfile_metadata(const rq_tensorfile *file, const char *key)
{
    return json_string_value(json_object_get(file->metadata, key));
}

int rq_tensorfile_count(const rq_tensorfile *file)
{
    return file->n_entries;
}

const rq_tensorfile_entry *rq_tensorfile_get_entry(const rq_tensorfile *file, int i)
{
    assert(i >= 0 && i < file->n_entries);
    return &file->entries[i];
}

static const rq_tensorfile_entry *find_entry(const rq_tensorfile *file, const char *name)
{
    const rq_tensorfile_entry key = {.name = name}, *key_at = &key;
    rq_tensorfile_entry *const *found = bsearch(&key_at, file->by_name, (size_t)file->n_entries,
                                                sizeof(rq_tensorfile_entry *), compare_names);
    return found ? *found : NULL;
}

rq_status rq_tensorfile_bytes(const rq_tensorfile *file, int i, const unsigned char **out,
                              rq_error *err)
{
    const rq_tensorfile_entry *entry = rq_tensorfile_get_entry(file, i);
    RQ_TRY(check_tensor_crc(file, entry, err));
    *out = file->data + entry->begin;
    return RQ_OK;
}

void rq_tensorfile_release(const rq_tensorfile *file, const char *name)
{
    enum { SMALL_BYTES = 1 << 26 }; /* whole files whose memory is not worth reading them again */
    const rq_tensorfile_entry *entry = find_entry(file, name);
    if (entry && file->mapping.size_bytes > SMALL_BYTES)
        rq_mapping_release(&file->mapping, file->data + entry->begin, entry->end - entry->begin);
}

rq_status rq_tensorfile_find(rq_tensorfile *file, const char *name, rq_tensor *out, rq_error *err)
{
    rq_tensor tensor = {.rank = 0};
    const rq_tensorfile_entry *entry = find_entry(file, name);
    if (!entry)
        return rq_fail(err, RQ_ERR_FILE, "%.200s: the file has no such tensor", name);
    if (!find_dtype(entry->dtype_name, &tensor.dtype))
        return rq_fail(err, RQ_ERR_FILE, "%.200s: elements of type '%.20s' are not supported", name,
                       entry->dtype_name);
    RQ_TRY(check_tensor_crc(file, entry, err));
    tensor.rank = entry->rank;
    memcpy(tensor.dim, entry->dim, sizeof tensor.dim);
    const unsigned char *values = file->data + entry->begin;
    if ((uintptr_t)values % rq_dtype_size(tensor.dtype) == 0) {
        tensor.data = (void *)(uintptr_t)values; /* read-only by contract */
    } else {
        const size_t size_bytes = entry->end - entry->begin;
        tensor.data = rq_arena_alloc(&file->arena, size_bytes);
        if (!tensor.data)
            return rq_fail(err, RQ_ERR_NOMEM, "%.200s: out of memory (%zu bytes)", name,
                           size_bytes);
        memcpy(tensor.data, values, size_bytes);
    }
    *out = tensor;
    return RQ_OK;
}
