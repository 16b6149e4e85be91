/* The format of torch.save before 1.6 (torch_file.h). */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/bytes.h"
#include "runtime/base/memory.h"
#include "runtime/base/size.h"
#include "runtime/torch/torch_file.h"

enum { PROTOCOL = 1001 };

/* 0x1950a86a20f9469cfc6c, little-endian, as a pickle's integer. */
static const unsigned char magic[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

typedef struct legacy_storage {
    rq_torch_storage id;       /* of the first persistent id with this key */
    const unsigned char *data; /* NULL: not in the file's list */
} legacy_storage;

typedef struct legacy_file {
    rq_torch_file base;
    rq_arena arena;
    const unsigned char *data;
    size_t size_bytes, at;
    legacy_storage *storages; /* sorted by key, each once */
    size_t n_storages;
} legacy_file;

bool rq_torch_legacy_looks_so(const unsigned char *data, size_t size_bytes)
{
    return size_bytes > 0 && data[0] == 0x80; /* PROTO */
}

/* ---- the pickles ---- */

static rq_status read_pickle(legacy_file *file, const char *what, rq_pickle **out, rq_error *err)
{
    size_t used_bytes = 0;
    const rq_status status =
        rq_pickle_read(out, file->data + file->at, file->size_bytes - file->at, &used_bytes, err);
    if (status)
        rq_error_prefix(err, "the pickle of %s from byte %zu", what, file->at);
    else
        file->at += used_bytes;
    return status;
}

static bool is_magic(const rq_pickle_value *value)
{
    return rq_pickle_is(value, RQ_PICKLE_LONG) && value->as.bytes.n == sizeof magic &&
           memcmp(value->as.bytes.data, magic, sizeof magic) == 0;
}

static bool is_protocol(const rq_pickle_value *value)
{
    int64_t version;
    return rq_pickle_get_int(value, &version) && version == PROTOCOL;
}

static bool is_little_endian(const rq_pickle_value *value)
{
    const rq_pickle_value *flag = rq_pickle_lookup(value, "little_endian");
    return rq_pickle_is(flag, RQ_PICKLE_BOOL) && flag->as.boolean;
}

/* One of the three pickles before the object, which must be what is expected. */
static rq_status expect(legacy_file *file, const char *what, bool (*is_so)(const rq_pickle_value *),
                        const char *otherwise, rq_error *err)
{
    rq_pickle *pickle;
    const size_t begin = file->at;
    RQ_TRY(read_pickle(file, what, &pickle, err));
    const bool is_expected = is_so(rq_pickle_root(pickle));
    rq_pickle_free(pickle);
    return is_expected ? RQ_OK : rq_fail(err, RQ_ERR_UNSUPPORTED, "byte %zu: %s", begin, otherwise);
}

static rq_status read_object(legacy_file *file, rq_error *err)
{
    RQ_TRY(expect(file, "the magic number", is_magic,
                  "a pickle, but not a file of torch.save: no magic number", err));
    RQ_TRY(expect(file, "the protocol", is_protocol, "the protocol must be 1001", err));
    RQ_TRY(
        expect(file, "the machine", is_little_endian, "the storages are not little-endian", err));
    return read_pickle(file, "the object", &file->base.object, err);
}

/* ---- storages ---- */

static int compare_keys(const void *a, const void *b)
{
    const rq_pickle_bytes x = ((const legacy_storage *)a)->id.key;
    const rq_pickle_bytes y = ((const legacy_storage *)b)->id.key;
    const int order = memcmp(x.data, y.data, x.n < y.n ? x.n : y.n);
    return order ? order : (x.n > y.n) - (x.n < y.n);
}

static legacy_storage *find_key(const legacy_file *file, rq_pickle_bytes key)
{
    const legacy_storage wanted = {.id = {.key = key}};
    return bsearch(&wanted, file->storages, file->n_storages, sizeof wanted, compare_keys);
}

/* Each key once; tensors that share a storage must agree on what it is. */
static rq_status remove_doubles(legacy_file *file, rq_error *err)
{
    size_t n = 0;
    qsort(file->storages, file->n_storages, sizeof *file->storages, compare_keys);
    for (size_t i = 0; i < file->n_storages; i++) {
        const legacy_storage *next = &file->storages[i], *last = &file->storages[n - (n > 0)];
        if (n == 0 || compare_keys(last, next) != 0)
            file->storages[n++] = *next;
        else if (last->id.element != next->id.element || last->id.n_elems != next->id.n_elems)
            return rq_fail(err, RQ_ERR_FILE, "storage '%.*s' is used as %zu %s and %zu %s",
                           rq_pickle_shown(next->id.key), next->id.key.data, last->id.n_elems,
                           rq_element_name(last->id.element), next->id.n_elems,
                           rq_element_name(next->id.element));
    }
    file->n_storages = n;
    return RQ_OK;
}

/* The object's persistent ids say what each storage is made of. Ids of modules are ignored. */
static rq_status collect_storages(legacy_file *file, rq_error *err)
{
    const size_t n = rq_pickle_n_persistent(file->base.object);
    file->storages = rq_arena_array(&file->arena, legacy_storage, n);
    if (!file->storages)
        return rq_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const rq_pickle_value *value = rq_pickle_get_persistent(file->base.object, i);
        if (rq_pickle_is_text(rq_pickle_item(value->as.id, 0), "storage"))
            RQ_TRY(rq_torch_read_storage(&file->storages[file->n_storages++].id, value, err));
    }
    return remove_doubles(file, err);
}

