/* Gradients of the equivalent convolution against finite differences in double, for every kind of
 * block and every parameter. */
#include "fuse/equivalent_gradient.h"

#include <string.h>

#include <omp.h>

#include "fuse/equivalent.h"
#include "tests/fuse/blocks.h"

static rq_error err;

/* A block's part, a loss <dK, K> + <db, b> with random dK and db, and memory for all of it. */
typedef struct problem {
    net n;
    rq_linear_part part;
    size_t n_weights, n_elems;
    float *dweight, *dbias; /* PyTorch's layout */
    rq_conv_f64 loss;       /* the same in the layout of rq_conv_f64 */
    double *whole, *workspace, *backward_workspace;
    float **gradients; /* by parameter; NULL for statistics */
} problem;

static void *get(size_t n, size_t size)
{
    void *memory = rq_alloc(n * size);
    assert_non_null(memory);
    return memory;
}

static void begin(problem *p, const block *b)
{
    rq_shape shapes[64];
    int base = -1;
    net_init(&p->n, (uint64_t)b->oc + 101);
    rq_graph *graph = &p->n.model.graph;
    const int node = b->build(&p->n, net_stem(&p->n, b->ic), b);
    assert_ok(rq_graph_shapes(graph, 1, 16, 16, shapes, &err), &err);
    assert_ok(rq_linear_base(graph, node, &base, &err), &err);
    assert_ok(rq_linear_part_init(&p->part, graph, shapes, node, base, &err), &err);
    const rq_linear_value *value = rq_linear_value_of(&p->part, node);
    p->n_elems = value->n_elems;
    p->n_weights = p->n_elems - (size_t)value->equivalent.oc;
    p->dweight = get(p->n_elems, sizeof(float));
    p->dbias = p->dweight + p->n_weights;
    for (size_t i = 0; i < p->n_elems; i++)
        p->dweight[i] = (float)rq_random_normal(&p->n.random);
    p->loss = rq_conv_f64_at(&value->equivalent, get(p->n_elems, sizeof(double)));
    rq_conv_f64_assign(&p->loss, p->dweight, p->dbias);
    p->whole = get(p->n_elems, sizeof(double));
    p->workspace = get(rq_linear_find_elems(value, value->equivalent.oc), sizeof(double));
    p->backward_workspace = get(rq_equivalent_backward_workspace(&p->part), sizeof(double));
    p->gradients = get((size_t)graph->n_params, sizeof(float *));
    for (int i = base + 1; i <= node; i++)
        for (rq_slot slot = RQ_SLOT_WEIGHT; slot <= RQ_SLOT_BIAS; slot++) {
            const rq_tensor *tensor = rq_graph_tensor(graph, i, slot);
            if (tensor)
                p->gradients[graph->nodes[i].slot[slot]] =
                    get(rq_tensor_elems(tensor), sizeof(float));
        }
}

static void end(problem *p)
{
    for (int i = 0; i < p->n.model.graph.n_params; i++)
        rq_free(p->gradients[i]);
    rq_free(p->gradients);
    rq_free(p->dweight);
    rq_free(p->loss.weight);
    rq_free(p->whole);
    rq_free(p->workspace);
    rq_free(p->backward_workspace);
    rq_linear_part_deinit(&p->part);
    rq_model_deinit(&p->n.model);
}

/* The loss; *terms: the sum of its terms' magnitudes. */
static double loss(problem *p, double *terms)
{
    rq_conv_f64 whole = rq_conv_f64_at(&p->loss, p->whole);
    double sum = 0.0;
    rq_equivalent_find(&p->part, p->part.node, &whole, p->workspace);
    *terms = 0.0;
    for (size_t i = 0; i < p->n_elems; i++) {
        sum += p->loss.weight[i] * p->whole[i];
        *terms += fabs(p->loss.weight[i] * p->whole[i]);
    }
    return sum;
}

/* The loss is linear in each single parameter, so the central difference is its derivative but for
 * rounding: 2^-46 of the terms over the step, and the gradient's own rounding to f32, where one way
 * leads through the parameter (where several do, each share is rounded). */
