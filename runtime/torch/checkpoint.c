/* Checkpoints: where the state dict is, what its tensors' values are. */
#include "runtime/torch/checkpoint.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/base/size.h"
#include "runtime/torch/torch_file.h"

enum { MAX_WRAPPERS = 8 };

struct rq_checkpoint {
    rq_arena arena;
    rq_weight_file *file;
    const char *where;
    rq_torch_file *torch; /* NULL: the file is a tensor file */
    rq_checkpoint_tensor *tensors;
    rq_checkpoint_tensor **by_name; /* sorted, for searching */
    int n_tensors;
};

/* ---- the state dict of a torch file ---- */

/* "model" + "ema" -> "model.ema" */
static rq_status enter(rq_checkpoint *self, const char *key, rq_error *err)
{
    self->where =
        rq_arena_printf(&self->arena, "%s%s%s", self->where, *self->where ? "." : "", key);
    return self->where ? RQ_OK : rq_no_memory(err);
}

static rq_status find_state_dict(rq_checkpoint *self, const rq_pickle_items **out, rq_error *err)
{
    static const char *const wrappers[] = {"state_dict", "model", "model_state_dict", "model_ema",
                                           "ema"};
    enum { N_WRAPPERS = sizeof wrappers / sizeof wrappers[0] };
    const rq_pickle_value *object = rq_torch_root(self->torch);
    for (int level = 0; level < MAX_WRAPPERS; level++) {
        size_t i = 0;
        while (i < N_WRAPPERS && !rq_pickle_dict(rq_pickle_lookup(object, wrappers[i])))
            i++;
        if (i == N_WRAPPERS)
            break;
        RQ_TRY(enter(self, wrappers[i], err));
        object = rq_pickle_lookup(object, wrappers[i]);
    }
    *out = rq_pickle_dict(object);
    if (*out)
        return RQ_OK;
    char text[160];
    rq_pickle_describe(object, text, sizeof text);
    return rq_fail(err, RQ_ERR_FILE,
                   "the object is %s, not a state dict (save model.state_dict() instead)", text);
}

static rq_status copy_name(rq_checkpoint *self, rq_pickle_bytes text, const char **out,
                           rq_error *err)
{
    static const char wrapper[] = "module.";
    const size_t skip = text.n > strlen(wrapper) && memcmp(text.data, wrapper, strlen(wrapper)) == 0
                            ? strlen(wrapper)
                            : 0;
    const size_t n = text.n - skip;
    if (n == 0 || n > RQ_CHECKPOINT_MAX_NAME || memchr(text.data, '\0', text.n))
        return rq_fail(err, RQ_ERR_FILE, "a name is empty, has over %d bytes, or a NUL",
                       RQ_CHECKPOINT_MAX_NAME);
    char *name = rq_arena_alloc(&self->arena, n + 1);
    if (!name)
        return rq_no_memory(err);
    memcpy(name, text.data + skip, n);
    *out = name;
    return RQ_OK;
}

static rq_status describe_other(rq_checkpoint *self, rq_checkpoint_tensor *out,
                                const rq_pickle_value *value, rq_error *err)
{
    char text[160];
    rq_pickle_describe(value, text, sizeof text);
    out->other = rq_arena_strdup(&self->arena, text);
    return out->other ? RQ_OK : rq_no_memory(err);
}

static rq_status add_torch_tensor(rq_checkpoint *self, rq_checkpoint_tensor *out,
                                  const rq_pickle_value *value, rq_error *err)
{
    rq_torch_tensor tensor = {.rank = 0};
    if (!rq_torch_is_tensor(value))
        return describe_other(self, out, value, err);
    RQ_TRY(rq_torch_read_tensor(&tensor, value, err));
    RQ_TRY(rq_torch_find_storage(self->torch, &tensor.storage, &out->storage, err));
    out->element = tensor.storage.element;
    out->rank = tensor.rank;
    memcpy(out->dim, tensor.dim, sizeof out->dim);
    memcpy(out->stride, tensor.stride, sizeof out->stride);
    out->begin = tensor.begin;
    return RQ_OK;
}