/* The storage at file->at, which moves past it. */
static rq_status locate_storage(legacy_file *file, const rq_pickle_value *key, rq_error *err)
{
    const rq_pickle_bytes text = key->as.bytes;
    legacy_storage *storage = find_key(file, text);
    if (!storage)
        return rq_fail(err, RQ_ERR_FILE,
                       "storage '%.*s' belongs to no tensor, so its size is not known",
                       rq_pickle_shown(text), text.data);
    if (storage->data)
        return rq_fail(err, RQ_ERR_FILE, "storage '%.*s' is given twice", rq_pickle_shown(text),
                       text.data);
    const size_t size_bytes = storage->id.n_elems * rq_element_size(storage->id.element);
    const size_t left = file->size_bytes - file->at;
    if (left < 8 || left - 8 < size_bytes)
        return rq_fail(err, RQ_ERR_FILE,
                       "byte %zu: cut off: storage '%.*s' of %zu bytes does not lie in the file",
                       file->at, rq_pickle_shown(text), text.data, size_bytes);
    if (rq_read_u64(file->data + file->at) != storage->id.n_elems)
        return rq_fail(err, RQ_ERR_FILE, "byte %zu: storage '%.*s' has %llu elements, not %zu",
                       file->at, rq_pickle_shown(text), text.data,
                       (unsigned long long)rq_read_u64(file->data + file->at), storage->id.n_elems);
    storage->data = file->data + file->at + 8;
    file->at += 8 + size_bytes;
    return RQ_OK;
}

static rq_status locate_keys(legacy_file *file, const rq_pickle_value *keys, rq_error *err)
{
    if (!rq_pickle_is(keys, RQ_PICKLE_LIST))
        return rq_fail(err, RQ_ERR_FILE, "the storage keys are not a list");
    for (size_t i = 0; i < keys->as.items.n; i++) {
        if (!rq_pickle_is(keys->as.items.values[i], RQ_PICKLE_TEXT))
            return rq_fail(err, RQ_ERR_FILE, "storage key %zu is not a string", i);
        RQ_TRY(locate_storage(file, keys->as.items.values[i], err));
    }
    return file->at == file->size_bytes
               ? RQ_OK
               : rq_fail(err, RQ_ERR_FILE, "byte %zu: %zu bytes after the last storage", file->at,
                         file->size_bytes - file->at);
}

static rq_status locate_storages(legacy_file *file, rq_error *err)
{
    rq_pickle *keys;
    RQ_TRY(read_pickle(file, "the storage keys", &keys, err));
    const rq_status status = locate_keys(file, rq_pickle_root(keys), err);
    rq_pickle_free(keys);
    return status;
}

/* ---- the format ---- */

static rq_status find(const rq_torch_file *self, const rq_torch_storage *storage, int *out,
                      rq_error *err)
{
    const legacy_file *file = (const legacy_file *)self;
    const legacy_storage *found = find_key(file, storage->key); /* collected from the same ids */
    if (!found || !found->data)
        return rq_fail(err, RQ_ERR_FILE, "the file has no storage '%.*s'",
                       rq_pickle_shown(storage->key), storage->key.data);
    *out = (int)(found - file->storages);
    return RQ_OK;
}

static rq_status data(rq_torch_file *self, int storage, const unsigned char **out, rq_error *err)
{
    (void)err;
    *out = ((const legacy_file *)self)->storages[storage].data;
    return RQ_OK;
}

static void close_file(rq_torch_file *self)
{
    rq_arena_deinit(&((legacy_file *)self)->arena);
    rq_free(self);
}

static const rq_torch_format format = {find, data, close_file};

static rq_status read_file(legacy_file *file, rq_error *err)
{
    RQ_TRY(read_object(file, err));
    RQ_TRY(collect_storages(file, err));
    return locate_storages(file, err);
}

rq_status rq_torch_legacy_open(rq_torch_file **out, const unsigned char *bytes, size_t size_bytes,
                               rq_error *err)
{
    *out = NULL;
    legacy_file *file = rq_alloc(sizeof *file);
    if (!file)
        return rq_no_memory(err);
    file->base.format = &format;
    file->data = bytes;
    file->size_bytes = size_bytes;
    const rq_status status = read_file(file, err);
    if (status)
        rq_torch_close(&file->base);
    else
        *out = &file->base;
    return status;
}