static void check_value(problem *p, const block *b, int param, size_t i)
{
    const rq_param *tested = &p->n.model.graph.params[param];
    float *value = &rq_tensor_f32(&tested->tensor)[i];
    const float kept = *value, low = kept - 1.0f, high = kept + 1.0f;
    double terms_low, terms_high;
    *value = low;
    const double loss_low = loss(p, &terms_low);
    *value = high;
    const double loss_high = loss(p, &terms_high);
    *value = kept;
    const double step = (double)high - (double)low, want = (loss_high - loss_low) / step;
    const double got = (double)p->gradients[param][i];
    const double terms = (terms_low + terms_high) / step;
    const double rounded = b->build == build_nested ? terms : fabs(want);
    const double bound = 0x1p-46 * terms + 0x1.1p-24 * rounded;
    if (!(fabs(got - want) <= bound))
        fail_msg("%s: %s[%zu]: gradient %.9g, difference quotient %.9g, bound %.3g", b->name,
                 tested->name, i, got, want, bound);
}

static void test_backward__finite_differences(void **state)
{
    (void)state;
    for (int k = 0; k < N_BLOCKS; k++) {
        problem p;
        size_t n_tested = 0, n_zero = 0;
        begin(&p, &blocks[k]);
        rq_equivalent_backward(&p.part, p.backward_workspace, p.dweight, p.dbias,
                               (float *const *)p.gradients);
        for (int i = 0; i < p.n.model.graph.n_params; i++)
            for (size_t j = 0;
                 p.gradients[i] && j < rq_tensor_elems(&p.n.model.graph.params[i].tensor);
                 j++, n_tested++) {
                check_value(&p, &blocks[k], i, j);
                n_zero += p.gradients[i][j] == 0.0f;
            }
        assert_true(n_tested > 50 && n_zero == 0);
        end(&p);
    }
}

static void test_backward__adds_to_what_is_wanted(void **state)
{
    (void)state;
    problem p;
    begin(&p, &blocks[0]);
    rq_equivalent_backward(&p.part, p.backward_workspace, p.dweight, p.dbias,
                           (float *const *)p.gradients);
    const int i = rq_graph_find_param(&p.n.model.graph, "b.rbr_1x1.bn.weight");
    const int skipped = rq_graph_find_param(&p.n.model.graph, "b.rbr_dense.conv.weight");
    assert_true(i >= 0 && skipped >= 0);
    float once[6];
    memcpy(once, p.gradients[i], sizeof once);
    rq_free(p.gradients[skipped]);
    p.gradients[skipped] = NULL;
    rq_equivalent_backward(&p.part, p.backward_workspace, p.dweight, p.dbias,
                           (float *const *)p.gradients);
    for (int c = 0; c < 6; c++)
        assert_true(p.gradients[i][c] == 2.0f * once[c]);
    end(&p);
}

/* Nothing is allocated, and no number beyond the stated workspace is touched. */
static void test_calls__stay_within_their_workspace(void **state)
{
    (void)state;
    for (int k = 0; k < N_BLOCKS; k++) {
        problem p;
        begin(&p, &blocks[k]);
        const size_t sizes[2] = {rq_equivalent_workspace(&p.part),
                                 rq_equivalent_backward_workspace(&p.part)};
        double *memory = get(sizes[0] + sizes[1] + 16, sizeof *memory);
        float *values = get(p.n_elems, sizeof *values);
        for (size_t i = 0; i < sizes[0] + sizes[1] + 16; i++)
            memory[i] = NAN; /* and nothing is read that was not written */
        const size_t n_allocations = rq_alloc_count();
        rq_equivalent_evaluate(&p.part, memory, values, values + p.n_weights);
        for (int i = 0; i < 16; i++)
            assert_true(isnan(memory[sizes[0] + (size_t)i]));
        for (size_t i = 0; i < p.n_elems; i++)
            assert_true(isfinite(values[i]));
        for (size_t i = 0; i < sizes[0]; i++)
            memory[i] = NAN;
        rq_equivalent_backward(&p.part, memory, p.dweight, p.dbias, (float *const *)p.gradients);
        for (int i = 0; i < 16; i++)
            assert_true(isnan(memory[sizes[1] + (size_t)i]));
        for (int i = 0; i < p.n.model.graph.n_params; i++)
            for (size_t j = 0;
                 p.gradients[i] && j < rq_tensor_elems(&p.n.model.graph.params[i].tensor); j++)
                assert_true(isfinite(p.gradients[i][j]));
        assert_int_equal(rq_alloc_count(), n_allocations);
        rq_free(memory);
        rq_free(values);
        end(&p);
    }
}