static rq_status allocate_tensors(rq_checkpoint *self, size_t n, rq_error *err)
{
    if (n > RQ_CHECKPOINT_MAX_TENSORS)
        return rq_fail(err, RQ_ERR_FILE, "%zu entries, the limit is %d", n,
                       RQ_CHECKPOINT_MAX_TENSORS);
    self->tensors = rq_arena_array(&self->arena, rq_checkpoint_tensor, n);
    self->by_name = rq_arena_array(&self->arena, rq_checkpoint_tensor *, n);
    return self->tensors && self->by_name ? RQ_OK : rq_no_memory(err);
}

static rq_status read_state_dict(rq_checkpoint *self, rq_error *err)
{
    const rq_pickle_items *items = NULL;
    RQ_TRY(find_state_dict(self, &items, err));
    RQ_TRY(allocate_tensors(self, items->n / 2, err));
    for (size_t i = 0; i < items->n; i += 2) {
        rq_checkpoint_tensor *tensor = &self->tensors[self->n_tensors];
        const rq_pickle_value *key = items->values[i];
        if (key->kind != RQ_PICKLE_TEXT)
            continue;
        RQ_TRY(copy_name(self, key->as.bytes, &tensor->name, err));
        const rq_status status = add_torch_tensor(self, tensor, items->values[i + 1], err);
        if (status) {
            rq_error_prefix(err, "%.200s", tensor->name);
            return status;
        }
        self->n_tensors++;
    }
    return RQ_OK;
}

static rq_status read_torch(rq_checkpoint *self, rq_error *err)
{
    const rq_mapping *mapping = &self->file->mapping;
    RQ_TRY(self->file->kind == RQ_WEIGHTS_TORCH_ZIP
               ? rq_torch_zip_open(&self->torch, mapping->data, mapping->size_bytes, err)
               : rq_torch_legacy_open(&self->torch, mapping->data, mapping->size_bytes, err));
    return read_state_dict(self, err);
}

/* ---- safetensors ---- */

/* Those of a dense tensor; a tensor without elements has none that matter. */
static void set_dense_strides(rq_checkpoint_tensor *tensor)
{
    size_t elems = 0;
    int64_t stride = 1;
    if (!rq_dims_elems(tensor->dim, tensor->rank, &elems) || elems == 0)
        return;
    for (int k = tensor->rank - 1; k >= 0; k--) {
        tensor->stride[k] = stride;
        stride *= tensor->dim[k];
    }
}

static rq_status read_tensorfile(rq_checkpoint *self, rq_error *err)
{
    const int n = rq_tensorfile_count(self->file->tensorfile);
    RQ_TRY(allocate_tensors(self, (size_t)n, err));
    for (int i = 0; i < n; i++) {
        const rq_tensorfile_entry *entry = rq_tensorfile_get_entry(self->file->tensorfile, i);
        const rq_pickle_bytes name = {entry->name, strlen(entry->name)};
        rq_checkpoint_tensor *tensor = &self->tensors[self->n_tensors++];
        RQ_TRY(copy_name(self, name, &tensor->name, err));
        tensor->storage = i;
        tensor->rank = entry->rank;
        memcpy(tensor->dim, entry->dim, sizeof tensor->dim);
        if (rq_element_of_safetensors(entry->dtype_name, &tensor->element))
            set_dense_strides(tensor);
        else
            tensor->other = entry->dtype_name;
    }
    return RQ_OK;
}

