/* A graph and its merged form compared over every value of every pixel. */
#ifndef RQ_TESTS_FUSE_MERGED_H
#define RQ_TESTS_FUSE_MERGED_H

#include "fuse/fold.h"
#include "tests/fuse/net.h"
#include "tests/fuse/reference.h"

/* Merging is exact but for one rounding of each weight and bias to f32: at most half a unit in the
 * last place, 2^-24 of the merged values' magnitude, and double arithmetic's own errors, some 2^-50
 * of the unmerged terms (which may cancel). */
static const double ROUND_F32 = 0x1.01p-24, ROUND_F64 = 0x1p-46;

/* h x w pixels, 3 channels */
static inline void fill_image(net *n, double *x, int h, int w)
{
    for (int i = 0; i < h * w * 3; i++)
        x[i] = rq_random_normal(&n->random);
}

/* Fuse, check that one conv of this name ends the graph of n_nodes, and compare all its values at
 * h x w pixels. */
static inline void expect_merged(net *n, const char *name, int n_nodes, int h, int w)
{
    rq_error err;
    rq_model fused;
    double *x = rq_alloc((size_t)h * (size_t)w * 3 * sizeof *x);
    fill_image(n, x, h, w);
    assert_ok(rq_fuse(&fused, &n->model, &err), &err);
    const rq_graph *graph = &n->model.graph;
    const int last = fused.graph.n_nodes - 1, want_last = graph->n_nodes - 1;
    assert_int_equal(fused.graph.n_nodes, n_nodes);
    assert_string_equal(fused.graph.nodes[last].name, name);
    assert_int_equal(fused.graph.nodes[last].op, RQ_OP_CONV);

    reference want = reference_run(graph, h, w, x, false);
    reference terms = reference_run(graph, h, w, x, true);
    reference got = reference_run(&fused.graph, h, w, x, false);
    reference magnitude = reference_run(&fused.graph, h, w, x, true);
    assert_memory_equal(&want.shapes[want_last], &got.shapes[last], sizeof(rq_shape));
    double largest = 0.0;
    for (size_t i = 0; i < rq_shape_elems(&got.shapes[last]); i++) {
        const double bound =
            ROUND_F32 * magnitude.values[last][i] + ROUND_F64 * terms.values[want_last][i];
        const double delta = fabs(got.values[last][i] - want.values[want_last][i]);
        if (!(delta <= bound))
            fail_msg("value %zu: %.17g, want %.17g, |delta| %g over %g", i, got.values[last][i],
                     want.values[want_last][i], delta, bound);
        largest = fmax(largest, fabs(want.values[want_last][i]));
    }
    assert_true(largest > 0.1); /* the comparison is of something */
    reference_deinit(&want);
    reference_deinit(&terms);
    reference_deinit(&got);
    reference_deinit(&magnitude);
    rq_model_deinit(&fused);
    rq_free(x);
}

#endif
