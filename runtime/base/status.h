/* Status codes and caller-owned errors.
 *
 * Every function that can fail returns an rq_status (0 = ok) and takes, as its last parameter, an
 * optional rq_error that the caller owns. The function that finds the fault writes the message,
 * with the values and the rule that was broken; callers above may add a prefix (a path, a layer's
 * name) but never replace it. Nothing is allocated to report an error, and nothing is global. */
#ifndef RQ_RUNTIME_BASE_STATUS_H
#define RQ_RUNTIME_BASE_STATUS_H

#define RQ_NODISCARD            __attribute__((warn_unused_result))
#define RQ_PRINTF(index, first) __attribute__((format(printf, index, first)))

/* One list: code, value, text. Values never change. */
#define RQ_STATUS_LIST(X)                                                                          \
    X(RQ_OK, 0, "ok")                                                                              \
    X(RQ_ERR_ARG, 1, "invalid argument")                                                           \
    X(RQ_ERR_USAGE, 2, "wrong usage")                                                              \
    X(RQ_ERR_FILE, 3, "bad file")                                                                  \
    X(RQ_ERR_MODEL, 4, "bad model")                                                                \
    X(RQ_ERR_IMAGE, 5, "bad image")                                                                \
    X(RQ_ERR_UNSUPPORTED, 6, "unsupported here")                                                   \
    X(RQ_ERR_NOMEM, 7, "out of memory")                                                            \
    X(RQ_ERR_IO, 8, "i/o error")                                                                   \
    X(RQ_ERR_RANGE, 9, "value out of range")                                                       \
    X(RQ_ERR_GATE, 10, "accuracy gate not met")                                                    \
    X(RQ_ERR_INTERRUPTED, 11, "interrupted")

typedef enum rq_status {
#define X(code, value, text) code = (value),
    RQ_STATUS_LIST(X)
#undef X
} rq_status;

typedef struct rq_error {
    rq_status code;
    char text[512]; /* one line, no newline at the end; longer messages are cut */
} rq_error;

#define RQ_ERROR_INIT                                                                              \
    {                                                                                              \
        RQ_OK, ""                                                                                  \
    }

/* The fixed text of a code ("bad file"). Never NULL. */
const char *rq_status_text(rq_status code);

/* Write the message into err (which may be NULL) and give code: `return rq_fail(err, RQ_ERR_FILE,
 * "…")`. A macro, so that compilers and analysers see that the result is the code given, hence not
 * RQ_OK; code is evaluated twice. */
#define rq_fail(err, code, ...) rq_status_of_((code), rq_error_write_((err), (code), __VA_ARGS__))

/* The same for a failed system call on a path: "PATH: cannot ACTION: strerror(errno)", RQ_ERR_IO
 * (RQ_ERR_NOMEM for ENOMEM). */
static inline rq_status rq_fail_errno(rq_error *err, const char *path, const char *action);

/* "out of memory", RQ_ERR_NOMEM: after an allocation that gave NULL. */
#define rq_no_memory(err) rq_fail((err), RQ_ERR_NOMEM, "out of memory")

/* End the function with the status of a call that failed: for functions that hold nothing. Where
 * something has to be given back: `if ((status = call)) goto out;`, and one exit at `out:`. */
#define RQ_TRY(call)                                                                               \
    do {                                                                                           \
        const rq_status status_ = (call);                                                          \
        if (status_)                                                                               \
            return status_;                                                                        \
    } while (0)

/* Put "prefix: " before the message that err (may be NULL) already holds. */
void rq_error_prefix(rq_error *err, const char *format, ...) RQ_PRINTF(2, 3);

/* What rq_fail and rq_fail_errno are made of. */
rq_status rq_error_write_(rq_error *err, rq_status code, const char *format, ...) RQ_PRINTF(3, 4);
rq_status rq_error_write_errno_(rq_error *err, const char *path, const char *action);

static inline rq_status rq_status_of_(rq_status code, rq_status written)
{
    (void)written;
    return code;
}

static inline rq_status rq_fail_errno(rq_error *err, const char *path, const char *action)
{
    return rq_error_write_errno_(err, path, action) == RQ_ERR_NOMEM ? RQ_ERR_NOMEM : RQ_ERR_IO;
}

#endif
