/* The processes that work together on one run: `mpirun -np N repqat train …`. Each has a rank, 0 to
 * N - 1, its share of every batch, and the same model at any time; rank 0 alone writes files
 * (file.h) and prints. Without mpirun, or built without MPI, there is one process, rank 0, and all
 * of the below is free.
 *
 * Calls that take values from all ranks wait for all of them, so every rank must make the same ones
 * in the same order, from the thread that called rq_ranks_open. All ranks receive the same bits. A
 * rank that fails ends all others (rq_ranks_close); MPI's own failures end the run with MPI's
 * message. */
#ifndef RQ_RUNTIME_BASE_RANKS_H
#define RQ_RUNTIME_BASE_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

/* Join the others when mpirun started this process. Errors: RQ_ERR_UNSUPPORTED (it did, and this
 * program was built without MPI, or MPI cannot serve a program with threads). */
RQ_NODISCARD rq_status rq_ranks_open(rq_error *err);

/* Leave; the last call. failed: end the others too, with this exit code. */
void rq_ranks_close(bool failed, int exit_code);

int rq_rank(void);
int rq_n_ranks(void);

/* Rows of a batch that each rank has: n / N, rounded up. */
int64_t rq_rank_rows(int64_t n);

/* Errors: RQ_ERR_USAGE (n, given by this option, is no multiple of the number of ranks). */
RQ_NODISCARD rq_status rq_ranks_must_divide(int64_t n, const char *option, rq_error *err);

/* values [n] become their sums, or largest values, over all ranks. */
void rq_ranks_sum(double *values, size_t n);
void rq_ranks_max(double *values, size_t n);

/* All ranks receive rank 0's value. */
void rq_ranks_share(int64_t *value);

/* The same as rq_ranks_sum, but under way while the caller goes on: values must not be touched
 * before rq_ranks_await, which waits for all sums that were begun. */
void rq_ranks_begin_sum(float *values, size_t n);
void rq_ranks_await(void);

#endif
