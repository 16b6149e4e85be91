/* The zip format of torch.save (torch_file.h). */
#include <stdio.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/torch/torch_file.h"
#include "runtime/torch/zip.h"

typedef struct zip_file {
    rq_torch_file base;
    rq_zip *zip;
    char folder[RQ_ZIP_MAX_NAME + 1]; /* NAME/ */
} zip_file;

static const char object_name[] = "data.pkl";

bool rq_torch_zip_looks_so(const unsigned char *data, size_t size_bytes)
{
    return size_bytes >= 4 && memcmp(data, "PK", 2) == 0 && data[2] < 9 && data[3] < 9;
}

/* "archive/data.pkl": the length of "archive/" when name has this form, 0 otherwise. */
static size_t folder_length(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash && strcmp(slash + 1, object_name) == 0 ? (size_t)(slash - name) + 1 : 0;
}

static rq_status find_object(zip_file *file, int *out, rq_error *err)
{
    *out = -1;
    for (int i = 0; i < rq_zip_count(file->zip); i++) {
        const char *name = rq_zip_get_entry(file->zip, i)->name;
        const size_t n = folder_length(name);
        if (n == 0)
            continue;
        if (*out >= 0)
            return rq_fail(err, RQ_ERR_FILE, "a zip archive with two objects, %.150s and %.150s",
                           rq_zip_get_entry(file->zip, *out)->name, name);
        *out = i;
        memcpy(file->folder, name, n);
    }
    return *out >= 0 ? RQ_OK
                     : rq_fail(err, RQ_ERR_FILE,
                               "a zip archive, but not one of torch.save: it has no NAME/%s",
                               object_name);
}

/* The index of folder/part, -1 when there is none or the name is too long. */
static int find_part(const zip_file *file, const char *part, rq_pickle_bytes key)
{
    char name[RQ_ZIP_MAX_NAME + 1];
    if (key.n > RQ_ZIP_MAX_NAME || memchr(key.data, '\0', key.n))
        return -1;
    const int n = snprintf(name, sizeof name, "%s%s%.*s", file->folder, part, (int)key.n, key.data);
    return n >= 0 && n < (int)sizeof name ? rq_zip_find(file->zip, name) : -1;
}

static rq_status check_byte_order(const zip_file *file, rq_error *err)
{
    const unsigned char *text;
    const int i = find_part(file, "byteorder", (rq_pickle_bytes){"", 0});
    if (i < 0)
        return RQ_OK;
    RQ_TRY(rq_zip_read(file->zip, i, &text, err));
    const rq_zip_entry *entry = rq_zip_get_entry(file->zip, i);
    const rq_pickle_bytes order = {(const char *)text, entry->size_bytes};
    return rq_pickle_equals(order, "little")
               ? RQ_OK
               : rq_fail(err, RQ_ERR_UNSUPPORTED, "%s: '%.*s', only 'little' is read", entry->name,
                         rq_pickle_shown(order), order.data);
}

static rq_status read_file(zip_file *file, const unsigned char *bytes, size_t size_bytes,
                           rq_error *err)
{
    int i;
    const unsigned char *data;
    size_t used_bytes = 0;
    RQ_TRY(rq_zip_open(&file->zip, bytes, size_bytes, err));
    RQ_TRY(find_object(file, &i, err));
    RQ_TRY(check_byte_order(file, err));
    RQ_TRY(rq_zip_read(file->zip, i, &data, err));
    const rq_zip_entry *entry = rq_zip_get_entry(file->zip, i);
    rq_status status =
        rq_pickle_read(&file->base.object, data, entry->size_bytes, &used_bytes, err);
    if (!status && used_bytes != entry->size_bytes)
        status = rq_fail(err, RQ_ERR_FILE, "byte %zu: %zu bytes after the object", used_bytes,
                         entry->size_bytes - used_bytes);
    if (status)
        rq_error_prefix(err, "%s", entry->name);
    return status;
}

static rq_status find(const rq_torch_file *self, const rq_torch_storage *storage, int *out,
                      rq_error *err)
{
    const zip_file *file = (const zip_file *)self;
    const rq_pickle_bytes key = storage->key;
    const size_t elem_size = rq_element_size(storage->element);
    const int i = find_part(file, "data/", key);
    if (i < 0)
        return rq_fail(err, RQ_ERR_FILE, "the file has no storage %sdata/%.*s", file->folder,
                       rq_pickle_shown(key), key.data);
    const rq_zip_entry *entry = rq_zip_get_entry(file->zip, i);
    if (entry->size_bytes / elem_size < storage->n_elems)
        return rq_fail(err, RQ_ERR_FILE, "%s has %zu bytes, %zu elements of %s take more",
                       entry->name, entry->size_bytes, storage->n_elems,
                       rq_element_name(storage->element));
    *out = i;
    return RQ_OK;
}

static rq_status data(rq_torch_file *self, int storage, const unsigned char **out, rq_error *err)
{
    return rq_zip_read(((zip_file *)self)->zip, storage, out, err);
}

static void close_file(rq_torch_file *self)
{
    rq_zip_close(((zip_file *)self)->zip);
    rq_free(self);
}

static const rq_torch_format format = {find, data, close_file};

rq_status rq_torch_zip_open(rq_torch_file **out, const unsigned char *bytes, size_t size_bytes,
                            rq_error *err)
{
    *out = NULL;
    zip_file *file = rq_alloc(sizeof *file);
    if (!file)
        return rq_no_memory(err);
    file->base.format = &format;
    const rq_status status = read_file(file, bytes, size_bytes, err);
    if (status)
        rq_torch_close(&file->base);
    else
        *out = &file->base;
    return status;
}