/* evaluate follows the parameters and gives PyTorch's layout, rounded once. */
static void expect_evaluated(problem *p)
{
    double terms;
    const rq_conv_f64 whole = rq_conv_f64_at(&p->loss, p->whole);
    const size_t n_taps = (size_t)whole.conv.kernel[0] * (size_t)whole.conv.kernel[1];
    const size_t icg = (size_t)(whole.ic / whole.conv.groups);
    float *values = get(p->n_elems, sizeof *values);
    double *workspace = get(rq_equivalent_workspace(&p->part), sizeof *workspace);
    rq_equivalent_evaluate(&p->part, workspace, values, values + p->n_weights);
    (void)loss(p, &terms); /* finds the whole */
    for (size_t oc = 0; oc < (size_t)whole.oc; oc++) {
        assert_true(values[p->n_weights + oc] == (float)whole.bias[oc]);
        for (size_t ic = 0; ic < icg; ic++)
            for (size_t tap = 0; tap < n_taps; tap++)
                assert_true(values[(oc * icg + ic) * n_taps + tap] ==
                            (float)whole.weight[(oc * n_taps + tap) * icg + ic]);
    }
    rq_free(workspace);
    rq_free(values);
}

static void test_evaluate__current_parameters(void **state)
{
    (void)state;
    problem p;
    begin(&p, &blocks[0]);
    expect_evaluated(&p);
    net_values(&p.n, "b.rbr_1x1.conv", RQ_SLOT_WEIGHT)[3] += 2.0f;
    expect_evaluated(&p);
    end(&p);
}

/* Large kernels are evaluated some output channels at a time, the last time fewer. */
static void test_evaluate__slices(void **state)
{
    (void)state;
    static const block large[] = {{"RepVGG, large", build_repvgg, 128, 128, 5, 1, 1},
                                  {"QARepVGG with a pool", build_qarepvgg_pool, 256, 256, 3, 1, 1},
                                  {"DBB, large", build_dbb, 128, 128, 5, 1, 2},
                                  {"depthwise", build_replk, 1024, 1024, 13, 1, 1024}};
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        problem p;
        begin(&p, &large[i]);
        assert_true(rq_equivalent_workspace(&p.part) < p.n_elems);
        expect_evaluated(&p);
        end(&p);
    }
}

/* Kernels large enough for threads: the same bits with one and with four. */
static void test_calls__same_bits_at_any_number_of_threads(void **state)
{
    (void)state;
    static const block wide = {"DBB, wide", build_dbb, 24, 24, 5, 1, 2};
    const int n_threads = omp_get_max_threads();
    problem p[2];
    for (int k = 0; k < 2; k++) {
        omp_set_num_threads(k ? 4 : 1);
        begin(&p[k], &wide);
        double terms;
        (void)loss(&p[k], &terms);
        rq_equivalent_backward(&p[k].part, p[k].backward_workspace, p[k].dweight, p[k].dbias,
                               (float *const *)p[k].gradients);
    }
    omp_set_num_threads(n_threads);
    assert_memory_equal(p[0].whole, p[1].whole, p[0].n_elems * sizeof(double));
    for (int i = 0; i < p[0].n.model.graph.n_params; i++)
        if (p[0].gradients[i])
            assert_memory_equal(p[0].gradients[i], p[1].gradients[i],
                                rq_tensor_elems(&p[0].n.model.graph.params[i].tensor) *
                                    sizeof(float));
    end(&p[0]);
    end(&p[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backward__finite_differences),
        cmocka_unit_test(test_backward__adds_to_what_is_wanted),
        cmocka_unit_test(test_calls__stay_within_their_workspace),
        cmocka_unit_test(test_evaluate__current_parameters),
        cmocka_unit_test(test_evaluate__slices),
        cmocka_unit_test(test_calls__same_bits_at_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
