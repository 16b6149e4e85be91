/* Files of torch.save whichever format they have. */
#include "runtime/torch/torch_file.h"

void rq_torch_close(rq_torch_file *file)
{
    if (!file)
        return;
    rq_pickle_free(file->object);
    file->format->close(file);
}

const rq_pickle_value *rq_torch_root(const rq_torch_file *file)
{
    return rq_pickle_root(file->object);
}

rq_status rq_torch_find_storage(const rq_torch_file *file, const rq_torch_storage *storage,
                                int *out, rq_error *err)
{
    return file->format->find(file, storage, out, err);
}

rq_status rq_torch_storage_data(rq_torch_file *file, int storage, const unsigned char **out,
                                rq_error *err)
{
    return file->format->data(file, storage, out, err);
}
