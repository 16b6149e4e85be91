/* What a file begins with decides what it is, not its name. */
#include "runtime/torch/weight_file.h"

#include <assert.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "runtime/modelfile/modelfile.h"
#include "runtime/torch/torch_file.h"

static rq_status open_file(rq_weight_file *file, const char *path, rq_error *err)
{
    RQ_TRY(rq_mapping_open(&file->mapping, path, err));
    const rq_mapping mapping = file->mapping;
    if (rq_tensorfile_looks_so(&mapping)) {
        RQ_TRY(rq_tensorfile_take(&file->tensorfile, &file->mapping, path, err));
        file->kind = rq_model_is_in(file->tensorfile) ? RQ_WEIGHTS_MODEL : RQ_WEIGHTS_SAFETENSORS;
    } else if (rq_torch_zip_looks_so(mapping.data, mapping.size_bytes)) {
        file->kind = RQ_WEIGHTS_TORCH_ZIP;
    } else if (rq_torch_legacy_looks_so(mapping.data, mapping.size_bytes)) {
        file->kind = RQ_WEIGHTS_TORCH_LEGACY;
    }
    return RQ_OK;
}

rq_status rq_weight_file_open(rq_weight_file **out, const char *path, rq_error *err)
{
    *out = NULL;
    const size_t path_bytes = strlen(path) + 1;
    rq_weight_file *file = rq_alloc(sizeof *file + path_bytes);
    if (!file)
        return rq_fail(err, RQ_ERR_NOMEM, "%s: out of memory", path);
    file->path = memcpy(file + 1, path, path_bytes);
    file->n_holders = 1;
    const rq_status status = open_file(file, path, err);
    if (status)
        rq_weight_file_close(file);
    else
        *out = file;
    return status;
}

rq_weight_file *rq_weight_file_hold(rq_weight_file *file)
{
    file->n_holders++;
    return file;
}

void rq_weight_file_close(rq_weight_file *file)
{
    if (!file || --file->n_holders > 0)
        return;
    assert(file->n_holders == 0);
    rq_tensorfile_close(file->tensorfile);
    rq_mapping_close(&file->mapping);
    rq_free(file);
}

const rq_mapping *rq_weight_file_mapping(const rq_weight_file *file)
{
    return file->tensorfile ? rq_tensorfile_mapping(file->tensorfile) : &file->mapping;
}

bool rq_weight_file_is_checkpoint(const rq_weight_file *file)
{
    return file->kind >= RQ_WEIGHTS_SAFETENSORS;
}

static void close_held(void *file)
{
    rq_weight_file_close(file);
}

rq_status rq_weight_file_give(rq_weight_file *file, rq_graph *graph, rq_error *err)
{
    RQ_TRY(rq_graph_own(graph, file, close_held, rq_weight_file_mapping(file), err));
    file->n_holders++;
    return RQ_OK;
}
