/* Every kind of block against its one convolution: in float64, the merged graph, and both graphs in
 * a session; every pixel, borders and corners included. */
#include <string.h>

#include "fuse/equivalent.h"
#include "runtime/session/session.h"
#include "tests/fuse/blocks.h"
#include "tests/fuse/merged.h"

enum { N_SIZES = 3 };
static const int sizes[N_SIZES][2] = {{8, 6}, {9, 11}, {4, 4}}; /* H, W */

static rq_error err;

static int begin(net *n, const block *b)
{
    net_init(n, (uint64_t)(b - blocks) + 1);
    return b->build(n, net_stem(n, b->ic), b);
}

/* ---- float64 ---- */

static void compare_values(const block *b, const double *got, const double *want,
                           const double *terms, size_t n)
{
    double largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!(fabs(got[i] - want[i]) <= ROUND_F64 * terms[i]))
            fail_msg("%s: value %zu is %.17g, want %.17g", b->name, i, got[i], want[i]);
        largest = fmax(largest, fabs(want[i]));
    }
    assert_true(largest > 0.1);
}

static void check_kernel(const block *b, int h, int w)
{
    net n;
    double x[11 * 11 * 3];
    rq_linear_part part;
    int base = -1;
    const int node = begin(&n, b);
    const rq_graph *graph = &n.model.graph;
    fill_image(&n, x, h, w);
    reference want = reference_run(graph, h, w, x, false);
    reference terms = reference_run(graph, h, w, x, true);
    assert_ok(rq_linear_base(graph, node, &base, &err), &err);
    assert_string_equal(graph->nodes[base].name, "stem.relu");
    assert_ok(rq_linear_part_init(&part, graph, want.shapes, node, base, &err), &err);

    const rq_linear_value *value = rq_linear_value_of(&part, node);
    double *memory = rq_alloc((value->n_elems + rq_linear_find_elems(value, value->equivalent.oc)) *
                              sizeof *memory);
    rq_conv_f64 whole = rq_conv_f64_at(&value->equivalent, memory);
    rq_equivalent_find(&part, node, &whole, memory + value->n_elems);
    const size_t n_values = rq_shape_elems(&want.shapes[node]);
    double *got = rq_alloc(n_values * sizeof *got);
    reference_window(&whole.conv, &want.shapes[base], &want.shapes[node], want.values[base], got,
                     reference_merged_weight, &whole, false);
    compare_values(b, got, want.values[node], terms.values[node], n_values);
    rq_free(got);
    rq_free(memory);
    rq_linear_part_deinit(&part);
    reference_deinit(&want);
    reference_deinit(&terms);
    rq_model_deinit(&n.model);
}

static void test_find__equals_the_block(void **state)
{
    (void)state;
    for (int i = 0; i < N_BLOCKS; i++)
        for (int k = 0; k < N_SIZES; k++)
            check_kernel(&blocks[i], sizes[k][0], sizes[k][1]);
}

/* ---- the pass ---- */

static void test_fuse__one_convolution_for_each_block(void **state)
{
    (void)state;
    for (int i = 0; i < N_BLOCKS; i++) {
        net n;
        (void)begin(&n, &blocks[i]);
        expect_merged(&n, "b.rbr_reparam", 4, 8, 6);
        rq_model_deinit(&n.model);
    }
}

/* The geometry is that of the block's own widest convolution. */
static void test_fuse__geometry(void **state)
{
    (void)state;
    for (int i = 0; i < N_BLOCKS; i++) {
        const block *b = &blocks[i];
        net n;
        rq_model fused;
        (void)begin(&n, b);
        assert_ok(rq_fuse(&fused, &n.model, &err), &err);
        const rq_conv_attr *conv = &fused.graph.nodes[3].conv;
        for (int axis = 0; axis < 2; axis++) {
            assert_int_equal(conv->kernel[axis], b->kernel);
            assert_int_equal(conv->stride[axis], b->stride);
            assert_int_equal(conv->dilation[axis], b->build == build_dilated ? 2 : 1);
        }
        if (b->build != build_nested)
            assert_int_equal(conv->groups, b->groups);
        rq_model_deinit(&fused);
        rq_model_deinit(&n.model);
    }
}

/* ---- sessions ---- */

typedef struct watch {
    int node;
    float *values; /* [N, H, W, C] */
    size_t n_values;
} watch;

static void keep(void *context, int node, const void *value, const rq_shape *shape)
{
    watch *w = context;
    if (node != w->node)
        return;
    w->n_values = rq_shape_elems(shape);
    w->values = rq_alloc(w->n_values * sizeof *w->values);
    memcpy(w->values, value, w->n_values * sizeof *w->values);
}

static watch run_session(const rq_model *model, const uint8_t *pixels, int h, int w)
{
    watch seen = {.node = model->graph.n_nodes - 1};
    const rq_session_options options = {
        .batch = 1, .height = h, .width = w, .observer = keep, .observer_context = &seen};
    float logits[64];
    rq_session *session;
    assert_ok(rq_session_create(&session, model, &options, &err), &err);
    assert_ok(rq_session_run(session, pixels, 1, logits, &err), &err);
    rq_session_destroy(session);
    assert_non_null(seen.values);
    return seen;
}

/* f32 sums in another order: 1e-4 of the largest value. */
static void test_sessions__agree(void **state)
{
    (void)state;
    for (int i = 0; i < N_BLOCKS; i++) {
        enum { H = 14, W = 12 };
        net n;
        rq_model fused;
        uint8_t pixels[H * W * 3];
        (void)begin(&n, &blocks[i]);
        for (size_t k = 0; k < sizeof pixels; k++)
            pixels[k] = (uint8_t)rq_random_below(&n.random, 256);
        assert_ok(rq_fuse(&fused, &n.model, &err), &err);
        watch want = run_session(&n.model, pixels, H, W);
        watch got = run_session(&fused, pixels, H, W);
        assert_int_equal(got.n_values, want.n_values);
        double largest = 0.0;
        for (size_t k = 0; k < want.n_values; k++)
            largest = fmax(largest, fabs((double)want.values[k]));
        assert_all_close(got.values, want.values, want.n_values, 1e-4 * largest, 0.0);
        rq_free(want.values);
        rq_free(got.values);
        rq_model_deinit(&fused);
        rq_model_deinit(&n.model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find__equals_the_block),
        cmocka_unit_test(test_fuse__one_convolution_for_each_block),
        cmocka_unit_test(test_fuse__geometry),
        cmocka_unit_test(test_sessions__agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
