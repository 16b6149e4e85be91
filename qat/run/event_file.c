/* Records of messages that protobuf-c packs. */
#include "qat/run/event_file.h"

#include <assert.h>
#include <endian.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "event.pb-c.h"
#include "runtime/base/memory.h"

struct rq_event_file {
    rq_arena arena;
    const char *path;
    FILE *file;
};

/* ---- records ---- */

/* CRC-32C (Castagnoli), by bits: a record has about a hundred bytes. */
static uint32_t crc32c(const uint8_t *data, size_t size_bytes)
{
    uint32_t crc = ~0U;
    for (size_t i = 0; i < size_bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
    }
    return ~crc;
}

static uint32_t masked_crc32c(const void *data, size_t size_bytes)
{
    const uint32_t crc = crc32c(data, size_bytes);
    return htole32((crc >> 15 | crc << 17) + 0xa282ead8U);
}

static rq_status write_event(rq_event_file *file, const Rq__Event *event, rq_error *err)
{
    enum { MAX_BYTES = 1024 };
    uint8_t data[MAX_BYTES];
    assert(rq__event__get_packed_size(event) <= sizeof data);
    const size_t n = rq__event__pack(event, data);
    const uint64_t length = htole64(n);
    const uint32_t length_crc = masked_crc32c(&length, sizeof length);
    const uint32_t data_crc = masked_crc32c(data, n);
    (void)fwrite(&length, sizeof length, 1, file->file);
    (void)fwrite(&length_crc, sizeof length_crc, 1, file->file);
    (void)fwrite(data, 1, n, file->file);
    (void)fwrite(&data_crc, sizeof data_crc, 1, file->file);
    if (fflush(file->file) != 0 || ferror(file->file))
        return rq_fail_errno(err, file->path, "write");
    return RQ_OK;
}

/* ---- events ---- */

static Rq__Event event_now(int64_t step)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    Rq__Event event = RQ__EVENT__INIT;
    event.wall_time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    event.step = step;
    return event;
}

static rq_status begin(rq_event_file *file, int64_t step, rq_error *err)
{
    char name[] = "brain.Event:2";
    Rq__Event version = event_now(0);
    version.what_case = RQ__EVENT__WHAT_FILE_VERSION;
    version.file_version = name;
    RQ_TRY(write_event(file, &version, err));
    Rq__SessionLog log = RQ__SESSION_LOG__INIT;
    log.status = RQ__SESSION_LOG__STATUS__START;
    Rq__Event start = event_now(step);
    start.what_case = RQ__EVENT__WHAT_SESSION_LOG;
    start.session_log = &log;
    return write_event(file, &start, err);
}

static rq_status open_file(rq_event_file *file, const char *dir, rq_error *err)
{
    char host[256] = "localhost";
    (void)gethostname(host, sizeof host - 1);
    file->path = rq_arena_printf(&file->arena, "%s/events.out.tfevents.%lld.%s.%ld", dir,
                                 (long long)time(NULL), host, (long)getpid());
    if (!file->path)
        return rq_no_memory(err);
    file->file = fopen(file->path, "we");
    return file->file ? RQ_OK : rq_fail_errno(err, file->path, "create");
}

rq_status rq_event_file_create(rq_event_file **out, const char *dir, int64_t step, rq_error *err)
{
    rq_event_file *file = rq_alloc(sizeof *file);
    if (!file)
        return rq_no_memory(err);
    rq_status status = open_file(file, dir, err);
    if (!status)
        status = begin(file, step, err);
    if (status)
        rq_event_file_close(file);
    else
        *out = file;
    return status;
}

rq_status rq_event_file_add(rq_event_file *file, int64_t step, const rq_scalar *scalars, size_t n,
                            rq_error *err)
{
    Rq__Summary__Value values[RQ_MAX_SCALARS];
    Rq__Summary__Value *places[RQ_MAX_SCALARS];
    Rq__Summary summary = RQ__SUMMARY__INIT;
    assert(n <= RQ_MAX_SCALARS);
    for (size_t i = 0; i < n; i++) {
        if (isnan(scalars[i].value))
            continue;
        Rq__Summary__Value *value = &values[summary.n_value];
        rq__summary__value__init(value);
        value->tag = (char *)(uintptr_t)scalars[i].tag; /* packing only reads it */
        value->simple_value = (float)scalars[i].value;
        places[summary.n_value++] = value;
    }
    summary.value = places;
    Rq__Event event = event_now(step);
    event.what_case = RQ__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return write_event(file, &event, err);
}

void rq_event_file_close(rq_event_file *file)
{
    if (!file)
        return;
    if (file->file)
        (void)fclose(file->file);
    rq_arena_deinit(&file->arena);
    rq_free(file);
}
