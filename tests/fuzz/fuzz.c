/* Files in memory, and what is done with a checkpoint. */
#include "tests/fuzz/fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/size.h"
#include "runtime/torch/checkpoint.h"

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        FUZZ_REQUIRE(fd >= 0);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    FUZZ_REQUIRE(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return path;
}

enum { MAX_READ_ELEMS = 1 << 12 };

static void read_tensor(rq_checkpoint *checkpoint, int i)
{
    static union {
        float f32[MAX_READ_ELEMS];
        int64_t s64[MAX_READ_ELEMS];
    } values;
    const rq_checkpoint_tensor *tensor = rq_checkpoint_get(checkpoint, i);
    size_t elems;
    const float *borrowed;
    FUZZ_REQUIRE(rq_checkpoint_find(checkpoint, tensor->name) == i);
    if (tensor->other) {
        FUZZ_REQUIRE(rq_checkpoint_read(checkpoint, i, RQ_F32, values.f32, NULL) != RQ_OK);
        return;
    }
    FUZZ_REQUIRE(rq_dims_elems(tensor->dim, tensor->rank, &elems));
    if (elems > MAX_READ_ELEMS)
        return;
    const rq_status status = rq_checkpoint_read(checkpoint, i, RQ_F32, values.f32, NULL);
    if (rq_checkpoint_borrow(checkpoint, i, &borrowed, NULL) == RQ_OK && borrowed) {
        FUZZ_REQUIRE(status == RQ_OK);
        FUZZ_REQUIRE(memcmp(borrowed, values.f32, elems * sizeof(float)) == 0);
    }
    if (rq_checkpoint_read(checkpoint, i, RQ_S64, values.s64, NULL) == RQ_OK)
        FUZZ_REQUIRE(rq_element_kind_of(tensor->element) == RQ_ELEMENT_INTEGER);
}

void fuzz_checkpoint_file(const char *path)
{
    rq_checkpoint *checkpoint;
    rq_error err = RQ_ERROR_INIT;
    if (rq_checkpoint_open(&checkpoint, path, &err) != RQ_OK) {
        FUZZ_REQUIRE(checkpoint == NULL && strncmp(err.text, path, strlen(path)) == 0);
        return;
    }
    for (int i = 0; i < rq_checkpoint_count(checkpoint); i++)
        read_tensor(checkpoint, i);
    rq_checkpoint_close(checkpoint);
}
