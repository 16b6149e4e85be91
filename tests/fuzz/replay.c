/* A fuzz target as an ordinary test: its corpus as it is, cut off at every byte, and with each byte
 * changed in two ways. What the target finds ends the program. */
#include <dirent.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/test.h"

enum { MAX_FILES = 512 };

static char *names[MAX_FILES];
static int n_names;

/* The target sees a block of just this size, so that a sanitizer sees where it ends. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    assert_non_null(exact);
    memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static uint8_t *read_corpus(int i, size_t *size)
{
    return rq_test_read_file(rq_test_path("%s/%s", RQ_FUZZ_CORPUS, names[i]), size);
}

static void test_corpus(void **state)
{
    (void)state;
    assert_true(n_names > 0);
    for (int i = 0; i < n_names; i++) {
        size_t size;
        uint8_t *data = read_corpus(i, &size);
        run(data, size);
        rq_free(data);
    }
}

static void test_corpus__cut_off(void **state)
{
    (void)state;
    for (int i = 0; i < n_names; i++) {
        size_t size;
        uint8_t *data = read_corpus(i, &size);
        for (size_t n = 0; n < size; n++)
            run(data, n);
        rq_free(data);
    }
}

static void test_corpus__each_byte_changed(void **state)
{
    (void)state;
    for (int i = 0; i < n_names; i++) {
        size_t size;
        uint8_t *data = read_corpus(i, &size);
        for (size_t k = 0; k < size; k++) {
            data[k] ^= 0xff;
            run(data, size);
            data[k] ^= 0xfe; /* now only its lowest bit differs */
            run(data, size);
            data[k] ^= 0x01;
        }
        rq_free(data);
    }
}

int main(void)
{
    DIR *folder = opendir(RQ_FUZZ_CORPUS);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) && n_names < MAX_FILES;)
        if (entry->d_name[0] != '.')
            names[n_names++] = strdup(entry->d_name);
    (void)closedir(folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus),
        cmocka_unit_test(test_corpus__cut_off),
        cmocka_unit_test(test_corpus__each_byte_changed),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    while (n_names > 0)
        free(names[--n_names]);
    return failed;
}
