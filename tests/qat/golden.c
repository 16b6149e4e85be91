/* A missing tensor fails the test. */
#include "tests/qat/golden.h"

#include <string.h>

#include "tests/support/test.h"

rq_tensorfile *golden_open(const char *name)
{
    rq_error err = RQ_ERROR_INIT;
    rq_tensorfile *file = NULL;
    assert_ok(
        rq_tensorfile_open(
            &file, rq_test_path("%s/tests/golden/torch/%s.safetensors", RQ_SOURCE_DIR, name), &err),
        &err);
    return file;
}

rq_tensor golden(rq_tensorfile *file, const char *prefix, const char *name)
{
    rq_error err = RQ_ERROR_INIT;
    rq_tensor tensor;
    const char *key = prefix[0] ? rq_test_path("%s.%s", prefix, name) : name;
    assert_ok(rq_tensorfile_find(file, key, &tensor, &err), &err);
    return tensor;
}

const float *golden_f32(rq_tensorfile *file, const char *prefix, const char *name)
{
    const rq_tensor tensor = golden(file, prefix, name);
    assert_int_equal(tensor.dtype, RQ_F32);
    return tensor.data;
}

void golden_set(rq_graph *graph, int node, rq_slot slot, rq_tensor source)
{
    rq_tensor *target = rq_graph_tensor(graph, node, slot);
    assert_non_null(target);
    assert_int_equal(rq_tensor_elems(target), rq_tensor_elems(&source));
    memcpy(target->data, source.data, rq_tensor_elems(target) * rq_dtype_size(target->dtype));
}
