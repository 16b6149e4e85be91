/* The one log sink. */
#include "runtime/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static rq_log_sink *log_sink;
static void *log_context;
static rq_log_level most_level = RQ_LOG_INFO;

void rq_log_set_sink(rq_log_sink *sink, void *context)
{
    log_sink = sink;
    log_context = context;
}

void rq_log_set_level(rq_log_level most)
{
    most_level = most;
}

void rq_log(rq_log_level level, const char *format, ...)
{
    if (!log_sink || level > most_level)
        return;
    char line[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log_sink(log_context, level, line);
}
