/* The files of tests/golden/images, and comparison of pixels. */
#ifndef RQ_TESTS_RUNTIME_IMAGE_GOLDEN_H
#define RQ_TESTS_RUNTIME_IMAGE_GOLDEN_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/memory.h"
#include "tests/golden/images/cases.h"
#include "tests/support/test.h"

/* Caller frees with rq_free. */
static inline uint8_t *golden_read(const char *name, const char *extension, size_t *size_bytes)
{
    return rq_test_read_file(
        rq_test_path("%s/tests/golden/images/%s.%s", RQ_SOURCE_DIR, name, extension), size_bytes);
}

static inline uint8_t *golden_jpeg(const char *name, size_t *size_bytes)
{
    return golden_read(name, "jpg", size_bytes);
}

/* Differences over all comparisons of a test. */
typedef struct pixel_stats {
    int max;
    double sum;
    size_t n;
} pixel_stats;

static inline void stats_add(pixel_stats *stats, const uint8_t *got, const uint8_t *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int difference = abs(got[i] - want[i]);
        stats->max = difference > stats->max ? difference : stats->max;
        stats->sum += difference;
    }
    stats->n += n;
}

static inline void stats_print(const pixel_stats *stats, const char *what)
{
    print_message("%s: %zu bytes, largest difference %d, mean %.4f\n", what, stats->n, stats->max,
                  stats->n ? stats->sum / (double)stats->n : 0.0);
}

/* Compare with the expected pixels of a case; the sizes must agree too. Says where the first
 * difference is. */
static inline void golden_compare(const char *name, const uint8_t *got, size_t n_bytes,
                                  pixel_stats *stats)
{
    size_t want_bytes;
    uint8_t *want = golden_read(name, "rgb", &want_bytes);
    assert_int_equal(n_bytes, want_bytes);
    stats_add(stats, got, want, n_bytes);
    for (size_t i = 0; i < n_bytes; i++)
        if (got[i] != want[i])
            fail_msg("%s: byte %zu is %d, PIL gives %d", name, i, got[i], want[i]);
    rq_free(want);
}

#endif
