/* What bench says about a model and about the image loader, on stdout. */
#ifndef RQ_CLI_BENCH_REPORT_H
#define RQ_CLI_BENCH_REPORT_H

#include "runtime/eval/loader_bench.h"
#include "runtime/eval/session_bench.h"

RQ_NODISCARD rq_status rq_print_session_report(const rq_session_report *report, bool json,
                                               rq_error *err);

/* reports: of the training and of the validation images. */
RQ_NODISCARD rq_status rq_print_loader_reports(const rq_loader_report reports[2],
                                               const rq_loader_bench *given, bool json,
                                               rq_error *err);

#endif
