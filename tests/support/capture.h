/* What is printed within this process. */
#ifndef RQ_TESTS_SUPPORT_CAPTURE_H
#define RQ_TESTS_SUPPORT_CAPTURE_H

#include <stdio.h>

#include "runtime/base/command.h"

typedef struct rq_capture {
    FILE *stream;
    int saved, file; /* descriptors */
} rq_capture;

/* All that stream (stdout, stderr) receives until the end is its text, to be freed by rq_free. */
rq_capture rq_capture_begin(FILE *stream);
char *rq_capture_end(const rq_capture *capture);

/* Run a command of the program with the words that follow (NULL ends them); *text is what it printed
 * to stdout, valid until the next run. */
#define rq_test_command(command, text, err, ...)                                                   \
    rq_test_command_((command), (text), (err), (const char *const[]){__VA_ARGS__, NULL})
rq_status rq_test_command_(const rq_command *command, const char **text, rq_error *err,
                           const char *const *words);

#endif