/* ---- opening ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(rq_checkpoint_tensor *const *)a)->name,
                  (*(rq_checkpoint_tensor *const *)b)->name);
}

static rq_status index_names(rq_checkpoint *self, rq_error *err)
{
    const size_t n = (size_t)self->n_tensors;
    for (size_t i = 0; i < n; i++)
        self->by_name[i] = &self->tensors[i];
    qsort(self->by_name, n, sizeof(rq_checkpoint_tensor *), compare_names);
    for (size_t i = 1; i < n; i++)
        if (compare_names(&self->by_name[i - 1], &self->by_name[i]) == 0)
            return rq_fail(err, RQ_ERR_FILE, "the name %s is given twice", self->by_name[i]->name);
    return RQ_OK;
}

static rq_status read_file(rq_checkpoint *self, rq_error *err)
{
    self->where = "";
    if (self->file->tensorfile)
        RQ_TRY(read_tensorfile(self, err));
    else if (self->file->kind != RQ_WEIGHTS_UNKNOWN)
        RQ_TRY(read_torch(self, err));
    else
        return rq_fail(err, RQ_ERR_FILE,
                       "no checkpoint: neither a zip archive or pickle of torch.save nor "
                       "safetensors");
    return index_names(self, err);
}

rq_status rq_checkpoint_of(rq_checkpoint **out, rq_weight_file *file, rq_error *err)
{
    *out = NULL;
    rq_checkpoint *self = rq_alloc(sizeof *self);
    if (!self)
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", file->path);
    self->file = rq_weight_file_hold(file);
    const rq_status status = read_file(self, err);
    if (status) {
        rq_error_prefix(err, "%s", file->path);
        rq_checkpoint_close(self);
    } else {
        *out = self;
    }
    return status;
}

rq_status rq_checkpoint_open(rq_checkpoint **out, const char *path, rq_error *err)
{
    rq_weight_file *file;
    *out = NULL;
    RQ_TRY(rq_weight_file_open(&file, path, err));
    const rq_status status = rq_checkpoint_of(out, file, err);
    rq_weight_file_close(file);
    return status;
}

void rq_checkpoint_close(rq_checkpoint *self)
{
    if (!self)
        return;
    rq_torch_close(self->torch);
    rq_weight_file_close(self->file);
    rq_arena_deinit(&self->arena);
    rq_free(self);
}

/* ---- the entries ---- */

const char *rq_checkpoint_path(const rq_checkpoint *self)
{
    return self->file->path;
}

const rq_mapping *rq_checkpoint_mapping(const rq_checkpoint *self)
{
    return rq_weight_file_mapping(self->file);
}

const char *rq_checkpoint_where(const rq_checkpoint *self)
{
    return self->where;
}

int rq_checkpoint_count(const rq_checkpoint *self)
{
    return self->n_tensors;
}

const rq_checkpoint_tensor *rq_checkpoint_get(const rq_checkpoint *self, int i)
{
    assert(i >= 0 && i < self->n_tensors);
    return &self->tensors[i];
}

int rq_checkpoint_find(const rq_checkpoint *self, const char *name)
{
    const rq_checkpoint_tensor key = {.name = name}, *key_at = &key;
    rq_checkpoint_tensor *const *found = bsearch(&key_at, self->by_name, (size_t)self->n_tensors,
                                                 sizeof(rq_checkpoint_tensor *), compare_names);
    return found ? (int)(*found - self->tensors) : -1;
}

/* ---- values ---- */

/* The dimensions of a tensor that has elements, without those of 1, neighbours merged where one
 * continues the other; the last is the innermost. Rank 0: one element. */
typedef struct layout {
    int rank;
    int64_t dim[RQ_MAX_RANK], stride[RQ_MAX_RANK];
} layout;

static layout merge_dims(const rq_checkpoint_tensor *tensor)
{
    layout merged = {.rank = 0};
    for (int i = 0; i < tensor->rank; i++) {
        const int last = merged.rank - 1;
        if (tensor->dim[i] == 1)
            continue;
        if (last >= 0 && merged.stride[last] == tensor->dim[i] * tensor->stride[i]) {
            merged.dim[last] *= tensor->dim[i];
            merged.stride[last] = tensor->stride[i];
        } else {
            merged.dim[merged.rank] = tensor->dim[i];
            merged.stride[merged.rank++] = tensor->stride[i];
        }
    }
    return merged;
}

static bool is_dense(const rq_checkpoint_tensor *tensor)
{
    size_t elems = 0;
    if (!rq_dims_elems(tensor->dim, tensor->rank, &elems) || elems == 0)
        return false;
    const layout merged = merge_dims(tensor);
    return merged.rank == 0 || (merged.rank == 1 && merged.stride[0] == 1);
}

