/* Run a program as a user would and look at what it says.
 *
 *     rq_cli run = RQ_CLI_INIT;
 *     rq_cli_run(&run, "convert", in, out, "--json");        the repqat of this build
 *     assert_exit(&run, 0);
 *     assert_says_out(&run, "max_abs_diff");
 *     rq_cli_deinit(&run);
 *
 * One rq_cli may be used for several runs; each replaces the last one's output. */
#ifndef RQ_TESTS_SUPPORT_CLI_H
#define RQ_TESTS_SUPPORT_CLI_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

/* How to run; zero-initialise for the usual. */
typedef struct rq_cli_options {
    const char *program;     /* NULL: the repqat of this build */
    const char *dir;         /* working folder; NULL: the test's */
    const char *const *env;  /* NULL-terminated "NAME=value", added to the test's environment */
    const char *stdout_path; /* write stdout to this file ("/dev/full") instead of capturing it */
    bool close_stdout;       /* start without a stdout at all */
    unsigned timeout_s;      /* 0: 60 seconds */
} rq_cli_options;

enum { RQ_CLI_TIMED_OUT = -1 };

typedef struct rq_cli {
    int exit_code; /* 128 + n when signal n ended it, RQ_CLI_TIMED_OUT; a sanitizer's report gives
                      99 */
    char *out;     /* NUL-terminated; "" when nothing was captured */
    char *err;
    size_t out_bytes, err_bytes;
} rq_cli;

#define RQ_CLI_INIT                                                                                \
    {                                                                                              \
        0, NULL, NULL, 0, 0                                                                        \
    }
void rq_cli_deinit(rq_cli *run);

/* Arguments after the program's name. Fails the test only when the program cannot be started. */
#define rq_cli_run(run, ...) rq_cli_run_with((run), NULL, __VA_ARGS__)
#define rq_cli_run_with(run, options, ...)                                                         \
    rq_cli_run_argv((run), (options), (const char *const[]){__VA_ARGS__, NULL})
void rq_cli_run_argv(rq_cli *run, const rq_cli_options *options, const char *const *args);

/* These print what the program said when they fail. */
#define assert_exit(run, code)     rq_assert_exit_((run), (code), __FILE__, __LINE__)
#define assert_says_out(run, part) rq_assert_stream_((run), false, (part), true, __FILE__, __LINE__)
#define assert_says_err(run, part) rq_assert_stream_((run), true, (part), true, __FILE__, __LINE__)
#define assert_not_out(run, part)  rq_assert_stream_((run), false, (part), false, __FILE__, __LINE__)
#define assert_not_err(run, part)  rq_assert_stream_((run), true, (part), false, __FILE__, __LINE__)

/* A failure as the contract has it: this exit code, nothing on stdout, and on stderr a line "repqat
 * …: " that holds part. */
#define assert_failure(run, code, part)                                                            \
    rq_assert_failure_((run), (code), (part), __FILE__, __LINE__)

/* stdout is one line with one JSON object, "schema": 1 first. The caller calls json_decref. */
#define rq_cli_json(run) rq_cli_json_((run), __FILE__, __LINE__)

/* A member of an object that must be a number. */
double rq_json_double(const json_t *object, const char *key);

void rq_assert_exit_(const rq_cli *run, int code, const char *file, int line);
void rq_assert_stream_(const rq_cli *run, bool is_err, const char *part, bool wanted,
                       const char *file, int line);
void rq_assert_failure_(const rq_cli *run, int code, const char *part, const char *file, int line);
json_t *rq_cli_json_(const rq_cli *run, const char *file, int line);

#endif
