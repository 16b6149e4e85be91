/* A file of any bytes, opened as a checkpoint: each container, detected by its content. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_checkpoint_file(fuzz_file(data, size));
    return 0;
}
