/* An event file for TensorBoard: scalars over steps.
 *
 * Format (TensorFlow's TFRecord; tensorflow/core/lib/io/record_writer.h): records of length u64,
 * masked CRC-32C of the length u32, data, masked CRC-32C of the data u32, little endian; data is an
 * Event (event.proto). The first one gives the version, the second one says from which step on
 * this file replaces what earlier files of its folder hold. */
#ifndef RQ_QAT_RUN_EVENT_FILE_H
#define RQ_QAT_RUN_EVENT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct rq_event_file rq_event_file;

/* Create DIR/events.out.tfevents.SECONDS.HOST.PID for a run that begins after `step` steps.
 * Errors: RQ_ERR_IO, RQ_ERR_NOMEM. */
RQ_NODISCARD rq_status rq_event_file_create(rq_event_file **out, const char *dir, int64_t step,
                                            rq_error *err);

typedef struct rq_scalar {
    const char *tag; /* "train/loss" */
    double value;    /* not a number: left out */
} rq_scalar;

enum { RQ_MAX_SCALARS = 8 }; /* of one call */

/* Append the scalars of a step, and flush. Errors: RQ_ERR_IO. */
RQ_NODISCARD rq_status rq_event_file_add(rq_event_file *file, int64_t step,
                                         const rq_scalar *scalars, size_t n, rq_error *err);

void rq_event_file_close(rq_event_file *file); /* NULL is fine; all has been flushed */

#endif
