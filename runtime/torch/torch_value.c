/* PyTorch's storages and tensors, from values of a pickle. */
#include "runtime/torch/torch_value.h"

#include "runtime/base/size.h"

/* ---- storages ---- */

static bool read_element(rq_element *out, const rq_pickle_value *type)
{
    if (!rq_pickle_is(type, RQ_PICKLE_GLOBAL))
        return false;
    const rq_pickle_bytes module = type->as.global.module, name = type->as.global.name;
    return (rq_pickle_equals(module, "torch") || rq_pickle_equals(module, "torch.cuda") ||
            rq_pickle_equals(module, "torch.storage")) &&
           rq_element_of_storage(name.data, name.n, out);
}

static bool read_count(size_t *out, const rq_pickle_value *value)
{
    int64_t n;
    if (!rq_pickle_get_int(value, &n) || n < 0)
        return false;
    *out = (size_t)n;
    return true;
}

/* The part that a view takes; without one, the whole. */
static bool read_view(rq_torch_storage *storage, const rq_pickle_value *view)
{
    storage->view_begin = 0;
    storage->n_view = storage->n_elems;
    if (!view || view->kind == RQ_PICKLE_NONE)
        return true;
    return read_count(&storage->view_begin, rq_pickle_item(view, 1)) &&
           read_count(&storage->n_view, rq_pickle_item(view, 2)) &&
           storage->view_begin <= storage->n_elems &&
           storage->n_view <= storage->n_elems - storage->view_begin;
}

rq_status rq_torch_read_storage(rq_torch_storage *out, const rq_pickle_value *value, rq_error *err)
{
    char text[160];
    size_t size_bytes;
    if (!rq_pickle_is(value, RQ_PICKLE_PERSISTENT)) {
        rq_pickle_describe(value, text, sizeof text);
        return rq_fail(err, RQ_ERR_FILE, "its storage is %s, not a persistent id", text);
    }
    const rq_pickle_value *id = value->as.id;
    const rq_pickle_value *type = rq_pickle_item(id, 1), *key = rq_pickle_item(id, 2);
    if (!rq_pickle_is_text(rq_pickle_item(id, 0), "storage") || !rq_pickle_is(key, RQ_PICKLE_TEXT))
        return rq_fail(err, RQ_ERR_FILE,
                       "byte %u: the persistent id is not ('storage', type, key, location, number)",
                       value->offset);
    if (!read_element(&out->element, type)) {
        rq_pickle_describe(type, text, sizeof text);
        return rq_fail(err, RQ_ERR_FILE, "byte %u: %s is not a known type of storage",
                       value->offset, text);
    }
    out->key = key->as.bytes;
    if (!read_count(&out->n_elems, rq_pickle_item(id, 4)) ||
        !rq_mul_size(out->n_elems, rq_element_size(out->element), &size_bytes))
        return rq_fail(err, RQ_ERR_FILE,
                       "byte %u: the number of the storage's elements is missing, negative or too "
                       "large",
                       value->offset);
    if (!read_view(out, rq_pickle_item(id, 5)))
        return rq_fail(err, RQ_ERR_FILE,
                       "byte %u: the view does not lie within the storage's %zu elements",
                       value->offset, out->n_elems);
    return RQ_OK;
}

/* ---- tensors ---- */

static bool is_made_by(const rq_pickle_value *callable, const char *name)
{
    return rq_pickle_is_global(callable, "torch._utils", name);
}

static bool makes_tensor(const rq_pickle_value *callable)
{
    return is_made_by(callable, "_rebuild_tensor_v2") || is_made_by(callable, "_rebuild_tensor");
}

/* Arguments of the call that makes the tensor itself, below parameters and attributes; NULL when
 * value is something else. */
