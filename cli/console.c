/* Standard streams and the log sink. A progress line is drawn on a terminal only and taken away
 * again before anything else appears there. */
#include "cli/console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/ranks.h"

static bool is_terminal;
static bool has_progress; /* guarded by stderr's lock */

/* Begin at column 1 and erase the rest of the line (ECMA-48 EL). */
static const char erase_line[] = "\r\033[K";

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

static void write_message(void *context, rq_log_level level, const char *line)
{
    (void)context;
    if ((level == RQ_LOG_PROGRESS && !is_terminal) || (level != RQ_LOG_WARN && rq_rank() != 0))
        return;
    flockfile(stderr);
    if (has_progress)
        (void)fputs(erase_line, stderr);
    has_progress = level == RQ_LOG_PROGRESS && *line;
    if (level == RQ_LOG_PROGRESS) /* a line that wraps could not be erased */
        (void)fprintf(stderr, "%.*s", terminal_columns() - 1, line);
    else
        (void)fprintf(stderr, "%s%s\n", level == RQ_LOG_WARN ? "warning: " : "", line);
    (void)fflush(stderr);
    funlockfile(stderr);
}

void rq_console_clear(void)
{
    write_message(NULL, RQ_LOG_PROGRESS, "");
}

/* A program started without a standard descriptor would give its number to the first file it opens,
 * and results would be printed into that file. The stand-in cannot be written to, so that printing
 * is still an error. */
static void fill_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        (void)close(fd);
}

static void silence_stdout(void)
{
    const int fd = open("/dev/null", O_WRONLY);
    if (fd < 0)
        return;
    (void)dup2(fd, STDOUT_FILENO);
    (void)close(fd);
}

void rq_console_open(void)
{
    fill_standard_descriptors();
    if (rq_rank() != 0)
        silence_stdout();
    (void)signal(SIGPIPE, SIG_IGN);
    is_terminal = isatty(STDERR_FILENO) == 1;
    rq_log_set_sink(write_message, NULL);
}

rq_status rq_console_close(rq_error *err)
{
    const bool had_error = ferror(stdout) != 0;
    errno = 0;
    if (fclose(stdout) == 0 && !had_error)
        return RQ_OK;
    return rq_fail(err, RQ_ERR_IO, "cannot write the results to stdout%s%s", errno ? ": " : "",
                   errno ? strerror(errno) : "");
}
