/* Messages of the libraries. Libraries never print: they hand one line to the sink that the program
 * set; without a sink nothing happens. Not for errors (see status.h): for progress and for warnings
 * that do not stop the work. */
#ifndef RQ_RUNTIME_BASE_LOG_H
#define RQ_RUNTIME_BASE_LOG_H

#include "runtime/base/status.h"

/* PROGRESS is a passing line ("batch 12/100"): a sink shows it only where the next one can take its
 * place, on a terminal, and removes it before anything else is written there; an empty line removes
 * it. */
typedef enum rq_log_level { RQ_LOG_WARN, RQ_LOG_PROGRESS, RQ_LOG_INFO, RQ_LOG_DEBUG } rq_log_level;

/* line: one line without newline, valid during the call only. May be called from any thread. */
typedef void rq_log_sink(void *context, rq_log_level level, const char *line);

/* Set once, at program start; NULL means silent. */
void rq_log_set_sink(rq_log_sink *sink, void *context);

/* Messages above this level are dropped; RQ_LOG_INFO at first. Set before threads start. */
void rq_log_set_level(rq_log_level most);

void rq_log(rq_log_level level, const char *format, ...) RQ_PRINTF(2, 3);

#endif
