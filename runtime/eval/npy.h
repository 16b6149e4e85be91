/* Matrices of floats as NumPy files, written row by row.
 *
 * Format (NEP 1, version 1.0): 93 'N' 'U' 'M' 'P' 'Y' 1 0, u16 little-endian length of the header
 * text, the text "{'descr': '<f4', 'fortran_order': False, 'shape': (ROWS, COLUMNS), }" padded with
 * spaces to end in a newline at a multiple of 64 bytes, then f32 little-endian, row by row. */
#ifndef RQ_RUNTIME_EVAL_NPY_H
#define RQ_RUNTIME_EVAL_NPY_H

#include "runtime/base/file.h"

typedef struct rq_npy {
    rq_writer *writer; /* NULL: nothing is open */
    size_t n_rows, n_columns;
    size_t n_written; /* rows */
} rq_npy;

/* Begin a file of n_rows x n_columns; it appears at path with rq_npy_commit. Errors: as
 * rq_writer_open. */
RQ_NODISCARD rq_status rq_npy_open(rq_npy *out, const char *path, size_t n_rows, size_t n_columns,
                                   rq_error *err);

/* Append n rows. Errors: RQ_ERR_ARG (more rows than announced), RQ_ERR_IO. */
RQ_NODISCARD rq_status rq_npy_write(rq_npy *npy, const float *rows, size_t n, rq_error *err);

/* Put the file in place. Errors: RQ_ERR_ARG (rows are missing), RQ_ERR_IO; then nothing has changed
 * on disk. */
RQ_NODISCARD rq_status rq_npy_commit(rq_npy *npy, rq_error *err);

/* Give up what has not been committed; a zeroed struct is fine. */
void rq_npy_abort(rq_npy *npy);

#endif
