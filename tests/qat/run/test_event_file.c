/* Event files, read back record by record; the checksum is made by a table of its own, which a
 * published value checks. */
#include "qat/run/event_file.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "event.pb-c.h"
#include "runtime/base/memory.h"
#include "tests/support/test.h"

static const char *dir;

static int set_up(void **state)
{
    (void)state;
    dir = rq_test_mkdir();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rq_test_rmdir(dir);
    return 0;
}

static uint32_t table_crc32c(const uint8_t *data, size_t n)
{
    uint32_t table[256], crc = 0xffffffffU;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] & 1 ? table[i] >> 1 ^ 0x82f63b78U : table[i] >> 1;
    }
    while (n--)
        crc = crc >> 8 ^ table[(crc ^ *data++) & 0xff];
    return ~crc;
}

/* RFC 3720, B.4 */
static void test_crc__published_values(void **state)
{
    (void)state;
    uint8_t data[32] = {0};
    assert_int_equal(table_crc32c(data, 32), 0x8a9136aaU);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(table_crc32c(data, 32), 0x46dd794eU);
}

static uint32_t masked(const uint8_t *data, size_t n)
{
    const uint32_t crc = table_crc32c(data, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

static uint64_t little_endian(const uint8_t *bytes, int n)
{
    uint64_t value = 0;
    while (n--)
        value = value << 8 | bytes[n];
    return value;
}

/* The only file of the folder; the caller frees it. */
static uint8_t *read_events(size_t *n)
{
    char path[512] = "";
    DIR *stream = opendir(dir);
    assert_non_null(stream);
    for (const struct dirent *entry; (entry = readdir(stream));)
        if (strncmp(entry->d_name, "events.out.tfevents.", 20) == 0) {
            assert_string_equal(path, "");
            (void)snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        }
    (void)closedir(stream);
    return rq_test_read_file(path, n);
}

/* The record at *at, which moves past it. */
static Rq__Event *next_event(const uint8_t *data, size_t n, size_t *at)
{
    assert_true(*at + 12 <= n);
    const uint8_t *record = data + *at;
    const size_t length = (size_t)little_endian(record, 8);
    assert_true(*at + 16 + length <= n);
    assert_int_equal(little_endian(record + 8, 4), masked(record, 8));
    assert_int_equal(little_endian(record + 12 + length, 4), masked(record + 12, length));
    *at += 16 + length;
    Rq__Event *event = rq__event__unpack(NULL, length, record + 12);
    assert_non_null(event);
    return event;
}

/* TensorFlow's own files begin with these 12 bytes: the version's record has 24. */
static void test_create__begins_like_tensorflow(void **state)
{
    (void)state;
    static const uint8_t begin[] = {24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 0x09};
    rq_error err = RQ_ERROR_INIT;
    rq_event_file *file;
    assert_ok(rq_event_file_create(&file, dir, 17, &err), &err);
    rq_event_file_close(file);
    size_t n, at = 0;
    uint8_t *data = read_events(&n);
    assert_memory_equal(data, begin, sizeof begin);
    Rq__Event *event = next_event(data, n, &at);
    assert_int_equal(event->what_case, RQ__EVENT__WHAT_FILE_VERSION);
    assert_string_equal(event->file_version, "brain.Event:2");
    assert_true(event->wall_time > 1.6e9);
    rq__event__free_unpacked(event, NULL);
    event = next_event(data, n, &at);
    assert_int_equal(event->what_case, RQ__EVENT__WHAT_SESSION_LOG);
    assert_int_equal(event->session_log->status, RQ__SESSION_LOG__STATUS__START);
    assert_int_equal(event->step, 17);
    rq__event__free_unpacked(event, NULL);
    assert_int_equal(at, n);
    rq_free(data);
}

static void test_add__scalars(void **state)
{
    (void)state;
    const rq_scalar scalars[] = {{"train/loss", 0.75}, {"val/top1", (double)NAN}, {"lr", 1e-3}};
    rq_error err = RQ_ERROR_INIT;
    rq_event_file *file;
    assert_ok(rq_event_file_create(&file, dir, 0, &err), &err);
    assert_ok(rq_event_file_add(file, 5000000000, scalars, 3, &err), &err);
    rq_event_file_close(file);
    size_t n, at = 0;
    uint8_t *data = read_events(&n);
    rq__event__free_unpacked(next_event(data, n, &at), NULL);
    rq__event__free_unpacked(next_event(data, n, &at), NULL);
    Rq__Event *event = next_event(data, n, &at);
    assert_int_equal(at, n);
    assert_int_equal(event->what_case, RQ__EVENT__WHAT_SUMMARY);
    assert_true(event->step == 5000000000);
    assert_int_equal(event->summary->n_value, 2); /* what is not a number is left out */
    assert_string_equal(event->summary->value[0]->tag, "train/loss");
    assert_close(event->summary->value[0]->simple_value, 0.75, 0.0, 0.0);
    assert_string_equal(event->summary->value[1]->tag, "lr");
    assert_close(event->summary->value[1]->simple_value, 1e-3f, 0.0, 0.0);
    rq__event__free_unpacked(event, NULL);
    rq_free(data);
}

static void test_create__no_folder(void **state)
{
    (void)state;
    rq_error err = RQ_ERROR_INIT;
    rq_event_file *file;
    assert_fails(rq_event_file_create(&file, "/nowhere/here", 0, &err), RQ_ERR_IO, &err);
    assert_says(&err, "/nowhere/here/events.out.tfevents.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc__published_values),
        cmocka_unit_test_setup_teardown(test_create__begins_like_tensorflow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_add__scalars, set_up, tear_down),
        cmocka_unit_test(test_create__no_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
