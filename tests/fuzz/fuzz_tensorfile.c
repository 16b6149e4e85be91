/* Safetensors files: all that opens can be found by name or is refused; and as models. */
#include "runtime/modelfile/tensorfile.h"

#include "runtime/modelfile/modelfile.h"
#include "tests/fuzz/fuzz.h"

/* Reads the bytes. */
static void touch(unsigned char first, unsigned char last)
{
    volatile unsigned char sink = first ^ last;
    (void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rq_tensorfile *file;
    rq_model model;
    const char *path = fuzz_file(data, size);
    if (rq_tensorfile_open(&file, path, NULL) != RQ_OK)
        return 0;
    for (int i = 0; i < rq_tensorfile_count(file); i++) {
        const rq_tensorfile_entry *entry = rq_tensorfile_get_entry(file, i);
        const unsigned char *bytes;
        rq_tensor tensor;
        if (rq_tensorfile_bytes(file, i, &bytes, NULL) == RQ_OK && entry->end > entry->begin)
            touch(bytes[0], bytes[entry->end - entry->begin - 1]);
        if (rq_tensorfile_find(file, entry->name, &tensor, NULL) == RQ_OK)
            FUZZ_REQUIRE(rq_tensor_elems(&tensor) * rq_dtype_size(tensor.dtype) ==
                         entry->end - entry->begin);
    }
    rq_tensorfile_close(file);
    if (rq_model_load(&model, path, NULL) == RQ_OK)
        rq_model_deinit(&model);
    return 0;
}
