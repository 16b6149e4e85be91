/* Writing guarded safetensors files: one pass over the tensors for their checksums, one to write
 * them; they are never copied as a whole. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/modelfile/checksum.h"
#include "runtime/modelfile/tensorfile.h"

enum { DATA_ALIGNMENT = 64 };

static size_t tensor_bytes(const rq_tensor *tensor)
{
    return rq_tensor_elems(tensor) * rq_dtype_size(tensor->dtype);
}

/* Put value, which may be NULL for want of memory, under key. Takes the reference. */
static rq_status put(json_t *object, const char *key, json_t *value, rq_error *err)
{
    if (json_object_get(object, key)) {
        json_decref(value);
        return rq_fail(err, RQ_ERR_ARG, "'%.200s' is given twice", key);
    }
    return json_object_set_new(object, key, value) == 0
               ? RQ_OK
               : rq_fail(err, RQ_ERR_NOMEM, "'%.200s': out of memory or not UTF-8", key);
}

static rq_status put_crcs_as_text(json_t *metadata, json_t *crcs, const rq_param *tensors, int n,
                                  rq_error *err)
{
    for (int i = 0; i < n; i++) {
        char digits[RQ_CRC_TEXT];
        rq_crc_text(rq_crc(tensors[i].tensor.data, tensor_bytes(&tensors[i].tensor)), digits);
        RQ_TRY(put(crcs, tensors[i].name, json_string(digits), err));
    }
    char *text = json_dumps(crcs, JSON_COMPACT);
    const rq_status status = put(metadata, "crc32", json_string(text), err);
    free(text);
    return status;
}

static rq_status put_crcs(json_t *metadata, const rq_param *tensors, int n, rq_error *err)
{
    json_t *crcs = json_object();
    const rq_status status = put_crcs_as_text(metadata, crcs, tensors, n, err);
    json_decref(crcs);
    return status;
}

static rq_status put_tensor(json_t *header, const rq_param *param, size_t *offset, rq_error *err)
{
    const rq_tensor *tensor = &param->tensor;
    const size_t end = *offset + tensor_bytes(tensor);
    json_t *entry = json_pack("{s:s, s:[], s:[I, I]}", "dtype", rq_dtype_name(tensor->dtype),
                              "shape", "data_offsets", (json_int_t)*offset, (json_int_t)end);
    json_t *shape = json_object_get(entry, "shape");
    RQ_TRY(put(header, param->name, entry, err));
    for (int i = 0; i < tensor->rank; i++)
        if (json_array_append_new(shape, json_integer(tensor->dim[i])) != 0)
            return rq_no_memory(err);
    *offset = end;
    return RQ_OK;
}

/* Tensors with large elements first, so that all are aligned. */
static rq_status put_tensors(json_t *header, const rq_param *tensors, int n, rq_error *err)
{
    size_t offset = 0;
    for (size_t size = 8; size > 0; size /= 2)
        for (int i = 0; i < n; i++)
            if (rq_dtype_size(tensors[i].tensor.dtype) == size)
                RQ_TRY(put_tensor(header, &tensors[i], &offset, err));
    return RQ_OK;
}

static rq_status build_header(json_t *header, const rq_param *tensors, int n_tensors,
                              const rq_text_pair *pairs, int n_pairs, rq_error *err)
{
    json_t *metadata = json_object();
    RQ_TRY(put(header, "__metadata__", metadata, err));
    RQ_TRY(put(metadata, "header_crc32", json_string("00000000"), err));
    for (int i = 0; i < n_pairs; i++)
        RQ_TRY(put(metadata, pairs[i].key, rq_json_text(pairs[i].value), err));
    RQ_TRY(put_crcs(metadata, tensors, n_tensors, err));
    return put_tensors(header, tensors, n_tensors, err);
}

/* The bytes before the data: size, header (n bytes of text), spaces; its checksum filled in. */
static rq_status write_header(rq_writer *writer, const char *text, size_t n, rq_error *err)
{
    const size_t total = (8 + n + DATA_ALIGNMENT - 1) / DATA_ALIGNMENT * DATA_ALIGNMENT;
    if (total - 8 > RQ_TENSORFILE_MAX_HEADER)
        return rq_fail(err, RQ_ERR_ARG, "%s: the header would have %zu bytes, the limit is %d",
                       rq_writer_path(writer), total - 8, RQ_TENSORFILE_MAX_HEADER);
    unsigned char *bytes = rq_alloc_array(unsigned char, total);
    if (!bytes)
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", rq_writer_path(writer));
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)(total - 8) >> (8 * i));
    memcpy(bytes + 8, text, n);
    memset(bytes + 8 + n, ' ', total - 8 - n);
    char digits[RQ_CRC_TEXT];
    rq_crc_text(rq_crc_header(bytes, total), digits);
    memcpy(bytes + 8 + strlen(RQ_GUARD_PREFIX), digits, RQ_CRC_DIGITS);
    const rq_status status = rq_writer_write(writer, bytes, total, err);
    rq_free(bytes);
    return status;
}

static rq_status write_data(rq_writer *writer, const rq_param *tensors, int n, rq_error *err)
{
    for (size_t size = 8; size > 0; size /= 2)
        for (int i = 0; i < n; i++)
            if (rq_dtype_size(tensors[i].tensor.dtype) == size)
                RQ_TRY(rq_writer_write(writer, tensors[i].tensor.data,
                                       tensor_bytes(&tensors[i].tensor), err));
    return RQ_OK;
}

/* The header as text, for free(). */
static rq_status header_text(char **out, const rq_param *tensors, int n_tensors,
                             const rq_text_pair *metadata, int n_metadata, rq_error *err)
{
    json_t *header = json_object();
    rq_status status = build_header(header, tensors, n_tensors, metadata, n_metadata, err);
    if (!status && !(*out = json_dumps(header, JSON_COMPACT)))
        status = rq_no_memory(err);
    json_decref(header);
    return status;
}

rq_status rq_tensorfile_write_to(rq_writer *writer, const rq_param *tensors, int n_tensors,
                                 const rq_text_pair *metadata, int n_metadata, rq_error *err)
{
    char *text = NULL;
    rq_status status = header_text(&text, tensors, n_tensors, metadata, n_metadata, err);
    if (status) {
        rq_error_prefix(err, "%s", rq_writer_path(writer));
        return status;
    }
    status = write_header(writer, text, strlen(text), err);
    free(text);
    return status ? status : write_data(writer, tensors, n_tensors, err);
}

rq_status rq_tensorfile_write(const char *path, const rq_param *tensors, int n_tensors,
                              const rq_text_pair *metadata, int n_metadata, rq_error *err)
{
    rq_writer *writer = NULL;
    RQ_TRY(rq_writer_open(&writer, path, err));
    const rq_status status =
        rq_tensorfile_write_to(writer, tensors, n_tensors, metadata, n_metadata, err);
    if (!status)
        return rq_writer_commit(writer, err);
    rq_writer_abort(writer);
    return status;
}
