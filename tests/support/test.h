/* What every test program includes: cmocka with its prerequisites, and our own comparisons.
 *
 * cmocka 1.1.5's assert_float_equal lets NaN pass; assert_close and assert_all_close do not. */
#ifndef RQ_TESTS_SUPPORT_TEST_H
#define RQ_TESTS_SUPPORT_TEST_H

/* cmocka wants these before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/status.h"

/* |got - want| <= abs + rel * |want|, false for NaN. */
#define assert_close(got, want, abs, rel)                                                          \
    rq_assert_close_((double)(got), (double)(want), (abs), (rel), #got, __FILE__, __LINE__)

/* The same for n elements; reports the worst index with both values. */
#define assert_all_close(got, want, n, abs, rel)                                                   \
    rq_assert_all_close_((got), (want), (n), (abs), (rel), #got, __FILE__, __LINE__)

/* A call that must succeed / fail with a code; prints the message otherwise. `err` is the rq_error
 * to show. */
#define assert_ok(call, err) rq_assert_status_((call), RQ_OK, (err), #call, __FILE__, __LINE__)
#define assert_fails(call, code, err)                                                              \
    rq_assert_status_((call), (code), (err), #call, __FILE__, __LINE__)

/* The error's text contains this. */
#define assert_says(err, part) rq_assert_says_((err), (part), __FILE__, __LINE__)

void rq_assert_close_(double got, double want, double abs, double rel, const char *what,
                      const char *file, int line);
void rq_assert_all_close_(const float *got, const float *want, size_t n, double abs, double rel,
                          const char *what, const char *file, int line);
void rq_assert_status_(rq_status got, rq_status want, const rq_error *err, const char *what,
                       const char *file, int line);
void rq_assert_says_(const rq_error *err, const char *part, const char *file, int line);

/* Worst violation of |got - want| <= abs + rel * |want|: its index, or n when there is none. What
 * assert_all_close uses. */
size_t rq_first_far(const float *got, const float *want, size_t n, double abs, double rel);

/* A fresh folder for this test under the build tree's temporary folder; removed with all in it by
 * rq_test_rmdir. The returned string is static per call site up to 8 live folders. */
const char *rq_test_mkdir(void);
void rq_test_rmdir(const char *dir);

/* Printf into a static ring of 8 buffers: paths. */
const char *rq_test_path(const char *format, ...) RQ_PRINTF(1, 2);

/* Read or write a whole small file; fail the test when that fails. To be freed by rq_free. */
uint8_t *rq_test_read_file(const char *path, size_t *size_bytes);
void rq_test_write_file(const char *path, const void *data, size_t size_bytes);

/* The tests' data folder outside the repository ($RQ_SHARED or ../shared next to the checkout), or
 * NULL when absent: such a test calls skip() after saying so. */
const char *rq_test_shared(void);

#endif
