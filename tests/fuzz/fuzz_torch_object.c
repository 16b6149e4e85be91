/* The pickled object of a zip file of torch.save whose container is sound: after its checksums a
 * fuzzer of whole files would hardly come. There are storages 0 (64 bytes) and 1 (8 bytes). */
#include "tests/fuzz/fuzz.h"
#include "tests/runtime/torch/zip_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static zip_builder zip;
    static const uint8_t storage[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    if (size > ZIP_MAX_BYTES / 2)
        return 0;
    zip.n_bytes = 0;
    zip.n_items = 0;
    (void)zip_add(&zip, zip_stored("a/data.pkl", data, size));
    (void)zip_add(&zip, zip_stored("a/data/0", storage, sizeof storage));
    (void)zip_add(&zip, zip_stored("a/data/1", storage, 8));
    zip_finish(&zip, 0);
    fuzz_checkpoint_file(fuzz_file(zip.bytes, zip.n_bytes));
    return 0;
}
