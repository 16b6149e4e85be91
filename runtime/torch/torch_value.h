/* PyTorch's tensors as pickles describe them.
 *
 *   a storage   persistent id ("storage", torch.FloatStorage, KEY, LOCATION, N), in the format
 *               before 1.6 with a sixth item: None, or (KEY of the view, OFFSET, N of the view)
 *   a tensor    torch._utils._rebuild_tensor_v2(STORAGE, OFFSET, SIZE, STRIDE, …), or
 *               _rebuild_tensor with the first four arguments
 *   a parameter torch._utils._rebuild_parameter(TENSOR, …), _rebuild_parameter_with_state
 *   attributes  torch._tensor._rebuild_from_type_v2(one of these, CLASS, its arguments, STATE)
 *
 * OFFSET, N, SIZE and STRIDE count elements. Source: torch/_utils.py, torch/serialization.py. */
#ifndef RQ_RUNTIME_TORCH_TORCH_VALUE_H
#define RQ_RUNTIME_TORCH_TORCH_VALUE_H

#include "runtime/model/tensor.h"
#include "runtime/torch/element.h"
#include "runtime/torch/pickle.h"

typedef struct rq_torch_storage {
    rq_element element;
    rq_pickle_bytes key;
    size_t n_elems;            /* of the storage in the file */
    size_t view_begin, n_view; /* the part that is meant, in elements; within n_elems */
} rq_torch_storage;

typedef struct rq_torch_tensor {
    rq_torch_storage storage;
    int rank;
    int64_t dim[RQ_MAX_RANK], stride[RQ_MAX_RANK]; /* stride in elements, not negative */
    size_t begin;                                  /* first element, counted in the storage */
} rq_torch_tensor;

/* A value of kind PERSISTENT. Errors: RQ_ERR_FILE with the pickle's byte and the rule broken. */
RQ_NODISCARD rq_status rq_torch_read_storage(rq_torch_storage *out, const rq_pickle_value *value,
                                             rq_error *err);

/* Is value a tensor or parameter, well-formed or not? */
bool rq_torch_is_tensor(const rq_pickle_value *value);

/* One of these. All elements are within the storage (view included), and their number is below
 * SIZE_MAX. Errors: RQ_ERR_FILE with the pickle's byte and the rule broken. */
RQ_NODISCARD rq_status rq_torch_read_tensor(rq_torch_tensor *out, const rq_pickle_value *value,
                                            rq_error *err);

#endif