/* Row by row of the innermost dimension; index counts through the others like an odometer. */
static void copy_values(const layout *from, rq_element element, const unsigned char *src,
                        rq_dtype dtype, void *dst, size_t elems)
{
    const int inner = from->rank - 1;
    const size_t n = inner >= 0 ? (size_t)from->dim[inner] : 1;
    const int64_t step = inner >= 0 ? from->stride[inner] : 1;
    int64_t index[RQ_MAX_RANK] = {0};
    size_t at = 0; /* of the row, in elements of src */
    for (size_t done = 0; done < elems; done += n) {
        const unsigned char *row = src + at * rq_element_size(element);
        if (dtype == RQ_F32)
            rq_element_to_f32((float *)dst + done, element, row, step, n);
        else
            rq_element_to_s64((int64_t *)dst + done, element, row, step, n);
        for (int k = inner - 1; k >= 0; k--) {
            at += (size_t)from->stride[k];
            if (++index[k] < from->dim[k])
                break;
            at -= (size_t)(from->dim[k] * from->stride[k]);
            index[k] = 0;
        }
    }
}

static rq_status require_type(const rq_checkpoint_tensor *tensor, rq_dtype dtype, rq_error *err)
{
    if (tensor->other)
        return rq_fail(err, RQ_ERR_FILE, "it is %s, not a tensor that can be read", tensor->other);
    const rq_element_kind kind = rq_element_kind_of(tensor->element);
    if (kind == RQ_ELEMENT_INTEGER || (kind == RQ_ELEMENT_REAL && dtype == RQ_F32))
        return RQ_OK;
    return rq_fail(err, RQ_ERR_FILE, "its values are %s, they cannot be read as %s",
                   rq_element_name(tensor->element), rq_dtype_name(dtype));
}

/* The first element; its storage is checked or inflated when that has not been done. */
static rq_status find_values(rq_checkpoint *self, const rq_checkpoint_tensor *tensor,
                             const unsigned char **out, rq_error *err)
{
    const unsigned char *storage;
    RQ_TRY(self->torch
               ? rq_torch_storage_data(self->torch, tensor->storage, &storage, err)
               : rq_tensorfile_bytes(self->file->tensorfile, tensor->storage, &storage, err));
    *out = storage + tensor->begin * rq_element_size(tensor->element);
    return RQ_OK;
}

static rq_status read_values(rq_checkpoint *self, const rq_checkpoint_tensor *tensor,
                             rq_dtype dtype, void *dst, rq_error *err)
{
    const unsigned char *values;
    size_t elems = 0;
    RQ_TRY(require_type(tensor, dtype, err));
    if (!rq_dims_elems(tensor->dim, tensor->rank, &elems) || elems == 0)
        return RQ_OK;
    RQ_TRY(find_values(self, tensor, &values, err));
    const layout merged = merge_dims(tensor);
    copy_values(&merged, tensor->element, values, dtype, dst, elems);
    return RQ_OK;
}

static rq_status borrow_values(rq_checkpoint *self, const rq_checkpoint_tensor *tensor,
                               const float **out, rq_error *err)
{
    const unsigned char *values;
    RQ_TRY(require_type(tensor, RQ_F32, err));
    if (tensor->element != RQ_ELEMENT_F32 || !is_dense(tensor))
        return RQ_OK;
    RQ_TRY(find_values(self, tensor, &values, err));
    if ((uintptr_t)values % sizeof(float) == 0)
        *out = (const float *)(const void *)values;
    return RQ_OK;
}

static rq_status prefix_tensor(const rq_checkpoint *self, int i, rq_status status, rq_error *err)
{
    if (status)
        rq_error_prefix(err, "%s: %s", self->file->path, self->tensors[i].name);
    return status;
}

rq_status rq_checkpoint_read(rq_checkpoint *self, int i, rq_dtype dtype, void *dst, rq_error *err)
{
    assert(dtype == RQ_F32 || dtype == RQ_S64);
    const rq_status status = read_values(self, rq_checkpoint_get(self, i), dtype, dst, err);
    return prefix_tensor(self, i, status, err);
}

rq_status rq_checkpoint_borrow(rq_checkpoint *self, int i, const float **out, rq_error *err)
{
    *out = NULL;
    return prefix_tensor(self, i, borrow_values(self, rq_checkpoint_get(self, i), out, err), err);
}