static const rq_pickle_value *find_arguments(const rq_pickle_value *value)
{
    while (rq_pickle_is(value, RQ_PICKLE_OBJECT)) { /* ends: a pickle has no cycles */
        const rq_pickle_value *callable = value->as.object->callable;
        const rq_pickle_value *arguments = value->as.object->arguments;
        if (rq_pickle_is_global(callable, "torch._tensor", "_rebuild_from_type_v2")) {
            callable = rq_pickle_item(arguments, 0);
            arguments = rq_pickle_item(arguments, 2);
        }
        if (makes_tensor(callable))
            return arguments;
        if (!is_made_by(callable, "_rebuild_parameter") &&
            !is_made_by(callable, "_rebuild_parameter_with_state"))
            return NULL;
        value = rq_pickle_item(arguments, 0);
    }
    return NULL;
}

bool rq_torch_is_tensor(const rq_pickle_value *value)
{
    return find_arguments(value) != NULL;
}

/* A tuple of up to RQ_MAX_RANK numbers, or torch.Size of one. */
static rq_status read_numbers(int64_t *out, int *n, const rq_pickle_value *value, const char *what,
                              rq_error *err)
{
    if (rq_pickle_is(value, RQ_PICKLE_OBJECT) &&
        rq_pickle_is_global(value->as.object->callable, "torch", "Size"))
        value = rq_pickle_item(value->as.object->arguments, 0);
    if (!rq_pickle_is(value, RQ_PICKLE_TUPLE))
        return rq_fail(err, RQ_ERR_FILE, "its %s is not a tuple", what);
    const rq_pickle_items *items = &value->as.items;
    if (items->n > RQ_MAX_RANK)
        return rq_fail(err, RQ_ERR_FILE, "byte %u: a %s of %zu numbers, the limit is %d",
                       value->offset, what, items->n, RQ_MAX_RANK);
    for (size_t i = 0; i < items->n; i++)
        if (!rq_pickle_get_int(items->values[i], &out[i]) || out[i] < 0)
            return rq_fail(err, RQ_ERR_FILE,
                           "byte %u: number %zu of its %s is negative or not an integer",
                           value->offset, i, what);
    *n = (int)items->n;
    return RQ_OK;
}

/* Are all elements within the storage's n? */
static bool fits(const rq_torch_tensor *tensor, size_t n)
{
    size_t elems, last = tensor->begin;
    if (!rq_dims_elems(tensor->dim, tensor->rank, &elems))
        return false;
    if (elems == 0)
        return true;
    for (int i = 0; i < tensor->rank; i++) {
        size_t reach;
        if (!rq_mul_size((size_t)tensor->dim[i] - 1, (size_t)tensor->stride[i], &reach) ||
            !rq_add_size(last, reach, &last))
            return false;
    }
    return last < n;
}

rq_status rq_torch_read_tensor(rq_torch_tensor *out, const rq_pickle_value *value, rq_error *err)
{
    int n_strides = 0;
    const rq_pickle_value *arguments = find_arguments(value);
    RQ_TRY(rq_torch_read_storage(&out->storage, rq_pickle_item(arguments, 0), err));
    RQ_TRY(read_numbers(out->dim, &out->rank, rq_pickle_item(arguments, 2), "size", err));
    RQ_TRY(read_numbers(out->stride, &n_strides, rq_pickle_item(arguments, 3), "stride", err));
    if (n_strides != out->rank)
        return rq_fail(err, RQ_ERR_FILE, "byte %u: a size of %d numbers, a stride of %d",
                       value->offset, out->rank, n_strides);
    if (!read_count(&out->begin, rq_pickle_item(arguments, 1)))
        return rq_fail(err, RQ_ERR_FILE, "byte %u: its offset is negative or not an integer",
                       value->offset);
    if (!fits(out, out->storage.n_view))
        return rq_fail(err, RQ_ERR_FILE,
                       "byte %u: with its size, stride and offset it reaches beyond the %zu "
                       "elements of storage '%.*s'",
                       value->offset, out->storage.n_view, rq_pickle_shown(out->storage.key),
                       out->storage.key.data);
    return rq_add_size(out->begin, out->storage.view_begin, &out->begin)
               ? RQ_OK
               : rq_fail(err, RQ_ERR_FILE, "its offset is too large");
}
