/* Pickles: what is read is a tree that can be walked, of bounded depth, and its strings lie in the
 * input. */
#include "runtime/torch/torch_value.h"

#include "tests/fuzz/fuzz.h"

typedef struct walk {
    const uint8_t *data;
    size_t size;
    int budget; /* values still to be visited: the same one may stand at many places */
} walk;

static void visit(walk *w, const rq_pickle_value *value, int depth);

static void visit_items(walk *w, const rq_pickle_items *items, int depth)
{
    for (size_t i = 0; i < items->n; i++)
        visit(w, items->values[i], depth);
}

static void check_bytes(const walk *w, rq_pickle_bytes bytes)
{
    const uint8_t *begin = (const uint8_t *)bytes.data;
    FUZZ_REQUIRE(begin >= w->data && begin + bytes.n <= w->data + w->size);
}

static void visit(walk *w, const rq_pickle_value *value, int depth)
{
    char text[64];
    rq_torch_tensor tensor;
    if (!value || w->budget-- <= 0)
        return;
    FUZZ_REQUIRE(depth < RQ_PICKLE_MAX_DEPTH);
    FUZZ_REQUIRE(value->offset < w->size);
    rq_pickle_describe(value, text, sizeof text);
    (void)rq_pickle_lookup(value, "state_dict");
    if (rq_torch_is_tensor(value) && rq_torch_read_tensor(&tensor, value, NULL) == RQ_OK)
        check_bytes(w, tensor.storage.key);
    switch ((rq_pickle_kind)value->kind) {
    case RQ_PICKLE_TEXT:
    case RQ_PICKLE_BYTES:
    case RQ_PICKLE_LONG:
        check_bytes(w, value->as.bytes);
        break;
    case RQ_PICKLE_GLOBAL:
        check_bytes(w, value->as.global.module);
        check_bytes(w, value->as.global.name);
        break;
    case RQ_PICKLE_DICT:
        FUZZ_REQUIRE(value->as.items.n % 2 == 0);
        visit_items(w, &value->as.items, depth + 1);
        break;
    case RQ_PICKLE_TUPLE:
    case RQ_PICKLE_LIST:
    case RQ_PICKLE_SET:
        visit_items(w, &value->as.items, depth + 1);
        break;
    case RQ_PICKLE_OBJECT:
        visit(w, value->as.object->callable, depth + 1);
        visit(w, value->as.object->arguments, depth + 1);
        visit(w, value->as.object->state, depth + 1);
        visit_items(w, &value->as.object->list, depth + 1);
        visit_items(w, &value->as.object->dict, depth + 1);
        break;
    case RQ_PICKLE_PERSISTENT:
        visit(w, value->as.id, depth + 1);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rq_pickle *pickle;
    size_t used_bytes;
    walk w = {data, size, 10000};
    if (rq_pickle_read(&pickle, data, size, &used_bytes, NULL) != RQ_OK)
        return 0;
    FUZZ_REQUIRE(used_bytes <= size);
    visit(&w, rq_pickle_root(pickle), 0);
    for (size_t i = 0; i < rq_pickle_n_persistent(pickle); i++) {
        rq_torch_storage storage;
        if (rq_torch_read_storage(&storage, rq_pickle_get_persistent(pickle, i), NULL) == RQ_OK)
            FUZZ_REQUIRE(storage.view_begin + storage.n_view <= storage.n_elems);
    }
    rq_pickle_free(pickle);
    return 0;
}
