/* Zip archives: what opens can be read or is refused, and entries are found by their names. */
#include "runtime/torch/zip.h"

#include "tests/fuzz/fuzz.h"

enum { MAX_READ_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rq_zip *zip;
    if (rq_zip_open(&zip, data, size, NULL) != RQ_OK)
        return 0;
    size_t stored_bytes = 0;
    for (int i = 0; i < rq_zip_count(zip); i++) {
        const rq_zip_entry *entry = rq_zip_get_entry(zip, i);
        const unsigned char *contents, *again;
        stored_bytes += entry->stored_bytes;
        FUZZ_REQUIRE(rq_zip_find(zip, entry->name) == i);
        FUZZ_REQUIRE(entry->size_bytes / RQ_ZIP_MAX_RATIO <= entry->stored_bytes);
        if (entry->size_bytes > MAX_READ_BYTES || rq_zip_read(zip, i, &contents, NULL) != RQ_OK)
            continue;
        FUZZ_REQUIRE(rq_zip_read(zip, i, &again, NULL) == RQ_OK && again == contents);
        if (!entry->is_deflated && entry->size_bytes > 0)
            FUZZ_REQUIRE(contents >= data && contents + entry->size_bytes <= data + size);
    }
    FUZZ_REQUIRE(stored_bytes <= size); /* nothing overlaps */
    rq_zip_close(zip);
    return 0;
}
