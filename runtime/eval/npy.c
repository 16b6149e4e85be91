/* NumPy files over the atomic writer. */
#include "runtime/eval/npy.h"

#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "floats are written as they are in memory");

enum { HEADER_BYTES = 128, PREFIX_BYTES = 10 };

rq_status rq_npy_open(rq_npy *out, const char *path, size_t n_rows, size_t n_columns, rq_error *err)
{
    static const unsigned char prefix[PREFIX_BYTES] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, HEADER_BYTES - PREFIX_BYTES, 0};
    char header[HEADER_BYTES + 1], shape[64];
    *out = (rq_npy){.n_rows = n_rows, .n_columns = n_columns};
    (void)snprintf(shape, sizeof shape, "(%zu, %zu)", n_rows, n_columns);
    (void)snprintf(header, sizeof header,
                   "%*s{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", PREFIX_BYTES, "",
                   shape);
    const size_t used = strlen(header);
    memcpy(header, prefix, sizeof prefix);
    memset(header + used, ' ', HEADER_BYTES - 1 - used);
    header[HEADER_BYTES - 1] = '\n';
    RQ_TRY(rq_writer_open(&out->writer, path, err));
    const rq_status status = rq_writer_write(out->writer, header, HEADER_BYTES, err);
    if (status)
        rq_npy_abort(out);
    return status;
}

rq_status rq_npy_write(rq_npy *npy, const float *rows, size_t n, rq_error *err)
{
    if (n > npy->n_rows - npy->n_written)
        return rq_fail(err, RQ_ERR_ARG, "%zu rows after %zu of %zu", n, npy->n_written,
                       npy->n_rows);
    npy->n_written += n;
    return rq_writer_write(npy->writer, rows, n * npy->n_columns * sizeof *rows, err);
}

rq_status rq_npy_commit(rq_npy *npy, rq_error *err)
{
    if (npy->n_written < npy->n_rows)
        return rq_fail(err, RQ_ERR_ARG, "%zu of %zu rows were written", npy->n_written,
                       npy->n_rows);
    rq_writer *writer = npy->writer;
    npy->writer = NULL;
    return rq_writer_commit(writer, err);
}

void rq_npy_abort(rq_npy *npy)
{
    rq_writer_abort(npy->writer);
    npy->writer = NULL;
}
