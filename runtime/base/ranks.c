/* The few calls of MPI that are needed; without MPI, one process. */
#include "runtime/base/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef RQ_MPI
#include <mpi.h>
#endif

static int rank, n_ranks = 1;

int rq_rank(void)
{
    return rank;
}

int rq_n_ranks(void)
{
    return n_ranks;
}

int64_t rq_rank_rows(int64_t n)
{
    return (n + n_ranks - 1) / n_ranks;
}

rq_status rq_ranks_must_divide(int64_t n, const char *option, rq_error *err)
{
    return n % n_ranks == 0
               ? RQ_OK
               : rq_fail(err, RQ_ERR_USAGE, "--%s %lld: not a multiple of the %d processes", option,
                         (long long)n, n_ranks);
}

/* Was this process started by mpirun (Open MPI, MPICH's hydra, or any launcher with PMIx)? A lone
 * process does not pay for MPI's start. */
static bool is_started_by_mpirun(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (getenv(names[i]))
            return true;
    return false;
}

#ifdef RQ_MPI

enum { MAX_SUMS = 64 }; /* under way at a time */

static MPI_Request sums[MAX_SUMS];
static int n_sums;

rq_status rq_ranks_open(rq_error *err)
{
    if (!is_started_by_mpirun())
        return RQ_OK;
    int threads;
    (void)MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &threads);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &n_ranks);
    return threads >= MPI_THREAD_FUNNELED
               ? RQ_OK
               : rq_fail(err, RQ_ERR_UNSUPPORTED, "this MPI does not allow threads");
}

void rq_ranks_close(bool failed, int exit_code)
{
    int is_open = 0;
    (void)MPI_Initialized(&is_open);
    if (is_open && failed) {
        (void)fflush(NULL);
        (void)MPI_Abort(MPI_COMM_WORLD, exit_code);
    }
    if (is_open)
        (void)MPI_Finalize();
}

/* MPI counts with int. */
enum { MAX_COUNT = 1 << 24 };

static void reduce(double *values, size_t n, MPI_Op op)
{
    if (n_ranks == 1)
        return;
    for (size_t i = 0; i < n; i += MAX_COUNT) {
        const int count = (int)(n - i < MAX_COUNT ? n - i : MAX_COUNT);
        (void)MPI_Allreduce(MPI_IN_PLACE, values + i, count, MPI_DOUBLE, op, MPI_COMM_WORLD);
    }
}

void rq_ranks_sum(double *values, size_t n)
{
    reduce(values, n, MPI_SUM);
}

void rq_ranks_max(double *values, size_t n)
{
    reduce(values, n, MPI_MAX);
}

void rq_ranks_share(int64_t *value)
{
    if (n_ranks > 1)
        (void)MPI_Bcast(value, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
}

void rq_ranks_begin_sum(float *values, size_t n)
{
    if (n_ranks == 1)
        return;
    for (size_t i = 0; i < n; i += MAX_COUNT) {
        const int count = (int)(n - i < MAX_COUNT ? n - i : MAX_COUNT);
        if (n_sums == MAX_SUMS)
            rq_ranks_await();
        (void)MPI_Iallreduce(MPI_IN_PLACE, values + i, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD,
                             &sums[n_sums++]);
    }
}

void rq_ranks_await(void)
{
    if (n_sums)
        /* NOLINTNEXTLINE(clang-analyzer-optin.mpi.MPI-Checker): begun by rq_ranks_begin_sum */
        (void)MPI_Waitall(n_sums, sums, MPI_STATUSES_IGNORE);
    n_sums = 0;
}

#else

rq_status rq_ranks_open(rq_error *err)
{
    return is_started_by_mpirun()
               ? rq_fail(err, RQ_ERR_UNSUPPORTED,
                         "started by mpirun, but built without MPI (libopenmpi-dev)")
               : RQ_OK;
}

void rq_ranks_close(bool failed, int exit_code)
{
    (void)failed;
    (void)exit_code;
}

void rq_ranks_sum(double *values, size_t n)
{
    (void)values;
    (void)n;
}

void rq_ranks_max(double *values, size_t n)
{
    (void)values;
    (void)n;
}

void rq_ranks_share(int64_t *value)
{
    (void)value;
}

void rq_ranks_begin_sum(float *values, size_t n)
{
    (void)values;
    (void)n;
}

void rq_ranks_await(void)
{
}

#endif
