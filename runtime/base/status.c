/* Status texts and the few functions that write an rq_error. No state. */
#include "runtime/base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *rq_status_text(rq_status code)
{
    switch (code) {
#define X(code_, value, text)                                                                      \
    case code_:                                                                                    \
        return text;
        RQ_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

/* A message is one line whatever a hostile file put into a name. */
static void flatten(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

rq_status rq_error_write_(rq_error *err, rq_status code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        flatten(err->text);
        err->code = code;
    }
    return code;
}

rq_status rq_error_write_errno_(rq_error *err, const char *path, const char *action)
{
    const int saved = errno;
    return rq_fail(err, saved == ENOMEM ? RQ_ERR_NOMEM : RQ_ERR_IO, "%s: cannot %s: %s", path,
                   action, strerror(saved));
}

void rq_error_prefix(rq_error *err, const char *format, ...)
{
    if (!err)
        return;
    char prefixed[sizeof err->text];
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(prefixed, sizeof prefixed, format, args);
    va_end(args);
    if (length < 0)
        return;
    const size_t used = (size_t)length < sizeof prefixed ? (size_t)length : sizeof prefixed - 1;
    const size_t room = sizeof prefixed - used; /* a message that is too long is cut */
    if (snprintf(prefixed + used, room, ": %s", err->text) < 0)
        return;
    memcpy(err->text, prefixed, sizeof prefixed);
    flatten(err->text);
}
