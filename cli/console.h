/* The program's streams: results on stdout, messages on stderr. */
#ifndef RQ_CLI_CONSOLE_H
#define RQ_CLI_CONSOLE_H

#include <stdbool.h>

#include "runtime/base/status.h"

/* Only rank 0 (ranks.h) prints results and messages; of the others warnings are heard.
 *
 * Make the three standard descriptors safe, ignore SIGPIPE (a reader that went away becomes a write
 * error) and send the libraries' messages to stderr. */
void rq_console_open(void);

/* Remove a progress line that may be on the terminal. */
void rq_console_clear(void);

/* Flush and close stdout; RQ_ERR_IO when any of the results could not be written. */
RQ_NODISCARD rq_status rq_console_close(rq_error *err);

#endif
