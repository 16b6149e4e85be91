/* Element types: sizes and file names, from the one list in the header. */
#include "runtime/model/tensor.h"

size_t rq_dtype_size(rq_dtype dtype)
{
    static const size_t sizes[RQ_N_DTYPES] = {
#define X(code, name, size) [code] = (size),
        RQ_DTYPE_LIST(X)
#undef X
    };
    return sizes[dtype];
}

const char *rq_dtype_name(rq_dtype dtype)
{
    static const char *const names[RQ_N_DTYPES] = {
#define X(code, name, size) [code] = (name),
        RQ_DTYPE_LIST(X)
#undef X
    };
    return names[dtype];
}
